"""What the connector counts, as vLLM's statistics and Prometheus metrics.

Owns: which counters there are, their names in vLLM's /metrics. Imports vLLM. Must not know: who counts.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import prometheus_client
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorPromMetrics, KVConnectorStats
from vllm.v1.metrics.utils import create_metric_per_engine

COUNTED: Final = {
    "lookups": "Searches for the KV blocks of a prompt",
    "tokens_matched": "Prompt tokens whose KV blocks were found held, and a load begun",
    "requests_recomputed": "Requests of which a KV block could not be had and was computed",
    "requests_unnamed": "Requests that are not shared (cache_salt of no domain, inputs, embeddings)",
    "kv_blocks_loaded": "KV blocks fetched, verified and placed",
    "kv_bytes_loaded": "Bytes of these",
    "kv_load_us": "Microseconds of loads, from the first question to the last block",
    "kv_blocks_failed": "KV blocks that could not be had",
    "blocks_saved": "KV blocks copied out of the cache to be published",
    "save_us": "Microseconds of vLLM's own thread for that",
    "kv_saves_dropped": "KV blocks that were not published",
    "kv_blocks_published": "KV blocks signed and stored",
    "kv_publish_us": "Microseconds of the network's thread for that",
}


@dataclass
class NamedKVStats(KVConnectorStats):  # type: ignore[misc,unused-ignore]
    """Counts since the last report: `data` maps names of COUNTED to numbers."""

    data: dict[str, Any] = field(default_factory=dict)

    def reset(self) -> None:
        self.data.clear()

    def aggregate(self, other: KVConnectorStats) -> KVConnectorStats:
        self.data = dict(Counter(self.data) + Counter(other.data))
        return self

    def reduce(self) -> dict[str, int | float]:
        return dict(sorted(self.data.items()))

    def is_empty(self) -> bool:
        return not any(self.data.values())


class NamedKVPromMetrics(KVConnectorPromMetrics):  # type: ignore[misc,unused-ignore]
    """Counters `vllm:named_kv_<name>`."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        _, types, labels, values = given
        counter = types[prometheus_client.Counter]
        self._counters = {
            name: create_metric_per_engine(
                counter(name=f"vllm:named_kv_{name}", documentation=text, labelnames=labels), values
            )
            for name, text in COUNTED.items()
        }

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        for name, value in transfer_stats_data.items():
            if name in self._counters and value > 0:
                self._counters[name][engine_idx].inc(value)


class Differences:
    """Counters as what was added since the last look."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def of(self, *counters: Counter[str]) -> NamedKVStats | None:
        """None where nothing was added."""
        now: Counter[str] = Counter()
        for one in counters:
            for name in COUNTED.keys() & one.keys():
                now[name] += one[name]
        added = {name: now[name] - self._seen[name] for name in now if now[name] > self._seen[name]}
        self._seen = now
        return NamedKVStats(data=added) if added else None
