"""The rhythm of a live stream as its reader hears it: when silence is worth a question, when it is death, how far to
ask ahead.

Owns: the smoothed time between segments and its deviation, the round trip, what the path loses, whether first Interests
go astray, and what follows from these. Must not know: segments' numbers, packets, clocks (durations are passed in).

A producer that is asked how it gets on answers at once, whatever it computes (transport/objects/live_stream.py). So
slowness is never taken for death: silence beyond the rhythm only leads to questions, and questions without an answer,
one after another, to the end. Sources: RFC 6298 (smoothing), keepalive probes of TCP (RFC 9293, 3.8.4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from ndn_infer.wire.congestion import RttEstimator

LEAST_QUIET_S: Final = 0.3
"""Silence that is asked about at the earliest, however quick a stream is;"""

NEWS_S: Final = 1.0
"""at the latest; and after a producer that makes no segments has said how it gets on."""

LEAST_WAIT_S: Final = 0.25
MOST_WAIT_S: Final = 1.0
"""For an answer to a question, before the next one."""

QUESTIONS: Final = 4
"""Without an answer, one after another, are death,"""

MORE_QUESTIONS: Final = 2
"""and so many more for each one in a row that a path was seen to lose,"""

MOST_QUESTIONS: Final = 16
"""up to these."""

SPARE_AHEAD: Final = 2
MOST_AHEAD: Final = 32
"""Interests ahead; producers let 64 wait (wire/stream.py)."""

LEAST_AHEAD: Final = 2
UNHURRIED_AHEAD: Final = 8
"""Where segments come further apart than a round trip: for one wake-up of those on their way several are asked for."""
LASTS_S: Final = 0.8
"""Where that is enough, nothing is asked for earlier than this before it comes: Interests live for a second
(wire/stream.py), and those that ran out are sent again."""

_KNOWN: Final = 4

AGAIN_S: Final = 0.1
"""After this, and a round trip at least, an Interest whose like went astray is sent a second time. Forwarders with
best-route take the second one for a retransmission and try another next hop, unless it comes too soon (NFD: 10 ms)."""

ASTRAY: Final = 2
"""So many segments in a row came by a second Interest alone: a forwarder on the way tries a dead next hop first."""

ASTRAY_SEGMENTS: Final = 64
"""For so many segments this is believed, then looked at again: routing may have taken the dead next hop away."""


@dataclass(slots=True)
class Rhythm:
    """Of one stream. `rtt_s`: a round trip to its producer, 0 where none was measured."""

    rtt_s: float = 0.0
    unanswered: int = 0
    """Questions since the last sign of life."""
    _gaps: RttEstimator = field(default_factory=lambda: RttEstimator(LEAST_QUIET_S, NEWS_S, NEWS_S))
    _trips: RttEstimator = field(default_factory=lambda: RttEstimator(LEAST_WAIT_S, MOST_WAIT_S, LEAST_WAIT_S))
    _heard: int = 0
    _flowing: bool = False
    """Whether the last sign of life was a segment."""
    _questions: int = QUESTIONS
    _astray: int = 0
    """Segments in a row that came by a second Interest alone."""
    _doubted: int = 0
    """Segments for which first Interests are taken for lost."""

    def segment(self, gap_s: float) -> None:
        """A new segment, `gap_s` after the one before (or after the stream was opened)."""
        if self._heard:
            self._gaps.sample(gap_s)
        self._heard += 1
        self._flowing = True
        self._alive()

    def came(self, after_s: float, *, second: bool) -> None:
        """A segment came `after_s` after its newest Interest, which was the `second` one while another was pending."""
        if self.doubtful:
            self._doubted = self._doubted - 1 if second else 0
            return
        soon = after_s <= 2 * self.rtt_s + AGAIN_S
        self._astray = self._astray + soon if second else 0
        if self._astray >= ASTRAY:
            self._astray, self._doubted = 0, ASTRAY_SEGMENTS

    @property
    def doubtful(self) -> bool:
        """Whether first Interests go astray: then each is sent a second time, `again_s` after the first."""
        return self._doubted > 0

    @property
    def again_s(self) -> float:
        return max(AGAIN_S, self.rtt_s)

    def asked(self) -> None:
        self.unanswered += 1

    def answered(self, after_s: float) -> None:
        """News, `after_s` after the last question."""
        if self.unanswered == 1:  # else it may be the answer to an earlier one (Karn)
            self._trips.sample(after_s)
            self.rtt_s = self._trips.least_s
        self._flowing = False
        self._alive()

    def _alive(self) -> None:
        lost, self.unanswered = max(self.unanswered - 1, 0), 0
        self._questions = min(max(self._questions, QUESTIONS + MORE_QUESTIONS * lost), MOST_QUESTIONS)

    @property
    def quiet_s(self) -> float:
        """Silence after which to ask the producer how it gets on."""
        return self._gaps.rto_s if self._flowing and self._heard > _KNOWN else NEWS_S

    @property
    def wait_s(self) -> float:
        """How long to wait for an answer."""
        return self._trips.rto_s

    @property
    def given_up(self) -> bool:
        """Whether the question asked last was the last one."""
        return self.unanswered >= self._questions

    @property
    def unhurried(self) -> bool:
        """Whether segments are known to come further apart than a round trip: then one Interest ahead is enough."""
        gap_s = self._gaps.smoothed_s
        return gap_s is not None and 0.0 < self.rtt_s < gap_s

    def ahead(self, least: int) -> int:
        """How many segments to ask for beyond what is there, so that the Interest for each is at the producer before
        the segment is made: as many as are made in a round trip, and a few. Where the window holds a stream back (its
        segments are there already) the time between them is round trip / window, so this grows until it does not."""
        gap_s = self._gaps.smoothed_s
        if gap_s is None or not self.rtt_s:
            return least
        if self.unhurried:
            return min(max(least, UNHURRIED_AHEAD), max(math.floor(LASTS_S / gap_s), LEAST_AHEAD))
        wanted = math.ceil(self.rtt_s / gap_s) + SPARE_AHEAD if gap_s * MOST_AHEAD > self.rtt_s else MOST_AHEAD
        return min(max(wanted, least), max(MOST_AHEAD, least))
