"""Every option: its default, its unit (in the name), its meaning and the values that it takes, by section.

Owns: what `ndn-infer config --explain` and docs/options.md print. Must not know: where values come from, what a layer
does with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ndn_infer.config import values as forms
from ndn_infer.config.values import ConfigSection, option
from ndn_infer.errors import ConfigError
from ndn_infer.records.sampling import range_of


@dataclass(frozen=True, slots=True)
class NetworkConfig(ConfigSection):
    net: str = option(
        "/ndn-infer/local", "name of the network, the identity of its trust anchor; unless set, the network in use: "
        "'ndn-infer keys use' chooses one, the first start makes one of this machine's own",
        form=forms.name)  # fmt: skip
    site: str = option("home", "this machine's site; its identity is <net>/<site>/<node>")
    node: str = option("n1", "name of this machine within the site")
    transport: str = option(
        "", "forwarder to use, e.g. unix:///run/nfd/nfd.sock or tcp://host:6363; empty: NDN_CLIENT_TRANSPORT, then a "
        "running 'ndn-infer up', then client.conf")  # fmt: skip
    known: tuple[str, ...] = option(
        (), "nodes <net>/<site>/<node> to ask by forwarding hint where no route leads to a name, beside this machine",
        form=forms.name)  # fmt: skip
    connect_timeout_s: float = option(3.0, "timeout of connecting to a forwarder", low=0.01, high=600)


@dataclass(frozen=True, slots=True)
class PathsConfig(ConfigSection):
    data_dir: str = option("", "keys and catalogue; empty: $XDG_DATA_HOME/ndn-infer", form=forms.file_path)
    cache_dir: str = option("", "prepared models and indexes; empty: $XDG_CACHE_HOME/ndn-infer", form=forms.file_path)
    runtime_dir: str = option(
        "", "sockets of a running network; empty: a folder of this network's own in $XDG_RUNTIME_DIR/ndn-infer",
        form=forms.file_path)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrustConfig(ConfigSection):
    max_chain_depth: int = option(5, "maximum length of a certificate chain", low=1, high=32)
    certificate_days: int = option(
        90, "validity of certificates of nodes and roles; renewed in the last third, where the issuing key is", low=1,
        high=36500)  # fmt: skip
    revocations: str = option(
        "cached", "the operator's deny list: cached (the newest one available; without one nothing is denied), "
        "required (without a valid one everything is rejected), off",
        choices=("cached", "required", "off"))  # fmt: skip
    schema: str = option(
        "",
        "file of the network's own trust schema (Light VerSec); empty: the one in this package",
        form=forms.file_path,
    )


@dataclass(frozen=True, slots=True)
class FetchConfig(ConfigSection):
    lifetime_ms: int = option(4000, "InterestLifetime of ordinary Interests", low=1, high=600_000)
    deadline_s: float = option(60.0, "give up on an object after this long", low=0.01, high=86_400)
    window_initial: int = option(16, "Interests in flight at the start", low=1, high=65536)
    window_limit: int = option(512, "maximum Interests in flight (NDNd drops beyond 1,024)", low=1, high=65536)
    stream_ahead: int = option(4, "Interests in flight ahead of a live stream", low=1, high=1024)
    stream_idle_s: float = option(
        30.0,
        "give up on a live stream after this long without a segment or a progress record",
        low=0.01,
        high=86_400,
    )


@dataclass(frozen=True, slots=True)
class CallConfig(ConfigSection):
    deadline_s: float = option(30.0, "give up on a call without an answer after this long", low=0.01, high=86_400)
    attempts: int = option(16, "maximum number of Interests for one call", low=1, high=10_000)
    inline_bytes: int = option(
        4096, "larger requests are published by the caller and pulled by the producer", high=8000
    )


_WHERE = "list of host:port (:port is all addresses, IPv4 and IPv6)"


@dataclass(frozen=True, slots=True)
class ForwarderConfig(ConfigSection):
    unix_path: str = option(
        "", "Unix socket of the embedded forwarder; empty: <runtime_dir>/forwarder.sock", form=forms.file_path
    )
    unix_mode: str = option("600", "permission bits of the Unix socket", form=forms.permissions)
    tcp_bind: tuple[str, ...] = option((), f"{_WHERE} to accept TCP faces on; empty: none", form=forms.address)
    udp_bind: tuple[str, ...] = option((), f"{_WHERE} to accept UDP faces on; empty: none", form=forms.address)
    ws_bind: tuple[str, ...] = option((), f"{_WHERE} to accept WebSocket faces on; empty: none", form=forms.address)
    metrics_bind: tuple[str, ...] = option(
        (), f"{_WHERE} of the Prometheus endpoint, GET /metrics; empty: none", form=forms.address
    )
    cs_capacity_packets: int = option(65536, "Content Store: maximum number of packets")
    cs_capacity_mib: int = option(512, "Content Store: maximum memory, MiB")
    cs_protected: tuple[str, ...] = option((), "Content Store: prefixes that are evicted last", form=forms.name)
    cs_counted: tuple[str, ...] = option((), "Content Store: prefixes with counters of their own", form=forms.name)
    cs_disk_path: str = option(
        "", "Content Store: file of a second tier that survives a restart; empty: none", form=forms.file_path
    )
    cs_disk_mib: int = option(1024, "Content Store: maximum disk space, MiB")
    pit_capacity: int = option(200_000, "maximum number of pending Interests", low=1)
    pit_mib: int = option(512, "maximum memory for pending Interests, MiB", low=1)
    lost_faces: str = option(
        "nack", "Interests that went only to a face that is gone: nack (refused at once, there is no route), or wait "
        "(until they run out, as in NFD)", choices=("nack", "wait"))  # fmt: skip
    similar: str = option(
        "wait", "an Interest of another face for what is pending: wait (it waits for the answer to the first one: one "
        "copy), or forward (it goes out too, 10 ms and more after the one before, as in NFD)",
        choices=("wait", "forward"))  # fmt: skip
    face_queue_mib: int = option(8, "send queue of one face, MiB; packets beyond it are dropped", low=1)
    all_queues_mib: int = option(256, "send queues of all TCP, Unix and WebSocket faces together, MiB", low=1)
    max_stream_faces: int = option(512, "maximum TCP and WebSocket connections accepted", low=1, high=65_536)
    max_udp_faces: int = option(4096, "maximum on-demand UDP faces", low=1, high=65_536)
    udp_mtu_bytes: int = option(
        1400, "largest UDP payload; bigger packets are fragmented (NDNLPv2)", low=64, high=65_507
    )
    udp_idle_timeout_s: float = option(600.0, "close on-demand UDP faces after this long without traffic", low=0.01)
    producer_regions: tuple[str, ...] = option(
        (), "network regions this forwarder is in, for forwarding hints", form=forms.name
    )
    local_commands: str = option(
        "any", "management commands from this machine: any, or signed", choices=("any", "signed")
    )
    loopback_commands: str = option(
        "signed", "management commands over loopback TCP, UDP or WebSocket: signed, or any",
        choices=("signed", "any"))  # fmt: skip
    remote_commands: str = option(
        "off", "route registrations by neighbours (/localhop/nfd): off, or signed", choices=("off", "signed")
    )
    registration: str = option(
        "open", "who may say where names lead: open (whoever may command), or own-identity (zero-trust: signed, below "
        "the name of the own certificate and nowhere else; the operator's key everywhere)",
        choices=("open", "own-identity"))  # fmt: skip
    grants: tuple[str, ...] = option(
        (), "further registrations to allow when signed: identity=prefix", form=forms.grant
    )
    trace_file: str = option(
        "", "write a JSON line for every packet and every drop with its reason; empty: none", form=forms.file_path
    )


@dataclass(frozen=True, slots=True)
class LogConfig(ConfigSection):
    format: str = option("text", "log lines on standard error: text or json", choices=("text", "json"))
    level: str = option("", "debug, info or warning; empty: what -v says", choices=("", "debug", "info", "warning"))


@dataclass(frozen=True, slots=True)
class EngineConfig(ConfigSection):
    """What an engine, a stage and their scheduler are made with."""

    dtype: str = option("bf16", "compute type: bf16 or fp32", choices=("bf16", "fp32"))
    weights: str = option(
        "",
        "weights that decoding reads: bf16, fp32, int8 or int4; empty: as dtype",
        choices=("", "bf16", "fp32", "int8", "int4"),
    )
    attention: str = option(
        "grouped", "grouped (heads that share keys are computed together), or single (up to seven times slower on long "
        "contexts; in bf16 then every bit is transformers')", choices=("grouped", "single"))  # fmt: skip
    device: str = option("cpu", "cpu, cuda or cuda:NUMBER", form=forms.device)
    threads: int = option(0, "torch threads; 0: as many as cores", high=1024)
    block_tokens: int = option(
        16, "tokens in a KV block; must be equal in a network for KV to be shared", low=1, high=1024
    )
    kv_codec: str = option(
        "raw",
        "KV blocks on the wire: raw (as computed), or int8 (half the bytes, nearly equal)",
        choices=("raw", "int8"),
    )
    kv_layers: str = option(
        "auto", "start computing before all layers of fetched KV have arrived: on, off, or auto "
        "(where the network is the bottleneck)", choices=("auto", "on", "off"))  # fmt: skip
    prefill_elsewhere: str = option(
        "auto", "whether decode asks prefill producers for KV that nobody holds: always, never, or auto (where it took "
        "at most four times as long there as here)", choices=("auto", "always", "never")
    )  # fmt: skip
    chunk_tokens: int = option(
        0, "prompt tokens computed in one step, in addition to one per running stream; 0: 256, on a GPU 4096"
    )
    max_streams: int = option(8, "streams decoded at the same time; more wait in the queue", low=1, high=4096)
    queue_limit: int = option(64, "streams that may wait; further calls are rejected as busy")
    kv_memory_mib: int = option(
        2048, "memory for KV of running and recent streams, MiB, allocated on demand (on a GPU at once)", low=1
    )
    kv_at_hand_mib: int = option(512, "memory for KV blocks that were published or fetched, ready for use, MiB")
    sharing: str = option(
        "exact", "streams that share KV of equal beginnings: exact (where it is equal bit for bit), near (all; in bf16 "
        "the last bits then depend on the order of arrival), off", choices=("exact", "near", "off"))  # fmt: skip
    backend: str = option(
        "own", "what computes answers: own (our engine), or vllm (in a process of its own; of the options here it "
        "heeds dtype, max_streams, queue_limit, kv_memory_mib, threads and sharing=off)",
        choices=("own", "vllm"))  # fmt: skip
    vllm_python: str = option(
        "", "Python of the environment that has vLLM and ndn-infer; empty: the one that runs the producer"
    )
    vllm_args: str = option(
        "", "further engine arguments of vLLM, a JSON object, e.g. {\"max_model_len\": 4096}; with kv_transfer_config "
        "it shares KV by name")  # fmt: skip
    vllm_replay: int = option(
        0, "an answer that goes on here, after so many tokens at most, has them decoded again, so that vLLM rounds as "
        "it did; 0, or after more: they are computed as a prompt", low=0, high=1_000_000)  # fmt: skip
    speculation: str = option(
        "auto", "guess tokens from the text so far and verify several at once: auto (where that has been right often "
        "enough to pay), ngram (always), or off", choices=("auto", "ngram", "off"))  # fmt: skip

    def __post_init__(self) -> None:
        ConfigSection.__post_init__(self)
        if (self.weights, self.dtype) == ("fp32", "bf16"):
            raise ConfigError("engine.weights: fp32 weights need dtype fp32", hint="set engine.dtype to fp32 as well")

    @property
    def precision(self) -> str:
        """Of the weights that decoding reads."""
        return self.weights or self.dtype

    @property
    def tokens_at_once(self) -> int:
        """Of a prompt, in one step. A GPU has been told of 256 tokens no sooner than of 4,096."""
        return self.chunk_tokens or (256 if self.device == "cpu" else 4096)

    @property
    def grouped(self) -> bool:
        """Whether heads that share keys are computed together."""
        return self.attention == "grouped"


@dataclass(frozen=True, slots=True)
class KvConfig(ConfigSection):
    trusted_signers: tuple[str, ...] = option(
        (), "whose KV blocks and activations are used: identities (a site, node or role and all below it), or "
        "DIGEST=IDENTITY for one model; empty: every role that the trust schema allows",
        form=forms.trusted_signer)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProducerConfig(ConfigSection):
    functions: tuple[str, ...] = option(
        ("tokenize", "embed", "prefill", "decode"), "functions that 'up' starts (and rag with a corpus)"
    )
    queue_limit: int = option(64, "calls that may wait; further calls are rejected as busy")
    input_mib: int = option(16, "requests pulled from callers at one time, MiB; larger ones are rejected", low=1)
    store_mib: int = option(1024, "published objects kept in memory, MiB")
    store_path: str = option(
        "", "file in which published objects survive a restart; each producer appends its role to the name; empty: "
        "memory only", form=forms.file_path)  # fmt: skip
    store_disk_mib: int = option(4096, "published objects kept on disk, MiB")
    store_policies: tuple[str, ...] = option(
        (), "eviction policy by prefix: /prefix=ttl:SECONDS+share:0.25 or /prefix=pin", form=forms.store_policy
    )
    refresh_s: float = option(60.0, "how often prefixes are registered again", low=0.1)
    event_ms: int = option(
        50, "tokens made within so many milliseconds leave in one packet, within twice as many once an answer is half "
        "a second old; 0: each in its own", high=60_000)  # fmt: skip
    kept_s: float = option(
        30.0, "an answer that nobody reads any more waits, paused, for so many seconds for a reader to come back",
        low=0.1, high=3600)  # fmt: skip
    records: str = option(
        "on", "publish a signed record of each answer beside it, and the request, for callers who do not decline",
        choices=("on", "off"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class MetricsConfig(ConfigSection):
    listen: str = option(
        "", "host:port at which this process gives its metrics to Prometheus, GET /metrics; the processes of 'up' take "
        "this port and those after it, the gateway has its own at its API; empty: none",
        form=forms.address)  # fmt: skip

    @property
    def binds(self) -> tuple[str, ...]:
        """As a list of addresses."""
        return (self.listen,) if self.listen else ()


@dataclass(frozen=True, slots=True)
class TelemetryConfig(ConfigSection):
    otlp_endpoint: str = option(
        "", "send traces there as OTLP over HTTP, e.g. http://127.0.0.1:4318; empty: none", form=forms.http_url
    )
    share: float = option(
        1.0, "share of the requests at the gateway that are traced, where they do not belong to a trace already; "
        "a traced call is answered by its producer and not by a Content Store",
        low=0, high=1)  # fmt: skip


def _sampling(name: str, default: float, help_text: str) -> Any:
    low, high = range_of(name)
    return option(default, help_text, low=low, high=high)


@dataclass(frozen=True, slots=True)
class OffersConfig(ConfigSection):
    choose: str = option(
        "soonest", "who is asked: soonest (the producer whose offer promises the first token soonest), or network "
        "(wherever routes lead)",
        choices=("soonest", "network"))  # fmt: skip
    pull: tuple[str, ...] = option(
        (), "roles <net>/<site>/<node>/<role>, or nodes with all their roles, whose offers are looked at beside those "
        "of this machine and of network.known",
        form=forms.name)  # fmt: skip
    sync: str = option("off", "spread and hear offers by State Vector Sync: off or on", choices=("off", "on"))
    refresh_s: float = option(2.0, "look at offers again after this long, while calls are made", low=0.1, high=600)


@dataclass(frozen=True, slots=True)
class AuditConfig(ConfigSection):
    rate: float = option(
        0.05, "role audit: share of the public answers it hears of that it computes again; 0: only those it is asked "
        "about", low=0, high=1)  # fmt: skip
    every_s: float = option(
        60.0, "role audit: how often producers are asked which answers they made; up to eight times as long while they "
        "make none", low=1, high=86_400)  # fmt: skip
    share: float = option(1.0, "role audit: share of an answer's tokens that is checked", low=0.001, high=1)
    kv: float = option(0.0, "role audit: share of the KV blocks of an audited answer that is checked; 0: none", high=1)
    valid_days: float = option(30.0, "who has a proven fault is left out for so long", low=0.01, high=3650)
    trusted: tuple[str, ...] = option(
        (), "auditors (identities <net>/<site>/<node>/audit) whose verdicts are believed without computing them again",
        form=forms.name)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RecordingConfig(ConfigSection):
    policies: tuple[str, ...] = option(
        (), "which calls are recorded, where, by whom, and what happens while the log is away: DOMAIN=LOG+WRITER+AWAY "
        "with public, a domain's id or * (all others); gateway, decode or producers; refuse or spool; empty: none are",
        form=forms.log_policy)  # fmt: skip
    functions: tuple[str, ...] = option(
        ("generate", "tokenize", "detokenize", "embed", "lookup", "cite", "screen", "classify"), "functions whose "
        "calls the writer 'producers' records: those that are given a user's text; * for all")  # fmt: skip
    spool_mib: int = option(64, "records that wait for a log, encrypted, MiB; beyond that calls are refused", low=1)
    wait_s: float = option(5.0, "how long a call waits for its log before it is refused", low=0.05, high=600)
    witnesses: tuple[str, ...] = option(
        (), "identities whose word on a log 'ndn-infer log verify' wants beside the log's own", form=forms.name
    )


@dataclass(frozen=True, slots=True)
class GuardConfig(ConfigSection):
    answers: int = option(256, "role guard: answers judged at a time; further ones are refused", low=1, high=1024)
    classifier: str = option(
        "forcefield-attacks", "what 'produce --functions classify' serves: alias, folder with classifier.json, or .onnx"
    )


@dataclass(frozen=True, slots=True)
class AskConfig(ConfigSection):
    model: str = option("smollm2-135m-instruct", "model alias, Hugging Face id or digest")
    embedder: str = option("all-minilm-l6-v2", "embedding model of retrieval")
    max_tokens: int = _sampling("max_tokens", 256, "maximum tokens of an answer")
    engine: str = option(
        "", "engine class that answers, as 'ndn-infer status' names it; empty: that of [engine] here, or the one that "
        "a producer offers instead")  # fmt: skip
    temperature: float = _sampling("temperature", 0.0, "0: greedy; above: sampled")
    top_p: float = _sampling("top_p", 1.0, "sample from the smallest set of tokens with this probability; 0, 1: off")
    top_k: int = _sampling("top_k", 0, "sample from this many most likely tokens; 0, -1: off")
    system: str = option("", "system prompt; empty: the model's own")
    context: str = option(
        "kept", "a signed record of what was asked, for 'ndn-infer explain': kept (made after the answer and kept on "
        "this machine), named (made before the call, which names it, so that the answer's record does too: whoever "
        "carries the call then sees who asks, and no cache answers it for another), or off",
        choices=("kept", "named", "off"))  # fmt: skip
    overflow: str = option(
        "refuse", "a conversation that is longer than the model's context: refuse, cut (prompts are without its oldest "
        "messages, which is said), or summary (the model sums them up first, by a call of its own)",
        choices=("refuse", "cut", "summary"))  # fmt: skip
    passages: int = option(4, "passages that --rag puts into the prompt", low=1, high=50)
    policy: str = option(
        "", "demand this policy (file, alias or digest) of every answer: nothing is shown that no verdict of a guard "
        "covers; empty: none")  # fmt: skip
    records: str = option(
        "on", "answers have a signed record of what they were made of beside them (docs/evidence.md)",
        choices=("on", "off"))  # fmt: skip
    receipts_mib: int = option(
        32, "receipts of answers that are kept in the data directory, for 'ndn-infer cost', in MiB; 0: none",
        low=0, high=4096)  # fmt: skip
    ranking: str = option(
        "auto", "how a corpus that is served or asked as a folder puts passages in order (docs/retrieval.md): auto is "
        "rerank for small corpora, vectors for large ones",
        choices=("auto", "vectors", "words", "fusion", "rerank"))  # fmt: skip
    min_score: float = option(
        0.28, "--rag: skip passages with a lower score; without any passage do not ask the model", low=-1, high=1
    )


@dataclass(frozen=True, slots=True)
class GatewayConfig(ConfigSection):
    listen: str = option("127.0.0.1:8000", "host:port of the OpenAI API", form=forms.address)
    requests: int = option(64, "requests in work at a time; further ones are refused with 429", low=1, high=10_000)
    body_kib: int = option(4096, "longest body of a request", low=1, high=65_536)
    header_s: float = option(15.0, "wait this long for the head of a request, and for its body", low=0.1, high=600)
    request_s: float = option(600.0, "end a request after this long, streams too", low=0.1, high=86_400)
    keep_alive_s: float = option(
        5.0, "without a token for this long, a stream has a comment; errors before that have their own status",
        low=0.05, high=600)  # fmt: skip
    names: tuple[str, ...] = option(
        (), "names by which clients may ask for a model, as NAME=MODEL; =MODEL is for requests that name none",
        form=forms.named_model)  # fmt: skip
    max_tokens: int = _sampling("max_tokens", 1024, "tokens of a chat answer whose request does not say how many")
    ready_s: float = option(
        1.0, "at its end, go on taking requests for this long after /ready says that it stops", low=0, high=600
    )
    drain_s: float = option(30.0, "then let requests go on for this long", low=0, high=3600)
    policy: str = option(
        "", "demand this policy (file, alias or digest) of every answer, unless a key names another; empty: none"
    )
    tls_cert: str = option(
        "",
        "file of the certificate chain (PEM): https instead of http; read again when it changes",
        form=forms.file_path,
    )
    tls_key: str = option(
        "", "file of the certificate's key (PEM), readable by its owner and group only", form=forms.file_path
    )
    context: str = option(
        "off", "keep a signed record of what was asked for each answer to messages, for 'ndn-infer explain', on this "
        "machine; in clear, but for what is asked in tenant domains", choices=("on", "off"))  # fmt: skip
    answers: int = option(
        64, "last answers whose names and packets are kept for the page; 0: none, and no page",
        low=0, high=1024)  # fmt: skip
