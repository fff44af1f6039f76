"""Judging an answer event by event: what is held back, what becomes of it, the verdicts that say so.

Owns: the hold-back, and verdict events. Must not know: how events come, how models of the network are asked: `due` says
which text they are to judge, and what they found comes back.

An event of the answer is covered whole or not at all. What is held back: events from the first one in which a match
may have begun, and, where rules look at more than a match, events until there are `hold_back` tokens of them. Nothing
is held back longer: a match that has begun and is longer than that is blocked, or shown where the policy says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from ndn_infer.guard.covered import Covered
from ndn_infer.guard.judge import PolicyRules, RuleHit, TextJudge, language_hits, length_hits
from ndn_infer.guard.policy import SHOW
from ndn_infer.records.guard import ALLOW, BLOCK, MAX_HITS, REDACT, Redaction, VerdictEvent

CONTEXT: Final = 600
"""Characters before what is new, which rules about more than a match read with it."""
TOO_LONG: Final = "held-too-long"
"""In place of a rule's id: a match had begun and did not end within the hold-back."""
TOO_MANY: Final = "too-many-matches"
NOTHING: Final = "0" * 64
"""In place of a digest, where a verdict allows nothing."""


@dataclass(frozen=True, slots=True)
class _HeldEvent:
    tokens: int
    start: int
    end: int
    """Characters of the answer up to its beginning and its end."""
    covered: tuple[int, int, str]
    """Tokens, events and digest of the answer up to its end."""


class AnswerJudge:
    """One answer. `before`: text that the reader was shown by another stream before this one."""

    def __init__(self, rules: PolicyRules, answer: str, before: str = "") -> None:
        self._rules, self._answer = rules, answer
        self._covered = Covered(answer)
        self._judge = TextJudge(rules)
        self._judge.push(before)
        self._offset = len(before)
        self._text = before
        self._held: list[_HeldEvent] = []
        self._hits: list[RuleHit] = []
        self._last = False
        self.over = False
        """Whether the last verdict was given."""

    # ------------------------------------------------------------ what comes

    def push(self, ids: tuple[int, ...], text: str, *, last: bool) -> None:
        """The next event of the answer. Raises TimeoutError."""
        start = len(self._text)
        self._text += text
        self._hits += self._judge.push(text, last=last)
        digest = self._covered.add(ids, text)
        self._held.append(
            _HeldEvent(len(ids), start, len(self._text), (self._covered.tokens, self._covered.events, digest))
        )  # fmt: skip
        self._last = last
        self._hits += length_hits(self._rules, self._covered.tokens, len(self._text) - self._offset)

    def due(self) -> str | None:
        """The text that rules about more than a match are to judge now, if they are."""
        if not self._rules.windowed or self.over or not self._held:
            return None
        if not self._last and sum(event.tokens for event in self._held) < self._rules.policy.hold_back:
            return None
        return self._window()

    def _window(self) -> str:
        """All that is held back, and what stands before it."""
        return self._text[max(0, self._held[0].start - CONTEXT) :]

    # ------------------------------------------------------------ what is said

    def verdict(self, now_us: int, found: Iterable[RuleHit] | None = None) -> VerdictEvent | None:
        """What can be said now; None: nothing new. `found`: what rules about the text of `due` say of it; None: they
        were not asked, and the text waits for them."""
        if self.over or not self._held:
            return None
        whole = list(found or ())
        if self._rules.windowed and found is None:
            return self._blocked(now_us) if any(hit.rule.action == BLOCK for hit in self._hits) else None
        if self._rules.windowed:
            whole += language_hits(self._rules, self._window())
        if any(hit.rule.action == BLOCK for hit in (*whole, *self._hits)):
            return self._blocked(now_us, whole)
        free = self._free()
        if free < len(self._held) and self._waits_too_long(free):
            self._hits += self._judge.settle()
            free = self._free()
        if any(hit.rule.action == BLOCK for hit in self._hits):
            return self._blocked(now_us)
        if free < len(self._held) and self._waits_too_long(free):
            if self._rules.policy.past_hold_back != SHOW:
                return self._blocked(now_us, (), (TOO_LONG,))
            free = len(self._held)
        return self._allowed(free, now_us)

    def failed(self, now_us: int, words: str, code: str = "") -> VerdictEvent:
        """The guard cannot judge: nothing more is shown."""
        self.over = True
        return replace(self._event(now_us), error=words, code=code)

    def _free(self) -> int:
        """So many of the held events no match can reach into any more."""
        if self._last:
            return len(self._held)
        return sum(event.end <= self._judge.held for event in self._held)

    def _waits_too_long(self, free: int) -> bool:
        """The event in which a match may have begun is one token, however many it has: it cannot be cut."""
        after = sum(event.tokens for event in self._held[free + 1 :])
        return 1 + after > self._rules.policy.hold_back

    def _allowed(self, free: int, now_us: int) -> VerdictEvent | None:
        if not free:
            return None
        last = self._last and free == len(self._held)
        end = self._held[free - 1].end
        spans = self._redactions(end)
        if len(spans) > MAX_HITS:
            return self._blocked(now_us, (), (TOO_MANY,))
        covered = self._held[free - 1].covered
        del self._held[:free]
        self.over = last
        rules = tuple(dict.fromkeys(hit.rule.id for hit in self._hits))[:MAX_HITS] if spans else ()
        self._hits = [hit for hit in self._hits if hit.start >= end]
        tokens, events, digest = covered
        return replace(
            self._event(now_us), tokens=tokens, events=events, digest=digest, action=REDACT if spans else ALLOW,
            rules=rules, redactions=spans, last=last,
        )  # fmt: skip

    def _redactions(self, end: int) -> tuple[Redaction, ...]:
        """Of hits that begin before `end`, each told once."""
        found = {
            (max(0, hit.start - self._offset), hit.end - self._offset): hit.label
            for hit in self._hits if hit.start < end and hit.end > self._offset
        }  # fmt: skip
        return tuple(Redaction(start, stop, label[:128]) for (start, stop), label in sorted(found.items()))

    def _blocked(self, now_us: int, whole: Iterable[RuleHit] = (), why: tuple[str, ...] = ()) -> VerdictEvent:
        rules = dict.fromkeys((*why, *(hit.rule.id for hit in (*whole, *self._hits) if hit.rule.action == BLOCK)))
        self.over = True
        return replace(self._event(now_us), rules=tuple(rules)[:MAX_HITS])

    def _event(self, now_us: int) -> VerdictEvent:
        """One that blocks."""
        policy, covered = self._rules.policy, self._covered
        return VerdictEvent(
            policy.digest, self._answer, covered.tokens, covered.events, NOTHING, BLOCK,
            now_us + int(policy.valid_s * 1e6), last=True,
        )  # fmt: skip
