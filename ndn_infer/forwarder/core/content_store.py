"""The Content Store: Data kept for whoever asks next.

Owns: what is kept, what is found, what is evicted: least recently used first, protected classes after all others. Pure:
`now` is passed in; a second tier behind it (cs_disk.py) is given. Must not know: faces, Interests in flight, files.
Semantics: NFD developer guide, section 3.3; NDN Packet Format 0.3, sections 3.2 and 4. One difference from NFD: of two
packets of one name the later one stays.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final, Protocol

from ndn_infer.forwarder.core.cs_classes import CsClass, CsClasses
from ndn_infer.forwarder.core.name_order import NameOrder
from ndn_infer.ndn.name import Name, ends_in_digest

ENTRY_OVERHEAD_BYTES: Final = 400
"""What one entry costs beside its packet and its name, counted against the byte bound."""

UNORDERED_MOST: Final = 8192
"""Names that wait to be put in order: what a look-up by prefix may have to do first, a millisecond or two."""
MAX_ANSWERS: Final = 8192
"""Interests by prefix of which is known which packet answered them last: two MB, as names are short."""
MAX_STALE_SCANNED: Final = 1024
"""A MustBeFresh look-up by prefix gives up after so many stale packets: a miss is always allowed, a stop is not."""

PROTECTED_SHARE: Final = 0.8
"""Of either bound; protected classes that want more lose their own least recently used."""


class CsEntry:
    __slots__ = ("digest", "fresh_until", "kind", "wire")

    def __init__(self, wire: bytes, fresh_until: float, kind: CsClass) -> None:
        self.wire = wire
        self.fresh_until = fresh_until
        self.kind = kind
        self.digest: bytes | None = None

    def implicit_digest(self) -> bytes:
        if self.digest is None:
            self.digest = hashlib.sha256(self.wire).digest()
        return self.digest


class SecondTier(Protocol):
    """Where packets go that memory has no room for. What it gives back it has checked."""

    def keep(self, name: Name, wire: bytes, fresh_until: float) -> None:
        """`fresh_until` on the clock of `now`."""

    def find(
        self, name: Name, *, can_be_prefix: bool, must_be_fresh: bool, now: float
    ) -> tuple[Name, bytes, float] | None:
        """Name, packet and the time until which it is fresh, of one that satisfies an Interest."""

    def forget(self, name: Name) -> None:
        """A newer packet of this name has come."""

    def erase(self, prefix: Name, limit: int) -> int:
        """Forget up to `limit` packets below `prefix`; how many."""


class ContentStore:
    """Bounded by packets and by bytes. `admit` and `serve` are the switches of NFD's cs/config."""

    def __init__(
        self,
        capacity_packets: int,
        capacity_bytes: int,
        *,
        classes: CsClasses | None = None,
        second: SecondTier | None = None,
    ) -> None:
        self.capacity_packets = capacity_packets
        self.capacity_bytes = capacity_bytes
        self.classes = classes or CsClasses()
        self.second = second
        self.on_hit: Callable[[Name], None] | None = None
        """Hears the names of Interests that were answered."""
        self.admit = True
        self.serve = True
        self.used_bytes = 0
        self._protected_bytes = 0
        self._plain: OrderedDict[Name, CsEntry] = OrderedDict()
        self._protected: OrderedDict[Name, CsEntry] = OrderedDict()
        # Names enter the order when somebody asks by prefix: bulk data that comes and goes meanwhile costs nothing.
        self._order = NameOrder()
        self._unordered: dict[Name, None] = {}
        # Whoever asks by a prefix after others did needs no order: the packet that they got is tried first.
        self._answers: dict[Name, Name] = {}

    def __len__(self) -> int:
        return len(self._plain) + len(self._protected)

    @property
    def hits(self) -> int:
        return sum(kind.hits for kind in self.classes.all())

    @property
    def misses(self) -> int:
        return sum(kind.misses for kind in self.classes.all())

    @property
    def evicted(self) -> int:
        return sum(kind.evicted for kind in self.classes.all())

    def insert(self, name: Name, wire: bytes, freshness_ms: int, now: float) -> None:
        """Keep a Data packet; a packet of the same name is replaced."""
        if not self.admit:
            return
        self._insert(name, wire, now + freshness_ms / 1000 if freshness_ms else 0.0)
        if self.second is not None:
            self.second.forget(name)

    def insert_alike(
        self, kind: CsClass, names: Sequence[Name], wires: Sequence[bytes], freshness_ms: int, now: float
    ) -> None:
        """`insert` for packets of one length, with names of one length, of the class `kind`; there may be more `wires`
        than names."""
        queue = self._protected if kind.protected else self._plain
        if not self.admit or self.second is not None or self.absent(names) < len(names):
            for name, wire in zip(names, wires, strict=False):
                self.insert(name, wire, freshness_ms, now)
            return
        fresh_until = now + freshness_ms / 1000 if freshness_ms else 0.0
        for name, wire in zip(names, wires, strict=False):
            queue[name] = CsEntry(wire, fresh_until, kind)
        self._unordered.update(dict.fromkeys(names))
        if len(self._unordered) >= UNORDERED_MOST:
            self._put_in_order()
        size = len(names) * _size(names[0], wires[0])
        self.used_bytes += size
        kind.used_bytes += size
        kind.packets += len(names)
        kind.inserted += len(names)
        if kind.protected:
            self._protected_bytes += size
        if len(self) > self.capacity_packets or self.used_bytes > self.capacity_bytes:
            self.evict()

    def _insert(self, name: Name, wire: bytes, fresh_until: float) -> None:
        old = self._get(name)
        if old is not None:
            self._take_out(name, old)
        else:
            self._unordered[name] = None
            if len(self._unordered) >= UNORDERED_MOST:
                self._put_in_order()
        kind = self.classes.of(name)
        size = _size(name, wire)
        (self._protected if kind.protected else self._plain)[name] = CsEntry(wire, fresh_until, kind)
        self.used_bytes += size
        kind.used_bytes += size
        kind.packets += 1
        kind.inserted += 1
        if kind.protected:
            self._protected_bytes += size
        if len(self) > self.capacity_packets or self.used_bytes > self.capacity_bytes:
            self.evict()

    def evict(self) -> None:
        """Evict until within both bounds."""
        while len(self) > self.capacity_packets or self.used_bytes > self.capacity_bytes:
            queue = self._protected if not self._plain or self._protected_too_large() else self._plain
            name, entry = next(iter(queue.items()))
            entry.kind.evicted += 1
            if self.second is not None:
                self.second.keep(name, entry.wire, entry.fresh_until)
            self._forget(name, entry)

    def _protected_too_large(self) -> bool:
        return (
            len(self._protected) > PROTECTED_SHARE * self.capacity_packets
            or self._protected_bytes > PROTECTED_SHARE * self.capacity_bytes
        )

    def find(
        self,
        name: Name,
        *,
        can_be_prefix: bool,
        must_be_fresh: bool,
        now: float,
        ends: Sequence[int] | None = None,
    ) -> bytes | None:
        """The packet that satisfies an Interest, or None; counts a hit or a miss. `ends` are `prefix_ends(name)`."""
        kind = self.classes.of(name, ends)
        if not self.serve:
            kind.misses += 1
            return None
        found = self._find(name, can_be_prefix, must_be_fresh, now)
        if found is not None:
            entry = self._plain.get(found)
            if entry is not None:
                self._plain.move_to_end(found)
            else:
                entry = self._protected[found]
                self._protected.move_to_end(found)
            self._hit(kind, name)
            return entry.wire
        if self.second is not None:
            stored = self.second.find(name, can_be_prefix=can_be_prefix, must_be_fresh=must_be_fresh, now=now)
            if stored is not None:
                self._hit(kind, name)
                kind.disk_hits += 1
                self._insert(*stored)
                return stored[1]
        kind.misses += 1
        return None

    def absent(self, names: Sequence[Name]) -> int:
        """How many there are before the first of which memory has a packet."""
        if len(names) == 1:
            return int(names[0] not in self._plain and names[0] not in self._protected)
        if self._plain.keys().isdisjoint(names) and self._protected.keys().isdisjoint(names):
            return len(names)
        return next(at for at, name in enumerate(names) if name in self._plain or name in self._protected)

    def take(self, names: Sequence[Name], *, must_be_fresh: bool, now: float) -> list[bytes]:
        """The packets of exactly these names, as `find` gives them, up to the first that memory has not. Counts
        nothing: `count_hits`."""
        found: list[bytes] = []
        for name in names:
            queue = self._plain if name in self._plain else self._protected
            entry = queue.get(name)
            if entry is None or (must_be_fresh and entry.fresh_until <= now):
                break
            queue.move_to_end(name)
            found.append(entry.wire)
        return found

    def count_hits(self, kind: CsClass, names: Sequence[Name]) -> None:
        kind.hits += len(names)
        if self.on_hit is not None:
            for name in names:
                self.on_hit(name)

    def _hit(self, kind: CsClass, name: Name) -> None:
        kind.hits += 1
        if self.on_hit is not None:
            self.on_hit(name)

    def erase(self, prefix: Name, limit: int) -> int:
        """Forget up to `limit` packets below `prefix`, also of the second tier; returns how many (NFD cs/erase)."""
        names = list(islice(self._below(prefix), limit))
        for name in names:
            self._forget(name, self._entry(name))
            if self.second is not None:
                self.second.forget(name)
        count = len(names)
        if self.second is not None and count < limit:
            count += self.second.erase(prefix, limit - count)
        return count

    def has_below(self, prefix: Name) -> bool:
        return any(True for _ in islice(self._below(prefix), 1))

    def reclassify(self, classes: CsClasses) -> None:
        """Apply another configuration of classes to what is there."""
        classes.keep_counts(self.classes)
        entries = [*self._protected.items(), *self._plain.items()]
        self.classes = classes
        self._plain.clear()
        self._protected.clear()
        self._protected_bytes = 0
        for name, entry in entries:
            kind = entry.kind = classes.of(name)
            size = _size(name, entry.wire)
            kind.packets += 1
            kind.used_bytes += size
            (self._protected if kind.protected else self._plain)[name] = entry
            self._protected_bytes += size * kind.protected

    def spill(self) -> None:
        """Hand everything to the second tier: the forwarder stops."""
        if self.second is not None:
            for queue in (self._plain, self._protected):
                for name, entry in queue.items():
                    self.second.keep(name, entry.wire, entry.fresh_until)

    # ------------------------------------------------------------

    def _get(self, name: Name) -> CsEntry | None:
        entry = self._plain.get(name)
        return entry if entry is not None or not self._protected else self._protected.get(name)

    def _entry(self, name: Name) -> CsEntry:
        entry = self._get(name)
        assert entry is not None
        return entry

    def _find(self, name: Name, can_be_prefix: bool, must_be_fresh: bool, now: float) -> Name | None:
        entry = self._get(name)
        if entry is not None and (not must_be_fresh or entry.fresh_until > now):
            return name
        if ends_in_digest(name):
            exact = name[:-34]
            entry = self._get(exact)
            if entry is not None and (not must_be_fresh or entry.fresh_until > now):
                return exact if entry.implicit_digest() == name[-32:] else None
            return None
        if not can_be_prefix:
            return None
        answer = self._answers.get(name)
        entry = self._get(answer) if answer is not None else None
        if entry is not None and (not must_be_fresh or entry.fresh_until > now):
            return answer
        # The first that will do; the specification prefers none.
        for candidate in islice(self._below(name), MAX_STALE_SCANNED):
            if not must_be_fresh or self._entry(candidate).fresh_until > now:
                self.answered(name, candidate)
                return candidate
        return None

    def answered(self, prefix: Name, name: Name) -> None:
        """The packet `name` was the answer to an Interest for `prefix`."""
        self._answers[prefix] = name
        if len(self._answers) > MAX_ANSWERS:
            del self._answers[next(iter(self._answers))]

    def _below(self, prefix: Name) -> Iterator[Name]:
        self._put_in_order()
        return self._order.below(prefix)

    def _put_in_order(self) -> None:
        self._order.add_all(self._unordered)
        self._unordered.clear()

    def _forget(self, name: Name, entry: CsEntry) -> None:
        self._take_out(name, entry)
        if name in self._unordered:
            del self._unordered[name]
        else:
            self._order.remove(name)

    def _take_out(self, name: Name, entry: CsEntry) -> None:
        kind, size = entry.kind, _size(name, entry.wire)
        del (self._protected if kind.protected else self._plain)[name]
        self.used_bytes -= size
        kind.used_bytes -= size
        kind.packets -= 1
        if kind.protected:
            self._protected_bytes -= size


def _size(name: Name, wire: bytes) -> int:
    return len(wire) + len(name) + ENTRY_OVERHEAD_BYTES
