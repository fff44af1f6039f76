"""An evaluation from end to end: a suite, its run, a signed score; and the run of a score of others again.

Owns: statements of suites and scores, and the order of steps. Must not know: terminals, where records lie (shelf.py),
how an item is asked (evaluate.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from ndn_infer import __version__, clock, ndn
from ndn_infer.errors import BadRecord, UsageError
from ndn_infer.evidence import statement
from ndn_infer.evidence.json_fields import JsonObject
from ndn_infer.evidence.live.evaluate import SuiteRun
from ndn_infer.evidence.live.scoring import values_of
from ndn_infer.evidence.live.vouched import Vouched, vouch
from ndn_infer.evidence.score import ItemOutcome, Reproduction, Score, reproduced
from ndn_infer.evidence.scorers import CHOICE
from ndn_infer.evidence.statement import INPUTS, Resource, Statement
from ndn_infer.evidence.suite import Item, Suite
from ndn_infer.namespace import CatalogRecord
from ndn_infer.ndn.name import Name
from ndn_infer.security.crypto import Signer

SOFTWARE = f"ndn-infer {__version__}"


def vouch_suite(net: Name, signer: Signer, suite: Suite) -> Vouched:
    about = Resource(f"urn:ndn-infer:suite:{suite.digest}", suite.digest, suite.name)
    return vouch(net, signer, "suite", Statement((about,), statement.SUITE, suite.as_json()))


def suite_in(record: Vouched) -> Suite:
    """Raises BadRecord."""
    return Suite.read(JsonObject(record.said.predicate, "suite"))


def vouch_score(net: Name, signer: Signer, score: Score) -> Vouched:
    """A claim about the answers, which rests on suite and model."""
    about = Resource("urn:ndn-infer:answers", answers_digest(score.outcomes), "answers")
    suite = Resource(score.suite_name or f"urn:ndn-infer:suite:{score.suite}", score.suite, "suite")
    model = Resource(ndn.to_uri(CatalogRecord("model", score.model).to_name(net)), score.model, "model")
    predicate = {**score.as_json(), INPUTS: statement.plain((suite, model))}
    return vouch(net, signer, "score", Statement((about,), statement.SCORE, predicate))


def score_in(record: Vouched) -> Score:
    """Raises BadRecord; also where it is not about the answers that it lists."""
    score = Score.read(JsonObject(record.said.predicate, "score"))
    if record.said.subject[0].sha256 != answers_digest(score.outcomes):
        raise BadRecord(f"{record.name} is about other answers than it lists")
    return score


def answers_digest(outcomes: Sequence[ItemOutcome]) -> str:
    """SHA-256 of the digests (hex) of all answers in order, each with a line feed after it."""
    lines = (f"{answer.ids}\n" for outcome in outcomes for answer in outcome.answers)
    return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()


async def evaluate(run: SuiteRun, suite_name: str = "") -> Score:
    """Raises as SuiteRun.outcomes."""
    began_us = clock.wall_us()
    outcomes = tuple(await run.outcomes())
    suite, model = run.suite, run.model
    return Score(
        suite.digest, suite.name, f"{suite.scorer.id} {suite.scorer.version}", model.digest, model.alias,
        next(iter(run.engines), ""), outcomes, began_us, clock.wall_us(), suite_name, SOFTWARE,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Repeated:
    """A score of somebody else's, run again here. `misjudged`: items with the same answers whose value is another one
    here: the scorer that is named did not give theirs."""

    theirs: Score
    ours: Score
    found: Reproduction
    misjudged: tuple[str, ...]


async def repeat(run: SuiteRun, theirs: Score) -> Repeated:
    """`run` is of the suite and the items of that score. Raises as SuiteRun.outcomes."""
    ours = await evaluate(run, theirs.suite_name)
    found = reproduced(theirs.outcomes, ours.outcomes)
    other = {one.id for one in found.differing}
    misjudged = tuple(
        one.id for one, mine in zip(theirs.outcomes, ours.outcomes, strict=True)
        if one.id not in other and abs(one.value - mine.value) > 1e-9
    )  # fmt: skip
    return Repeated(theirs, ours, found, misjudged)


async def misjudged(suite: Suite, items: Sequence[Item], score: Score) -> tuple[str, ...]:
    """Items whose text, as the score has it, is worth another value by the suite's scorer; without asking anybody.
    Raises as scoring.values_of, UsageError where a score cannot be judged by its texts."""
    if suite.scorer.id == CHOICE:
        values = [float(one.text == item.targets[0]) for one, item in zip(score.outcomes, items, strict=True)]
    elif any(one.cut for one in score.outcomes):
        raise UsageError("some texts of this score are cut: reproduce it instead")
    else:
        values = await values_of(suite, items, [one.text for one in score.outcomes])
    return tuple(
        one.id for one, value in zip(score.outcomes, values, strict=True)
        if one.answers and abs(one.value - value) > 1e-9
    )  # fmt: skip


def matching(suite: Suite, items: Sequence[Item], score: Score) -> tuple[Item, ...]:
    """The items that a score is of. Raises BadRecord where it is not of this suite's first items."""
    if suite.digest != score.suite:
        raise BadRecord(f"the score is of suite {score.suite[:16]}, and this one is {suite.digest[:16]}")
    first = tuple(items[: score.n])
    if [item.id for item in first] != [one.id for one in score.outcomes]:
        raise BadRecord("the score is not of the first items of its suite")
    return first
