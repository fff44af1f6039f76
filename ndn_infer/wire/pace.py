"""How long work takes, by what was measured, and when somebody who was turned away should come back.

Owns: the running mean of seconds for a unit of work (`Pace`), the turns of those who found no seat (`Turns`). Must not
know: what a unit is, what is computed. Pure: callers pass `now`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

MEMORY: Final = 0.8
"""What is left of the weight of everything measured before, with each new measurement."""
LEAST_RETURN_S: Final = 0.02
MOST_RETURN_S: Final = 30.0


@dataclass(slots=True)
class Pace:
    """Seconds a unit: of a prior guess until something was measured, then the mean of what was, newer things first."""

    unit_s: float
    _seconds: float = 0.0
    _units: float = 0.0

    def measured(self, units: float, seconds: float) -> None:
        """`units` of work took so long. What took no time or had no units teaches nothing."""
        if units <= 0 or seconds <= 0:
            return
        self._seconds = self._seconds * MEMORY + seconds
        self._units = self._units * MEMORY + units
        self.unit_s = self._seconds / self._units

    def estimate_s(self, units: float) -> float:
        return units * self.unit_s


@dataclass(slots=True)
class Meter:
    """The pace of something that only counts what it did, since it began: units and the seconds that they took."""

    _pace: Pace = field(default_factory=lambda: Pace(0.0))
    _units: float = 0.0
    _seconds: float = 0.0

    def read(self, units: float, seconds: float) -> float:
        """Seconds a unit, of late; 0 before anything was done."""
        self._pace.measured(units - self._units, seconds - self._seconds)
        self._units, self._seconds = units, seconds
        return self._pace.unit_s


@dataclass(slots=True)
class Turns:
    """Those who are turned away come back one after another: the n-th since a seat became free is told n times the mean
    time between two seats that became free, so that they neither all come at once nor stay away for long."""

    interval_s: float = 0.25
    _freed_at: float | None = None
    _told: int = 0

    def freed(self, now: float) -> None:
        """A seat became free."""
        if self._freed_at is not None:
            since_s = min(now - self._freed_at, MOST_RETURN_S)
            self.interval_s += (1 - MEMORY) * (since_s - self.interval_s)
        self._freed_at = now
        self._told = 0

    def come_back_s(self) -> float:
        """How long the next one that is turned away should stay away."""
        self._told += 1
        return min(max(self._told * self.interval_s, LEAST_RETURN_S), MOST_RETURN_S)


def deadline_ms(left_s: float) -> int:
    """The milliseconds that an Envelope says for a caller that waits so long: rounded up to a power of two, because
    equal calls should be one Interest, whoever makes them and whenever."""
    left_ms = max(1, min(math.ceil(left_s * 1000), 1 << 31))
    return 1 << (left_ms - 1).bit_length()
