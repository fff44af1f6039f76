"""What the forwarder counts, as samples of metrics.

Owns: which counter is which metric, hits of the Content Store by kind of name. Reads the tables when asked. Must not
know: HTTP, what kinds of names there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from ndn_infer import ndn
from ndn_infer.forwarder.core.pipeline import Forwarder
from ndn_infer.forwarder.shell.cs_disk import DiskTier
from ndn_infer.metrics import catalogue as m
from ndn_infer.metrics.meters import Sample
from ndn_infer.ndn.name import Name, prefix_ends

_PACKETS: Final = (
    ("in", "interest"), ("in", "data"), ("in", "nack"), ("out", "interest"), ("out", "data"), ("out", "nack"),
)  # fmt: skip
_FIELDS: Final = {"interest": "interests", "data": "data", "nack": "nacks"}
_OF_PREFIX: Final = (
    (m.CS_PACKETS, "packets"), (m.CS_BYTES, "used_bytes"), (m.CS_HITS, "hits"), (m.CS_DISK_HITS, "disk_hits"),
    (m.CS_MISSES, "misses"), (m.CS_INSERTIONS, "inserted"), (m.CS_EVICTIONS, "evicted"),
)  # fmt: skip
REMEMBERED: Final = 4096


class HitsByKind:
    """Counts hits; the segments of one object are classified once."""

    def __init__(self, kind_of: Callable[[Name], str]) -> None:
        self.counts: Counter[str] = Counter()
        self._kind_of = kind_of
        self._known: dict[Name, str] = {}

    def hit(self, name: Name) -> None:
        ends = prefix_ends(name)
        parent = name[: ends[-2]] if len(ends) > 1 else name
        kind = self._known.get(parent)
        if kind is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            kind = self._known[parent] = self._kind_of(name)
        self.counts[kind] += 1


class ForwarderSamples:
    """`hits` is None where nobody tells kinds of names."""

    def __init__(self, core: Forwarder, disk: Callable[[], DiskTier | None], hits: HitsByKind | None = None) -> None:
        self._core = core
        self._disk = disk
        self._hits = hits

    def __call__(self) -> Iterator[Sample]:
        yield from self._forwarding()
        yield from self._store()
        yield from self._second_tier()
        yield from self._faces()

    def _forwarding(self) -> Iterator[Sample]:
        counters = self._core.counters
        for direction, kind in _PACKETS:
            yield Sample(m.F_PACKETS, (direction, kind), getattr(counters, f"{direction}_{_FIELDS[kind]}"))
        for result in ("satisfied", "unsatisfied"):
            yield Sample(m.F_INTERESTS, (result,), getattr(counters, result))
        for reason in ("unsolicited", "loops", "scope_violations", "no_route", "pit_full"):
            yield Sample(m.F_DROPS, (reason,), getattr(counters, reason))
        yield Sample(m.F_PIT, (), self._core.pit_size)
        yield Sample(m.F_FIB, (), len(self._core.fib))

    def _store(self) -> Iterator[Sample]:
        cs = self._core.cs
        yield Sample(m.CS_CAPACITY_PACKETS, (), cs.capacity_packets)
        yield Sample(m.CS_CAPACITY_BYTES, (), cs.capacity_bytes)
        for kind in cs.classes.all():
            for metric, field in _OF_PREFIX:
                yield Sample(metric, (ndn.to_uri(kind.prefix),), getattr(kind, field))
        for title, count in self._hits.counts.items() if self._hits is not None else ():
            yield Sample(m.CS_HITS_BY_KIND, (title,), count)

    def _second_tier(self) -> Iterator[Sample]:
        disk = self._disk()
        if disk is None:
            return
        yield Sample(m.DISK_PACKETS, (), disk.packets)
        yield Sample(m.DISK_BYTES, (), disk.used_bytes)
        yield Sample(m.DISK_WRITTEN, (), disk.written)
        yield Sample(m.DISK_CORRUPT, (), disk.corrupt)
        yield Sample(m.DISK_FAILED, (), disk.failed)

    def _faces(self) -> Iterator[Sample]:
        faces = self._core.faces.values()
        yield Sample(m.F_FACES, (), len(faces))
        for face in faces:
            label, counters = (str(face.id), face.uri), face.counters
            for direction, kind in _PACKETS:
                value = getattr(counters, f"{direction}_{_FIELDS[kind]}")
                yield Sample(m.FACE_PACKETS, (*label, direction, kind), value)
            yield Sample(m.FACE_BYTES, (*label, "in"), counters.in_bytes)
            yield Sample(m.FACE_BYTES, (*label, "out"), counters.out_bytes)
            for reason in ("malformed", "dropped", "queue_drops"):
                yield Sample(m.FACE_DROPS, (*label, reason), getattr(counters, reason))
            yield Sample(m.FACE_MARKS, label, counters.marked)
            yield Sample(m.FACE_QUEUE, label, face.link.queued_bytes())
