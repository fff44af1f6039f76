"""What strangers can make the forwarder hold or do: tables have bounds in number and in bytes, one face leaves room for
others, and one packet costs no more because of what others sent."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.forwarder.core.admission import FaceAdmission
from ndn_infer.forwarder.core.content_store import ContentStore
from ndn_infer.forwarder.core.parsing import MAX_COMPONENTS
from ndn_infer.forwarder.core.pipeline import Forwarder
from ndn_infer.forwarder.core.pit import REAPED_MOST
from ndn_infer.forwarder.core.rib import CHILD_INHERIT, Rib, Route
from ndn_infer.forwarder.link.reassembly import FACE_BYTES, POOL_BYTES, FragmentPool, Reassembler
from ndn_infer.ndn import lp, tlv
from tests.forwarder_world import World, data, interest, link

MIB = 1 << 20


def world_of(faces: str, **options: int) -> World:
    world = World(Forwarder(ContentStore(100, MIB), seed=1, **options))
    for name in faces:
        world.add_face(name)
    world.route("/a", "p")
    return world


def padded(uri: str, nonce: int, size: int) -> bytes:
    """An Interest with an element that everybody ignores."""
    wire = interest(uri, nonce)
    return tlv.encode_tlv(5, wire[2:] + tlv.encode_tlv(0xFD00, bytes(size)))


# ---------------------------------------------------------------- PIT


def test_pending_interests_are_bounded_by_bytes_and_one_face_leaves_half() -> None:
    world = world_of("CDp", pit_capacity_bytes=4 * MIB)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(3000):  # each name and each packet is large: 18 kB an entry
        wire = interest(f"/a/{'x' * 4000}/{number}", number + 1)
        world.core.receive(world.faces["C"], wire, 0.0)
        world.sent.clear()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    pit = world.core._pit
    assert pit.used_bytes <= 2 * MIB + 20_000 and world.core.counters.pit_full > 2500
    assert grown < 1.25 * pit.used_bytes + MIB, "what is counted is what it takes"
    assert world.receive("D", interest("/a/honest", 1), 0.1) == ["p<I/a/honest#1"]
    world.advance(10.0)
    assert pit.used_bytes == 0 and not world.faces["C"].share.entries


def test_a_retransmission_cannot_grow_beyond_the_bound() -> None:
    world = world_of("Cp", pit_capacity_bytes=MIB)
    for number in range(600):
        world.receive("C", interest(f"/a/{number}", 1), 0.0)
    for number in range(600):
        world.receive("C", padded(f"/a/{number}", 2, 8000), 0.1)
    assert world.core._pit.used_bytes <= MIB // 2 + 10_000 and world.core.counters.pit_full


def test_a_data_packet_costs_look_ups_by_its_own_name_not_by_what_is_pending() -> None:
    """Thousands of Interests by prefix, each of another length."""
    world, looked_up = world_of("Ccp"), 0

    class Counting(dict[bytes, list[object]]):
        def get(self, *arguments: object) -> object:  # type: ignore[override]
            nonlocal looked_up
            looked_up += 1
            return super().get(*arguments)  # type: ignore[call-overload]

    for size in range(2000):
        world.receive("C", interest(f"/a/{'x' * size}", size, can_be_prefix=True), 0.0)
    for depth in range(2, MAX_COMPONENTS):
        world.receive("C", interest("/a" + "/y" * depth, depth, can_be_prefix=True), 0.0)
    pit = world.core._pit
    assert len(pit) > 2000
    pit._by_name = Counting(pit._by_name)  # type: ignore[assignment]
    world.receive("p", data("/a/" + "z" * 6000 + "/1/2/3"), 0.1)
    assert looked_up < 16
    assert world.receive("c", interest("/a/zz", 9, can_be_prefix=True), 0.2) == ["p<I/a/zz#9"]
    assert world.receive("p", data("/a/zz/1/2"), 0.3) == ["c<D/a/zz/1/2"]


@pytest.mark.parametrize("count", [MAX_COMPONENTS, MAX_COMPONENTS + 1])
def test_names_have_so_many_components_and_no_more(count: int) -> None:
    world = world_of("cp")
    sent = world.receive("c", interest("/a" + "/b" * (count - 1)), 0.0)
    assert len(sent) == (count <= MAX_COMPONENTS)
    assert world.faces["c"].counters.malformed == (count > MAX_COMPONENTS)


@pytest.mark.parametrize("together", [1, 50])
def test_what_came_in_an_instant_goes_in_steps(together: int) -> None:
    world, count = world_of("Cp"), 4 * REAPED_MOST
    wires = [interest(f"/a/{number:06}", number, lifetime_ms=1000) for number in range(1, count + 1)]
    for at in range(0, count, together):
        world.core.receive_all(world.faces["C"], wires[at : at + together], 0.0)
    sizes = [world.core.pit_size]
    assert sizes == [count]
    while (wake := world.core.next_wake()) is not None and wake < 2.0:
        world.core.tick(wake)
        sizes.append(world.core.pit_size)
    gone = [before - after for before, after in pairwise(sizes)]
    assert sum(gone) == count == world.core.counters.unsatisfied and max(gone) < REAPED_MOST + together
    assert len(gone) <= 6 and world.core._pit.used_bytes == 0
    assert world.receive("C", interest("/a/000001", count + 1), 3.0) == ["p<I/a/000001#4001"]


def test_data_for_what_ran_out_and_waits_for_its_end_is_nobodys() -> None:
    world, count = world_of("Cp"), 2 * REAPED_MOST
    for number in range(count):
        world.receive("C", interest(f"/a/{number:06}", number + 1, lifetime_ms=1000), 0.0)
    world.core.tick(1.02)
    left = world.core.pit_size
    assert 0 < left < count
    for number in range(count):
        assert world.receive("p", data(f"/a/{number:06}"), 1.02) == []
    counters = world.core.counters
    assert (counters.unsolicited, counters.satisfied, counters.unsatisfied) == (count, 0, count)
    assert world.core.pit_size == 0 and not len(world.core.cs)
    assert world.receive("C", interest("/a/000001", 2), 1.03) != ["p<I/a/000001#2"], "its nonce is known"


def test_a_face_that_goes_costs_what_it_had_not_what_is_there() -> None:
    world = world_of("CDEp")
    for number in range(1000):
        world.receive("C", interest(f"/a/{number}", 1), 0.0)
    world.receive("D", interest("/a/1", 2), 0.0)
    world.receive("D", interest("/a/own", 3), 0.0)
    pit = world.core._pit

    def all_of_them(_: object) -> None:
        raise AssertionError("the whole table was walked")

    kind = type(pit)
    walk, kind.__iter__ = kind.__iter__, all_of_them  # type: ignore[assignment,method-assign]
    try:
        world.core.remove_face(world.faces["D"].id, 0.1)
        assert len(pit) == 1000  # its own is gone
        assert world.receive("p", data("/a/1"), 0.2) == ["C<D/a/1"]
        world.core.remove_face(world.faces["C"].id, 0.3)
    finally:
        kind.__iter__ = walk  # type: ignore[method-assign]
    assert len(pit) == pit.used_bytes == 0


# ---------------------------------------------------------------- fragments


def piece(first: int, index: int, count: int, size: int = 8000) -> bytes:
    return link(bytes(size), sequence=(first + index).to_bytes(8, "big"), frag_index=index, frag_count=count)


def test_partial_packets_go_by_the_clock_also_when_their_face_is_silent() -> None:
    world = world_of("".join(chr(ord("A") + at) for at in range(20)) + "p")
    for name in world.faces:
        for number in range(50):
            world.receive(name, piece(1000 * number, 0, 2), 0.0)
    assert world.core.fragments.used_bytes > 4 * MIB
    world.advance(1.0)
    assert world.core.fragments.used_bytes == 0 and world.core.next_wake() is None
    assert not any(len(face.link.reassembler) for face in world.faces.values())


def test_partial_packets_of_all_faces_together_are_bounded_and_the_next_face_is_served() -> None:
    pool = FragmentPool()
    floods = [Reassembler(pool) for _ in range(4600)]
    for number in range(10):
        for flood in floods:
            flood.add(lp.LpPacket(bytes(8000), sequence=(1000 * number).to_bytes(8, "big"), frag_count=2), 0.0)
    assert pool.used_bytes <= POOL_BYTES and max(flood.used_bytes for flood in floods) <= FACE_BYTES
    honest = Reassembler(pool)
    wholes = [
        honest.add(
            lp.LpPacket(bytes(1300), sequence=bytes((0, 0, 0, 0, 0, 0, 0, at)), frag_index=at, frag_count=6), 0.1
        )
        for at in range(6)
    ]
    assert wholes[-1] is not None and len(wholes[-1].fragment) == 7800
    for flood in floods:
        flood.clear()
    assert pool.used_bytes == 0 and not pool.busy


# ---------------------------------------------------------------- routes


def test_routes_are_bounded_and_one_face_leaves_half() -> None:
    world = world_of("p")
    rib = Rib(world.core.fib, capacity=100)

    def register(face_id: int, count: int) -> int:
        added = 0
        for number in range(count):
            prefix = ndn.from_uri(f"/r/{number}")
            if rib.has_room(prefix, face_id, 0):
                rib.register(prefix, Route(face_id, 0, 0, CHILD_INHERIT, 10.0))
                added += 1
        return added

    assert register(1, 100) == 50 and register(2, 100) == 25 and len(rib) == 75
    assert register(1, 50) == 50 and len(rib) == 75, "refreshed"
    rib.remove_face(1)
    assert len(rib) == 25 and register(3, 100) == 38
    rib.expire(10.0)
    assert len(rib) == 0 and rib.next_expiry() is None and not list(rib.items())
    assert list(world.core.fib._of_face) == [world.faces["p"].id]


def test_refreshing_a_route_leaves_nothing_behind() -> None:
    rib = Rib(world_of("p").core.fib)
    for now in range(1000):
        rib.register(ndn.from_uri("/r"), Route(1, 0, 0, 0, now + 100.0))
    assert len(rib._expiries) < 100 and len(rib) == 1
    rib.expire(1050.0)
    assert len(rib) == 1
    rib.expire(1099.0)
    assert len(rib) == 0


# ---------------------------------------------------------------- connections


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=200), st.integers(1, 20))
def test_connections_are_bounded_and_no_address_has_more_than_half(steps: list[tuple[str, bool]], most: int) -> None:
    admission, inside = FaceAdmission(most), Counter[str]()
    for host, enters in steps:
        if enters:
            had_room = inside[host] < most - inside.total()
            assert admission.enter(host) is had_room
            inside[host] += had_room
        elif inside[host]:
            admission.leave(host)
            inside[host] -= 1
        assert inside.total() <= most
    assert admission.enter("d") is (inside.total() < most)


# ---------------------------------------------------------------- Content Store


def test_long_names_count_too() -> None:
    cs = ContentStore(100_000, 4 * MIB)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(1000):
        wire = data(f"/a/{'x' * 8000}/{number}")
        cs.insert(wire[8 : 8 + 8014], wire, 0, 0.0)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert cs.used_bytes <= 4 * MIB and grown < 1.25 * 4 * MIB
