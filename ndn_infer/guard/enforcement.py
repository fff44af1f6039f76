"""The reader's side: of an answer, only what a valid verdict covers is given out.

Owns: what is withheld, which verdicts count, when a reader stops. Must not know: calls, sockets, clocks, who judges.

Whoever reads an answer puts its events in, and the verdicts of a guard, each with its time; out come events that may be
shown. Verdicts are believed as far as their signature was verified before, and then only for this policy, this answer,
these tokens, in this order, in their time. Whatever else happens, nothing more comes out, and `stopped` says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from ndn_infer.guard.covered import Covered
from ndn_infer.guard.redactions import merged, without
from ndn_infer.records import TokenEvent, TokenLogprobs
from ndn_infer.records.guard import ALLOW, BLOCK, REDACT, Redaction, VerdictEvent

FILTERED: Final = "content_filter"
"""How an answer ends that a policy stops: as OpenAI's API says it."""

BLOCKED: Final = "blocked"
EXPIRED: Final = "expired"
FOREIGN: Final = "foreign"
"""Of another policy or answer, or by whom the policy does not name."""
MISMATCH: Final = "mismatch"
"""Of other tokens than those that came."""
DISORDER: Final = "disorder"
"""It takes back what another said, or goes on after the last."""
LATE: Final = "late"
UNJUDGED: Final = "unjudged"
"""The guard says that it cannot judge, or is gone."""
ENDED: Final = "ended"
"""The guard's last verdict does not cover the end of the answer."""

MOST_WITHHELD: Final = 4096
"""Events that wait for a verdict at most."""


@dataclass(frozen=True, slots=True)
class PolicyStop:
    """Why nothing more is shown. `rules`: those that are hit, where it is blocked."""

    reason: str
    words: str
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Demand:
    """What a reader demands. `guards`: identities (URIs) whose verdicts count, none: any that the trust schema lets
    sign them; `hold_back`: tokens that a guard may hold back; `wait_s`: for a verdict that is due; `stops`: the stop
    strings that the reader gave."""

    policy: str
    hold_back: int
    wait_s: float
    guards: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()


@dataclass(slots=True)
class Withheld:
    """An event that waits; `start` and `end` are its characters in the stream's text."""

    event: TokenEvent
    start: int
    end: int
    digest: str
    tokens: int
    """Of the stream up to its end."""


@dataclass(slots=True)
class Enforcer:
    """One stream of an answer, under one policy. `now_us` are microseconds of the Unix epoch, `now` seconds of a clock
    that never goes back."""

    demand: Demand
    answer: str
    """The stream's URI, with version."""
    stopped: PolicyStop | None = None
    shown_tokens: int = 0
    shown_events: int = 0
    complete: bool = False
    """Whether the whole answer was given out."""
    _covered: Covered = field(init=False)
    _withheld: list[Withheld] = field(default_factory=list)
    _characters: int = 0
    _redactions: list[Redaction] = field(default_factory=list)
    _said: int = 0
    """Events that the newest verdict covers."""
    _ahead: VerdictEvent | None = None
    """A verdict for events that have not come."""
    _closed: bool = False
    _finished: bool = False
    _due_since: float | None = None

    def __post_init__(self) -> None:
        self._covered = Covered(self.answer)

    # ------------------------------------------------------------ what comes

    def on_event(self, event: TokenEvent, now: float, now_us: int) -> list[TokenEvent]:
        """The answer's next event. What may be shown now."""
        if self.stopped is not None:
            return []
        digest = self._covered.add(event.ids, event.text)
        start, self._characters = self._characters, self._characters + len(event.text)
        self._withheld.append(Withheld(event, start, self._characters, digest, self._covered.tokens))
        self._finished = bool(event.finish)
        if len(self._withheld) > MOST_WITHHELD:
            return self._stop(LATE, f"{len(self._withheld)} events of the answer wait for a verdict")
        shown = self._release(now_us)
        self._look_for_due(now)
        return shown

    def on_verdict(self, verdict: VerdictEvent, by: str, now: float, now_us: int) -> list[TokenEvent]:
        """A verdict whose signature was verified, by the identity `by` (URI). What may be shown now."""
        if self.stopped is not None:
            return []
        if (wrong := self._wrong(verdict, by, now_us)) is not None:
            self.stopped = wrong
            return []
        self._said = max(self._said, verdict.events)
        self._redactions += verdict.redactions
        self._ahead, self._closed = verdict, verdict.last
        shown = self._release(now_us)
        self._look_for_due(now)
        return shown

    def on_guard_gone(self, words: str) -> None:
        """No verdict comes any more."""
        if self.stopped is None and not self.complete:
            self.stopped = PolicyStop(UNJUDGED, words)

    def another_guard(self) -> None:
        """Begin again with another verdict stream of this answer; what was shown stays shown."""
        self.stopped, self._ahead, self._said, self._closed, self._due_since = None, None, 0, False, None

    # ------------------------------------------------------------ time

    def due_at(self) -> float | None:
        """When `tick` has something to say."""
        return None if self._due_since is None or self.stopped else self._due_since + self.demand.wait_s

    def tick(self, now: float) -> None:
        """Stops where a verdict that is due has not come."""
        due = self.due_at()
        if due is not None and now >= due:
            self._stop(LATE, f"no verdict came within {self.demand.wait_s:g} s")

    # ------------------------------------------------------------ inside

    def _wrong(self, verdict: VerdictEvent, by: str, now_us: int) -> PolicyStop | None:
        if verdict.policy != self.demand.policy or verdict.answer != self.answer:
            return PolicyStop(FOREIGN, "a verdict is of another policy or answer")
        if self.demand.guards and by not in self.demand.guards:
            return PolicyStop(FOREIGN, f"{by} is none of the guards that the policy names")
        if verdict.error or verdict.code:
            return PolicyStop(UNJUDGED, f"the guard cannot judge: {verdict.error or verdict.code}")
        if verdict.until_us <= now_us:
            return PolicyStop(EXPIRED, "a verdict has expired")
        if verdict.action == BLOCK:
            rules = ", ".join(verdict.rules) or "the policy"
            return PolicyStop(BLOCKED, f"blocked by {rules}", verdict.rules)
        if self._closed or verdict.events < self._said or verdict.action not in (ALLOW, REDACT):
            return PolicyStop(DISORDER, "a verdict takes back what was said before")
        return None

    def _release(self, now_us: int) -> list[TokenEvent]:
        """The events that the newest verdict covers, if it covers these and none others."""
        verdict = self._ahead
        if verdict is None or self._covered.events < verdict.events:
            return []
        self._ahead = None
        if verdict.until_us <= now_us:
            return self._stop(EXPIRED, "a verdict expired before its tokens came")
        shown: list[TokenEvent] = []
        count = verdict.events - self.shown_events
        if count > 0:
            last = self._withheld[count - 1]
            if (last.digest, last.tokens) != (verdict.digest, verdict.tokens):
                return self._stop(MISMATCH, "a verdict is of other tokens than those that came")
            shown = [self._redacted(one) for one in self._withheld[:count]]
            del self._withheld[:count]
            self.shown_events, self.shown_tokens = verdict.events, last.tokens
            self.complete = self._finished and not self._withheld
            self._due_since = None
        if self._closed and not self.complete:
            self.stopped = PolicyStop(ENDED, "the guard's last verdict does not cover the whole answer")
        return shown

    def _redacted(self, withheld: Withheld) -> TokenEvent:
        """The event as it is shown. One with something redacted loses the ids and numbers that would tell it."""
        event, start, end = withheld.event, withheld.start, withheld.end
        spans = merged(self._redactions)
        here = [span for span in spans if span.start < end and span.end > start]
        self._redactions = [span for span in spans if span.end > end]
        event = self._bare(event)
        if not here:
            return event
        return replace(event, ids=(), text=without(here, event.text, start), logprobs=(), prompt=event.prompt)

    def _bare(self, event: TokenEvent) -> TokenEvent:
        """Without what has text of the producer's that no digest covers."""
        stopped_by = event.stopped_by if event.stopped_by in self.demand.stops else ""
        return replace(
            event, logprobs=_numbers(event.logprobs), prompt=_numbers(event.prompt), stopped_by=stopped_by, error="",
            code="",
        )  # fmt: skip

    def _look_for_due(self, now: float) -> None:
        """A guard has to decide once more than `hold_back` tokens wait, the first event of these counting as one, and
        when the answer has ended."""
        waiting = self._withheld[-1].tokens - self._withheld[0].tokens if self._withheld else 0
        due = bool(self._withheld) and (self._finished or waiting >= self.demand.hold_back)
        if not due:
            self._due_since = None
        elif self._due_since is None:
            self._due_since = now

    def _stop(self, reason: str, words: str) -> list[TokenEvent]:
        self.stopped = PolicyStop(reason, words)
        return []


def _numbers(told: tuple[TokenLogprobs, ...]) -> tuple[TokenLogprobs, ...]:
    """The log probabilities alone."""
    return tuple(TokenLogprobs(one.logprob) for one in told)
