"""Packets that came together and are alike: segments of one object, asked for or answered one after the other.

Owns: what is found out and decided once for all of them (parsing, route, strategy, class in the Content Store, room in
the PIT), and the steps of the pipelines for each, which are then a few table look-ups. What is decided is what the
pipelines (pipeline.py) decide for each packet alone: whenever that could depend on more than the packets' common bytes
and tables that have not changed, the packet goes there. Pure. Must not know: sockets, management.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Final, TypeGuard

from ndn_infer.forwarder.core.alike import DataShape, InterestShape, data_shape, interest_shape
from ndn_infer.forwarder.core.content_store import ContentStore
from ndn_infer.forwarder.core.cs_classes import CsClass
from ndn_infer.forwarder.core.faces import Face
from ndn_infer.forwarder.core.fib import Fib
from ndn_infer.forwarder.core.outgoing import Outgoing
from ndn_infer.forwarder.core.pit import Batch, Pit, PitEntry
from ndn_infer.forwarder.core.pit_records import ENTRY_BYTES, IN_BYTES, Lane
from ndn_infer.forwarder.core.scope import LOCALHOST, within_scope
from ndn_infer.forwarder.core.strategy import StrategyChoice
from ndn_infer.ndn import lp, tlv
from ndn_infer.ndn.name import Name

MOST: Final = 256
"""Packets at a time."""


class InterestRun:
    """Interests of one shape from one face: their class in the Content Store, and the `way` they go if that is one for
    all of them; without one, what the store has is all that can be found out of them together. By tables of these
    `versions`."""

    __slots__ = ("head", "kind", "shape", "versions", "way")

    def __init__(
        self, shape: InterestShape, way: tuple[Lane, Face] | None, kind: CsClass, versions: tuple[object, ...]
    ) -> None:
        self.head = shape.head
        self.shape = shape
        self.way = way
        self.kind = kind
        self.versions = versions


class DataRun:
    """Data of one shape, and their class in the Content Store, by tables of these `versions`."""

    __slots__ = ("head", "kind", "shape", "versions")

    def __init__(self, shape: DataShape, kind: CsClass, versions: tuple[object, ...]) -> None:
        self.head = shape.head
        self.shape = shape
        self.kind = kind
        self.versions = versions


class Bursts(Outgoing):
    """Tables, and packets through them many at a time."""

    def __init__(self, pit: Pit, cs: ContentStore, strategies: StrategyChoice) -> None:
        super().__init__(pit)
        self.cs = cs
        self.fib = Fib()
        self.strategies = strategies

    @abstractmethod
    def receive(self, face: Face, wire: bytes, now: float) -> None:
        """One link packet from a face. Malformed ones are counted and dropped; this never raises for them."""

    def receive_all(self, face: Face, packets: Sequence[bytes], now: float) -> None:
        """`receive` for each of them, which came together."""
        at, count, most = 0, len(packets), MOST
        while at < count:
            wire = packets[at]
            kind = wire[0] if wire and self.trace is None else 0
            memory = face.asks if kind == tlv.INTEREST else face.gives if kind == tlv.DATA else None
            if memory is None or memory.rest:
                if memory is not None:
                    memory.rest -= 1
                self.receive(face, wire, now)
                at += 1
                continue
            run = memory.find(wire, self._versions())
            handle = self._interests if kind == tlv.INTEREST else self._datas
            rest = packets if most >= count and not at else packets[at : at + most]
            done = 0 if run is None else handle(face, run, rest, now)
            if done:
                memory.used(done)
                at += done
                most = MOST
                continue
            self.receive(face, wire, now)
            at += 1
            most = 1  # what is no use for one may be none for those after it
            if run is not None:
                memory.in_vain()
            elif memory.worth_learning(wire):
                learn = self._learn_interests if kind == tlv.INTEREST else self._learn_datas
                most = MOST if learn(face, wire) else 1

    # ------------------------------------------------------------ Interests

    def _interests(self, face: Face, run: InterestRun, packets: Sequence[bytes], now: float) -> int:
        """Handle those from the first on that are alike and need no more than that; how many."""
        names = run.shape.names(packets, 0, MOST)
        if not names or self.cs.second is not None or not self.cs.serve:
            return 0
        wires = packets[: len(names)]
        names = names[: self._new(run, names, wires, now)]
        count = (self._hits(face, run, names, now) or self._misses(face, run, names, wires, now)) if names else 0
        if count:
            face.counters.in_bytes += count * run.shape.size
            face.counters.in_interests += count
            self.counters.in_interests += count
        return count

    def _new(self, run: InterestRun, names: list[Name], wires: Sequence[bytes], now: float) -> int:
        """How many there are before the first that is pending already, comes twice, or may be a loop."""
        pending, dead = self._pit.by_name, self._dead
        if len(names) == 1 and not len(dead):
            return int(names[0] not in pending)
        if len(set(names)) == len(names) and pending.keys().isdisjoint(names) and not len(dead):
            return len(names)
        seen: set[Name] = set()
        end = run.shape.after
        start = end - 4
        for count, (name, wire) in enumerate(zip(names, wires, strict=True)):
            if name in seen or name in pending or dead.has(name, wire[start:end], now):
                return count
            seen.add(name)
        return len(names)

    def _hits(self, face: Face, run: InterestRun, names: list[Name], now: float) -> int:
        """Answer those that the Content Store has, up to the first that it has not; how many."""
        found = self.cs.take(names, must_be_fresh=run.shape.must_be_fresh, now=now)
        count = len(found)
        if count:
            self.cs.count_hits(run.kind, names[:count])
            self.counters.satisfied += count
            self._send_all_data(face, found, lp.CONTENT_STORE_FACE_ID, now)
        return count

    def _misses(self, face: Face, run: InterestRun, names: list[Name], wires: Sequence[bytes], now: float) -> int:
        """Ask for those that the Content Store has not, up to the first that it has in whatever state; how many."""
        if run.way is None:
            return 0
        (lane, out), pit, shape = run.way, self._pit, run.shape
        count = self.cs.absent(names)
        if not count or not pit.takes(lane, count):
            return 0
        names, wires = names[:count], wires[:count]
        if shape.sent_tail != shape.tail:
            wires = [wire[: shape.after] + shape.sent_tail for wire in wires]
        pit.begin(lane, names, wires, now + shape.lifetime_s, now)
        run.kind.misses += count
        out.counters.out_interests += count
        self.counters.out_interests += count
        out.link.send_all(wires, now, incoming_face_id=face.id)
        return count

    def _learn_interests(self, face: Face, wire: bytes) -> bool:
        """Find out what is the same for all Interests like this one; whether anything is."""
        shape = interest_shape(wire)
        if shape is None:
            return False
        name, ends = wire[shape.start : shape.start + shape.ends[-2]], shape.ends[:-1]
        if self.cs.classes.table.has_child(name) or (not face.local and name.startswith(LOCALHOST)):
            return False
        kind = self.cs.classes.of(name, ends)
        face.asks.learn(InterestRun(shape, self._way(face, shape, name, ends), kind, self._versions()))
        return True

    def _way(self, face: Face, shape: InterestShape, name: Name, ends: Sequence[int]) -> tuple[Lane, Face] | None:
        """Where Interests below `name` from this face go, if that is one face for all of them."""
        if self.fib.has_child(name) or self.strategies.has_child(name):
            return None
        out, strategy = self._cheapest(face, name, ends), self.strategies.of(name, ends)
        if out is None or not strategy.asks_cheapest:
            return None
        lane = Lane((face.id, face.share), (out.id, out.share), strategy=strategy)
        lane.must_be_fresh, lane.depth = shape.must_be_fresh, len(ends)
        lane.cost = ENTRY_BYTES + shape.end - shape.start
        lane.each = lane.cost + IN_BYTES + shape.size
        lane.nonce_at, lane.nonce_end = shape.after - 4, shape.after
        return lane, out

    def _cheapest(self, face: Face, name: Name, ends: Sequence[int]) -> Face | None:
        """The first next hop to which an Interest below `name` from this face may go."""
        for hop in self.fib.lookup(name, ends):
            out = self.faces.get(hop.face_id)
            if out is not None and out is not face and within_scope(name, face, out, last_hop=False):
                return out
        return None

    def _versions(self) -> tuple[object, ...]:
        """What decisions rest on; another tuple when a table has changed."""
        return self.fib.version, self.strategies.version, self.cs.classes

    # ------------------------------------------------------------ Data

    def _datas(self, face: Face, run: DataRun, packets: Sequence[bytes], now: float) -> int:
        """As `_interests`: those for each of which one face waits, and has asked as in `_misses`."""
        names, pit = run.shape.names(packets, 0, MOST), self._pit
        if not names or pit.wants_digests or pit.wanted_by_prefix(names[0], run.shape.ends):
            return 0
        wires = packets[: len(names)]
        count, outgoing = self._answered(face, names, wires, now)
        if count:
            self.cs.insert_alike(run.kind, names[:count], wires, run.shape.freshness_ms, now)
            face.counters.in_bytes += count * run.shape.size
            face.counters.in_data += count
            self.counters.in_data += count
            self.counters.satisfied += count
            for face_id, data in outgoing.items():
                self._send_all_data(self.faces[face_id], data, face.id, now)
        return count

    def _answered(
        self, face: Face, names: list[Name], wires: Sequence[bytes], now: float
    ) -> tuple[int, dict[int, list[bytes]]]:
        """Take what they answer out of the PIT, up to the first that is not one of a batch: how many, and the packets
        by the face that waits for them."""
        pit = self._pit
        pending, begun, count = pit.by_name, 0, 0
        outgoing: dict[int, list[bytes]] = {}
        batch: Batch | None = None
        for name, wire in zip(names, wires, strict=True):
            found = pending.get(name)
            if batch is None or found is not batch:
                if not _waits(found, face, now):
                    break
                if batch is not None:
                    pit.answered(batch, count - begun)
                batch, begun = found, count
                asked, data = batch.wires, outgoing.setdefault(batch.lane.asker_id, [])
            del pending[name], asked[name]
            data.append(wire)
            count += 1
        if batch is not None:
            pit.answered(batch, count - begun)
        return count, outgoing

    def _learn_datas(self, face: Face, wire: bytes) -> bool:
        """The same for Data."""
        shape = data_shape(wire)
        if shape is None:
            return False
        name, ends, classes = wire[shape.start : shape.start + shape.ends[-2]], shape.ends[:-1], self.cs.classes
        if classes.table.has_child(name) or (not face.local and name.startswith(LOCALHOST)):
            return False
        face.gives.learn(DataRun(shape, classes.of(name, ends), self._versions()))
        return True


def _waits(found: list[PitEntry] | Batch | None, face: Face, now: float) -> TypeGuard[Batch]:
    """Whether that is a batch of another face whose Data need no more than to be sent on."""
    return (
        isinstance(found, Batch)
        and found.expires > now
        and not found.lane.must_be_fresh
        and found.lane.asker_id != face.id
    )
