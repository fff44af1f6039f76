"""The same scenarios at a real NFD: what we say it does, it does. Needs `nfd` on PATH.

pytest -m nfd tests/semantics
"""

from __future__ import annotations

import shutil
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.semantics.nfd_driver import masked, play, why_not
from tests.semantics.scenario import Scenario
from tests.semantics.test_semantics import SCENARIOS

pytestmark = [
    pytest.mark.nfd,
    pytest.mark.skipif(shutil.which("nfd") is None, reason="nfd is not on PATH"),
]

DRIVEN = [scenario for scenario in SCENARIOS if not why_not(scenario)]
AT_A_TIME = 3

_TOKENS = "NFD gives PIT tokens back on Data only; NDNLPv2 wants them on Nacks too"
DIFFERENT: dict[str, str] = {
    "a Nack carries the PIT token (LP PitToken)": _TOKENS,
    "a PIT token of one byte comes back with Data, a Nack and a hit of the store (LP PitToken)": _TOKENS,
    "one face with two tokens gets the Data for each (LP PitToken)": "NFD sends it once, without any token",
    "Interests with other hints are not aggregated (NFD 3.4.1)": "NFD's PIT does not look at the hint yet (#3162)",
}
"""Rules that NFD has otherwise, and why we do not."""


@pytest.fixture(scope="module")
def played() -> dict[str, Future[list[list[str]]]]:
    """Every scenario at an NFD of its own, some at a time."""
    pool = ThreadPoolExecutor(AT_A_TIME)
    return {scenario.rule: pool.submit(play, scenario) for scenario in DRIVEN}


def test_most_scenarios_can_be_put_to_nfd() -> None:
    assert len(DRIVEN) >= 90
    assert set(DIFFERENT) <= {scenario.rule for scenario in DRIVEN}


@pytest.mark.parametrize("scenario", DRIVEN, ids=lambda scenario: scenario.rule)
def test_nfd_does_the_same(scenario: Scenario, played: dict[str, Future[list[list[str]]]]) -> None:
    heard = [masked(lines) for lines in played[scenario.rule].result(120)]
    told = [masked(expected) for *_, expected in scenario.steps]
    if scenario.rule in DIFFERENT:
        assert heard != told, "no difference any more: take it out of DIFFERENT"
    else:
        assert heard == told
