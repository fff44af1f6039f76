"""A face that is gone refuses what is pending there, unless the forwarder is told to wait as NFD does."""

from __future__ import annotations

import pytest

from ndn_infer import ndn
from ndn_infer.forwarder.core.adaptive import ADAPTIVE
from ndn_infer.forwarder.core.content_store import ContentStore
from ndn_infer.forwarder.core.pipeline import Forwarder
from ndn_infer.forwarder.core.strategy import BEST_ROUTE
from tests.forwarder_world import World, data, interest


def world_of(*, refuse: bool = True) -> World:
    """A and B ask; P and Q answer, P is the cheaper one."""
    world = World(Forwarder(ContentStore(0, 0), lost_refuse=refuse, seed=1))
    for name in "ABPQ":
        world.add_face(name)
    world.route("/p", "P", 1)
    world.route("/p", "Q", 2)
    return world


def lose(world: World, name: str, now: float) -> list[str]:
    world.sent.clear()
    world.core.remove_face(world.faces[name].id, now)
    return world.outgoing()


@pytest.mark.parametrize("strategy", [BEST_ROUTE, ADAPTIVE], ids=["best-route", "asf"])
def test_all_who_wait_are_told_at_once_and_find_another_way(strategy: ndn.Name) -> None:
    world = world_of()
    assert world.core.strategies.set(ndn.from_uri("/p"), strategy) is not None
    assert world.receive("A", interest("/p/1", 1), 0.0) == ["P<I/p/1#1"]
    told = ["A<N150/p/1#1"]
    if strategy == BEST_ROUTE:
        assert world.receive("B", interest("/p/1", 2), 0.001) == [], "so soon, asf would ask the other one, too"
        told.append("B<N150/p/1#2")
    assert lose(world, "P", 0.1) == told
    assert world.core.pit_size == 0
    assert world.receive("A", interest("/p/1", 3), 0.2) == ["Q<I/p/1#3"]
    assert world.receive("Q", data("/p/1"), 0.3) == ["A<D/p/1"]


def test_nobody_is_told_while_another_may_answer() -> None:
    world = world_of()
    world.multicast("/p")
    assert world.receive("A", interest("/p/1", 1), 0.0) == ["P<I/p/1#1", "Q<I/p/1#1"]
    assert lose(world, "P", 0.1) == [] and lose(world, "Q", 0.2) == [], (
        "multicast waits for a next hop that comes later"
    )
    world.add_face("R")
    world.sent.clear()
    world.core.add_next_hop(ndn.from_uri("/p"), world.faces["R"].id, 0, 0.3)
    assert world.outgoing() == ["R<I/p/1#1"]
    assert world.receive("R", data("/p/1"), 0.4) == ["A<D/p/1"]


def test_what_was_asked_of_others_too_waits_for_them() -> None:
    world = world_of()
    world.receive("A", interest("/p/1", 1), 0.0)
    assert world.receive("A", interest("/p/1", 2), 0.1) == ["Q<I/p/1#2"], "a retransmission goes to the other"
    assert lose(world, "P", 0.2) == []
    assert world.receive("Q", data("/p/1"), 0.3) == ["A<D/p/1"]


def test_who_waits_is_gone_as_well() -> None:
    world = world_of()
    world.receive("A", interest("/p/1", 1), 0.0)
    assert lose(world, "A", 0.1) == [] and world.core.pit_size == 0
    assert lose(world, "P", 0.2) == []


def test_as_nfd_does() -> None:
    world = world_of(refuse=False)
    world.receive("A", interest("/p/1", 1), 0.0)
    assert lose(world, "P", 0.1) == [] and world.core.pit_size == 1
    world.advance(5.0)
    assert world.core.pit_size == 0
