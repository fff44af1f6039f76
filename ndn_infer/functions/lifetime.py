"""How long a piece of work goes on for those who asked for it, and when they are told that it takes longer.

Owns: the timers of one piece of work: the acknowledgement, the deadline of its callers, the end of work whose result
nobody waits for any more. Must not know: what is computed, how anybody is answered.

A caller says in its envelope how long it waits; whoever joins later may wait longer. Work that was acknowledged is
waited for with Interests for its result (and for what else it promised): when none came for `UNWANTED_S`, nobody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ndn_infer import clock

ACKNOWLEDGED_S: Final = 0.003
"""After this much of long work it is acknowledged: what is wrong with a request is found before."""
UNWANTED_S: Final = 3.0
"""Callers ask once a second; so long after the last Interest ran out, two of them would have been lost in a row."""
LOOK_S: Final = 1.0
DEADLINE: Final = "deadline"
UNWANTED: Final = "unwanted"


class Lifetime:
    """Of one piece of work. `end(reason)` is called once at most, with DEADLINE or UNWANTED; `wanted_until` gives the
    monotonic time at which the last Interest for its results runs out."""

    def __init__(self, end: Callable[[str], object], wanted_until: Callable[[], float]) -> None:
        self._end = end
        self._wanted_until = wanted_until
        self._deadline = 0.0
        self._endless = False
        self._wanted = 0.0
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def asked(self, deadline_ms: int) -> None:
        """Somebody waits for it, for so long; 0: for as long as it takes."""
        self._wanted = clock.monotonic()
        self._endless |= not deadline_ms
        self._deadline = max(self._deadline, self._wanted + deadline_ms / 1000)
        if DEADLINE not in self._timers and not self._endless:
            self._later(DEADLINE, deadline_ms / 1000, self._on_deadline)

    def acknowledge_in(self, seconds: float, acknowledge: Callable[[], object]) -> None:
        self._later("acknowledge", seconds, acknowledge)

    def acknowledged(self) -> None:
        """From now on those who wait send Interests for the result."""
        self._wanted = clock.monotonic()
        self._later(UNWANTED, UNWANTED_S, self._look)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _later(self, what: str, seconds: float, action: Callable[[], object]) -> None:
        self._timers[what] = asyncio.get_running_loop().call_later(seconds, action)

    def _on_deadline(self) -> None:
        left_s = self._deadline - clock.monotonic()
        if self._endless:
            return
        if left_s > 0:
            self._later(DEADLINE, left_s, self._on_deadline)
        else:
            self._stop(DEADLINE)

    def _look(self) -> None:
        self._wanted = max(self._wanted, self._wanted_until())
        if clock.monotonic() > self._wanted + UNWANTED_S:
            self._stop(UNWANTED)
        else:
            self._later(UNWANTED, LOOK_S, self._look)

    def _stop(self, reason: str) -> None:
        self.close()
        self._end(reason)
