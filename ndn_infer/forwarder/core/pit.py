"""The PIT: Interests that wait for Data.

Owns: the table, matching Data against it, what faces have in it, and when entries run out. Pure: `now` is passed in.
Must not know: who is asked next (strategy.py), what is sent (pipeline.py). Source: NFD developer guide, section 3.4.

Interests that come in a burst for one object and go the same way are kept as a batch (pit_records.py). To all others
the table looks as if each were an entry: whoever looks one up finds a PitEntry, made at that moment.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from ndn_infer.forwarder.core.parsing import ParsedInterest
from ndn_infer.forwarder.core.pit_records import ENTRY_BYTES as ENTRY_BYTES
from ndn_infer.forwarder.core.pit_records import IN_BYTES as IN_BYTES
from ndn_infer.forwarder.core.pit_records import OUT_BYTES as OUT_BYTES
from ndn_infer.forwarder.core.pit_records import Batch as Batch
from ndn_infer.forwarder.core.pit_records import InRecord as InRecord
from ndn_infer.forwarder.core.pit_records import Lane as Lane
from ndn_infer.forwarder.core.pit_records import OutRecord as OutRecord
from ndn_infer.forwarder.core.pit_records import PitEntry as PitEntry
from ndn_infer.forwarder.core.pit_records import Share as Share
from ndn_infer.ndn.name import ROOT, Name, ends_in_digest, from_uri, implicit_digest

TICK_S: Final = 0.01
"""Entries are reaped in steps of this; until then they are pending no longer than their in-records say."""

REAPED_MOST: Final = 1000
"""Entries that go in one step, 100,000 a second; a batch goes whole."""

MANAGEMENT: Final = from_uri("/localhost/nfd")
RESERVE: Final = 1024
RESERVE_BYTES: Final = 8 << 20
"""Entries, and their bytes, that a face may have for management alone: it is needed most when somebody floods."""


class Pit:
    """Entries by name. Bounded by number and bytes: who adds asks `has_room` before."""

    def __init__(self, capacity: int = 200_000, capacity_bytes: int = 512 << 20) -> None:
        self.capacity = capacity
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0
        self._by_name: dict[Name, list[PitEntry] | Batch] = {}
        self._size = 0
        self._prefix_depths: dict[int, int] = {}
        self._digests = 0
        self._buckets: dict[int, set[PitEntry | Batch]] = {}
        self._bucket_heap: list[int] = []
        self._next_due = 0.0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[PitEntry]:
        return self.below(ROOT)

    def below(self, prefix: Name) -> Iterator[PitEntry]:
        """The entries whose names start with `prefix`."""
        names = [name for name in self._by_name if name.startswith(prefix)]
        return (entry for name in names for entry in list(self.named(name)))

    def find(
        self, name: Name, can_be_prefix: bool, must_be_fresh: bool, hints: tuple[Name, ...] = ()
    ) -> PitEntry | None:
        for entry in self.named(name):
            if (
                entry.can_be_prefix == can_be_prefix
                and entry.must_be_fresh == must_be_fresh
                and entry.hints == hints
            ):  # fmt: skip
                return entry
        return None

    def named(self, name: Name) -> Sequence[PitEntry]:
        """All entries of exactly this name."""
        found = self._by_name.get(name, ())
        return [self._take_out(name, found)] if isinstance(found, Batch) else found

    def asked(self, interest: ParsedInterest, face_id: int) -> PitEntry | None:
        """The entry for which this Interest went to this face. Hints may have been stripped on the lane, so the nonce
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

    def held_by(self, share: Share) -> list[PitEntry]:
        """The entries in which a face has a record."""
        for batch in [held for held in share.held if isinstance(held, Batch)]:
            for name in list(batch.wires):
                self._take_out(name, batch)
        return [held for held in share.held if isinstance(held, PitEntry)]

    def forget_face(self, face_id: int, share: Share) -> list[PitEntry]:
        """A face is gone; the entries that now nobody waits for (the caller removes them)."""
        orphans = []
        held = self.held_by(share)
        share.held = set()
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

    # ------------------------------------------------------------ batches

    def takes(self, lane: Lane, count: int) -> bool:
        """Whether there is room for so many Interests of this lane, and some to spare: `has_room` says so of each."""
        share, size = lane.asker_share, count * lane.each
        return (
            share.used_bytes + size <= self.capacity_bytes - self.used_bytes - size
            and share.entries + count < self.capacity - self._size - count
        )

    def begin(self, lane: Lane, names: Sequence[Name], wires: Sequence[bytes], expires: float, sent: float) -> None:
        """A new batch of these Interests: at least one, all names different and none of them in the table."""
        batch = Batch(lane, dict(zip(names, wires, strict=True)), expires, sent)
        if len(names) == 1:
            self._by_name[names[0]] = batch
        else:
            self._by_name.update(dict.fromkeys(names, batch))
        lane.asker_share.held.add(batch)
        lane.asked_share.held.add(batch)
        self._charge(lane, len(names))
        self.reschedule(batch, expires)

    def answered(self, batch: Batch, count: int) -> None:
        """So many were taken out of `batch.wires` and `by_name`, because Data came for them."""
        self._charge(batch.lane, -count)
        if not batch.wires:
            self._close(batch)

    @property
    def by_name(self) -> dict[Name, list[PitEntry] | Batch]:
        """For who empties batches, which are all of this that they may change."""
        return self._by_name

    @property
    def wants_digests(self) -> bool:
        """Whether some Interest is for a full name, with the digest of a packet."""
        return self._digests > 0

    def wanted_by_prefix(self, name: Name, ends: Sequence[int]) -> bool:
        """Whether an Interest with CanBePrefix of a shorter name pends. `ends` are `prefix_ends(name)`."""
        if not self._prefix_depths:
            return False
        count = len(ends) - 1
        found = (self._by_name.get(name[: ends[depth]], ()) for depth in self._prefix_depths if depth < count)
        return any(not isinstance(entries, Batch) and any(e.can_be_prefix for e in entries) for entries in found)

    def _charge(self, lane: Lane, count: int) -> None:
        share, size = lane.asker_share, count * lane.each
        share.entries += count
        share.used_bytes += size
        self.used_bytes += size
        self._size += count

    def _close(self, batch: Batch) -> None:
        batch.lane.asker_share.held.discard(batch)
        batch.lane.asked_share.held.discard(batch)
        if batch.bucket >= 0:
            self._buckets[batch.bucket].discard(batch)
            batch.bucket = -1

    def _take_out(self, name: Name, batch: Batch) -> PitEntry:
        """Something happens to this one: it becomes an entry of its own. Nobody else sees a difference."""
        lane = batch.lane
        entry = lane.entry(name, batch.wires.pop(name), batch.expires, batch.sent)
        self._by_name[name] = [entry]
        lane.asker_share.held.add(entry)
        lane.asked_share.held.add(entry)
        if batch.bucket >= 0:
            self.reschedule(entry, batch.expires)
        if not batch.wires:
            self._close(batch)
        return entry

    # ------------------------------------------------------------

    def choose_again(self, prefix: Name, of: Callable[[Name], Any]) -> None:
        """Another strategy may rule below `prefix` (NFD, StrategyChoice::changeStrategy)."""
        for entry in self.below(prefix):
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
        elif isinstance(same, Batch):
            self._by_name[entry.name] = [self._take_out(entry.name, same), entry]
        else:
            same.append(entry)
        self._size += 1
        if entry.can_be_prefix:
            self._prefix_depths[entry.depth] = self._prefix_depths.get(entry.depth, 0) + 1
        self._digests += ends_in_digest(entry.name)

    def remove(self, entry: PitEntry) -> bool:
        """Whether the entry was there."""
        same = self._by_name.get(entry.name)
        if same is None or isinstance(same, Batch) or entry not in same:
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
        matches = list(self.named(name))
        if self._digests:
            matches += self.named(name + implicit_digest(hashlib.sha256(wire).digest()))
        depths, count = self._prefix_depths, len(ends) - 1
        if not depths:
            return matches
        for depth in depths if len(depths) < count else range(count):
            if depth < count and depth in depths:
                found = self._by_name.get(name[: ends[depth]], ())
                if not isinstance(found, Batch):  # of which none can be a prefix
                    matches += [entry for entry in found if entry.can_be_prefix]
        return matches

    # ------------------------------------------------------------ time

    def reschedule(self, entry: PitEntry | Batch, expires: float) -> None:
        """Keep the entry, or those of a batch, until `expires`."""
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
        """Entries that ran out; the caller removes them. When there are REAPED_MOST, the others are due a step of time
        later: what came in an instant does not stop the forwarder when it goes."""
        found: list[PitEntry] = []
        while now >= self._next_due and self._bucket_heap and self._bucket_heap[0] * TICK_S <= now:
            entries = self._buckets[self._bucket_heap[0]]
            while entries and len(found) < REAPED_MOST:
                held = entries.pop()
                held.bucket = -1
                if isinstance(held, Batch):
                    found += [self._take_out(name, held) for name in list(held.wires)]
                else:
                    found.append(held)
            if entries:
                self._next_due = now + TICK_S
            else:
                del self._buckets[heapq.heappop(self._bucket_heap)]
        return found

    def next_wake(self) -> float | None:
        """When `due` will have something to say."""
        while self._bucket_heap and not self._buckets[self._bucket_heap[0]]:
            del self._buckets[heapq.heappop(self._bucket_heap)]
        return max(self._bucket_heap[0] * TICK_S, self._next_due) if self._bucket_heap else None
