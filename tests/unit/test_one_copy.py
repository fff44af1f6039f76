"""An Interest of another face for what is pending waits for the answer to the first, where a forwarder is told so."""

from __future__ import annotations

import pytest

from ndn_infer.forwarder.core.content_store import ContentStore
from ndn_infer.forwarder.core.pipeline import Forwarder
from tests.forwarder_world import World, data, interest, nack


def world_of(*, one_copy: bool = True) -> World:
    """A, B and C ask; P answers, and Q, which costs more."""
    world = World(Forwarder(ContentStore(0, 0), one_copy=one_copy, seed=1))
    for name in "ABCPQ":
        world.add_face(name)
    world.route("/p", "P", 1)
    world.route("/p", "Q", 2)
    return world


def test_others_wait_and_get_the_one_copy() -> None:
    world = world_of()
    assert world.receive("A", interest("/p/1", 1), 0.0) == ["P<I/p/1#1"]
    assert world.receive("B", interest("/p/1", 2), 0.5) == []
    assert world.receive("C", interest("/p/1", 3), 1.5) == []
    assert sorted(world.receive("P", data("/p/1"), 1.6)) == ["A<D/p/1", "B<D/p/1", "C<D/p/1"]


def test_without_it_they_are_forwarded_as_nfd_does() -> None:
    world = world_of(one_copy=False)
    assert world.receive("A", interest("/p/1", 1), 0.0) == ["P<I/p/1#1"]
    assert world.receive("B", interest("/p/1", 2), 0.005) == [], "too soon"
    assert world.receive("C", interest("/p/1", 3), 0.5) == ["Q<I/p/1#3"]


def test_who_asks_again_is_forwarded() -> None:
    """The first Interest, or its answer, may be lost: a second one of the same face says so, whoever asked first."""
    world = world_of()
    assert world.receive("A", interest("/p/1", 1), 0.0) == ["P<I/p/1#1"]
    assert world.receive("B", interest("/p/1", 2), 0.1) == []
    assert world.receive("B", interest("/p/1", 3), 0.3) == ["Q<I/p/1#3"]


def test_an_interest_that_waits_much_longer_is_told_upstream() -> None:
    """A producer hears of a reader before its first Interest has run out there, for half of its time at the latest."""
    world = world_of()
    assert world.receive("A", interest("/p/1", 1), 0.0) == ["P<I/p/1#1"]
    assert world.receive("B", interest("/p/1", 2), 1.9) == []
    assert world.receive("C", interest("/p/1", 3), 2.1) == ["Q<I/p/1#3"]


def test_a_face_does_not_wait_for_what_was_asked_of_itself() -> None:
    """It would get nothing: no Data goes back to the face that it came from."""
    world = world_of()
    assert world.receive("A", interest("/p/1", 1), 0.0) == ["P<I/p/1#1"]
    assert world.receive("P", interest("/p/1", 2), 0.1) == ["Q<I/p/1#2"]
    assert world.receive("B", interest("/p/1", 3), 0.2) == []
    assert sorted(world.receive("Q", data("/p/1"), 0.3)) == ["A<D/p/1", "B<D/p/1", "P<D/p/1"]


@pytest.mark.parametrize("reason", [50, 150])
def test_all_who_wait_hear_of_a_refusal_and_the_next_one_is_forwarded(reason: int) -> None:
    world = world_of()
    assert world.receive("A", interest("/p/1", 1), 0.0) == ["P<I/p/1#1"]
    assert world.receive("B", interest("/p/1", 2), 0.1) == []
    told = world.receive("P", nack(interest("/p/1", 1), reason), 0.2)
    assert sorted(told) == [f"A<N{reason}/p/1#1", f"B<N{reason}/p/1#2"]
    assert world.receive("C", interest("/p/1", 3), 0.3) == ["P<I/p/1#3"]


def test_multicast_asks_for_each() -> None:
    world = world_of()
    world.multicast("/p")
    assert world.receive("A", interest("/p/1", 1), 0.0) == ["P<I/p/1#1", "Q<I/p/1#1"]
    assert world.receive("B", interest("/p/1", 2), 0.5) == ["P<I/p/1#2", "Q<I/p/1#2"]
