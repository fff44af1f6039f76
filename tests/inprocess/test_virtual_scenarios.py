"""The testbed's scenarios in virtual time: every claim holds. Those of a minute and more are `slow`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ndn_infer.testbed.scenario import VIRTUAL, all_scenarios, find
from ndn_infer.testbed.scenarios import thousands
from ndn_infer.testbed.virtual.play import Play, play

QUICK = (
    "crowd_at_once", "crowd_by_offers", "cut_link", "edge_core_line", "edge_decode_core_prefill", "fifty_readers",
    "flash_crowd", "geant", "identical_calls", "identical_calls_chosen", "kill_core", "kill_decode", "mobile_consumer",
    "mobile_producer", "overload", "partition", "partition_heal", "prefix_holder", "rolling_restart",
)  # fmt: skip
SLOW = (
    "chaos", "hundred_readers", "hundred_restarts", "killed_everywhere", "open_loop", "thousand_nodes", "three_sites",
)  # fmt: skip


def _broken(name: str, seed: int = 0, *, zero_trust: bool = False) -> list[str]:
    found, _ = play(Play(find(name), seed, zero_trust=zero_trust))
    return [f"{claim['claim']}: {claim['value']}" for claim in found["claims"] if not claim["holds"]]


@pytest.mark.parametrize("name", QUICK)
def test_every_claim_holds(name: str) -> None:
    assert not _broken(name)


@pytest.mark.parametrize("name", ["three_nodes", "fifty_readers", "mobile_producer", "rolling_restart"])
def test_forwarders_that_grant_own_identities_alone_will_do(name: str) -> None:
    assert not _broken(name, zero_trust=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_every_claim_holds_under_that_policy(name: str) -> None:
    assert not _broken(name, zero_trust=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_every_claim_of_a_large_one_holds(name: str) -> None:
    assert not _broken(name)


@pytest.mark.parametrize("seed", [1, 2])
def test_losses_of_other_seeds_change_no_token(seed: int) -> None:
    assert not _broken("three_sites", seed)


def test_deaths_along_an_answer_change_no_token() -> None:
    """The other producer goes on within two seconds, at whatever token the first one died."""
    story = replace(find("killed_everywhere"), play=lambda world: thousands.killed_at(world, (1, 2, 77, 120, 199)))
    found, _ = play(Play(story))
    assert found["holds"], found["claims"]


def test_chaos_of_one_seed() -> None:
    assert not _broken("chaos", 3)


def test_all_scenarios_of_virtual_time_are_known_here() -> None:
    """One that is new belongs into a list above."""
    found = {name for name, item in all_scenarios().items() if VIRTUAL in item.worlds}
    assert found == {*QUICK, *SLOW, "three_nodes"}
