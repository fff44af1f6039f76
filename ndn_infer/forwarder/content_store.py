"""The Content Store: Data kept for whoever asks next.

Owns: what is kept, what is found, what is evicted (least recently used). Pure: `now` is passed in. Must not know:
faces, Interests in flight. Semantics: NFD developer guide, section 3.3; NDN Packet Format 0.3, sections 3.2 and 4.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

from sortedcontainers import SortedList

from ndn_infer.name import IMPLICIT_DIGEST, Name

ENTRY_OVERHEAD_BYTES: Final = 400
"""What one entry costs beside its packet, counted against the byte bound."""


@dataclass(slots=True)
class Entry:
    wire: bytes
    fresh_until: float
    digest: bytes | None = None

    def implicit_digest(self) -> bytes:
        if self.digest is None:
            self.digest = hashlib.sha256(self.wire).digest()
        return self.digest


@dataclass(slots=True)
class ContentStore:
    """Bounded by packets and by bytes. `admit` and `serve` are the switches of NFD's cs/config."""

    capacity_packets: int
    capacity_bytes: int
    admit: bool = True
    serve: bool = True
    hits: int = 0
    misses: int = 0
    inserted: int = 0
    evicted: int = 0
    used_bytes: int = 0
    _entries: OrderedDict[Name, Entry] = field(default_factory=OrderedDict)
    _sorted: Any = field(default_factory=SortedList)
    _unsorted: list[Name] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._entries)

    def insert(self, name: Name, wire: bytes, freshness_ms: int, now: float) -> None:
        """Keep a Data packet; a packet of the same name is replaced."""
        if not self.admit or self.capacity_packets == 0:
            return
        old = self._entries.pop(name, None)
        if old is not None:
            self.used_bytes -= len(old.wire) + ENTRY_OVERHEAD_BYTES
        else:
            self._unsorted.append(name)
            if len(self._unsorted) > 2 * self.capacity_packets:  # nobody asks by prefix: start over
                self._sorted, self._unsorted = SortedList(), list(self._entries)
        self._entries[name] = Entry(wire, now + freshness_ms / 1000 if freshness_ms else 0.0)
        self.used_bytes += len(wire) + ENTRY_OVERHEAD_BYTES
        self.inserted += 1
        self.shrink()

    def shrink(self) -> None:
        """Evict until within both bounds."""
        while len(self._entries) > self.capacity_packets or self.used_bytes > self.capacity_bytes:
            _, entry = self._entries.popitem(last=False)
            self.used_bytes -= len(entry.wire) + ENTRY_OVERHEAD_BYTES
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

    def _find(self, name: Name, can_be_prefix: bool, must_be_fresh: bool, now: float) -> Name | None:
        entry = self._entries.get(name)
        if entry is not None and (not must_be_fresh or entry.fresh_until > now):
            return name
        if len(name) >= 34 and name[-34] == IMPLICIT_DIGEST and name[-33] == 32:
            return self._find_digest(name, must_be_fresh, now)
        return self._find_below(name, must_be_fresh, now) if can_be_prefix else None

    def _find_digest(self, name: Name, must_be_fresh: bool, now: float) -> Name | None:
        exact = name[:-34]
        entry = self._entries.get(exact)
        if entry is None or (must_be_fresh and entry.fresh_until <= now):
            return None
        return exact if entry.implicit_digest() == name[-32:] else None

    def _find_below(self, prefix: Name, must_be_fresh: bool, now: float) -> Name | None:
        """The first descendant in order that will do (there is none to prefer by the specification)."""
        stale = []
        found: Name | None = None
        for name in self._ordered().irange(prefix):
            if not name.startswith(prefix):
                break
            entry = self._entries.get(name)
            if entry is None:
                stale.append(name)
            elif not must_be_fresh or entry.fresh_until > now:
                found = name
                break
        for name in stale:
            self._sorted.remove(name)
        return found

    def _ordered(self) -> Any:
        """All names in order, and some that were evicted since. Sorted when asked: bulk insertion costs nothing."""
        if len(self._sorted) + len(self._unsorted) > 2 * len(self._entries) + 1024:
            self._sorted = SortedList(self._entries)
        else:
            for name in self._unsorted:
                if name not in self._sorted:
                    self._sorted.add(name)
        self._unsorted.clear()
        return self._sorted

    def erase(self, prefix: Name, limit: int) -> int:
        """Forget up to `limit` packets below `prefix`; returns how many (NFD cs/erase)."""
        names = [name for name in self._entries if name.startswith(prefix)][:limit]
        for name in names:
            self.used_bytes -= len(self._entries.pop(name).wire) + ENTRY_OVERHEAD_BYTES
        return len(names)
