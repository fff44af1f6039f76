"""The same scenarios at a real NFD and at our daemon, through the same kinds of sockets: what we say they do, they do.
Needs `nfd` on PATH.

pytest -m nfd tests/semantics
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import pytest

from tests.semantics.nfd_driver import play, told, why_not
from tests.semantics.scenario import Scenario
from tests.semantics.stations import Starter, nfd, ours
from tests.semantics.test_semantics import SCENARIOS, params

pytestmark = [
    pytest.mark.nfd,
    pytest.mark.skipif(shutil.which("nfd") is None, reason="nfd is not on PATH"),
]

DRIVEN = [scenario for scenario in SCENARIOS if not why_not(scenario)]
AT_A_TIME = 5
ATTEMPTS = 2
"""Clocks are real: what does not come out as expected is played once more."""

Played = list[list[str]]


class Difference(NamedTuple):
    """What NFD sends after some of the steps, where we do not, and why we do not."""

    why: str
    steps: dict[int, list[str]]


_TOKENS = "NFD gives PIT tokens back with Data only; NDNLPv2 wants them on Nacks too"
_AGAIN = "NFD asks a next hop that is new to the FIB entry though it has asked that face; an answer is due already"
_UNKNOWN = "ndn-cxx wants unknown fields in order, and once, but they may be of those for which that is otherwise"

DIFFERENT: dict[str, Difference] = {
    # ------------------------------------------------------------ NFD has not got there
    "a Nack carries the PIT token (LP PitToken)": Difference(_TOKENS, {0: ["c<N150/z#1"]}),
    "a PIT token of one byte comes back with Data, a Nack and a hit of the store (LP PitToken)": Difference(
        _TOKENS, {3: ["P<N150/z#3"]}
    ),
    "one face with two tokens gets the Data for each (LP PitToken)": Difference(
        "where Data answers several entries, NFD sends it once to a face and without any token (onIncomingData)",
        {2: ["P<D/a/b"]},
    ),
    "Interests with other hints are not aggregated (NFD Pit)": Difference(
        "NFD's PIT does not look at the hint yet (pit-entry.cpp, todo #3162)", {1: ["P<I/a/b#2"]}
    ),
    "a Nack of one upstream is withdrawn by a retransmission to it (NFD insertOrUpdateOutRecord)": Difference(
        "nobody calls OutRecord::clearIncomingNack: to NFD the upstream has refused what it was asked after that",
        {4: ["c<N150/a/b#3", "d<N150/a/b#2"], 5: []},
    ),
    "no route for one who asks does not end it for who waits (OURS pipeline.py, no route)": Difference(
        "rejectPendingInterest takes the entry from all who wait, and they are told nothing", {3: []}
    ),
    "a mark is for the packet that was marked, not for its copies in the store (LP CongestionMark)": Difference(
        "the tags of a Data object stay on it in NFD's store", {2: ["c<D/a/b marked"]}
    ),
    # ------------------------------------------------------------ NFD takes what the specification has otherwise
    "a Fragment holds one packet and no more (LP Fragment)": Difference(
        "ndn-cxx does not look behind the first element", {0: ["p<I/a/b#1"], 1: ["p<I/a/b#1"]}
    ),
    "a ForwardingHint names somebody (PF ForwardingHint)": Difference(
        "ndn-cxx takes an empty one for none; the format is 1*Name", {0: ["p<I/a/b#1"]}
    ),
    "ApplicationParameters want a digest in the name (PF Parameters Digest)": Difference(
        "nfd.cpp switches ndn-cxx's check off altogether; presence costs nothing to see", {0: ["p<I/a/b#1"]}
    ),
    # ------------------------------------------------------------ NFD refuses what the specification lets pass
    "a policy that nobody knows is ignored, the Data goes on (LP CachePolicy)": Difference(
        "ndn-cxx knows one policy and drops packets with others; it is about caching only", {1: [], 2: ["p<I/a/b#2"]}
    ),
    "ignorable fields may come twice (LP Packet)": Difference(_UNKNOWN, {0: []}),
    "and anywhere before the Fragment (LP Packet)": Difference(_UNKNOWN, {0: [], 1: []}),
    # ------------------------------------------------------------ the specification leaves it open
    "a nonce of an unanswered Interest stays dead for 6 s (NFD DeadNonceList)": Difference(
        "6 s are the least: NFD adapts the length of its list, and ours knows the time of each", {2: ["P<N100/a/b#1"]}
    ),
    "a used up HopLimit still reaches a local face that costs more (PF HopLimit)": Difference(
        "NFD's strategy chooses the cheapest before HopLimit is looked at; the format lets local faces have it", {0: []}
    ),
    "an Interest goes with the last who waits, its Data is unsolicited (OURS pipeline.py, face removal)": Difference(
        "NFD lets entries without in-records run out; here a flood goes with its face", {3: ["d<D/a/b"]}
    ),
    "of two packets of one name the later stays (OURS content_store.py)": Difference(
        "NFD keeps both, by implicit digest", {4: ["c<D/a/b"]}
    ),
    "multicast asks a next hop of a longer prefix (NFD onNewNextHop)": Difference(
        _AGAIN, {1: ["p<I/a/b#1", "q<I/a/b#1"]}
    ),
    "nor is one that went and came again, and still owes an answer (NFD onNewNextHop)": Difference(
        _AGAIN, {2: ["p<I/a/b#1"]}
    ),
}
"""Rules that NFD has otherwise, exactly how, and why we do not."""


def told_of_nfd(scenario: Scenario) -> Played:
    expected = told(scenario)
    if scenario.rule in DIFFERENT:
        for step, lines in DIFFERENT[scenario.rule].steps.items():
            expected[step] = lines
    return expected


def _settled(scenario: Scenario, starter: Starter, expected: Played) -> Played:
    for _ in range(ATTEMPTS):
        heard = play(scenario, starter)
        if heard == expected:
            break
    return heard


@pytest.fixture(scope="module")
def played() -> Iterator[dict[str, tuple[Future[Played], Future[Played]]]]:
    """Every scenario at an NFD and at a daemon of its own, some at a time."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {
            scenario.rule: (
                pool.submit(_settled, scenario, nfd, told_of_nfd(scenario)),
                pool.submit(_settled, scenario, ours, told(scenario)),
            )
            for scenario in DRIVEN
        }
        pool.shutdown(cancel_futures=True)


def test_most_scenarios_can_be_put_to_nfd() -> None:
    assert len(DRIVEN) >= 300
    assert set(DIFFERENT) <= {scenario.rule for scenario in DRIVEN}
    for rule, difference in DIFFERENT.items():
        expected = told(next(scenario for scenario in DRIVEN if scenario.rule == rule))
        assert all(expected[step] != lines for step, lines in difference.steps.items()), f"no difference: {rule}"


@pytest.mark.parametrize("scenario", DRIVEN, ids=lambda scenario: scenario.rule)
def test_nfd_does_what_we_say(scenario: Scenario, played: dict[str, tuple[Future[Played], Future[Played]]]) -> None:
    assert played[scenario.rule][0].result(120) == told_of_nfd(scenario)


@pytest.mark.parametrize("scenario", params(DRIVEN))
def test_our_daemon_does_the_same(scenario: Scenario, played: dict[str, tuple[Future[Played], Future[Played]]]) -> None:
    assert played[scenario.rule][1].result(120) == told(scenario)
