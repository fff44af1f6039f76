"""The PIT: Interests that wait for Data.

Owns: entries with in- and out-records, matching Data against them, and when they run out. Pure: `now` is passed in.
Must not know: who is asked next (strategy.py), what is sent (pipeline.py). Source: NFD developer guide, section 3.4.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from ndn_infer.forwarder.core.parsing import ParsedInterest
from ndn_infer.ndn.name import Name, ends_in_digest, from_uri, implicit_digest

TICK_S: Final = 0.01
"""Entries are reaped in steps of this; until then they are pending no longer than their in-records say."""


MANAGEMENT: Final = from_uri("/localhost/nfd")
RESERVE: Final = 1024
RESERVE_BYTES: Final = 8 << 20
"""Entries, and their bytes, that a face may have for management alone: it is needed most when somebody floods."""

ENTRY_BYTES: Final = 1000
IN_BYTES: Final = 300
OUT_BYTES: Final = 200
"""What the objects of an entry (with one out-record) and of further records take beside packets and names."""


class Share:
    """What one face has in the PIT: how many `entries` began with it, what these and its in-records take, and in which
    entries it has a record of either kind."""

    __slots__ = ("entries", "held", "used_bytes")

    def __init__(self) -> None:
        self.entries = 0
        self.used_bytes = 0
        self.held: set[PitEntry] = set()


class InRecord:
    """Who asked: the Interest as received (HopLimit decremented), and the PIT token to give back.

    `last_hop`: its HopLimit is used up, so it may only go to local faces. `share` is what its face has here. `again`:
    the face has asked before, and still waits.
    """

    __slots__ = ("again", "expires", "last_hop", "nonce", "share", "token", "wire")

    def __init__(
        self, wire: bytes, nonce: bytes, token: bytes, expires: float, share: Share, last_hop: bool = False
    ) -> None:
        self.wire = wire
        self.share = share
        self.nonce = nonce
        self.token = token
        self.expires = expires
        self.last_hop = last_hop
        self.again = False


class OutRecord:
    """Whom we asked. `suppress_s` is the multicast strategy's interval for this upstream; `share` as of InRecord."""

    __slots__ = ("expires", "nack_reason", "nonce", "sent", "share", "suppress_s")

    def __init__(self, nonce: bytes, expires: float, sent: float, suppress_s: float, share: Share) -> None:
        self.nonce = nonce
        self.share = share
        self.expires = expires
        self.sent = sent
        self.suppress_s = suppress_s
        self.nack_reason: int | None = None

    def pending(self, now: float) -> bool:
        return self.nack_reason is None and self.expires >= now


class PitEntry:
    """One pending Interest: (name, CanBePrefix, MustBeFresh, hints), who wants it and who was asked.

    `depth` is the number of components of the name, `owner` the share of the face that asked first, `strategy` the
    strategy that forwarded it first, `strategy_info` what it keeps here, `suppress_s` best-route's interval.
    """

    __slots__ = (
        "bucket", "can_be_prefix", "cost", "depth", "expires", "freshness_ms", "hints", "ins", "must_be_fresh", "name",
        "outs", "owner", "satisfied", "strategy", "strategy_info", "suppress_s",
    )  # fmt: skip

    def __init__(
        self, name: Name, can_be_prefix: bool, must_be_fresh: bool, hints: tuple[Name, ...], depth: int, owner: Share
    ) -> None:
        self.name = name
        self.owner = owner
        self.cost = ENTRY_BYTES + len(name) + (sum(map(len, hints)) if hints else 0)
        self.depth = depth
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
        self.strategy_info: Any = None

    def asked_for(self, record: InRecord, face_id: int, now: float) -> bool:
        """Whether `record` of this face, which did not wait here yet, adds nothing: what it wants has been asked of
        another face, and is waited for there for half of its own time at least."""
        if record.again:
            return False
        until = now + (record.expires - now) / 2
        return any(
            asked != face_id and out.nack_reason is None and out.expires >= until for asked, out in self.outs.items()
        )

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
    """Entries by name. Bounded by number and bytes: who adds asks `has_room` before."""

    def __init__(self, capacity: int = 200_000, capacity_bytes: int = 512 << 20) -> None:
        self.capacity = capacity
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0
        self._by_name: dict[Name, list[PitEntry]] = {}
        self._size = 0
        self._prefix_depths: dict[int, int] = {}
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

    # ------------------------------------------------------------ records, and what faces have

    def has_room(self, share: Share, size: int, name: Name, *, begins: bool) -> bool:
        """Whether the table takes an Interest of `size` bytes, which `begins` an entry or joins one: unless its face
        has as much as there is room left, entries or bytes. A flood from one face leaves half of the PIT free, floods
        from n faces an (n+1)th of it (dynamic thresholds, Choudhury and Hahne 1998)."""
        room, room_bytes = self.capacity - self._size, self.capacity_bytes - self.used_bytes
        if share.used_bytes + size <= room_bytes and (share.entries < room or not begins):
            return True
        return (
            name.startswith(MANAGEMENT)
            and share.used_bytes + size <= room_bytes + RESERVE_BYTES
            and share.entries < room + RESERVE
        )

    def put_in(self, entry: PitEntry, face_id: int, record: InRecord) -> None:
        """Add or replace an in-record of an entry that is in the table, and keep the entry for as long as the last of
        its in-records (which a retransmission may bring forward: NFD, setExpiryTimer)."""
        share, ins, size = record.share, entry.ins, len(record.wire) + IN_BYTES
        if face_id in ins:
            record.again = True
            size -= len(ins[face_id].wire) + IN_BYTES
        else:
            share.held.add(entry)
        ins[face_id] = record
        share.used_bytes += size
        self.used_bytes += size
        self.reschedule(entry, record.expires if len(ins) == 1 else max(held.expires for held in ins.values()))

    def take_in(self, entry: PitEntry, face_id: int) -> InRecord:
        """Raises KeyError when there is none."""
        record = entry.ins.pop(face_id)
        size = len(record.wire) + IN_BYTES
        record.share.used_bytes -= size
        self.used_bytes -= size
        if face_id not in entry.outs:
            record.share.held.discard(entry)
        return record

    def put_out(self, entry: PitEntry, face_id: int, record: OutRecord) -> None:
        """Add or replace an out-record; those after the first are charged to the face that began the entry."""
        if face_id not in entry.outs:
            record.share.held.add(entry)
            if entry.outs:
                entry.owner.used_bytes += OUT_BYTES
                self.used_bytes += OUT_BYTES
        entry.outs[face_id] = record

    def forget_face(self, face_id: int, share: Share) -> list[PitEntry]:
        """A face is gone; the entries that now nobody waits for (the caller removes them)."""
        orphans = []
        held, share.held = share.held, set()
        for entry in held:
            if face_id in entry.outs:
                if len(entry.outs) > 1:
                    entry.owner.used_bytes -= OUT_BYTES
                    self.used_bytes -= OUT_BYTES
                del entry.outs[face_id]
            if face_id in entry.ins:
                self.take_in(entry, face_id)
                if not entry.ins:
                    orphans.append(entry)
        return orphans

    # ------------------------------------------------------------

    def choose_again(self, prefix: Name, of: Callable[[Name], Any]) -> None:
        """Another strategy may rule below `prefix` (NFD, StrategyChoice::changeStrategy)."""
        for entry in self:
            if entry.name.startswith(prefix):
                strategy = of(entry.name)
                if strategy is not entry.strategy:
                    entry.strategy, entry.strategy_info = strategy, None

    def insert(self, entry: PitEntry) -> None:
        """`put_in` comes next: an entry without in-records never runs out."""
        entry.owner.entries += 1
        entry.owner.used_bytes += entry.cost
        self.used_bytes += entry.cost
        same = self._by_name.get(entry.name)
        if same is None:
            self._by_name[entry.name] = [entry]
        else:
            same.append(entry)
        self._size += 1
        if entry.can_be_prefix:
            self._prefix_depths[entry.depth] = self._prefix_depths.get(entry.depth, 0) + 1
        self._digests += ends_in_digest(entry.name)

    def remove(self, entry: PitEntry) -> bool:
        """Whether the entry was there."""
        same = self._by_name.get(entry.name)
        if same is None or entry not in same:
            return False
        same.remove(entry)
        if not same:
            del self._by_name[entry.name]
        self._size -= 1
        self._discharge(entry)
        if entry.can_be_prefix:
            self._prefix_depths[entry.depth] -= 1
            if not self._prefix_depths[entry.depth]:
                del self._prefix_depths[entry.depth]
        self._digests -= ends_in_digest(entry.name)
        if entry.bucket >= 0:
            self._buckets[entry.bucket].discard(entry)
            entry.bucket = -1
        return True

    def _discharge(self, entry: PitEntry) -> None:
        owner, total, outs = entry.owner, entry.cost, entry.outs
        if len(outs) > 1:
            total += OUT_BYTES * (len(outs) - 1)
        owner.entries -= 1
        owner.used_bytes -= total
        for record in entry.ins.values():
            share, size = record.share, len(record.wire) + IN_BYTES
            share.held.discard(entry)
            share.used_bytes -= size
            total += size
        for out in outs.values():
            out.share.held.discard(entry)
        self.used_bytes -= total

    def matching(self, name: Name, ends: Sequence[int], wire: bytes) -> list[PitEntry]:
        """Entries that this Data satisfies: exact name, full name with digest, or a prefix with CanBePrefix. `ends` are
        `prefix_ends(name)`: at most as many look-ups as the name has components, whatever is pending."""
        matches = list(self._by_name.get(name, ()))
        if self._digests:
            matches += self._by_name.get(name + implicit_digest(hashlib.sha256(wire).digest()), ())
        depths, count = self._prefix_depths, len(ends) - 1
        if not depths:
            return matches
        for depth in depths if len(depths) < count else range(count):
            if depth < count and depth in depths:
                matches += [entry for entry in self._by_name.get(name[: ends[depth]], ()) if entry.can_be_prefix]
        return matches

    # ------------------------------------------------------------ time

    def reschedule(self, entry: PitEntry, expires: float) -> None:
        """Keep the entry until `expires`."""
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
