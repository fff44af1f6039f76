"""Suites that have a short word: those that ship, and generators of packages.

Owns: which words there are, and what each means. Must not know: how a suite is asked.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

from ndn_infer.errors import UsageError
from ndn_infer.evidence.live.scoring import generated
from ndn_infer.evidence.scorers import OF_GENERATORS, VERSIONS, Scorer
from ndn_infer.evidence.suite import Generator, Suite, items_of_lines
from ndn_infer.records import Sampling

SHIPPED: Final = {
    "basics": ("40 short questions about facts; contains", Scorer("contains"), Sampling(24)),
    "choices": ("20 multiple choices by log probabilities; choice", Scorer("choice"), Sampling(0)),
    "sums": ("40 sums in words and digits; numeric", Scorer("numeric"), Sampling(32)),
}
"""What each is, by what it is scored, how its answers are sampled."""
GYM: Final = "reasoning-gym"
GYM_SYSTEM: Final = "Answer with the final answer alone, between <answer> and </answer>."
_NO_DIGEST: Final = "0" * 64


def shipped(word: str) -> Suite | None:
    """The suite that this word means; None where it is none of them."""
    if word not in SHIPPED:
        return None
    _, scorer, sampling = SHIPPED[word]
    text = resources.files("ndn_infer.evidence").joinpath("suites", f"{word}.jsonl").read_text("utf-8")
    return Suite(word, scorer, sampling, items_of_lines(text))


def of_digest(digest: str) -> Suite | None:
    """The one that ships with this digest."""
    return next((suite for word in SHIPPED if (suite := shipped(word)) and suite.digest == digest), None)


async def from_generator(wanted: Generator, sampling: Sampling, *, name: str = "", system: str = GYM_SYSTEM) -> Suite:
    """A suite of items that a package makes here. Raises UsageError, EngineUnavailable where it is not installed."""
    if wanted.package != GYM:
        raise UsageError(
            f"no generator of package {wanted.package!r} is known", hint=f"{GYM}:NAME, like {GYM}:chain_sum"
        )
    made, _ = await generated(wanted)
    suite = Suite(
        name or f"{GYM}-{wanted.dataset}"[:64], Scorer(OF_GENERATORS, VERSIONS[OF_GENERATORS]), sampling,
        generator=made, system=system,
    )  # fmt: skip
    suite.check()
    return suite


def generator_of(word: str, seed: int, count: int, config: dict[str, str | int | float | bool]) -> Generator:
    """What `PACKAGE:DATASET` asks for; the digests are not known yet."""
    package, _, dataset = word.partition(":")
    return Generator(package, "", _NO_DIGEST, dataset, seed, count, _NO_DIGEST, config)
