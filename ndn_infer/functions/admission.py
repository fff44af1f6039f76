"""What one function takes on, in which time, and what those are told for whom there is no room.

Owns: seats (in all, for each key, for each neighbour), the place in the queue, the time that work is going to take by
what was measured, when to come back. Must not know: what work is, how anybody is answered.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from ndn_infer import clock
from ndn_infer.errors import Busy
from ndn_infer.records import CallAnswer
from ndn_infer.wire.pace import Pace, Turns
from ndn_infer.wire.shares import Seat, Seats

MOST_S: Final = 3600.0
"""What one request counts for at most: what a stranger writes in it is not checked when it is estimated."""
LONGEST_S: Final = 86_400.0
"""The longest time that is told."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a function has to do. `queue` calls wait, `running` are in work, `free_seats` could be taken, `wait_s` is
    how long the work at hand takes, `unit_s` the measured seconds for one unit of it (NamedFunction.units)."""

    queue: int
    running: int
    free_seats: int
    wait_s: float
    unit_s: float


class Admission:
    """Of one function. `pace` and `turns` are measured by what `finished` and seats that become free tell."""

    def __init__(self, limit: int, unit_s: float) -> None:
        self.seats = Seats(limit)
        self.pace = Pace(unit_s)
        self.turns = Turns()
        self._busy_until = 0.0
        self._last_finish = 0.0

    def seat(self, who: Hashable, *, known: bool, hop: Hashable) -> Seat | None:
        """A seat for a call, None when there is none; as Seats.take."""
        seat = Seat(self.seats, who, known, hop=hop, on_given=lambda: self.turns.freed(clock.monotonic()))
        return seat if seat.take() else None

    def estimate_s(self, units: float) -> float:
        """Until work of so many units that is taken on now is done, that which is before it included."""
        now = clock.monotonic()
        self._busy_until = max(self._busy_until, now) + self._alone_s(units)
        return min(self._busy_until - now, LONGEST_S)

    def failed(self, units: float, *, others: int) -> None:
        """Work that was estimated ends without a result: nobody waits for it any more."""
        now = clock.monotonic()
        self._busy_until = max(self._busy_until - self._alone_s(units), now) if others else now

    def _alone_s(self, units: float) -> float:
        return min(max(self.pace.estimate_s(units), 0.0), MOST_S)

    def finished(self, units: float, began: float, *, others: int) -> None:
        """Work is done that began at `began` (monotonic); `others` are still there. Where work follows work, the time
        since the last one ended is what it took."""
        now = clock.monotonic()
        self.pace.measured(units, now - max(began, self._last_finish))
        self._last_finish = now
        if not others:
            self._busy_until = now

    def wait_s(self) -> float:
        """How long the work that was taken on is going to take."""
        return max(self._busy_until - clock.monotonic(), 0.0)

    def refusal(self, error: Busy) -> CallAnswer:
        """The answer to whoever found no room here."""
        back_s = error.retry_after_s or self.turns.come_back_s()
        return CallAnswer(code=error.code, error=str(error), retry_after_ms=round(back_s * 1000))
