"""An answer under a guard that is attacked in every way, with the reader's core of the product, in virtual time.

Owns: recorded answers, what happens to their verdicts, and the count of tokens that were shown without a valid verdict:
by a reckoning of its own, which knows what the guard really said, and when. Must not know: sockets, clocks.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from ndn_infer.guard.answer_judge import AnswerJudge
from ndn_infer.guard.enforcement import Demand, Enforcer
from ndn_infer.guard.judge import PolicyRules
from ndn_infer.guard.policy_form import policy_of
from ndn_infer.records import TokenEvent
from ndn_infer.records.guard import ALLOW, BLOCK, VerdictEvent

SECRET = "project nightingale"
GUARD = "/n/home/n1/guard"
STRANGER = "/n/home/n2/guard"
WORDS = (
    "the rain falls on the hills and a river runs from them to the sea where ships wait for wind while people at the "
    "harbour talk about their work their projects and the birds that sing at night"
).split()
ATTACKS = (
    "none", "killed", "delayed", "dropped", "forged digest", "forged tokens", "forged action", "foreign policy",
    "foreign answer", "stranger", "swapped", "replayed", "expired", "expires soon", "twice", "equivocating answer",
)  # fmt: skip


def rules(hold_back: int = 8) -> PolicyRules:
    made = policy_of(
        {
            "name": "play", "hold_back": hold_back, "wait_s": 2, "valid_s": 60, "guards": [GUARD],
            "rules": [
                {"id": "codename", "kind": "phrases", "phrases": [SECRET]},
                {"id": "mail", "kind": "personal", "types": ["email"], "action": "redact"},
            ],
        }
    )  # fmt: skip
    return PolicyRules(made, "answer")


RULES = rules()


def answer(rng: random.Random, most: int = 60) -> list[TokenEvent]:
    """Events of 1 to 6 tokens. Some answers have the secret, some an address, cut anywhere."""
    words = [rng.choice(WORDS) for _ in range(rng.randrange(1, most))]
    if rng.random() < 0.4:
        words.insert(rng.randrange(len(words) + 1), SECRET)
    if rng.random() < 0.3:
        words.insert(rng.randrange(len(words) + 1), "jo.doe@example.com")
    text, events, token = " ".join(words), [], 0
    while text:
        count, size = rng.randrange(1, 7), rng.randrange(1, 24)
        events.append(TokenEvent(tuple(range(token, token + count)), text[:size]))
        text, token = text[size:], token + count
    return [*events, TokenEvent((token,), "", rng.choice(("stop", "length")))]


def verdicts(
    events: Sequence[TokenEvent], name: str, now_us: int, policy: PolicyRules = RULES
) -> Iterator[tuple[int, VerdictEvent]]:
    """What an honest guard says, and after which event."""
    judge = AnswerJudge(policy, name)
    for number, event in enumerate(events):
        judge.push(event.ids, event.text, last=bool(event.finish))
        made = judge.verdict(now_us + number * 50_000)
        if made is not None:
            yield number, made
        if judge.over:
            return


@dataclass
class Delivered:
    at: float
    verdict: VerdictEvent
    by: str = GUARD


@dataclass
class Played:
    attack: str
    shown: str = ""
    tokens: int = 0
    """Shown."""
    uncovered: int = 0
    """Of them, those that no verdict covered that was honest, for this answer, delivered, and valid at that moment."""
    leaked: bool = False
    """Whether the secret was seen."""
    complete: bool = False
    stopped: str = ""
    counts: Counter[str] = field(default_factory=Counter)


def attacked(
    rng: random.Random, attack: str, honest: list[tuple[int, VerdictEvent]], other: list[tuple[int, VerdictEvent]]
) -> list[Delivered]:
    """The verdicts as they reach the reader, each a moment after its event of the answer at the least."""
    made = [Delivered(number * 0.05 + 0.01, verdict) for number, verdict in honest]
    if not made:
        return made
    at = rng.randrange(len(made))
    one = made[at]
    one.verdict = _forged(rng, attack, one.verdict)
    if attack == "stranger":
        one.by = STRANGER
    elif attack in ("foreign answer", "replayed") and other:
        named = one.verdict.answer if attack == "replayed" else other[0][1].answer
        made[at:] = [Delivered(one.at + number * 0.05, replace(said, answer=named)) for number, said in other]
    elif attack == "swapped":
        second = made[rng.randrange(len(made))]
        one.verdict, second.verdict = second.verdict, one.verdict
    else:
        _late(rng, attack, made, at)
    return sorted(made, key=lambda delivered: delivered.at)


def _forged(rng: random.Random, attack: str, one: VerdictEvent) -> VerdictEvent:
    """With the signature of a guard, as if its key were stolen: what the core alone has to notice."""
    more = rng.randrange(1, 5)
    made = {
        "forged digest": lambda: replace(one, digest=rng.randbytes(32).hex()),
        "forged tokens": lambda: replace(one, tokens=one.tokens + more, events=one.events + more),
        "forged action": lambda: replace(one, action=ALLOW, rules=(), redactions=(), events=one.events + 1),
        "foreign policy": lambda: replace(one, policy=rng.randbytes(32).hex()),
        "expired": lambda: replace(one, until_us=rng.randrange(1, 1000)),
    }.get(attack)
    return one if made is None else made()


def _late(rng: random.Random, attack: str, made: list[Delivered], at: int) -> None:
    if attack == "killed":
        del made[at:]
    elif attack == "dropped":
        del made[at]
    elif attack == "twice":
        made.insert(at, replace(made[at]))
    elif attack == "delayed":
        wait_s = rng.choice((0.5, 1.5, 5.0, 60.0))
        for late in made[at:]:
            late.at += wait_s
    elif attack == "expires soon":
        for late in made[at:]:
            late.verdict = replace(late.verdict, until_us=int((late.at + rng.choice((-0.005, 0.01, 1))) * 1e6) + 1)


def _counts(delivered: Delivered, said: set[VerdictEvent], now_us: int) -> bool:
    """Whether the guard said just this, and it holds now."""
    verdict = delivered.verdict
    honest = delivered.by == GUARD and replace(verdict, until_us=0) in said
    return honest and verdict.until_us > now_us and verdict.action != BLOCK


def play(rng: random.Random, attack: str, policy: PolicyRules = RULES) -> Played:
    """One answer of one reader."""
    name = f"/n/answer/{rng.getrandbits(32):x}/v=1"
    events, played = answer(rng), Played(attack)
    honest = list(verdicts(events, name, 0, policy))
    other = list(verdicts(answer(rng), f"{name}2", 0, policy))
    arriving = attacked(rng, attack, honest, other)
    if attack == "equivocating answer" and len(events) > 1:
        at = rng.randrange(len(events) - 1)
        events[at] = replace(events[at], text=events[at].text + " " + SECRET)
    said = {replace(verdict, until_us=0) for _, verdict in honest}
    reader = Enforcer(Demand(policy.policy.digest, policy.policy.hold_back, 2.0, (GUARD,)), name)
    timeline: list[tuple[float, int, object]] = [(number * 0.05, 0, event) for number, event in enumerate(events)]
    timeline += [(one.at, 1, one) for one in arriving]
    timeline.sort(key=lambda one: (one[0], one[1]))
    covered = 0
    for at, _, what in timeline:
        reader.tick(at)
        now_us = int(at * 1e6)
        if isinstance(what, TokenEvent):
            shown = reader.on_event(what, at, now_us)
        else:
            assert isinstance(what, Delivered)
            if _counts(what, said, now_us):
                covered = max(covered, what.verdict.events)
            shown = reader.on_verdict(what.verdict, what.by, at, now_us)
        for event in shown:
            played.shown += event.text
            played.tokens += len(event.ids) or 1
        if reader.shown_events > covered:
            played.uncovered += sum(len(event.ids) for event in events[covered : reader.shown_events])
    reader.tick(timeline[-1][0] + 10)
    if timeline and not reader.complete and reader.stopped is None:
        reader.on_guard_gone("gone")
    played.leaked = SECRET.replace(" ", "") in played.shown.replace(" ", "")
    played.complete, played.stopped = reader.complete, reader.stopped.reason if reader.stopped else ""
    return played
