"""The clocks of this process: whoever needs the time asks here.

Owns: which clock is read. It is the machine's, unless a run in virtual time says otherwise (testbed/virtual/). Must not
know: who asks, event loops. Pure cores ask nobody: they are told `now`.

A clock is read when a function here is called, never before: `clock.monotonic` may be kept and called later.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Clock(Protocol):
    """`monotonic`: seconds from anywhere, never back. `wall_us`: microseconds of the Unix epoch."""

    def monotonic(self) -> float: ...

    def wall_us(self) -> int: ...


class MachineClock:
    monotonic = staticmethod(time.monotonic)

    def wall_us(self) -> int:
        return time.time_ns() // 1000


_clock: Clock = MachineClock()


def monotonic() -> float:
    return _clock.monotonic()


def wall_us() -> int:
    """Microseconds of the Unix epoch."""
    return _clock.wall_us()


def wall_ms() -> int:
    return _clock.wall_us() // 1000


def wall_s() -> float:
    return _clock.wall_us() / 1e6


@contextmanager
def reading(other: Clock) -> Iterator[None]:
    """Everything in this process reads `other`, until the block ends."""
    global _clock
    before, _clock = _clock, other
    try:
        yield
    finally:
        _clock = before
