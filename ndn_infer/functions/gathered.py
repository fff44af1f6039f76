"""Tokens that wait in the engine's thread for the event in which they leave.

Each call into the event loop wakes it, and it then wants the interpreter that the engine needs; tokens of one event
need one. Owns: which outputs of steps wait, and for how long. Must not know: events, engines, what is done with tokens.

The engine's thread adds, the event loop takes: nothing but a deque lies between them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ndn_infer.engine.stream import StepOutput
from ndn_infer.functions.token_events import EventPace

OnStep = Callable[[StepOutput], None]

MOST_WAITING: Final = 1024
"""Outputs of all streams."""


@dataclass(slots=True, eq=False)
class Listener:
    """Of one stream. `pace`: its tokens may wait that long for each other, but for the first; None: none waits."""

    on_step: OnStep
    pace: EventPace | None = None
    begun: bool = False


@dataclass(slots=True)
class Gathered:
    _waiting: deque[tuple[Listener, StepOutput]] = field(default_factory=deque)
    _given_at: float = float("-inf")
    _urgent: bool = False
    _posted: bool = False

    def __len__(self) -> int:
        return len(self._waiting)

    # ------------------------------------------------------------ in the engine's thread

    def add(self, listener: Listener, output: StepOutput, now: float) -> None:
        """One more, which was computed now. What is no token, the first one of a stream and its last wait for nothing,
        and so does what was added before."""
        pace = listener.pace
        if pace is None or output.finished or output.scores or output.token_id < 0 or not listener.begun:
            self._urgent = True
        elif pace.another(self._given_at, now) or len(self._waiting) >= MOST_WAITING:
            self._urgent = True
        listener.begun = listener.begun or output.token_id >= 0
        self._waiting.append((listener, output if pace is None else output._replace(at=now)))

    def give(self, now: float, *, at_once: bool = False) -> bool:
        """Whether the event loop is to `take` now, once for all; `at_once`: the next step may take long."""
        if not self._waiting or self._posted or not (self._urgent or at_once):
            return False
        self._urgent, self._posted, self._given_at = False, True, now
        return True

    # ------------------------------------------------------------ in the event loop

    def take(self) -> list[tuple[OnStep, StepOutput]]:
        """All that waits, in order; all but the last one of a stream are marked `more`."""
        self._posted = False
        told, later = list[tuple[OnStep, StepOutput]](), set[Listener]()
        for listener, output in reversed([self._waiting.popleft() for _ in range(len(self._waiting))]):
            told.append((listener.on_step, output._replace(more=True) if listener in later else output))
            later.add(listener)
        return told[::-1]
