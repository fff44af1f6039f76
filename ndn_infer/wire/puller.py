"""Which packet to ask for next, and when to ask again: the fetcher's state machine.

Owns: retransmission and congestion control for a set of packets wanted from one upstream, whichever objects they belong
to, so that parallel objects share one window. Must not know: names (a key is any hashable), packets, sockets, clocks:
every method takes `now`, the caller sends what `due` returns and wakes it again at `next_wake`.

It stands on the hot path, so what goes well costs three dictionary operations a packet; what a key suffered (losses,
Nacks) is kept apart, for those keys only.

Sources: RFC 6298 (timeout, Karn), RFC 9438 (CUBIC), NDNLPv2 (Nack reasons, congestion marks).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, NamedTuple

from ndn_infer.ndn.lp import REASON_CONGESTION, REASON_DUPLICATE
from ndn_infer.wire.congestion import CUBIC_BETA, RANDOM_BETA, CubicWindow, RttEstimator

Key = Hashable

NACK_PAUSE_S: Final = 0.05
"""Pause before asking again after a Nack: a route may be on its way, and NFD suppresses sooner retransmissions."""


MOST_PATIENCE: Final = 16.0


@dataclass(slots=True)
class PullStats:
    """Counters of one puller since it was made."""

    sent: int = 0
    retransmitted: int = 0
    received: int = 0
    duplicates: int = 0
    timeouts: int = 0
    overtaken: int = 0
    """Interests taken for lost because later ones were answered."""
    spurious: int = 0
    """Of all those taken for lost, how many were answered after all."""
    nacks: int = 0
    marks: int = 0
    window_reductions: int = 0


class Failure(NamedTuple):
    """A key that is given up: `reason` is "timeout" or "nack"; `nack_reason` the last Nack's number."""

    key: Key
    reason: str
    nack_reason: int


@dataclass(slots=True)
class _Trouble:
    """What a key went through. `attempts` counts sendings."""

    attempts: int = 1
    nacks: int = 0
    nack_reason: int = 0
    not_before: float = 0.0
    resent_at: float = float("inf")


@dataclass(slots=True)
class Puller:
    """A shared window over many wanted packets.

    Life of a key: `want` -> due (sent) -> `on_data` (done) | timeout or Nack -> due again | given up (`failures`).
    `max_attempts` counts sendings of one key; `max_nacks` how many Nacks (other than for congestion) one key survives.
    """

    rtt: RttEstimator = field(default_factory=RttEstimator)
    window: CubicWindow = field(default_factory=CubicWindow)
    max_attempts: int = 16
    max_nacks: int = 3
    stats: PullStats = field(default_factory=PullStats)
    failures: list[Failure] = field(default_factory=list)
    _wanted: dict[Key, float] = field(default_factory=dict)
    """When each key is to be given up."""
    _trouble: dict[Key, _Trouble] = field(default_factory=dict)
    _front: deque[Key] = field(default_factory=deque)
    _queue: deque[Key] = field(default_factory=deque)
    _again: deque[Key] = field(default_factory=deque)
    _in_flight: dict[Key, float] = field(default_factory=dict)
    """When each was sent last, in that order."""
    _next_give_up: float = float("inf")
    _answered: float = 0.0
    """When the latest Interest was sent that was sent once and has been answered."""
    _patience: float = 1.0

    def want(self, key: Key, give_up_at: float) -> None:
        """Ask for `key` as soon as the window allows, before all that `want_all` brought: what is asked for alone
        (discovery) does not wait behind a large object. A key that is wanted already is left as it is."""
        if key not in self._wanted:
            self._wanted[key] = give_up_at
            self._front.append(key)
            self._next_give_up = min(self._next_give_up, give_up_at)

    def want_all(self, keys: Iterable[Key], give_up_at: float) -> None:
        """`want` for many keys, none of which is wanted yet."""
        new = dict.fromkeys(keys, give_up_at)
        self._queue.extend(new)
        self._wanted.update(new)
        self._next_give_up = min(self._next_give_up, give_up_at)

    def forget(self, key: Key) -> None:
        """The caller no longer wants `key`; a late answer counts as a duplicate."""
        self._wanted.pop(key, None)
        self._in_flight.pop(key, None)
        self._trouble.pop(key, None)

    def refused(self, key: Key, now: float) -> None:
        """The Data for `key` was bad (verification failed): ask again, without calling it congestion."""
        sent_at = self._in_flight.pop(key, None)
        if key in self._wanted and sent_at is not None:
            self._retry(key, now)

    def due(self, now: float) -> list[Key]:
        """Keys whose Interest is to be sent now. Every returned key counts as sent."""
        ready: list[Key] = []
        in_flight, wanted = self._in_flight, self._wanted
        room = int(self.window.size) - len(in_flight)
        if room > 0 and self._again:
            self._take_again(ready, room, now)
        room -= len(ready)
        for queue in (self._front, self._queue):
            while room > 0 and queue:
                key = queue.popleft()
                if key in wanted and key not in in_flight:
                    in_flight[key] = now
                    ready.append(key)
                    room -= 1
        self.stats.sent += len(ready)
        return ready

    def on_data(self, key: Key, *, marked: bool, now: float) -> bool:
        """Good Data for `key` arrived. False when it was not wanted (late or duplicate)."""
        if self._wanted.pop(key, None) is None:
            self.duplicate()
            return False
        self.stats.received += 1
        sent_at = self._in_flight.pop(key, None)
        trouble = self._trouble.pop(key, None)
        if trouble is not None:
            self._judge(trouble, sent_at, now)
        elif sent_at is not None:
            self._sampled(sent_at, now, 1)
        if marked and sent_at is not None:
            self.stats.marks += 1
            self._congested(now, sent_at)
        else:
            self.window.on_data(now, self.rtt.smoothed_s or 0.0)
        return True

    def duplicate(self) -> None:
        """Data came that was not wanted any more: perhaps a second answer, to an Interest taken for lost too soon."""
        self.stats.duplicates += 1
        if self.stats.overtaken > self.stats.spurious:
            self.stats.spurious += 1
            self._patience = min(self._patience * 2, MOST_PATIENCE)

    def on_many(self, keys: list[Key], now: float) -> None:
        """Good Data for all these keys, wanted, unmarked and each once, arrived together: as `on_data` for each, with
        one look at the clock and one step of the window. Those sent first were longest on their way: one of them
        stands for all in the round-trip time."""
        in_flight, trouble = self._in_flight, self._trouble
        sample: float | None = None
        for key in keys:
            if self._wanted.pop(key, None) is None:
                continue  # given up just before
            sent_at = in_flight.pop(key, None)
            if trouble and (bad := trouble.pop(key, None)) is not None:
                self._judge(bad, sent_at, now)
                continue
            if sent_at is not None:
                latest = sent_at
                if sample is None:
                    sample = sent_at
        self.stats.received += len(keys)
        if sample is not None:
            self._answered = max(self._answered, latest)
            self._sampled(sample, now, len(keys))
        self.window.on_data(now, self.rtt.smoothed_s or 0.0, len(keys))

    def on_nack(self, key: Key, reason: int, now: float) -> None:
        """A Nack for `key`. Duplicate is ignored, congestion shrinks the window, the rest is tried again briefly."""
        sent_at = self._in_flight.pop(key, None)
        if key not in self._wanted or sent_at is None:
            return
        self.stats.nacks += 1
        trouble = self._trouble.setdefault(key, _Trouble())
        trouble.nack_reason = reason
        if reason == REASON_CONGESTION:
            self._congested(now, sent_at)
        elif reason != REASON_DUPLICATE:
            trouble.nacks += 1
        trouble.not_before = now + NACK_PAUSE_S * (1 << min(trouble.nacks, 4))
        if trouble.nacks >= self.max_nacks:
            self._fail(key)
        else:
            self._retry(key, now)

    def on_timer(self, now: float) -> None:
        """Declare Interests older than the retransmission timeout lost, and give up what took too long."""
        expired = []
        for key, sent_at in self._in_flight.items():  # in order of sending: stop at the first that is young enough
            if now < self._lost_at(sent_at):  # written as in next_wake: a difference may round to just below
                break
            expired.append((key, sent_at))
        for key, sent_at in expired:
            del self._in_flight[key]
            overtaken = now < sent_at + self.rtt.rto_s
            if overtaken:
                self.stats.overtaken += 1
            else:
                self.stats.timeouts += 1
            random = overtaken and self.rtt.idle_path
            if self._congested(now, sent_at, RANDOM_BETA if random else CUBIC_BETA) and not overtaken:
                self.rtt.back_off()
            self._retry(key, now)
        if self._next_give_up <= now:
            self._give_up(now)

    def next_wake(self) -> float | None:
        """When to call `on_timer` and `due` next (a time that is over means at once); None when nothing is wanted.

        What waits for room in the window waits for an answer or a timeout, not for a time of its own.
        """
        times = [self._next_give_up] if self._wanted else []
        if self._in_flight:
            times.append(self._lost_at(next(iter(self._in_flight.values()))))
        if len(self._in_flight) < int(self.window.size):
            times.extend(self._not_before(key) for key in self._again if key in self._wanted)
            if any(key in self._wanted and key not in self._in_flight for key in chain(self._front, self._queue)):
                times.append(0.0)
        return min(times, default=None)

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def idle(self) -> bool:
        return not self._wanted

    def _take_again(self, ready: list[Key], room: int, now: float) -> None:
        for _ in range(len(self._again)):
            key = self._again.popleft()
            if key not in self._wanted or key in self._in_flight:
                continue
            trouble = self._trouble.setdefault(key, _Trouble(0))
            if len(ready) < room and trouble.not_before <= now:
                trouble.attempts += 1
                trouble.resent_at = now
                self.stats.retransmitted += 1
                self._in_flight[key] = now
                ready.append(key)
            else:
                self._again.append(key)

    def _lost_at(self, sent_at: float) -> float:
        """When an Interest that was sent then, and is not answered, counts as lost."""
        if sent_at < self._answered:
            return sent_at + self.rtt.late_s(self._patience)
        return sent_at + self.rtt.rto_s

    def _sampled(self, sent_at: float, now: float, count: int) -> None:
        """`count` answers at once; the first of their Interests was sent at `sent_at`, and once."""
        self._answered = max(self._answered, sent_at)
        self.rtt.sample(now - sent_at, (len(self._in_flight) + count) // count)
        if self.rtt.queueing:
            self.window.end_slow_start()

    def _judge(self, trouble: _Trouble, sent_at: float | None, now: float) -> None:
        """An answer for a key that was in trouble. When it came too soon for the second Interest, or before that was
        sent, the first was not lost: answers overtake each other here, so wait longer."""
        resent = trouble.attempts > 1 and sent_at is not None
        if not trouble.nacks and (not resent or now - trouble.resent_at < self.rtt.least_s / 2):
            self.stats.spurious += 1
            self._patience = min(self._patience * 2, MOST_PATIENCE)

    def _not_before(self, key: Key) -> float:
        trouble = self._trouble.get(key)
        return trouble.not_before if trouble is not None else 0.0

    def _retry(self, key: Key, now: float) -> None:
        trouble = self._trouble.setdefault(key, _Trouble())
        if trouble.attempts >= self.max_attempts or now >= self._wanted[key]:
            self._fail(key)
        else:
            self._again.append(key)

    def _give_up(self, now: float) -> None:
        """Fail every key whose time is up, also those that still wait for room in the window."""
        for key in [key for key, give_up_at in self._wanted.items() if give_up_at <= now]:
            self._in_flight.pop(key, None)
            self._fail(key)
        self._next_give_up = min(self._wanted.values(), default=float("inf"))

    def _fail(self, key: Key) -> None:
        del self._wanted[key]
        trouble = self._trouble.pop(key, None) or _Trouble()
        self.failures.append(Failure(key, "nack" if trouble.nacks else "timeout", trouble.nack_reason))

    def _congested(self, now: float, sent_at: float, beta: float = CUBIC_BETA) -> bool:
        reduced = self.window.on_congestion(now, sent_at, beta)
        self.stats.window_reductions += reduced
        return reduced
