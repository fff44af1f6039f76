"""A few kills of real processes: each answer is complete, with the tokens of one that nobody disturbed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ndn_infer.models.store import ModelFolder
from tests.load.failover import SETTINGS, Harness, Plan
from tests.load.failover_figures import Heard, Round, difference, report
from tests.load.failover_net import running

pytestmark = pytest.mark.model


@pytest.mark.timeout(300)
def test_no_token_is_lost_or_changed(smollm2: ModelFolder, model_cache: Path) -> None:
    """One network of two producers: the link to one is cut below an answer within a schema, then one is killed below
    two answers."""
    plans = (
        Plan("link", ("seeded",), tokens=30, batch=1, seed=3, schema=True),
        Plan("decode", ("greedy", "seeded"), tokens=40, batch=1, seed=4, at_once=2),
    )

    async def run() -> list[Round]:
        async with running(model_cache, dict(SETTINGS)) as net, net.consumer() as client:
            return [one for plan in plans for one in await Harness(plan, net, smollm2, client).run()]

    rounds = asyncio.run(run())
    assert [(one.complete, one.identical, one.error) for one in rounds] == [(True, True, "")] * 3, rounds
    assert all(one.continued for one in rounds), rounds


def test_what_is_lost_is_told() -> None:
    lost = Round("decode", "greedy", 7, complete=True, identical=False, continued=1, gap_s=2.0)
    well = Round("decode", "greedy", 9, complete=True, identical=True, continued=1, gap_s=1.0)
    document = report("decode", [well, lost], 60.0)
    assert (document["complete"], document["identical"], document["gap_p95_s"]) == (2, 1, 2.0)


def test_the_first_difference_is_told_and_text_is_compared_as_far_as_both_have_it() -> None:
    whole = Heard((1, 2, 3), "abcd", (-0.5, -0.25, -1.0))
    assert difference(Heard((1, 2, 3), "abcde", (-0.5, -0.25, -1.0)), whole) == ""
    assert difference(Heard((1, 2, 4), "abcd", (-0.5, -0.25, -1.0)), whole).startswith("ids at 2")
    assert difference(Heard((1, 2, 3), "abcd", (-0.5, -0.125, -1.0)), whole).startswith("logprobs at 1")
    assert difference(Heard((1, 2, 3), "abxd", (-0.5, -0.25, -1.0)), whole).startswith("text at 2")
    assert difference(Heard((1, 2), "ab", (-0.5, -0.25)), whole) == "2 ids, undisturbed 3"
