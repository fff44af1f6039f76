"""The members of a group: who has published how much, since when that is known, and who has been silent too long.

Owns: bounds of the state, order of change, digests by bucket, forgetting. Must not know: timers, packets.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ndn_infer.ndn.name import Name
from ndn_infer.sync.core.summary import BUCKETS, bucket_of, digest_of
from ndn_infer.sync.core.vector import Entry, entry_bytes

Key = tuple[Name, int]
"""A member since one of its starts: name and bootstrap time."""

NEVER: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Members in all, bootstrap times of one name (the newest count), seconds of silence after which one is forgotten
    (0: never)."""

    members: int = 10_000
    boots: int = 4
    forget_s: float = 600.0


@dataclass(slots=True)
class Member:
    """`updated`: when its number last rose here. `heard`: when there was last any sign of life."""

    sequence: int
    updated: float
    heard: float
    bucket: int


class MemberTable:
    """Entries only grow, until they are forgotten. One entry has a constant cost; `forget` costs what it finds."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._members: OrderedDict[Key, Member] = OrderedDict()
        """The one heard longest ago first."""
        self._changed: OrderedDict[Key, None] = OrderedDict()
        """The one changed last at the end."""
        self._boots: dict[Name, list[int]] = {}
        self._buckets: list[dict[Key, None]] = [{} for _ in range(BUCKETS)]
        self._digests = [0] * BUCKETS
        self._updated = [NEVER] * BUCKETS
        self._gone: OrderedDict[Key, tuple[int, float]] = OrderedDict()
        self.bytes = 0
        """What all entries take at most in a state vector."""

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Entry]:
        for (name, boot), member in self._members.items():
            yield Entry(name, boot, member.sequence)

    def get(self, key: Key) -> Member | None:
        return self._members.get(key)

    def sequence(self, key: Key) -> int:
        member = self._members.get(key)
        return member.sequence if member is not None else 0

    def knows(self, name: Name) -> bool:
        return name in self._boots

    @property
    def digests(self) -> tuple[int, ...]:
        return tuple(self._digests)

    def bucket(self, number: int) -> list[Entry]:
        return [Entry(name, boot, self._members[name, boot].sequence) for name, boot in self._buckets[number]]

    def empty_buckets(self) -> int:
        """A bit for each bucket without any member."""
        return sum(1 << number for number, keys in enumerate(self._buckets) if not keys)

    def bucket_changed(self, number: int) -> float:
        """When an entry of this bucket last changed."""
        return self._updated[number]

    def newest_changes(self) -> Iterator[Entry]:
        """All entries, the one changed last first."""
        for name, boot in reversed(self._changed):
            yield Entry(name, boot, self._members[name, boot].sequence)

    # ------------------------------------------------------------ changes

    def learn(self, entry: Entry, now: float, *, in_person: bool = False) -> int:
        """The number that was known before, when `entry` is newer and counts from now on; -1 when nothing changes:
        it is known, was forgotten with this very number, or there is no room. Who speaks `in_person` is not dead,
        whatever was forgotten."""
        key = (entry.name, entry.boot)
        member = self._members.get(key)
        if member is None:
            if in_person:
                self._gone.pop(key, None)
            return 0 if self._admit(key, entry, now) else -1
        if entry.sequence <= member.sequence:
            return -1
        before = member.sequence
        self._digests[member.bucket] ^= digest_of(Entry(*key, before)) ^ digest_of(entry)
        member.sequence, member.updated, member.heard = entry.sequence, now, now
        self._note(key, member.bucket, now)
        return before

    def refuses(self, entry: Entry) -> bool:
        """Whether an entry that is not known here counts for nothing: it was forgotten, or there are newer starts."""
        key = (entry.name, entry.boot)
        if key in self._members:
            return False
        gone = self._gone.get(key)
        if gone is not None and entry.sequence <= gone[0]:
            return True
        boots = self._boots.get(entry.name, ())
        return len(boots) >= self._bounds.boots and entry.boot < min(boots)

    def touch(self, name: Name, now: float) -> None:
        """A sign of life of all starts of this member."""
        for boot in self._boots.get(name, ()):
            self._members[name, boot].heard = now
            self._members.move_to_end((name, boot))

    def forget(self, now: float, keep: Key) -> list[Key]:
        """Drop whoever has been silent for too long, except `keep`; returns whom."""
        if not self._bounds.forget_s:
            return []
        dropped: list[Key] = []
        while self._members:
            key, member = next(iter(self._members.items()))
            if member.heard + self._bounds.forget_s > now:
                break
            if key == keep:
                member.heard = now
                self._members.move_to_end(key)
                continue
            self._drop(key)
            self._gone[key] = (member.sequence, now + self._bounds.forget_s)
            dropped.append(key)
        self._forget_the_forgotten(now)
        return dropped

    def next_forgetting(self) -> float | None:
        """When somebody is forgotten if nothing is heard until then."""
        if not self._bounds.forget_s or not self._members:
            return None
        return next(iter(self._members.values())).heard + self._bounds.forget_s

    # ------------------------------------------------------------

    def _admit(self, key: Key, entry: Entry, now: float) -> bool:
        if self.refuses(entry):
            return False
        boots = self._boots.get(entry.name, [])
        if len(boots) >= self._bounds.boots:
            self._drop((entry.name, min(boots)))
        elif len(self._members) >= self._bounds.members:
            return False
        self._gone.pop(key, None)
        bucket = bucket_of(entry.name)
        self._members[key] = Member(entry.sequence, now, now, bucket)
        self._boots.setdefault(entry.name, []).append(entry.boot)
        self._buckets[bucket][key] = None
        self.bytes += entry_bytes(entry.name)
        self._digests[bucket] ^= digest_of(entry)
        self._note(key, bucket, now)
        return True

    def _note(self, key: Key, bucket: int, now: float) -> None:
        self._members.move_to_end(key)
        self._changed[key] = None
        self._changed.move_to_end(key)
        self._updated[bucket] = now

    def _drop(self, key: Key) -> None:
        member = self._members.pop(key)
        name, boot = key
        self._digests[member.bucket] ^= digest_of(Entry(name, boot, member.sequence))
        del self._changed[key], self._buckets[member.bucket][key]
        self._boots[name].remove(boot)
        if not self._boots[name]:
            del self._boots[name]
        self.bytes -= entry_bytes(name)

    def _forget_the_forgotten(self, now: float) -> None:
        while self._gone:
            key, (_, until) = next(iter(self._gone.items()))
            if until > now and len(self._gone) <= self._bounds.members:
                break
            del self._gone[key]
