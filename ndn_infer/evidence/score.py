"""A score: how one model did in one suite, with the name of every answer; the predicate of a signed record.

Owns: the fields of a score, their bounds, its JSON both ways, what two scores of one suite have in common. Pure. Must
not know: how anything was asked, signatures.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ndn_infer.errors import BadRecord
from ndn_infer.evidence.json_fields import JsonObject, read_object
from ndn_infer.evidence.statistics import LEVEL, Interval, interval_of, mean
from ndn_infer.evidence.suite import MAX_CHOICES, MAX_ITEMS, MAX_LABEL

MAX_SCORE_BYTES: Final = 32 << 20
MAX_TEXT_KEPT: Final = 1 << 14
"""Characters of one answer's text; what is longer is cut, and says so (`cut`)."""
_MOST_US: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class NamedAnswer:
    """One answer: `name` is the URI of its stream, with version; `ids` the SHA-256 of its token ids (`ids_digest`), of
    a choice that of its log probabilities. `stored`: it was there, or in the making, before it was asked for."""

    name: str
    ids: str
    prompt_tokens: int
    tokens: int
    stored: bool = False

    @classmethod
    def read(cls, given: JsonObject) -> NamedAnswer:
        return cls(
            given.text("name", 4096), given.digest("ids"), given.integer("prompt_tokens", 0, 1 << 18),
            given.integer("tokens", 0, 1 << 18), given.flag("stored", False),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """What became of one item. `value`: 0 to 1. `text`: the answer's, or the choice that was the likeliest. An item
    without answers failed: `error` says why, and its value is 0. `seconds`: from the question to the end."""

    id: str
    value: float
    answers: tuple[NamedAnswer, ...] = ()
    text: str = ""
    cut: bool = False
    finish: str = ""
    seconds: float = 0.0
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "answers": [asdict(one) for one in self.answers]}

    @classmethod
    def read(cls, given: JsonObject) -> ItemOutcome:
        answers = tuple(map(NamedAnswer.read, given.objects("answers", MAX_CHOICES)))
        outcome = cls(
            given.text("id", MAX_LABEL), given.number("value", 0, 1), answers,
            given.text("text", MAX_TEXT_KEPT, ""), given.flag("cut", False), given.text("finish", 32, ""),
            given.number("seconds", 0, 1e9, 0.0), given.text("error", 1024, ""),
        )  # fmt: skip
        if not answers and outcome.value:
            raise BadRecord(f"{given.where} has a value and no answer")
        return outcome


@dataclass(frozen=True, slots=True)
class Score:
    """`suite`: the suite's digest; `suite_name`: the name (URI) of its record, "" where it has none; `suite_label`:
    what it is called. `model` is the model's digest, `alias` what it was asked as, `engine` the engine class that
    answered. `scorer`: id and version. `outcomes` are the first `n` items of the suite, in order. `began_us`,
    `ended_us`: microseconds of the Unix epoch. `software`: what computed the score."""

    suite: str
    suite_label: str
    scorer: str
    model: str
    alias: str
    engine: str
    outcomes: tuple[ItemOutcome, ...]
    began_us: int
    ended_us: int
    suite_name: str = ""
    software: str = ""

    @property
    def n(self) -> int:
        return len(self.outcomes)

    @property
    def values(self) -> list[float]:
        return [outcome.value for outcome in self.outcomes]

    @property
    def score(self) -> float:
        return mean(self.values)

    @property
    def interval(self) -> Interval:
        return interval_of(self.values)

    @property
    def failed(self) -> int:
        return sum(not outcome.answers for outcome in self.outcomes)

    @property
    def stored_share(self) -> float:
        """Of the answers: those that were there before they were asked for."""
        answers = [answer for outcome in self.outcomes for answer in outcome.answers]
        return sum(answer.stored for answer in answers) / len(answers) if answers else 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "suite": {"digest": self.suite, "name": self.suite_name, "label": self.suite_label},
            "scorer": self.scorer,
            "model": {"digest": self.model, "alias": self.alias},
            "engine": self.engine,
            "n": self.n,
            "score": self.score,
            "interval": asdict(self.interval),
            "failed": self.failed,
            "stored_share": self.stored_share,
            "began_us": self.began_us,
            "ended_us": self.ended_us,
            "software": self.software,
            "items": [outcome.as_json() for outcome in self.outcomes],
        }

    @classmethod
    def read(cls, given: JsonObject) -> Score:
        """What the outcomes give is computed again: a record whose sums are others is refused. Raises BadRecord."""
        suite, model = given.object("suite"), given.object("model")
        score = cls(
            suite.digest("digest"), suite.text("label", MAX_LABEL), given.text("scorer", 64), model.digest("digest"),
            model.text("alias", 256), given.text("engine", 128),
            tuple(map(ItemOutcome.read, given.objects("items", MAX_ITEMS))), given.integer("began_us", 0, _MOST_US),
            given.integer("ended_us", 0, _MOST_US), suite.text("name", 4096, ""), given.text("software", 128, ""),
        )  # fmt: skip
        score.check(given)
        return score

    def check(self, given: JsonObject) -> None:
        """Raises BadRecord where what is said of all outcomes is not what they give."""
        if len({outcome.id for outcome in self.outcomes}) != self.n or not self.n:
            raise BadRecord(f"{given.where}: no items, or one twice")
        interval = given.object("interval")
        said = (
            given.integer("n", 1, MAX_ITEMS), given.number("score", 0, 1), given.integer("failed", 0, MAX_ITEMS),
            interval.text("method", 32), interval.number("low", 0, 1), interval.number("high", 0, 1),
        )  # fmt: skip
        found = self.interval
        theirs = (self.n, self.score, self.failed, found.method, found.low, found.high)
        if said != theirs and not _near(said, theirs) or interval.number("level", 0, 1) != LEVEL:
            raise BadRecord(f"{given.where}: the items give {theirs}, and the record says {said}")


def _near(said: Sequence[Any], found: Sequence[Any]) -> bool:
    """Equal but for the last bits of floats, which another machine's arithmetic may turn."""
    return all(
        abs(one - other) < 1e-9 if isinstance(one, float) else one == other
        for one, other in zip(said, found, strict=True)
    )


def parse_score(content: bytes) -> Score:
    """A score's JSON. Raises BadRecord."""
    return Score.read(read_object(content, "score", most=MAX_SCORE_BYTES))


def ids_digest(ids: Sequence[int]) -> str:
    """SHA-256 of token ids, 4 bytes each, little-endian."""
    return hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()


def logprobs_digest(logprobs: Sequence[float]) -> str:
    """SHA-256 of log probabilities, 8 bytes each (IEEE 754 double, little-endian)."""
    return hashlib.sha256(struct.pack(f"<{len(logprobs)}d", *logprobs)).hexdigest()


@dataclass(frozen=True, slots=True)
class AnswerDifference:
    """An item that two runs answered otherwise: the names and the digests of both, in the order of the runs."""

    id: str
    names: tuple[tuple[str, ...], tuple[str, ...]]
    digests: tuple[tuple[str, ...], tuple[str, ...]]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """Of `n` items `identical` had the same tokens; `differing` had others, `unanswered` none in one of the runs."""

    n: int
    identical: int
    differing: tuple[AnswerDifference, ...]
    unanswered: tuple[AnswerDifference, ...] = ()


def reproduced(first: Sequence[ItemOutcome], second: Sequence[ItemOutcome]) -> Reproduction:
    """Both of the same items, in order."""
    others = [_difference(one, other) for one, other in zip(first, second, strict=True) if not _same(one, other)]
    differing = tuple(one for one in others if not one.why)
    return Reproduction(len(first), len(first) - len(others), differing, tuple(one for one in others if one.why))


def _same(one: ItemOutcome, other: ItemOutcome) -> bool:
    ids = [answer.ids for answer in one.answers]
    return bool(ids) and ids == [answer.ids for answer in other.answers] and one.id == other.id


def _difference(one: ItemOutcome, other: ItemOutcome) -> AnswerDifference:
    names = tuple(answer.name for answer in one.answers), tuple(answer.name for answer in other.answers)
    digests = tuple(answer.ids for answer in one.answers), tuple(answer.ids for answer in other.answers)
    lacking = not one.answers or not other.answers
    return AnswerDifference(one.id, names, digests, (other.error or one.error or "no answer") if lacking else "")


def paired(a: Score, b: Score) -> tuple[list[float], list[float]]:
    """Values of the items that both have. Raises BadRecord for scores of other suites, or without a common item."""
    if a.suite != b.suite:
        raise BadRecord(
            f"these are scores of other suites: {a.suite_label} {a.suite[:8]}, {b.suite_label} {b.suite[:8]}"
        )
    theirs = {outcome.id: outcome.value for outcome in b.outcomes}
    common = [(outcome.value, theirs[outcome.id]) for outcome in a.outcomes if outcome.id in theirs]
    if not common:
        raise BadRecord("these scores have no item in common")
    return [one for one, _ in common], [other for _, other in common]
