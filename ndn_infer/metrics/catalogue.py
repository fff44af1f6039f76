"""Every metric: its name, meaning, labels and buckets.

Owns: the names, in base units by Prometheus' rules. docs/metrics.md is made from this. Must not know: who counts.

Labels take few values: `model` is an alias, or the first digits of a digest; nothing that callers write is a label.
"""

from __future__ import annotations

from typing import Final

from ndn_infer.metrics.meters import Metric

LATENCY: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
                  20.0, 40.0, 80.0, 160.0, 640.0)  # fmt: skip
GAPS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)
TOKENS: Final = tuple(float(digit * 10**power) for power in range(6) for digit in (1, 2, 5))
STREAMS: Final = tuple(float(1 << power) for power in range(9))

ALL: Final[dict[str, Metric]] = {}
"""By name, in the order below."""


def _metric(kind: str, name: str, text: str, *labels: str, buckets: tuple[float, ...] = ()) -> Metric:
    assert name not in ALL
    ALL[name] = metric = Metric(f"ndn_infer_{name}", kind, text, labels, buckets)
    return metric


def _counter(name: str, text: str, *labels: str) -> Metric:
    return _metric("counter", name, text, *labels)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return _metric("gauge", name, text, *labels)


def _times(name: str, text: str, *labels: str, buckets: tuple[float, ...] = LATENCY) -> Metric:
    return _metric("histogram", name, text, *labels, buckets=buckets)


# ---------------------------------------------------------------- answers, where they are decoded

FIRST_TOKEN = _times("time_to_first_token_seconds", "From the call to the first token of its answer", "model")
INTER_TOKEN = _times(
    "inter_token_latency_seconds", "Between two tokens of an answer, where they are decoded", "model", buckets=GAPS
)
REQUEST = _times("request_seconds", "From the call to the last token of its answer", "model")
QUEUE = _times("request_queue_seconds", "Until the prompt was begun: for a reader, for a place in the engine", "model")
KV_LOAD = _times("request_kv_load_seconds", "Until the KV of the prompt that others hold was here", "model")
PREFILL = _times("request_prefill_seconds", "From the beginning of the prompt to the first token", "model")
INFERENCE = _times("request_inference_seconds", "From the beginning of the prompt to the last token", "model")
PER_TOKEN = _times(
    "request_time_per_output_token_seconds", "Mean time between the tokens of an answer", "model", buckets=GAPS
)
DECODE = _times("request_decode_seconds", "From the first token to the last one", "model")
REQUEST_PROMPT = _times("request_prompt_tokens", "Tokens of a prompt", "model", buckets=TOKENS)
REQUEST_COMPUTED = _times(
    "request_computed_tokens", "Tokens of a prompt whose KV was computed here", "model", buckets=TOKENS
)
REQUEST_TOKENS = _times("request_generation_tokens", "Tokens of an answer", "model", buckets=TOKENS)
REQUESTS = _counter(
    "requests_total",
    "Answers that ended, by finish: stop, length, error, abandoned (nobody read it), cancelled", "model", "finish",
)  # fmt: skip
PROMPT_TOKENS = _counter(
    "prompt_tokens_total",
    "Tokens of prompts by the source of their KV: content_store, peer (another producer's, by name), producer "
    "(computed for this prompt by prefill), local (in memory), recompute (computed here)", "model", "source",
)  # fmt: skip
GENERATION_TOKENS = _counter("generation_tokens_total", "Tokens decoded", "model")

# ---------------------------------------------------------------- calls of any function

CALLS = _counter("calls_total", "Calls taken on, or answered from what is known")
CALL_SECONDS = _times(
    "call_seconds", "From taking a call on to its answer, of functions that answer with no stream", "function"
)
ANSWERS = _counter("answers_total", "Answers signed, refusals included")
FAILURES = _counter("failures_total", "Calls that failed after they were taken on")
REFUSALS = _counter("refusals_total", "Calls refused, by reason: busy, domain, request", "reason")
ENDED = _counter("calls_ended_total", "Calls that were ended because nobody waits for them, by reason", "reason")
WAITING = _gauge("requests_waiting", "Calls that were accepted and not begun", "function", "model")
RUNNING = _gauge("requests_running", "Calls and streams in work", "function", "model")
SEATS = _gauge("seats_free", "Further calls that would be taken on now", "function", "model")
STREAMS_OPEN = _gauge("streams_open", "Streams that have not ended")
EVENTS = _counter(
    "events_total",
    "Further counters of a producer, by the names that 'ndn-infer status -v' prints; times are in microseconds (_us)",
    "event",
)

# ---------------------------------------------------------------- the engine

STEPS = _counter("engine_steps_total", "Steps of the engine", "model")
STEP_STREAMS = _times("engine_step_streams", "Streams in one step that decoded (batch size)", "model", buckets=STREAMS)
STEP_TOKENS = _times("engine_step_tokens", "Tokens computed in one step", "model", buckets=TOKENS)
PREEMPTIONS = _counter("preemptions_total", "Streams that gave their KV up for an older one", "model")
ENGINE_TOKENS = _counter(
    "engine_tokens_total",
    "Tokens by what the engine did: prefilled, shared (KV of another stream), decoded, recomputed (after preemption), "
    "guessed and accepted (speculation)", "model", "what",
)  # fmt: skip
ENGINE_SECONDS = _counter("engine_seconds_total", "Time of the engine, by phase: prefill, decode", "model", "phase")
ENGINE_STREAMS = _gauge("engine_streams", "Streams of the engine, by state: running, waiting", "model", "state")
KV_BLOCKS = _gauge("kv_blocks", "KV blocks of the engine, by state: used, free, cached (free, and kept in case)",
                   "model", "state")  # fmt: skip
KV_USAGE = _gauge("kv_usage_ratio", "Share of the engine's KV blocks in use", "model")

# ---------------------------------------------------------------- NDN, in every daemon

PACKETS = _counter("packets_total", "Packets of this application, by direction and type", "direction", "type")
RETRANSMISSIONS = _counter(
    "retransmissions_total", "Interests for packets of objects that were sent again: lost, refused, not believed"
)
TIMEOUTS = _counter("interest_timeouts_total", "Interests that were not answered in time")
UNSOLICITED = _counter("unsolicited_data_total", "Data that nobody waited for")
MALFORMED = _counter("malformed_packets_total", "Packets that break the format")
VERIFICATION_FAILURES = _counter(
    "verification_failures_total",
    "Packets that were not believed, by kind of error (ndn_infer/errors.py)", "reason",
)  # fmt: skip
CONNECTED = _gauge("forwarder_connections", "Connections to a forwarder that stand")
NAMES_USED = _counter(
    "names_used_total",
    "Verified names that answers rest on, by kind of name and by source: content_store (of this machine), stored "
    "upstream, producer, recomputed", "kind", "source",
)  # fmt: skip
STORE_BYTES = _gauge("store_bytes", "Published objects in memory")

# ---------------------------------------------------------------- the forwarder

F_PACKETS = _counter("forwarder_packets_total", "Network packets", "direction", "type")
F_INTERESTS = _counter("forwarder_interests_total", "Pending Interests that ended", "result")
F_DROPS = _counter("forwarder_drops_total", "Packets not forwarded, by reason", "reason")
F_PIT = _gauge("forwarder_pit_entries", "Entries in the PIT")
F_FIB = _gauge("forwarder_fib_entries", "Entries in the FIB")
F_FACES = _gauge("forwarder_faces", "Faces")
CS_HITS_BY_KIND = _counter(
    "forwarder_cs_kind_hits_total", "Interests that the Content Store answered, by kind of name", "kind"
)
CS_CAPACITY_PACKETS = _gauge("forwarder_cs_capacity_packets", "Bound of the Content Store")
CS_CAPACITY_BYTES = _gauge("forwarder_cs_capacity_bytes", "Bound of the Content Store")
CS_PACKETS = _gauge("forwarder_cs_packets", "Packets in memory", "prefix")
CS_BYTES = _gauge("forwarder_cs_bytes", "Bytes in memory", "prefix")
CS_HITS = _counter("forwarder_cs_hits_total", "Interests it answered", "prefix")
CS_DISK_HITS = _counter("forwarder_cs_disk_hits_total", "Of these from disk", "prefix")
CS_MISSES = _counter("forwarder_cs_misses_total", "Interests it did not answer", "prefix")
CS_INSERTIONS = _counter("forwarder_cs_insertions_total", "Packets kept", "prefix")
CS_EVICTIONS = _counter("forwarder_cs_evictions_total", "Packets evicted", "prefix")
DISK_PACKETS = _gauge("forwarder_cs_disk_packets", "Packets on disk")
DISK_BYTES = _gauge("forwarder_cs_disk_bytes", "Bytes on disk")
DISK_WRITTEN = _counter("forwarder_cs_disk_written_total", "Packets written to disk")
DISK_CORRUPT = _counter("forwarder_cs_disk_corrupt_total", "Damaged packets found on disk")
DISK_FAILED = _counter("forwarder_cs_disk_failed_total", "Packets that could not be written")
FACE_PACKETS = _counter("forwarder_face_packets_total", "Network packets of a face", "face", "uri", "direction", "type")
FACE_BYTES = _counter("forwarder_face_bytes_total", "Bytes of a face", "face", "uri", "direction")
FACE_DROPS = _counter("forwarder_face_drops_total", "Packets lost at a face", "face", "uri", "reason")
FACE_MARKS = _counter("forwarder_face_congestion_marks_total", "Packets marked", "face", "uri")
FACE_QUEUE = _gauge("forwarder_face_queue_bytes", "Bytes that wait to be sent", "face", "uri")

# ---------------------------------------------------------------- the repo

REPO_ITEMS = _gauge("repo_items", "What a repo keeps and does, by the names of 'ndn-infer repo status'", "item")

# ---------------------------------------------------------------- the gateway

G_REQUESTS = _counter("gateway_requests_total", "HTTP requests that ended, by route and status", "route", "status")
G_SECONDS = _times("gateway_request_seconds", "From the head of an HTTP request to the end of its answer", "route")
G_ACTIVE = _gauge("gateway_requests_active", "HTTP requests in work")

# ---------------------------------------------------------------- whoever reads answers: the gateway

C_FIRST_TOKEN = _times("client_time_to_first_token_seconds", "From the question to its first token, for its reader",
                       "model")  # fmt: skip
C_INTER_TOKEN = _times(
    "client_inter_token_latency_seconds", "Between two events of an answer, for its reader; an event has some tokens",
    "model", buckets=GAPS,
)  # fmt: skip
C_PROMPT_TOKENS = _counter("client_prompt_tokens_total", "Tokens of prompts", "model")
C_CACHED_TOKENS = _counter("client_cached_tokens_total", "Of these, tokens that nobody computed for it", "model")
C_TOKENS = _counter("client_generation_tokens_total", "Tokens of answers", "model")
C_ANSWERS = _counter("client_answers_total", "Answers that nobody reads on, by finish; unfinished: left, or failed",
                     "model", "finish")  # fmt: skip
C_STORED = _counter("client_stored_answers_total", "Answers that were there, or in the making, before they were asked",
                    "model")  # fmt: skip
C_MOVES = _counter("client_moved_answers_total", "Times an answer broke off and went on elsewhere", "model")
