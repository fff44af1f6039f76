"""The Content Store: Data kept for whoever asks next.

Owns: what is kept, what is found, what is evicted (least recently used). Pure: `now` is passed in. Must not know:
faces, Interests in flight. Semantics: NFD developer guide, section 3.3; NDN Packet Format 0.3, sections 3.2 and 4.
One difference from NFD: of two packets of one name the later one stays.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import Final

from ndn_infer.forwarder.name_order import NameOrder
from ndn_infer.forwarder.pit import has_digest
from ndn_infer.name import Name

ENTRY_OVERHEAD_BYTES: Final = 400
"""What one entry costs beside its packet, counted against the byte bound."""

MAX_STALE_SCANNED: Final = 1024
"""A MustBeFresh look-up by prefix gives up after so many stale packets: a miss is always allowed, a stop is not."""


class Entry:
    __slots__ = ("digest", "fresh_until", "wire")

    def __init__(self, wire: bytes, fresh_until: float) -> None:
        self.wire = wire
        self.fresh_until = fresh_until
        self.digest: bytes | None = None

    def implicit_digest(self) -> bytes:
        if self.digest is None:
            self.digest = hashlib.sha256(self.wire).digest()
        return self.digest


class ContentStore:
    """Bounded by packets and by bytes. `admit` and `serve` are the switches of NFD's cs/config."""

    def __init__(self, capacity_packets: int, capacity_bytes: int) -> None:
        self.capacity_packets = capacity_packets
        self.capacity_bytes = capacity_bytes
        self.admit = True
        self.serve = True
        self.hits = 0
        self.misses = 0
        self.inserted = 0
        self.evicted = 0
        self.used_bytes = 0
        self._entries: OrderedDict[Name, Entry] = OrderedDict()
        # Names enter the order when somebody asks by prefix: bulk data that comes and goes meanwhile costs nothing.
        self._order = NameOrder()
        self._unordered: dict[Name, None] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def insert(self, name: Name, wire: bytes, freshness_ms: int, now: float) -> None:
        """Keep a Data packet; a packet of the same name is replaced."""
        if not self.admit:
            return
        old = self._entries.get(name)
        if old is not None:
            self.used_bytes -= len(old.wire) + ENTRY_OVERHEAD_BYTES
            self._entries.move_to_end(name)
        else:
            self._unordered[name] = None
        self._entries[name] = Entry(wire, now + freshness_ms / 1000 if freshness_ms else 0.0)
        self.used_bytes += len(wire) + ENTRY_OVERHEAD_BYTES
        self.inserted += 1
        if len(self._entries) > self.capacity_packets or self.used_bytes > self.capacity_bytes:
            self.shrink()

    def shrink(self) -> None:
        """Evict until within both bounds."""
        while len(self._entries) > self.capacity_packets or self.used_bytes > self.capacity_bytes:
            self._forget(next(iter(self._entries)))
            self.evicted += 1

    def find(self, name: Name, *, can_be_prefix: bool, must_be_fresh: bool, now: float) -> bytes | None:
        """The packet that satisfies an Interest, or None; counts a hit or a miss."""
        found = self._find(name, can_be_prefix, must_be_fresh, now) if self.serve else None
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(found)
        return self._entries[found].wire

    def erase(self, prefix: Name, limit: int) -> int:
        """Forget up to `limit` packets below `prefix`; returns how many (NFD cs/erase)."""
        names = list(islice(self._below(prefix), limit))
        for name in names:
            self._forget(name)
        return len(names)

    def has_below(self, prefix: Name) -> bool:
        return any(True for _ in islice(self._below(prefix), 1))

    def _find(self, name: Name, can_be_prefix: bool, must_be_fresh: bool, now: float) -> Name | None:
        entry = self._entries.get(name)
        if entry is not None and (not must_be_fresh or entry.fresh_until > now):
            return name
        if has_digest(name):
            exact = name[:-34]
            entry = self._entries.get(exact)
            if entry is not None and (not must_be_fresh or entry.fresh_until > now):
                return exact if entry.implicit_digest() == name[-32:] else None
            return None
        if not can_be_prefix:
            return None
        # The first that will do; the specification prefers none.
        for candidate in islice(self._below(name), MAX_STALE_SCANNED):
            if not must_be_fresh or self._entries[candidate].fresh_until > now:
                return candidate
        return None

    def _below(self, prefix: Name) -> Iterator[Name]:
        for name in self._unordered:
            self._order.add(name)
        self._unordered.clear()
        return self._order.below(prefix)

    def _forget(self, name: Name) -> None:
        self.used_bytes -= len(self._entries.pop(name).wire) + ENTRY_OVERHEAD_BYTES
        if name in self._unordered:
            del self._unordered[name]
        else:
            self._order.remove(name)
