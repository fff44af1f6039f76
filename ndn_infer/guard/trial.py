"""A policy tried on a text without a network: guard and reader of the product, one fed by the other.

Owns: this short circuit. Must not know: calls; rules that models of the network decide are left out and named.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ndn_infer.guard.answer_judge import AnswerJudge
from ndn_infer.guard.enforcement import Demand, Enforcer
from ndn_infer.guard.judge import PolicyRules
from ndn_infer.guard.patterns import patterns_in_time
from ndn_infer.guard.policy import PROMPT
from ndn_infer.guard.text_verdict import redacted, verdict_on_texts
from ndn_infer.records import TokenEvent
from ndn_infer.records.guard import BLOCK

ANSWER: str = "/trial/v=1"


@dataclass(frozen=True, slots=True)
class TriedText:
    """`shown` of the text; `rules` that were hit; `not_asked`: ids of those that were left out."""

    shown: str
    blocked: bool
    rules: tuple[str, ...]
    not_asked: tuple[str, ...]


def try_text(rules: PolicyRules, pieces: Iterable[str]) -> TriedText:
    """`pieces`: the text, an event for each. Each counts as one token. A prompt is judged as one message. Raises
    CallError where a pattern takes too long."""
    with patterns_in_time():
        return _try_prompt(rules, "".join(pieces)) if rules.where == PROMPT else _try_answer(rules, pieces)


def _try_answer(rules: PolicyRules, pieces: Iterable[str]) -> TriedText:
    judge, reader = AnswerJudge(rules, ANSWER), Enforcer(Demand(rules.policy.digest, 1024, 600.0), ANSWER)
    shown, hit = "", dict[str, None]()
    events = [*((piece, "") for piece in pieces), ("", "stop")]
    for number, (piece, finish) in enumerate(events):
        event = TokenEvent((number,), piece, finish)
        judge.push(event.ids, event.text, last=bool(finish))
        found = reader.on_event(event, 0.0, 0)
        verdict = judge.verdict(0, [] if judge.due() is not None else None)
        if verdict is not None:
            hit.update(dict.fromkeys(verdict.rules))
            found += reader.on_verdict(verdict, "", 0.0, 0)
        shown += "".join(one.text for one in found)
        if reader.stopped is not None:
            break
    return TriedText(shown, reader.stopped is not None, tuple(hit), tuple(rule.id for rule in rules.whole))


def _try_prompt(rules: PolicyRules, text: str) -> TriedText:
    """As `screen` does: the whole text at once, nothing of one that is blocked."""
    verdict = verdict_on_texts(rules, (text,), (), 0)
    blocked = verdict.action == BLOCK
    shown = "" if blocked else "".join(redacted((text,), verdict.redactions))
    return TriedText(shown, blocked, verdict.rules, tuple(rule.id for rule in rules.whole))
