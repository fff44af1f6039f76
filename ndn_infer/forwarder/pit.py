"""The PIT: Interests that wait for Data.

Owns: entries with in- and out-records, matching Data against them, and when they run out. Pure: `now` is passed in.
Must not know: who is asked next (strategy.py), what is sent (pipeline.py). Source: NFD developer guide, section 3.4.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from ndn_infer.forwarder.parsing import ParsedInterest
from ndn_infer.name import IMPLICIT_DIGEST, Name, implicit_digest

TICK_S: Final = 0.01
"""Entries are reaped in steps of this; until then they are pending no longer than their in-records say."""


class InRecord:
    """Who asked: the Interest as received (HopLimit decremented), and the PIT token to give back.

    `last_hop`: its HopLimit is used up, so it may only go to local faces.
    """

    __slots__ = ("expires", "last_hop", "nonce", "token", "wire")

    def __init__(self, wire: bytes, nonce: bytes, token: bytes, expires: float, last_hop: bool = False) -> None:
        self.wire = wire
        self.nonce = nonce
        self.token = token
        self.expires = expires
        self.last_hop = last_hop


class OutRecord:
    """Whom we asked. `suppress_s` is the multicast strategy's interval for this upstream."""

    __slots__ = ("expires", "nack_reason", "nonce", "sent", "suppress_s")

    def __init__(self, nonce: bytes, expires: float, sent: float, suppress_s: float) -> None:
        self.nonce = nonce
        self.expires = expires
        self.sent = sent
        self.suppress_s = suppress_s
        self.nack_reason: int | None = None

    def pending(self, now: float) -> bool:
        return self.nack_reason is None and self.expires >= now


class PitEntry:
    """One pending Interest: (name, CanBePrefix, MustBeFresh, hints), who wants it and who was asked.

    `owner` is the face that asked first, `strategy` the strategy that forwarded it first, `strategy_info` what it keeps
    here, `suppress_s` best-route's interval.
    """

    __slots__ = (
        "bucket", "can_be_prefix", "expires", "freshness_ms", "hints", "ins", "must_be_fresh", "name", "outs", "owner",
        "satisfied", "strategy", "strategy_info", "suppress_s",
    )  # fmt: skip

    def __init__(self, name: Name, can_be_prefix: bool, must_be_fresh: bool, hints: tuple[Name, ...]) -> None:
        self.name = name
        self.can_be_prefix = can_be_prefix
        self.must_be_fresh = must_be_fresh
        self.hints = hints
        self.ins: dict[int, InRecord] = {}
        self.outs: dict[int, OutRecord] = {}
        self.expires = 0.0
        self.suppress_s = 0.0
        self.satisfied = False
        self.freshness_ms = 0
        self.bucket = -1
        self.strategy: Any = None
        self.owner: Any = None
        self.strategy_info: Any = None

    def loops(self, nonce: bytes, face_id: int) -> bool:
        """Whether this nonce has been here by another way. The same face may send the same Interest again: that is a
        retransmission, not a loop (NFD developer guide, section 4.2.1, point-to-point faces)."""
        own = self.ins.get(face_id)
        if own is not None and own.nonce == nonce:
            return False
        return any(record.nonce == nonce for record in self.ins.values()) or any(
            record.nonce == nonce for record in self.outs.values()
        )


class Pit:
    """Entries by name. Bounded by its owner through `len`."""

    def __init__(self) -> None:
        self._by_name: dict[Name, list[PitEntry]] = {}
        self._size = 0
        self._prefix_sizes: dict[int, int] = {}
        self._digests = 0
        self._buckets: dict[int, set[PitEntry]] = {}
        self._bucket_heap: list[int] = []

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[PitEntry]:
        return (entry for entries in list(self._by_name.values()) for entry in list(entries))

    def find(
        self, name: Name, can_be_prefix: bool, must_be_fresh: bool, hints: tuple[Name, ...] = ()
    ) -> PitEntry | None:
        for entry in self._by_name.get(name, ()):
            if (
                entry.can_be_prefix == can_be_prefix
                and entry.must_be_fresh == must_be_fresh
                and entry.hints == hints
            ):  # fmt: skip
                return entry
        return None

    def named(self, name: Name) -> Sequence[PitEntry]:
        """All entries of exactly this name."""
        return self._by_name.get(name, ())

    def asked(self, interest: ParsedInterest, face_id: int) -> PitEntry | None:
        """The entry for which this Interest went to this face. Hints may have been stripped on the way, so the nonce
        tells which of several entries it is."""
        flags = interest.can_be_prefix, interest.must_be_fresh
        for entry in self.named(interest.name):
            out = entry.outs.get(face_id)
            if out is not None and out.nonce == interest.nonce and (entry.can_be_prefix, entry.must_be_fresh) == flags:
                return entry
        return None

    def forget_face(self, face_id: int) -> list[PitEntry]:
        """A face is gone; the entries that now nobody waits for (the caller removes them)."""
        orphans = []
        for entry in self:
            entry.outs.pop(face_id, None)
            if entry.ins.pop(face_id, None) is not None and not entry.ins:
                orphans.append(entry)
        return orphans

    def choose_again(self, prefix: Name, of: Callable[[Name], Any]) -> None:
        """Another strategy may rule below `prefix` (NFD, StrategyChoice::changeStrategy)."""
        for entry in self:
            if entry.name.startswith(prefix):
                strategy = of(entry.name)
                if strategy is not entry.strategy:
                    entry.strategy, entry.strategy_info = strategy, None

    def insert(self, entry: PitEntry) -> None:
        same = self._by_name.get(entry.name)
        if same is None:
            self._by_name[entry.name] = [entry]
        else:
            same.append(entry)
        self._size += 1
        if entry.can_be_prefix:
            self._prefix_sizes[len(entry.name)] = self._prefix_sizes.get(len(entry.name), 0) + 1
        self._digests += has_digest(entry.name)

    def remove(self, entry: PitEntry) -> bool:
        """Whether the entry was there."""
        same = self._by_name.get(entry.name)
        if same is None or entry not in same:
            return False
        same.remove(entry)
        if not same:
            del self._by_name[entry.name]
        self._size -= 1
        if entry.can_be_prefix:
            self._prefix_sizes[len(entry.name)] -= 1
            if not self._prefix_sizes[len(entry.name)]:
                del self._prefix_sizes[len(entry.name)]
        self._digests -= has_digest(entry.name)
        if entry.bucket >= 0:
            self._buckets[entry.bucket].discard(entry)
            entry.bucket = -1
        return True

    def matching(self, name: Name, wire: bytes) -> list[PitEntry]:
        """Entries that this Data satisfies: exact name, full name with digest, or a prefix with CanBePrefix."""
        matches = list(self._by_name.get(name, ()))
        if self._digests:
            matches += self._by_name.get(name + implicit_digest(hashlib.sha256(wire).digest()), ())
        for size in self._prefix_sizes:  # few; whole components that begin the bytes of a name are a prefix of it
            if size < len(name):
                matches += [entry for entry in self._by_name.get(name[:size], ()) if entry.can_be_prefix]
        return matches

    # ------------------------------------------------------------ time

    def extend(self, entry: PitEntry, expires: float) -> None:
        """Keep the entry until `expires` at least."""
        if expires > entry.expires:
            self.reschedule(entry, expires)

    def reschedule(self, entry: PitEntry, expires: float) -> None:
        """Keep the entry until `expires`: when the last in-record runs out, which a retransmission may bring forward
        (NFD, setExpiryTimer)."""
        entry.expires = expires
        bucket = int(expires / TICK_S) + 1
        if bucket == entry.bucket:
            return
        if entry.bucket >= 0:
            self._buckets[entry.bucket].discard(entry)
        entry.bucket = bucket
        entries = self._buckets.get(bucket)
        if entries is None:
            entries = self._buckets[bucket] = set()
            heapq.heappush(self._bucket_heap, bucket)
        entries.add(entry)

    def due(self, now: float) -> list[PitEntry]:
        """Entries that ran out; the caller removes them."""
        found: list[PitEntry] = []
        while self._bucket_heap and self._bucket_heap[0] * TICK_S <= now:
            entries = self._buckets.pop(heapq.heappop(self._bucket_heap))
            for entry in entries:
                entry.bucket = -1
            found.extend(entries)
        return found

    def next_wake(self) -> float | None:
        """When `due` will have something to say."""
        while self._bucket_heap and not self._buckets[self._bucket_heap[0]]:
            del self._buckets[heapq.heappop(self._bucket_heap)]
        return self._bucket_heap[0] * TICK_S if self._bucket_heap else None


def has_digest(name: Name) -> bool:
    """Whether the last component looks like an implicit digest (34 bytes: type 1, length 32)."""
    return len(name) >= 34 and name[-34] == IMPLICIT_DIGEST and name[-33] == 32
