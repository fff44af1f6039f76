"""State sync: what a member of a group says, and when (State Vector Sync version 3, section 4).

Owns: the two states and their timer, merging, what is outdated, which part of a large state is sent. Must not know:
signatures, Interests, what publications are. Times are seconds of any clock that does not go back; random choices come
from a seed. Whatever comes in has been verified: `origin` is the identity that signed it.

A group whose state fits `Options.full_bytes` speaks the specification to the letter. In a larger one a vector holds
what is needed and what changed last, and a summary (summary.py) says what it is silent about; what such a vector does
not list is then not taken for 0 but judged by the digest of its bucket.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ndn_infer.ndn.name import Name
from ndn_infer.sync.core.summary import ALL_BUCKETS, BUCKETS, Summary, bucket_of, buckets_in
from ndn_infer.sync.core.table import NEVER, Bounds, Key, MemberTable
from ndn_infer.sync.core.vector import Entry, decode_vector, encode_vector, entry_bytes

FUTURE_S: Final = 86_400
"""A vector with a bootstrap time further in the future is ignored as a whole (section 3)."""
DECAY: Final = 10.0
PATIENCE: Final = 10
"""A difference may be told so often before it is told less and less: a newcomer learns a large state in that many
answers."""
REBOOT_PAUSE_S: Final = 10.0
"""Between two new starts because others claim to have heard more of us than we said."""


@dataclass(frozen=True, slots=True)
class Options:
    """Times in seconds, sizes in bytes of the content of a State Vector Data. `full_bytes`: up to here the whole state
    is sent, and an answer to somebody who lacks much is so long; `partial_bytes`: what is sent of a larger one.

    `repeat_s`: a publication is announced once more when nobody else was heard to know of it so long after; and who has
    heard nobody yet asks again after so long, then after twice that each time, up to a period (0: never, as the
    specification has it; then what a lossy network dropped may wait for a whole period)."""

    periodic_s: float = 30.0
    periodic_jitter: float = 0.1
    suppression_s: float = 0.2
    repeat_s: float = 1.0
    full_bytes: int = 7000
    partial_bytes: int = 1200
    bounds: Bounds = Bounds()


class StateMessage(NamedTuple):
    """What one State Vector Data says. Without a summary the vector is the whole state of its sender."""

    content: bytes
    summary: Summary | None


class Update(NamedTuple):
    """A member published: numbers `low` to `high` since `boot` are new here."""

    name: Name
    boot: int
    low: int
    high: int


@dataclass(slots=True)
class Actions:
    """What is to be done: tell the application of `updates`, send `message`, and where our numbers begin anew
    (`restarted`) publish again what is still true. `forgotten` members were silent for too long."""

    updates: list[Update] = field(default_factory=list)
    message: StateMessage | None = None
    restarted: bool = False
    forgotten: list[Name] = field(default_factory=list)


@dataclass(slots=True)
class _Heard:
    """What vectors said since Suppression State began. `listed`: the largest numbers; `covered`: buckets of which all
    is listed; `asked`: digests of buckets of which somebody has another than we."""

    listed: dict[Key, int]
    covered: int
    asked: dict[int, int]


@dataclass(slots=True)
class _Told:
    """That two digests of a bucket differ was said `times` times: not again before `until`."""

    ours: int
    theirs: int
    times: int
    until: float


class SyncCore:
    """One member, or an observer (`me` empty). `epoch` is what `now` lacks to the Unix epoch.

    `take`, `publish` and `tick` return actions; `tick` is due at `next_wake()`.
    """

    def __init__(self, me: Name, now: float, *, epoch: float, seed: int, options: Options | None = None) -> None:
        self.me = me
        self.options = options or Options()
        self._epoch = epoch
        self._random = random.Random(seed)
        self.table = MemberTable(self.options.bounds)
        self.boot = int(now + epoch)
        self.sequence = 0
        self._heard: _Heard | None = None
        self._told: dict[int, _Told] = {}
        self._restarted_at = NEVER
        self._repeat_at = math.inf
        self._unheard_s = self.options.repeat_s
        """While nobody was heard: how long after the next vector another one asks; else 0."""
        self._timer = now + self._suppression_timeout()
        """The first vector asks for everybody else's: soon, and not from all members of a restart at once."""

    # ------------------------------------------------------------ what happens

    def publish(self, now: float) -> Actions:
        """One more publication: its number is `sequence` from now on, and a vector goes out at once."""
        self.sequence += 1
        self.table.learn(Entry(self.me, self.boot, self.sequence), now)
        actions = self._emit(now, *self._needs(now))
        self._repeat_at = now + self.options.repeat_s if self.options.repeat_s else math.inf
        return actions

    def take(self, now: float, content: bytes, summary: Summary | None = None, origin: Name = b"") -> Actions:
        """A verified vector. Raises BadPacket for one that is malformed or of the far future; nothing has changed
        then."""
        entries = self.decode(now, content)
        self._hear()
        actions = self.learn(now, entries, origin)
        if self._heard is not None:
            self._merge(self._heard, entries, summary, now)
            return actions
        heard = _Heard({}, 0, {})
        self._merge(heard, entries, summary, now)
        entries_needed, buckets = self._needed(heard, now)
        if not entries_needed and not buckets:
            self._timer = now + self._periodic_timeout()
        elif buckets or any(self._settled(entry, now) for entry in entries_needed):
            self._heard = heard
            self._timer = now + self._suppression_timeout()
        return actions

    def _hear(self) -> None:
        """Somebody is there: who knows more says so by the rules of all."""
        if self._unheard_s and not self.sequence:
            self._repeat_at = math.inf
        self._unheard_s = 0.0

    def decode(self, now: float, content: bytes) -> list[Entry]:
        """Raises BadPacket."""
        return decode_vector(content, now + self._epoch + FUTURE_S)

    def learn(self, now: float, entries: Iterable[Entry], origin: Name = b"") -> Actions:
        """Take what is newer, and no part in what is said about it."""
        actions = Actions()
        for entry in entries:
            if entry.boot == self.boot and entry.name == self.me:
                if entry.sequence == self.sequence:
                    self._repeat_at = math.inf
                elif not self._begin_anew(entry, now, actions):
                    continue
            in_person = bool(origin) and entry.name.startswith(origin)
            before = self.table.learn(entry, now, in_person=in_person)
            if before >= 0:
                actions.updates.append(Update(entry.name, entry.boot, before + 1, entry.sequence))
            elif in_person:
                self.table.touch(entry.name, now)
        return actions

    def tick(self, now: float) -> Actions:
        """Time has passed: forget the dead, and say what is due."""
        gone = [name for name, _ in self.table.forget(now, (self.me, self.boot)) if not self.table.knows(name)]
        actions = Actions()
        if now >= min(self._timer, self._repeat_at):
            actions = self._due(now)
        actions.forgotten = gone
        return actions

    def next_wake(self) -> float:
        forgetting = self.table.next_forgetting()
        due = min(self._timer, self._repeat_at)
        return due if forgetting is None else min(due, forgetting)

    def answer(self, buckets: int) -> StateMessage:
        """The state for somebody who asks, all entries of these buckets if they fit."""
        return self._compose([], buckets)

    def differing(self, summary: Summary) -> int:
        """Buckets of which somebody with this summary has another digest."""
        ours = self.table.digests
        if ours == summary.digests:
            return 0
        return sum(1 << number for number in range(BUCKETS) if ours[number] != summary.digests[number])

    # ------------------------------------------------------------ what others lack

    def _begin_anew(self, entry: Entry, now: float, actions: Actions) -> bool:
        """Somebody may have heard more of us than we said: our numbers were lost, or this is a lie. Then we begin anew,
        so that what we publish next is news to all (section 3, Bootstrap Time)."""
        if entry.sequence <= self.sequence or now < self._restarted_at + REBOOT_PAUSE_S:
            return False
        self._restarted_at = now
        self.boot = max(self.boot, int(now + self._epoch) - 1) + 1
        self.sequence = 0
        actions.restarted = True
        return True

    def _merge(self, heard: _Heard, entries: list[Entry], summary: Summary | None, now: float) -> None:
        for name, boot, sequence in entries:
            key = (name, boot)
            if sequence > heard.listed.get(key, 0):
                heard.listed[key] = sequence
        if summary is None:
            heard.covered = ALL_BUCKETS
            return
        differing = self.differing(summary) & ~summary.covered
        for number in buckets_in(differing):
            changed = self.table.bucket_changed(number)  # by this very vector, or long enough ago for all to know
            if changed == now or changed + self.options.suppression_s <= now:
                if self._may_tell(number, summary.digests[number], now):
                    heard.asked[number] = summary.digests[number]
        heard.covered |= summary.covered

    def _due(self, now: float) -> Actions:
        entries, buckets = self._needs(now)
        if self._heard is None or self._repeat_at <= now or entries or buckets:
            return self._emit(now, entries, buckets)
        self._heard = None
        self._timer = now + self._periodic_timeout()
        return Actions()

    def _needs(self, now: float) -> tuple[list[Entry], int]:
        return self._needed(self._heard, now) if self._heard is not None else ([], 0)

    def _needed(self, heard: _Heard, now: float) -> tuple[list[Entry], int]:
        """Entries that are newer here than all that was heard, and buckets to list whole."""
        listed, table = heard.listed, self.table
        needed = [
            Entry(*key, ours) for key, number in listed.items() if (ours := table.sequence(key)) > number
        ]  # fmt: skip
        if heard.covered == ALL_BUCKETS:
            needed += [entry for entry in table if entry[:2] not in listed and self._counts(entry, now)]
            return needed, 0
        for number in buckets_in(heard.covered):
            needed += [
                entry for entry in table.bucket(number) if entry[:2] not in listed and self._counts(entry, now)
            ]  # fmt: skip
        digests = table.digests
        asked = sum(1 << number for number, theirs in heard.asked.items() if digests[number] != theirs)
        return needed, asked & ~heard.covered

    def _counts(self, entry: Entry, now: float) -> bool:
        """Whether it matters that others do not know this entry: not when they may have forgotten it already."""
        member = self.table.get(entry[:2])
        forget_s = self.options.bounds.forget_s
        return member is not None and (not forget_s or member.heard + forget_s / 2 > now)

    def _settled(self, entry: Entry, now: float) -> bool:
        """Whether others have had time to hear of it."""
        member = self.table.get(entry[:2])
        return member is not None and member.updated + self.options.suppression_s <= now

    def _may_tell(self, bucket: int, theirs: int, now: float) -> bool:
        """Whether to speak of a bucket that differs: less and less often while neither side learns from it."""
        ours = self.table.digests[bucket]
        told = self._told.get(bucket)
        if told is None or (told.ours, told.theirs) != (ours, theirs):
            self._told[bucket] = _Told(ours, theirs, 0, now + self.options.suppression_s)
            return True
        if now < told.until:
            return False
        told.times += 1
        pause = self.options.suppression_s * 2.0 ** min(max(told.times - PATIENCE, 0), 16)
        told.until = now + min(pause, self.options.periodic_s)
        return True

    # ------------------------------------------------------------ what is said

    def _emit(self, now: float, needed: list[Entry], buckets: int) -> Actions:
        self._heard = None
        self._repeat_at = now + self._unheard_s if self._unheard_s else math.inf
        self._unheard_s = 2 * self._unheard_s if 2 * self._unheard_s < self.options.periodic_s else 0.0
        self._timer = now + self._periodic_timeout()
        return Actions(message=self._compose(needed, buckets))

    def _compose(self, needed: list[Entry], buckets: int) -> StateMessage:
        if self.table.bytes <= self.options.full_bytes:
            return StateMessage(encode_vector(self.table), None)
        chosen: dict[Key, Entry] = {}
        room = self.options.full_bytes
        if self.sequence:
            room -= _choose(chosen, [Entry(self.me, self.boot, self.sequence)], room)
        wanted = buckets | sum(1 << number for number in {bucket_of(entry.name) for entry in needed})
        covered = self.table.empty_buckets()
        for number in self._from_anywhere(buckets_in(wanted)):
            entries = self.table.bucket(number)
            if sum(entry_bytes(entry.name) for entry in entries) <= room:
                room -= _choose(chosen, entries, room)
                covered |= 1 << number
        room -= _choose(chosen, needed, room)
        room -= self.options.full_bytes - self.options.partial_bytes
        _choose(chosen, self.table.newest_changes(), room)
        return StateMessage(encode_vector(chosen.values()), Summary(covered, self.table.digests))

    def _from_anywhere(self, numbers: list[int]) -> list[int]:
        """Members that answer at the same time begin with different buckets."""
        at = self._random.randrange(len(numbers)) if numbers else 0
        return numbers[at:] + numbers[:at]

    # ------------------------------------------------------------ timers

    def _periodic_timeout(self) -> float:
        spread = self.options.periodic_jitter
        return self.options.periodic_s * self._random.uniform(1 - spread, 1 + spread)

    def _suppression_timeout(self) -> float:
        """Section 4.1: between 0 and the period, most often near its end, so that few answer first."""
        period = self.options.suppression_s
        value = self._random.uniform(0, period)
        return -period * math.expm1((value - period) / (period / DECAY))


def _choose(chosen: dict[Key, Entry], entries: Iterable[Entry], room: int) -> int:
    """Add entries that are not chosen yet, as far as there is room; returns how many bytes they take."""
    taken = 0
    for entry in entries:
        key = entry[:2]
        if key in chosen:
            continue
        size = entry_bytes(entry.name)
        if taken + size > room:
            break
        taken += size
        chosen[key] = entry
    return taken
