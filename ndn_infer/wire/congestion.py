"""When to give up waiting, and how much to have in flight: RFC 6298 timing and a CUBIC window.

Owns: the round-trip estimator and the window of one upstream. Must not know: names, packets, clocks (every method takes
`now`, seconds of any monotonic clock). Congestion is signalled by a lost Interest, by a Nack for congestion or by a
congestion mark on Data (PCON, ICN 2016), and answered at most once per round trip, as in TCP's recovery point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CUBIC_C: Final = 0.4
CUBIC_BETA: Final = 0.7
"""RFC 9438."""

RANDOM_BETA: Final = 0.95
"""After a loss on a path where nothing queues: the window that filled a queue would show in the round trip, and routers
that are congested mark before they drop. So links that lose at random are not taken for full ones; where shallow queues
drop without a sign, the window still shrinks, in smaller steps."""


LEAST_REORDER_S: Final = 0.002
QUEUE_S: Final = 0.002


@dataclass(slots=True)
class RttEstimator:
    """RFC 6298 with k = 4. All times in seconds. Samples of retransmitted Interests must be left out (Karn)."""

    min_rto_s: float = 0.2
    max_rto_s: float = 60.0
    rto_s: float = 1.0
    smoothed_s: float | None = None
    variation_s: float = 0.0
    least_s: float = float("inf")
    """The shortest round trip so far: what the path takes when nothing waits."""
    recent_s: float = 0.0
    """Average over the last few, however many are in flight."""

    def sample(self, rtt_s: float, in_flight: int = 1) -> None:
        """Count one measurement; with many in flight each weighs less (RFC 7323, appendix G)."""
        self.least_s = min(self.least_s, rtt_s)
        if self.smoothed_s is None:
            self.smoothed_s, self.variation_s, self.recent_s = rtt_s, rtt_s / 2, rtt_s
        else:
            scale = max(1, (in_flight + 1) // 2)
            self.variation_s += (abs(self.smoothed_s - rtt_s) - self.variation_s) / (4 * scale)
            self.smoothed_s += (rtt_s - self.smoothed_s) / (8 * scale)
            self.recent_s += (rtt_s - self.recent_s) / 8
        self.rto_s = min(max(self.smoothed_s + 4 * self.variation_s, self.min_rto_s), self.max_rto_s)

    def late_s(self, patience: float) -> float:
        """After how long an Interest counts as lost when later ones have been answered: a time-based reordering window
        (RACK, RFC 8985, section 6.2), `patience` times as long where answers are known to overtake each other."""
        smoothed = self.smoothed_s if self.smoothed_s is not None else self.rto_s
        return min(smoothed + patience * max(4 * self.variation_s, smoothed / 4, LEAST_REORDER_S), self.rto_s)

    @property
    def queueing(self) -> bool:
        """Whether the path's queue is about as long as the path: more in flight brings no more (HyStart, RFC 9406,
        with a bound that suits paths within one machine too)."""
        return self.recent_s > 2 * self.least_s + QUEUE_S

    @property
    def idle_path(self) -> bool:
        """Whether packets take hardly longer than the path itself: no queue that could have overflowed."""
        return self.recent_s < 1.25 * self.least_s + QUEUE_S

    def back_off(self) -> None:
        """Double the timeout after a loss by timeout."""
        self.rto_s = min(self.rto_s * 2, self.max_rto_s)


@dataclass(slots=True)
class CubicWindow:
    """How many Interests may be in flight. Starts in slow start at `size`; never below 2, never above `limit`."""

    size: float = 16.0
    limit: float = 512.0
    threshold: float = float("inf")
    _peak: float = 0.0
    _base: float = 0.0
    """What was left after the last reduction."""
    _epoch: float | None = None
    _plateau_s: float = 0.0
    _reduced_at: float = -1.0

    def on_data(self, now: float, rtt_s: float, count: int = 1) -> None:
        """`count` Data arrived together without a mark. `rtt_s` is the smoothed round-trip time."""
        if self.size < self.threshold:
            self.size = min(self.size + count, self.limit)
            return
        if self._epoch is None:
            self._epoch = now
            self._plateau_s = ((self._peak - self.size) / CUBIC_C) ** (1 / 3) if self._peak > self.size else 0.0
            self._peak = max(self._peak, self.size)
        elapsed = now - self._epoch + rtt_s
        cubic = CUBIC_C * (elapsed - self._plateau_s) ** 3 + self._peak
        friendly = self._base + 3 * (1 - CUBIC_BETA) / (1 + CUBIC_BETA) * elapsed / max(rtt_s, 1e-4)
        target = min(max(cubic, friendly), self.size * 1.5)
        if target > self.size:
            self.size = min(self.size + min(count / self.size, 1.0) * (target - self.size), self.limit)

    def end_slow_start(self) -> None:
        """Grow as CUBIC does from here on."""
        if self.size < self.threshold:
            self.threshold = self._peak = self._base = self.size
            self._epoch = None

    def on_congestion(self, now: float, sent_at: float, beta: float = CUBIC_BETA) -> bool:
        """A loss or a mark for an Interest sent at `sent_at`. True when the window shrank, to `beta` of its size.

        Interests sent before the last reduction report the same congestion: they do not shrink it again.
        """
        if sent_at <= self._reduced_at:
            return False
        self._peak = self.size if self.size >= self._peak else self.size * (1 + CUBIC_BETA) / 2
        self.size = max(self.size * beta, 2.0)
        self.threshold = self._base = self.size
        self._epoch = None
        self._reduced_at = now
        return True
