"""Who may answer a call: whom to ask first, and whom when that one cannot, does not, or says that it is busy.

Owns: the order in which the candidates of one call are asked, which of them are asked again, and the contract with
whoever makes that order. Must not know: how an order is made (offers/), how a candidate is asked (caller.py). Pure.

Each candidate is asked once, the next one at once when it could not; then all that may yet answer again, after a pause.
Without any offers there is one candidate: whomever the network leads to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final, Protocol

from ndn_infer.namespace import Call
from ndn_infer.ndn.name import Name
from ndn_infer.records import Record

PATIENCE_S: Final = 1.0
"""Producers answer or acknowledge sooner: what takes longer was lost."""


class Outcome(Enum):
    """What became of asking one candidate."""

    ANSWERED = auto()
    BUSY = auto()
    CANNOT = auto()
    """It understood, and is not one that can answer this: another engine, no member of the domain, not its model."""
    UNABLE = auto()
    """It understood, and what it needs of others did not come or cannot be believed."""
    SILENT = auto()
    REFUSED = auto()
    """The network says that there is no way to it."""
    DISTRUSTED = auto()
    LOST = auto()
    """It answered, and its result broke off."""
    QUEUED = auto()
    """It takes the call on behind others, and another one is going to begin sooner."""


CANNOT_CODES: Final = frozenset(
    {"wrong-engine", "wrong-dtype", "wrong-codec", "unknown-domain", "not-private", "unknown-model", "unknown-function"}
)
"""Codes of answers that say so."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """`at`: forwarding hints, none for whomever the network leads to. `patience_s`: how long its answer is awaited."""

    at: tuple[Name, ...] = ()
    patience_s: float = PATIENCE_S


@dataclass(frozen=True, slots=True)
class Said:
    """What was learnt from asking. `hint` leads to who answered, b"" when nobody did; `seconds`: how long that took,
    0 when a cache may have answered; `back_s`: when one that is busy wants to be asked again; `queue`: calls before
    ours there."""

    outcome: Outcome
    hint: Name = b""
    seconds: float = 0.0
    back_s: float = 0.0
    queue: int = 0


class Chooser(Protocol):
    """Makes the order of candidates, and hears what became of each (offers.chooser)."""

    async def candidates(self, call: Call, request: Record, *, settled: bool = False) -> Sequence[Candidate]:
        """Best first; none when nothing is known. `settled`: nobody of those known so far can answer, so what is being
        looked for is waited for."""
        ...

    def heard(self, call: Call, candidate: Candidate, said: Said) -> None: ...

    def elsewhere(self, call: Call, said: Said) -> Candidate | None:
        """Who is going to begin sooner than the one who has just taken the call on, behind `said.queue` others."""
        ...

    def refuses(self, identity: Name) -> str:
        """Why nothing is taken of this producer, whoever led to it; "" where it is."""
        ...


class Order:
    """The candidates of one call. `first` are asked before whomever the network leads to; with `only` nobody else.
    `led`: `first` is one that is asked before it is known who else there is; `again` ends that, and `renew` names the
    others."""

    def __init__(self, first: Sequence[Candidate] = (), *, only: bool = False, led: bool = False) -> None:
        self._all = list(first) if only or led else [*first, Candidate()]
        self.led = led
        self._place = 0
        self._back_s: list[float] = []
        self._cannot: set[tuple[Name, ...]] = set()
        self._only = only
        self.rounds = 0
        """How often all of them were asked in vain."""
        self.turn = 0
        """How many were asked before the one who is asked now. It makes another name of each Interest: neither a cache
        nor somebody's pending Interest answers in the place of the next candidate."""

    @property
    def now(self) -> Candidate:
        """Who is asked now."""
        return self._all[self._place]

    @property
    def alone(self) -> bool:
        """There is nobody to go on to."""
        return len(self._all) == 1

    def passed(self, outcome: Outcome, back_s: float = 0.0) -> bool:
        """That one did not do it; on to the next. False at the end of a round: `again` begins another one."""
        if outcome is Outcome.BUSY:
            self._back_s.append(back_s)
        elif outcome is Outcome.CANNOT:
            self._cannot.add(self.now.at)
        self._place += 1
        self.turn += self.led or not self.alone
        return self._place < len(self._all)

    def on_to(self, candidate: Candidate) -> bool:
        """To one that was not asked in this round, out of turn. False when it was, or may not be."""
        asked = {one.at for one in self._all[: self._place + 1]}
        if self._only or self.led or candidate.at in asked:
            return False
        rest = [one for one in self._all[self._place + 1 :] if one.at != candidate.at]
        self._all[self._place + 1 :] = [candidate, *rest]
        return self.passed(Outcome.QUEUED)

    def again(self, pause_s: float) -> float | None:
        """Begin again with those who may yet answer: after how many seconds, `pause_s` or when the first that was busy
        has time. None when nobody may."""
        self._all = [one for one in self._all if one.at not in self._cannot]
        self.rounds += 1
        if self.led:
            self.led, self._back_s, pause_s = False, [], 0.0
            self._all.append(Candidate())
        busy = min((back_s for back_s in self._back_s if back_s), default=pause_s) if self._back_s else pause_s
        self._place, self._back_s = 0, []
        return busy if self._all else None

    def renew(self, first: Sequence[Candidate]) -> None:
        """At the beginning of another round: what is known by now of whom to ask. Whoever cannot is not asked again."""
        if self._only or not first:
            return
        self.turn += self.alone
        self._all = [*(one for one in first if one.at not in self._cannot), *(one for one in self._all if not one.at)]

    def others(self, found: Sequence[Candidate]) -> bool:
        """When nobody could: on to those of `found` that were not asked. False when there are none."""
        self._all = [] if self._only else [one for one in found if one.at not in self._cannot]
        self._place = 0
        self.turn += bool(self._all)
        return bool(self._all)

    def patient(self, patience_s: float) -> None:
        """The last one is waited for as long as a call without a choice waits."""
        self._all[-1] = replace(self._all[-1], patience_s=max(patience_s, self._all[-1].patience_s))
