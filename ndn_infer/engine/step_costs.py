"""What the engine's steps cost, and whose cost that is.

Owns: CPU time of the thread that computes and of those among which torch splits an operation, energy where a meter is,
and the sharing of a step among the streams computed in it. Must not know: what a step computes.

Times are CPU times: a thread that waits, for a lock or for a device, costs nothing meanwhile. What belongs to no stream
(loading, exports of blocks, steps that compute nothing) is overhead. All seconds of the engine's thread are somewhere:
`prefill_s`, `decode_s` or `overhead_s`, which a test compares with getrusage.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ndn_infer.engine.energy import EnergyMeter, find_meter

_TASKS: Final = Path("/proc/self/task")
_LOOK_AGAIN: Final = 256
"""Steps after which threads are looked for again: torch starts its own with the first operation that it splits."""


@dataclass(slots=True)
class EngineSpent:
    """By one stream, or by all. Of steps that several streams were computed in, each has the share of its tokens."""

    prefill_s: float = 0.0
    decode_s: float = 0.0
    helpers_s: float = 0.0
    """Of other threads, in both."""
    joules: float = 0.0
    overhead_s: float = 0.0
    """Of all: what belongs to no stream."""


@dataclass(slots=True)
class StepCosts:
    """`begin`, then `rows` and `chunk` after what they name was computed, then `end`. From the engine's thread."""

    total: EngineSpent = field(default_factory=EngineSpent)
    meter: EnergyMeter | None = field(default_factory=find_meter)
    _began: float = 0.0
    _last: float = 0.0
    _helpers: float = 0.0
    _joules: float = 0.0
    _shares: list[tuple[EngineSpent, int]] = field(default_factory=list)
    _clocks: list[int] = field(default_factory=list)
    _steps: int = 0

    @property
    def energy_source(self) -> str:
        """Name of the meter; "" where there is none."""
        return self.meter.name if self.meter is not None else ""

    def begin(self) -> None:
        if self._steps % _LOOK_AGAIN == 0 or self._steps == 1:
            self._clocks = helper_clocks()
        self._steps += 1
        self._shares.clear()
        self._helpers, self._joules = self._helper_s(), self._energy()
        self._began = self._last = time.thread_time()

    def rows(self, shares: Sequence[tuple[EngineSpent, int]]) -> float:
        """So many tokens of each were computed as rows, since `begin` or the last of these calls: the seconds that they
        took."""
        now = time.thread_time()
        seconds, self._last = now - self._last, now
        each = seconds / sum(count for _, count in shares)
        for spent, count in shares:
            spent.decode_s += each * count
            self.total.decode_s += each * count
        self._shares += shares
        return seconds

    def chunk(self, spent: EngineSpent, count: int) -> None:
        """So many tokens of a prompt were computed."""
        now = time.thread_time()
        spent.prefill_s += now - self._last
        self.total.prefill_s += now - self._last
        self._last = now
        self._shares.append((spent, count))

    def end(self) -> None:
        """The rest of the step, the other threads and the energy are shared by tokens, as far as there are any."""
        helpers, joules = self._helper_s() - self._helpers, self._energy() - self._joules
        tokens = sum(count for _, count in self._shares)
        self.total.helpers_s += helpers
        self.total.joules += joules
        self.total.overhead_s += time.thread_time() - self._last
        for spent, count in self._shares:
            spent.helpers_s += helpers * count / tokens
            spent.joules += joules * count / tokens

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Around work of the engine's thread that belongs to no stream."""
        began = time.thread_time()
        try:
            yield
        finally:
            self.total.overhead_s += time.thread_time() - began

    def _helper_s(self) -> float:
        try:
            return sum(map(time.clock_gettime, self._clocks))
        except OSError:  # one of them has ended
            self._clocks = helper_clocks()
            return self._helpers

    def _energy(self) -> float:
        return self.meter.joules() if self.meter is not None else 0.0


def helper_clocks() -> list[int]:
    """CPU clocks of this process's threads that Python did not start: in a process with one engine, those among which
    torch splits operations. None where the system does not tell."""
    own = {thread.native_id for thread in threading.enumerate()}
    try:
        found = [int(task) for task in os.listdir(_TASKS)]
    except (OSError, ValueError):
        return []
    return [_clock_of(task) for task in found if task not in own]


def _clock_of(task: int) -> int:
    """The clock id of a thread's CPU time (Linux: clock_gettime(2), "dynamic clocks" of threads)."""
    return (~task << 3) | 6
