"""What a producer counts anyway, as samples of metrics; read when somebody asks.

Owns: which of these counters is which metric. Must not know: how samples are exposed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ndn_infer.functions.base import Host
from ndn_infer.functions.function_server import FunctionServer
from ndn_infer.metrics import catalogue as m
from ndn_infer.metrics.meters import Sample

_PLAIN: Final = {"calls": m.CALLS, "answers": m.ANSWERS, "failed": m.FAILURES}
_REFUSED: Final = {"refused_busy": "busy", "refused_domain": "domain", "refused": "request"}
_ELSEWHERE: Final = {"tokens_decoded"}
"""Counted by model as well (answer_meter.py)."""
_ENDED: Final = "ended_"


def producer_samples(host: Host, servers: Callable[[], Sequence[FunctionServer]]) -> Iterator[Sample]:
    """Of one producer; what is done for tenants is included."""
    for reason in _REFUSED.values():  # rates need a beginning
        yield Sample(m.REFUSALS, (reason,), 0)
    for counters in (host.counters, host.tenant_counters):
        for name, value in counters.items():
            if name in _PLAIN:
                yield Sample(_PLAIN[name], (), value)
            elif name in _REFUSED:
                yield Sample(m.REFUSALS, (_REFUSED[name],), value)
            elif name.startswith(_ENDED):
                yield Sample(m.ENDED, (name.removeprefix(_ENDED),), value)
            elif name not in _ELSEWHERE:
                yield Sample(m.EVENTS, (name,), value)
    yield Sample(m.STREAMS_OPEN, (), host.server.streams)
    yield Sample(m.STORE_BYTES, (), host.server.store.used_bytes)
    for server in servers():
        labels, load = (server.function.function, server.function.subject[1]), server.load()
        yield Sample(m.WAITING, labels, load.queue)
        yield Sample(m.RUNNING, labels, load.running)
        yield Sample(m.SEATS, labels, load.free_seats)
