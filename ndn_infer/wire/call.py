"""The life of one function call, seen by its caller, as a table.

Owns: the states of a call, which event leads where, and how often and how long the caller asks. Must not know: names,
packets, records, clocks.

    ASKING -- answer: value -----> DONE
       |  \\-- answer: elsewhere -> READING -- result complete --> DONE
       |  \\-- answer: error -----> FAILED       |-- result lost ---> ASKING (fresh, past every cache), then FAILED
       |-- next: another producer -> ASKING it, at once
       |-- timeout, Nack, distrust -> ASKING again, with a pause, until attempts or time are used up -> FAILED
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final


class CallState(Enum):
    ASKING = auto()
    READING = auto()
    DONE = auto()
    FAILED = auto()


class CallEvent(Enum):
    VALUE = auto()
    ELSEWHERE = auto()
    ERROR = auto()
    NEXT = auto()
    NO_ANSWER = auto()
    DISTRUSTED = auto()
    RESULT_COMPLETE = auto()
    RESULT_LOST = auto()
    GIVE_UP = auto()


TRANSITIONS: Final[dict[tuple[CallState, CallEvent], CallState]] = {
    (CallState.ASKING, CallEvent.VALUE): CallState.DONE,
    (CallState.ASKING, CallEvent.ELSEWHERE): CallState.READING,
    (CallState.ASKING, CallEvent.ERROR): CallState.FAILED,
    (CallState.ASKING, CallEvent.NEXT): CallState.ASKING,
    (CallState.ASKING, CallEvent.NO_ANSWER): CallState.ASKING,
    (CallState.ASKING, CallEvent.DISTRUSTED): CallState.ASKING,
    (CallState.ASKING, CallEvent.GIVE_UP): CallState.FAILED,
    (CallState.READING, CallEvent.RESULT_COMPLETE): CallState.DONE,
    (CallState.READING, CallEvent.RESULT_LOST): CallState.ASKING,
    (CallState.READING, CallEvent.GIVE_UP): CallState.FAILED,
}
"""Every allowed step. An event without an entry is a defect of the caller and raises KeyError."""


@dataclass(slots=True)
class CallMachine:
    """One call. `attempts` counts Interests, `rounds` how often a result was lost after an answer named it.

    A cache may answer the first Interest. After a lost result or a distrusted answer a cached one would only say the
    same again: `salt` grows then, and the caller puts it into the Interest, which makes it another name.
    """

    give_up_at: float
    max_attempts: int = 8
    max_rounds: int = 2
    state: CallState = CallState.ASKING
    attempts: int = 0
    rounds: int = 0
    salt: int = 0

    def ask(self) -> None:
        """Count one Interest."""
        assert self.state is CallState.ASKING
        self.attempts += 1

    def on(self, event: CallEvent, now: float) -> CallState:
        """Take one step; returns the new state."""
        self.state = TRANSITIONS[self.state, event]
        if event in (CallEvent.RESULT_LOST, CallEvent.DISTRUSTED):
            self.salt += 1
        if event is CallEvent.RESULT_LOST:
            self.rounds += 1
        out_of_tries = self.attempts >= self.max_attempts or self.rounds > self.max_rounds
        if self.state is CallState.ASKING and (out_of_tries or now >= self.give_up_at):
            self.state = TRANSITIONS[self.state, CallEvent.GIVE_UP]
        return self.state

    def pause_s(self) -> float:
        """How long to wait before the next Interest after an unanswered or refused one: 0.1 s, doubled to 1.6 s."""
        return 0.1 * float(1 << min(max(self.attempts - 1, 0), 4))
