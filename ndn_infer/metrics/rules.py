"""Recording rules that give vLLM's metric names, so that dashboards and autoscalers made for vLLM read this network.

Owns: which expression each name is. Pure. The values are those of the producers that decode; `model_name` and `engine`
are vLLM's labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ndn_infer.metrics import catalogue as m
from ndn_infer.metrics.meters import Metric

_HISTOGRAMS: Final = {
    "time_to_first_token_seconds": m.FIRST_TOKEN,
    "inter_token_latency_seconds": m.INTER_TOKEN,
    "request_time_per_output_token_seconds": m.PER_TOKEN,
    "e2e_request_latency_seconds": m.REQUEST,
    "request_queue_time_seconds": m.QUEUE,
    "request_inference_time_seconds": m.INFERENCE,
    "request_prefill_time_seconds": m.PREFILL,
    "request_decode_time_seconds": m.DECODE,
    "request_prompt_tokens": m.REQUEST_PROMPT,
    "request_generation_tokens": m.REQUEST_TOKENS,
    "request_prefill_kv_computed_tokens": m.REQUEST_COMPUTED,
    "iteration_tokens_total": m.STEP_TOKENS,
}


def _of(metric: Metric, matching: str = "", without: str = "") -> str:
    selected = f"{metric.name}{{{matching}}}" if matching else metric.name
    return f"sum without ({without}) ({selected})" if without else selected


_COMPUTED: Final = 'source="recompute"'
_LOCAL: Final = 'source="local"'
_GENERATE: Final = 'function="generate"'
_EXTERNAL: Final = 'source=~"content_store|peer|producer"'
_VALUES: Final = (
    ("num_requests_running", _of(m.RUNNING, _GENERATE, "function"), ()),
    ("num_requests_waiting", _of(m.WAITING, _GENERATE, "function"), ()),
    ("kv_cache_usage_perc", _of(m.KV_USAGE), ()),
    ("num_preemptions_total", _of(m.PREEMPTIONS), ()),
    ("prefix_cache_queries_total", _of(m.PROMPT_TOKENS, "", "source"), ()),
    ("prefix_cache_hits_total", _of(m.PROMPT_TOKENS, _LOCAL, "source"), ()),
    ("external_prefix_cache_queries_total", _of(m.PROMPT_TOKENS, 'source!="local"', "source"), ()),
    ("external_prefix_cache_hits_total", _of(m.PROMPT_TOKENS, _EXTERNAL, "source"), ()),
    ("prompt_tokens_total", _of(m.PROMPT_TOKENS, "", "source"), ()),
    (
        "prompt_tokens_by_source_total",
        _of(m.PROMPT_TOKENS, _COMPUTED, "source"),
        ("source", "local_compute"),
    ),
    ("prompt_tokens_by_source_total", _of(m.PROMPT_TOKENS, _LOCAL, "source"), ("source", "local_cache_hit")),
    ("prompt_tokens_by_source_total", _of(m.PROMPT_TOKENS, _EXTERNAL, "source"), ("source", "external_kv_transfer")),
    ("prompt_tokens_cached_total", _of(m.PROMPT_TOKENS, 'source!="recompute"', "source"), ()),
    ("prompt_tokens_cached_by_source_total", _of(m.PROMPT_TOKENS, _LOCAL, "source"), ("source", "device")),
    ("prompt_tokens_cached_by_source_total", _of(m.PROMPT_TOKENS, _EXTERNAL, "source"), ("source", "p2p")),
    ("generation_tokens_total", _of(m.GENERATION_TOKENS), ()),
    ("request_success_total", _of(m.REQUESTS, 'finish="stop"', "finish"), ("finished_reason", "stop")),
    ("request_success_total", _of(m.REQUESTS, 'finish="length"', "finish"), ("finished_reason", "length")),
    ("request_success_total", _of(m.REQUESTS, 'finish="error"', "finish"), ("finished_reason", "error")),
    ("request_success_total", _of(m.REQUESTS, 'finish=~"abandoned|cancelled"', "finish"), ("finished_reason", "abort")),
    ("admission_rejections_total", _of(m.REFUSALS), ()),
    ("spec_decode_num_draft_tokens_total", _of(m.ENGINE_TOKENS, 'what="guessed"', "what"), ()),
    ("spec_decode_num_accepted_tokens_total", _of(m.ENGINE_TOKENS, 'what="accepted"', "what"), ()),
)


def vllm_rules() -> Iterator[tuple[str, str, dict[str, str]]]:
    """(name to record, expression, labels to set) of every rule."""
    for name, expression, label in _VALUES:
        yield f"vllm:{name}", _labelled(expression), dict([label]) if label else {}
    for name, metric in _HISTOGRAMS.items():
        for part in ("bucket", "sum", "count"):
            yield f"vllm:{name}_{part}", _labelled(f"{metric.name}_{part}"), {}


def vllm_names() -> dict[str, str]:
    """Name (of a histogram without its parts) -> from which of our metrics it is, for readers."""
    named: dict[str, list[str]] = {}
    for name, expression, label in _VALUES:
        shown = f"{name}{{{label[0]}={label[1]}}}" if label else name
        named.setdefault(f"vllm:{shown}", []).append(expression)
    found = {name: ", ".join(parts).replace("|", "\\|") for name, parts in named.items()}
    return found | {f"vllm:{name}": metric.name for name, metric in _HISTOGRAMS.items()}


def rules_file() -> str:
    """As a rule file of Prometheus (YAML)."""
    lines = ["groups:", "  - name: vllm", "    rules:"]
    for name, expression, labels in vllm_rules():
        lines += [f"      - record: {name}", f"        expr: '{expression}'"]
        lines += ["        labels:", *(f"          {key}: {value}" for key, value in labels.items())] if labels else []
    return "\n".join(lines) + "\n"


def prometheus_file(targets: list[str], rules: str) -> str:
    """A configuration of Prometheus that scrapes `targets`, with the rule file `rules`."""
    quoted = ", ".join(f"'{target}'" for target in targets)
    lines = [
        "global:", "  scrape_interval: 5s", "  evaluation_interval: 5s", f"rule_files: ['{rules}']", "scrape_configs:",
        "  - job_name: ndn-infer", "    static_configs:", f"      - targets: [{quoted}]",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _labelled(expression: str) -> str:
    named = f'label_replace({expression}, "model_name", "$1", "model", "(.*)")'
    return f'label_replace({named}, "engine", "0", "", "")'
