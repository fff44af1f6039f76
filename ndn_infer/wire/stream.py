"""Streams: an object while it is being made, segment by segment.

Owns: both ends' bookkeeping. The writer numbers segments and remembers who waits for one that does not exist yet; the
reader keeps a few Interests ahead of what it has and hands segments over in order. Must not know: packets, signatures,
sockets, clocks (`now` is passed in).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from ndn_infer.wire.rhythm import LEAST_AHEAD, Rhythm

W = TypeVar("W")

REORDER_S: Final = 0.2
"""How far segments may arrive out of order before the missing ones are asked for again."""


NOWHERE_S: Final = 0.4
"""Of "no route", with an Interest each PAUSE_S, before a stream is given up. A producer that moves to another forwarder
is back by then; one that was started again has another stream."""

PAUSE_S: Final = 0.1

HELD_UP_S: Final = 0.1
"""A reader that is woken later than this was held up itself."""

LIFETIME_S: Final = 1.0
"""Of a reader's Interests. They are how a producer knows that somebody reads (readership.py), so those of a reader that
left must expire soon; and as long as one waits, each second brings a new one."""


MOST_AHEAD: Final = 64
"""So many segments beyond the last one may be waited for; readers keep 4 to 32 ahead (rhythm.py)."""

MOST_WAITERS: Final = 16
"""For one segment: Interests of one name that differ in their other fields. Data for one satisfies them all."""


@dataclass(slots=True)
class StreamWriter(Generic[W]):
    """Producer's end. `W` is whatever identifies a waiting Interest (a PIT token).

    `ask` answers with the segment, or keeps the waiter until `expires`; `append` returns those to answer now. Waiters
    are bounded by MOST_AHEAD and MOST_WAITERS; beyond, the oldest for the same segment is dropped: Interests for one
    segment cannot push out those for another.
    """

    segments: list[bytes] = field(default_factory=list)
    closed: bool = False
    _waiting: dict[int, list[tuple[W, float]]] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def wanted(self, now: float) -> bool:
        """Whether anybody waits for a segment that does not exist yet. For whichever: where the Interest for the next
        one was lost, the one after it shows that."""
        return any(expires > now for waiters in self._waiting.values() for _, expires in waiters)

    def append(self, wire: bytes, now: float, *, final: bool = False) -> list[W]:
        """Add the next segment. Returns the waiters whose Interests are still alive."""
        assert not self.closed
        waiting = self._waiting.pop(len(self.segments), [])
        self.segments.append(wire)
        if final:
            self.close(now)
        return [waiter for waiter, expires in waiting if expires > now]

    def close(self, now: float) -> list[W]:
        """No further segment comes. Returns who waited for one."""
        waiting, self._waiting, self.closed = self._waiting, {}, True
        return [waiter for waiters in waiting.values() for waiter, expires in waiters if expires > now]

    def ask(self, number: int, waiter: W, expires: float) -> bytes | None:
        """The segment, or None: then the waiter is kept (unless no such segment will ever be, or not soon)."""
        if number < len(self.segments):
            return self.segments[number]
        if not self.closed and number < len(self.segments) + MOST_AHEAD:
            waiters = self._waiting.setdefault(number, [])
            del waiters[: len(waiters) + 1 - MOST_WAITERS]
            waiters.append((waiter, expires))
        return None


@dataclass(slots=True)
class StreamReader:
    """Consumer's end: which segments to ask for, and in which order they come out.

    Keeps `ahead` Interests in flight, or more where round trip and rhythm want it. An Interest that expires is simply
    sent again: the segment may not exist yet. While no segment comes `wants_news` says when to ask for the producer's
    progress. The stream fails (`stalled`) when questions stay without an answer (rhythm.py), when the network knew no
    route to the next segment for NOWHERE_S, and in any case `idle_s` after the last sign of life. Time in which the
    reader itself was held up (nobody called `due`), or without a link, is no silence of the producer.
    """

    now: float
    ahead: int = 4
    lifetime_s: float = LIFETIME_S
    idle_s: float = 30.0
    rhythm: Rhythm = field(default_factory=Rhythm)
    final: int | None = None
    delivered: int = 0
    _asked: dict[int, float] = field(default_factory=dict)
    _twice: set[int] = field(default_factory=set)
    """Numbers whose Interest was sent again while the one before was pending."""
    _early: dict[int, bytes] = field(default_factory=dict)
    _heard_at: float = 0.0
    _segment_at: float = 0.0
    _news_asked_at: float = 0.0
    _wake_at: float = 0.0
    _nowhere_at: float | None = None
    _not_before: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._heard_at = self._segment_at = self._news_asked_at = self._wake_at = self.now

    def due(self, now: float) -> list[int]:
        """Segment numbers whose Interest is to be sent now."""
        if now > self._wake_at + HELD_UP_S:
            self._shift(now - self._wake_at, now)
        self._wake_at = now
        expired = [number for number, sent_at in self._asked.items() if now >= sent_at + self.lifetime_s]
        for number in expired:
            del self._asked[number]
        self._twice.difference_update(expired)
        # What a cache gives at once looks like a quick stream, and each Interest beyond a stream's end is refused anew
        # by its producer: so no further ahead than what came so far.
        ahead = min(self.rhythm.ahead(self.ahead), max(self.ahead, self.delivered))
        last = self.delivered + ahead - 1
        last = last if self.final is None else min(self.final, last)
        ready = [
            number
            for number in range(self.delivered, last + 1)
            if number not in self._asked and number not in self._early and self._not_before.get(number, 0.0) <= now
        ]
        if self._may_wait(len(ready), ahead):
            ready = []
        ready += self._astray(now)
        self._asked.update(dict.fromkeys(ready, now))
        return ready

    def _astray(self, now: float) -> list[int]:
        """Segments whose first Interest is taken for lost, as those before it were (rhythm.py): a second one is due."""
        late = [number for number, at in self._second_due() if now >= at]
        self._twice.update(late)
        return late

    def _second_due(self) -> list[tuple[int, float]]:
        if not self.rhythm.doubtful:
            return []
        again_s = self.rhythm.again_s
        end = math.inf if self.final is None else self.final
        return [(one, at + again_s) for one, at in self._asked.items() if one not in self._twice and one <= end]

    def _may_wait(self, ready: int, ahead: int) -> bool:
        """Whether what was asked for lasts until there is more to ask for: then several leave together, for one wake-up
        of each process on their way. Two of them remain, and half of a small window."""
        early = self.final is None and self.delivered in self._asked and self.rhythm.unhurried
        return early and ready < max(ahead - LEAST_AHEAD, (ahead + 1) // 2)

    def _shift(self, by_s: float, now: float) -> None:
        """The last `by_s` seconds do not count."""
        self._heard_at = min(self._heard_at + by_s, now)
        self._segment_at = min(self._segment_at + by_s, now)
        self._news_asked_at = min(self._news_asked_at + by_s, now)
        self._nowhere_at = None if self._nowhere_at is None else min(self._nowhere_at + by_s, now)

    def cut_off(self, now: float) -> None:
        """There is no link at the moment: nothing can be heard. The bound of `idle_s` stands."""
        self._news_asked_at, self._nowhere_at, self.rhythm.unanswered = now, None, 0

    def on_segment(self, number: int, content: bytes, *, final: int | None, now: float) -> list[bytes]:
        """A verified segment. Returns the contents that can be handed over now, in order."""
        sent_at, second = self._asked.pop(number, now), number in self._twice
        self._twice.discard(number)
        if final is not None:
            self.final = final
        if number < self.delivered or number in self._early:
            return []
        self._early[number] = content
        self.rhythm.segment(now - self._segment_at)
        self.rhythm.came(now - sent_at, second=second)
        self._heard_at = self._segment_at = now
        self._nowhere_at = None
        # Segments appear in order: one that was asked for before this, and is not here after a while, was lost.
        for earlier in [
            other for other, sent_at in self._asked.items() if other < number and now - sent_at > REORDER_S
        ]:
            del self._asked[earlier]
        ready = []
        while self.delivered in self._early:
            ready.append(self._early.pop(self.delivered))
            self._not_before.pop(self.delivered, None)
            self.delivered += 1
        return ready

    def on_refused(self, number: int, now: float, pause_s: float = PAUSE_S, *, nowhere: bool = False) -> None:
        """A bad segment or a Nack: ask again after a pause. `nowhere`: it said that there is no route."""
        self._asked.pop(number, None)
        self._twice.discard(number)
        if nowhere and number == self.delivered and self._nowhere_at is None:
            self._nowhere_at = now
        self._not_before[number] = now + pause_s

    @property
    def _news_due_at(self) -> float:
        if self.rhythm.unanswered:
            return self._news_asked_at + self.rhythm.wait_s
        return max(self._heard_at, self._news_asked_at) + self.rhythm.quiet_s

    def wants_news(self, now: float) -> bool:
        """Whether to ask for the producer's progress now; the question counts as asked. The Interest for the next
        segment may be lost as well: it is due again."""
        if now < self._news_due_at or self.rhythm.given_up:
            return False
        self._news_asked_at = now
        self.rhythm.asked()
        self._ask_again(now)
        return True

    def on_news(self, now: float) -> None:
        """The producer said how it gets on: it lives, and waiting is not death."""
        self.rhythm.answered(now - self._news_asked_at)
        self._heard_at, self._nowhere_at = now, None

    def on_no_news(self, now: float) -> None:
        """The question was refused for want of a route: either the producer has ended, then the next segment is
        refused too, or the stream has, then the rest of it can be read."""
        self._ask_again(now)

    def _ask_again(self, now: float) -> None:
        if now - self._asked.get(self.delivered, now) > REORDER_S:
            del self._asked[self.delivered]
            self._twice.add(self.delivered)

    @property
    def done(self) -> bool:
        return self.final is not None and self.delivered > self.final

    def stalled(self, now: float) -> bool:
        return now >= self._gives_up_at

    @property
    def _gives_up_at(self) -> float:
        ends = [self._heard_at + self.idle_s]
        if self._nowhere_at is not None:
            ends.append(self._nowhere_at + NOWHERE_S)
        if self.rhythm.given_up:
            ends.append(self._news_asked_at + self.rhythm.wait_s)
        return min(ends)

    def next_wake(self, now: float) -> float:
        """When to look at `due`, `wants_news` and `stalled` again."""
        times = [sent_at + self.lifetime_s for sent_at in self._asked.values()]
        times += [when for when in self._not_before.values() if when > now]
        times += [at for _, at in self._second_due()]
        times += [] if self.rhythm.given_up else [self._news_due_at]
        self._wake_at = max(min([*times, self._gives_up_at]), now)
        return self._wake_at
