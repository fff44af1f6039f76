"""All scenarios in virtual time, and what needs more than a table."""

from __future__ import annotations

import pytest
from _pytest.mark.structures import ParameterSet

from ndn_infer import ndn
from ndn_infer.forwarder.core.content_store import ContentStore
from ndn_infer.forwarder.core.pipeline import Forwarder
from ndn_infer.forwarder.core.rib import CAPTURE, CHILD_INHERIT, Route
from ndn_infer.ndn import packet
from tests.forwarder_world import World, interest
from tests.semantics import data, encoding, fields, interests, links, ribs, ways
from tests.semantics.clauses import CLAUSES, cited
from tests.semantics.scenario import Scenario, run

MODULES = (interests, data, ways, ribs, links, fields, encoding)
PENDING: dict[str, str] = {}
"""Rules that our forwarder breaks, and where. What is mended is taken out: the test that was to fail passes."""

SCENARIOS = [scenario for module in MODULES for scenario in module.SCENARIOS]


def test_every_rule_is_told_once_and_cites_its_clause() -> None:
    rules = [scenario.rule for scenario in SCENARIOS]
    assert len(set(rules)) == len(rules) >= 300
    assert not [rule for rule in rules if not cited(rule) or not set(cited(rule)) <= CLAUSES.keys()]
    assert PENDING.keys() <= set(rules)
    assert set(CLAUSES) == {clause for rule in rules for clause in cited(rule)}, "clauses that nobody cites"


def params(scenarios: list[Scenario]) -> list[ParameterSet]:
    """For parametrize; known defects are expected to fail, and a test that does not is a failure."""
    return [
        pytest.param(
            scenario,
            id=scenario.rule,
            marks=[pytest.mark.xfail(reason=PENDING[scenario.rule], strict=True)] if scenario.rule in PENDING else [],
        )
        for scenario in scenarios
    ]


@pytest.mark.parametrize("scenario", params(SCENARIOS))
def test_semantics(scenario: Scenario) -> None:
    run(scenario)


def test_in_the_producer_region_the_interest_goes_on_without_its_hint() -> None:
    world = World(Forwarder(ContentStore(100, 1 << 20), producer_regions=[ndn.from_uri("/isp/r1/host")], seed=1))
    for name in "cp":
        world.add_face(name)
    world.route("/a", "p")
    world.receive("c", interest("/a/b", hints=["/isp/r1"], hop_limit=5, parameters=b"x"), 0.0)
    sent = packet.decode_interest(world.sent[0][1])
    assert sent.hints == () and sent.hop_limit == 4 and sent.parameters == b"x" and sent.parameters_digest_matches()


def test_the_pit_is_bounded_and_entries_make_room_when_they_run_out() -> None:
    """One face gets half of it; others find room meanwhile."""
    world = World(Forwarder(ContentStore(100, 1 << 20), pit_capacity=4, seed=1))
    for name in "cdp":
        world.add_face(name)
    world.route("/a", "p")
    assert world.receive("c", interest("/a/1", 1, lifetime_ms=100), 0.0) == ["p<I/a/1#1"]
    assert world.receive("c", interest("/a/2", 2), 0.0) == ["p<I/a/2#2"]
    assert world.receive("c", interest("/a/3", 3), 0.0) == [] and world.core.counters.pit_full == 1
    assert world.receive("c", interest("/a/2", 4), 0.05) == ["p<I/a/2#4"]  # no entry more
    assert world.receive("d", interest("/a/9", 9), 0.05) == ["p<I/a/9#9"] and world.core.pit_size == 3
    assert world.receive("d", interest("/a/8", 8), 0.05) == [] and world.core.counters.pit_full == 2
    assert world.receive("c", interest("/a/3", 5), 0.2) == ["p<I/a/3#5"] and world.core.pit_size == 3


def test_routes_run_out_while_packets_come() -> None:
    """Route expiry and child-inherit, seen by Interests (NFD, Rib::getAncestorRoutes, Rib::onRouteExpiration)."""
    world = World()
    for name in "cpq":
        world.add_face(name)
    world.core.rib.register(ndn.from_uri("/a"), Route(world.faces["p"].id, 0, 1, CHILD_INHERIT, 1.0))
    world.core.rib.register(ndn.from_uri("/a/b"), Route(world.faces["q"].id, 0, 0, CAPTURE, None))
    assert world.receive("c", interest("/a/x", 1), 0.0) == ["p<I/a/x#1"]
    assert world.receive("c", interest("/a/b", 2), 0.0) == ["q<I/a/b#2"]
    assert world.receive("c", interest("/a/b", 3), 0.5) == ["q<I/a/b#3"]  # capture: p is not inherited
    world.core.rib.register(ndn.from_uri("/a/b"), Route(world.faces["q"].id, 0, 0, 0, None))
    assert world.receive("c", interest("/a/b", 4), 0.9) == ["p<I/a/b#4"]  # now it is, and was not asked yet
    assert world.receive("c", interest("/a/x", 5), 1.1) == [] and world.core.fib.lookup(ndn.from_uri("/a/x")) == ()
    assert world.receive("c", interest("/a/y", 6), 1.2) == ["c<N150/a/y#6"]
    assert world.receive("c", interest("/a/b", 7), 1.4) == ["q<I/a/b#7"]
