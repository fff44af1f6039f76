"""Tables: FIB, RIB, PIT, Content Store, dead nonces, names in order; each against a plain model where there is one."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.forwarder.core import content_store
from ndn_infer.forwarder.core.content_store import ENTRY_OVERHEAD_BYTES, ContentStore
from ndn_infer.forwarder.core.dead_nonce_list import DeadNonceList
from ndn_infer.forwarder.core.fib import Fib, NextHop
from ndn_infer.forwarder.core.name_order import NameOrder
from ndn_infer.forwarder.core.parsing import parse_data, parse_interest
from ndn_infer.forwarder.core.pit import Pit, PitEntry, Share
from ndn_infer.forwarder.core.rib import CAPTURE, CHILD_INHERIT, Rib, Route
from ndn_infer.forwarder.core.strategy import BEST_ROUTE, MULTICAST, StrategyChoice
from ndn_infer.forwarder.core.strategy_base import StrategyError
from ndn_infer.ndn.packet import decode_data, decode_interest, encode_interest
from tests.forwarder_world import data

names = st.lists(st.sampled_from([ndn.generic(letter) for letter in "ab"] + [ndn.segment(1)]), max_size=4).map(b"".join)


def uri(text: str) -> ndn.Name:
    return ndn.from_uri(text)


# ---------------------------------------------------------------- FIB and RIB


@given(st.lists(st.tuples(names, st.integers(1, 3), st.integers(0, 5), st.booleans())), names)
def test_fib_is_longest_prefix_match(changes: list[tuple[bytes, int, int, bool]], name: bytes) -> None:
    fib, model = Fib(), dict[bytes, dict[int, int]]()
    for prefix, face, cost, add in changes:
        if add:
            fib.add(prefix, face, cost)
            model.setdefault(prefix, {})[face] = cost
        else:
            fib.remove(prefix, face)
            model.get(prefix, {}).pop(face, None)
    model = {prefix: hops for prefix, hops in model.items() if hops}
    best = max((prefix for prefix in model if name.startswith(prefix)), key=len, default=None)
    expected = sorted((cost, face) for face, cost in model[best].items()) if best is not None else []
    assert [(hop.cost, hop.face_id) for hop in fib.lookup(name)] == expected
    assert len(fib) == len(model)


@pytest.mark.parametrize(
    "routes, expected",
    [
        ([("/a", 1, 0, 5, CHILD_INHERIT), ("/a/b", 2, 0, 7, 0)], {"/a": [(1, 5)], "/a/b": [(1, 5), (2, 7)]}),
        ([("/a", 1, 0, 5, 0), ("/a/b", 2, 0, 7, 0)], {"/a": [(1, 5)], "/a/b": [(2, 7)]}),
        (
            [("/a", 1, 0, 5, CHILD_INHERIT), ("/a/b", 2, 0, 7, CAPTURE)],
            {"/a": [(1, 5)], "/a/b": [(2, 7)]},
        ),
        (
            [("/", 9, 0, 1, CHILD_INHERIT), ("/a", 1, 0, 5, CHILD_INHERIT | CAPTURE), ("/a/b", 2, 0, 7, 0)],
            {"/": [(9, 1)], "/a": [(1, 5)], "/a/b": [(1, 5), (2, 7)]},
        ),
        ([("/a", 1, 0, 9, 1), ("/a", 1, 255, 3, 1)], {"/a": [(1, 3)]}),
        ([("/a", 1, 0, 1, CHILD_INHERIT), ("/a/b", 1, 0, 7, 0)], {"/a": [(1, 1)], "/a/b": [(1, 7)]}),
    ],
    ids=["inherit", "no inherit", "own capture", "capture above", "two origins, cheapest", "own route wins"],
)
def test_rib_flags(routes: list[tuple[str, int, int, int, int]], expected: dict[str, list[tuple[int, int]]]) -> None:
    """NFD developer guide 7.3.1; whatever the order of registration, and all gone after withdrawal."""
    for order in (routes, routes[::-1]):
        fib = Fib()
        rib = Rib(fib)
        for prefix, face, origin, cost, flags in order:
            rib.register(uri(prefix), Route(face, origin, cost, flags))
        found = {ndn.to_uri(prefix): [(hop.face_id, hop.cost) for hop in hops] for prefix, hops in fib.items()}
        assert found == expected
        for prefix, face, origin, _, _ in order:
            assert rib.unregister(uri(prefix), face, origin)
        assert len(fib) == 0 and not rib.unregister(uri("/a"), 1, 0)


def test_routes_expire_unless_refreshed() -> None:
    fib = Fib()
    rib = Rib(fib)
    rib.register(uri("/a"), Route(1, 0, 0, 1, expires=10.0))
    rib.register(uri("/b"), Route(1, 0, 0, 1, expires=12.0))
    rib.register(uri("/c"), Route(1, 0, 0, 1))
    assert rib.next_expiry() == 10.0
    rib.register(uri("/a"), Route(1, 0, 0, 1, expires=20.0))
    rib.expire(11.0)
    assert fib.lookup(uri("/a")) and fib.lookup(uri("/b"))
    assert rib.next_expiry() == 12.0
    rib.expire(12.0)
    assert not fib.lookup(uri("/b"))
    rib.expire(20.0)
    assert [ndn.to_uri(prefix) for prefix, _ in fib.items()] == ["/c"] and rib.next_expiry() is None


def test_next_hops_added_by_hand_survive_routes() -> None:
    """fib/add-nexthop beside rib/register: each removes what is its own."""
    fib = Fib()
    rib = Rib(fib)
    fib.add(uri("/a"), 7, 1)
    rib.register(uri("/a"), Route(8, 0, 2, 1))
    rib.register(uri("/"), Route(9, 0, 3, 1))
    rib.remove_face(8)
    assert fib.lookup(uri("/a")) == (NextHop(7, 1),)


def test_strategy_choice() -> None:
    choice = StrategyChoice()
    assert choice.set(uri("/a"), MULTICAST) is choice.of(uri("/a/b")) is not choice.of(uri("/b"))
    assert choice.set(uri("/a/b"), BEST_ROUTE + uri("/v=5")) is choice.of(uri("/a/b/c"))
    assert choice.set(uri("/a"), BEST_ROUTE + uri("/v=6")) is None
    with pytest.raises(StrategyError):
        choice.set(uri("/a"), BEST_ROUTE + uri("/v=4"))
    assert choice.set(uri("/a"), uri("/localhost/nfd/strategy/access")) is None
    choice.unset(uri("/a"))
    choice.unset(uri("/"))
    assert choice.of(uri("/a")) is choice.of(uri("/b"))


# ---------------------------------------------------------------- PIT


def test_pit_runs_out_in_time_and_in_no_other_way() -> None:
    pit = Pit()
    early, late, done = (PitEntry(uri(text), False, False, (), 1, Share()) for text in ("/a", "/b", "/c"))
    for entry, expires in ((early, 1.0), (late, 2.0), (done, 1.5)):
        pit.insert(entry)
        pit.reschedule(entry, expires)
    pit.reschedule(early, 1.8)
    assert pit.remove(done) and not pit.remove(done)
    assert pit.due(1.79) == []
    wake = pit.next_wake()
    assert wake is not None and 1.8 < wake <= 1.82
    assert pit.due(wake) == [early] and pit.remove(early)
    assert pit.due(10) == [late] and pit.remove(late)
    assert len(pit) == 0 and pit.next_wake() is None


@given(st.lists(st.tuples(names.filter(bool), st.booleans(), st.booleans()), max_size=12), names.filter(bool))
def test_pit_matches_as_a_scan_would(keys: list[tuple[bytes, bool, bool]], name: bytes) -> None:
    pit, wire = Pit(), b"data"
    entries = []
    digest = name + ndn.implicit_digest(hashlib.sha256(wire).digest())
    for key in dict.fromkeys([*keys, (digest, False, False), (name + ndn.implicit_digest(bytes(32)), True, False)]):
        assert pit.find(*key) is None
        entry = PitEntry(*key, (), len(ndn.components(key[0])), Share())
        pit.insert(entry)
        assert pit.find(*key) is entry
        entries.append(entry)
    expected = [
        entry
        for entry in entries
        if entry.name in (name, digest) or (entry.can_be_prefix and name.startswith(entry.name))
    ]
    found = pit.matching(name, ndn.prefix_ends(name), wire)
    assert set(found) == set(expected) and len(found) == len(expected)
    for entry in entries:
        assert pit.remove(entry)
    assert pit.matching(name, ndn.prefix_ends(name), wire) == []
    assert not pit._prefix_depths and pit.used_bytes == 0


def test_dead_nonces_are_bounded_by_time_and_number() -> None:
    dead = DeadNonceList(lifetime_s=6.0, capacity=10)
    for number in range(15):
        dead.add(uri("/a"), bytes((number,)) * 4, 0.0)
    assert len(dead) == 10 and not dead.has(uri("/a"), bytes(4), 0.0) and dead.has(uri("/a"), b"\x0e" * 4, 6.0)
    assert not dead.has(uri("/a"), b"\x0e" * 4, 6.1) and not dead.has(uri("/b"), b"\x0e" * 4, 0.0)
    dead.add(uri("/b"), bytes(4), 7.0)
    assert len(dead) == 1


# ---------------------------------------------------------------- Content Store


@given(
    st.lists(st.tuples(st.sampled_from("ifep"), names.filter(bool), st.booleans(), st.booleans()), max_size=60),
    st.integers(0, 6),
)
def test_content_store_is_an_lru_of_its_model(steps: list[tuple[str, bytes, bool, bool]], capacity: int) -> None:
    """Insert, find, erase, change of capacity; the model is an ordered dict that is scanned."""
    cs, model, now = ContentStore(capacity, 1 << 20), OrderedDict[bytes, tuple[bytes, float]](), 0.0
    for kind, name, fresh, prefix in steps:
        now += 1
        if kind == "i":
            wire = name + bytes((int(now) & 0xFF,))
            cs.insert(name, wire, 5500 if fresh else 0, now)
            model.pop(name, None)
            model[name] = wire, now + 5.5 if fresh else 0.0
        elif kind == "f":
            found = cs.find(name, can_be_prefix=prefix, must_be_fresh=fresh, now=now)
            candidates = [key for key in model if (key.startswith(name) if prefix else key == name)]
            allowed = [key for key in candidates if not fresh or model[key][1] > now]
            assert (found is None) == (not allowed)
            if found is not None:
                key = next(key for key in allowed if model[key][0] == found)
                assert key == name or name not in allowed
                model.move_to_end(key)
        elif kind == "e":
            erased = cs.erase(name, 2)
            below = [key for key in sorted(model) if key.startswith(name)][:2]
            assert erased == len(below)
            for key in below:
                del model[key]
        else:
            cs.capacity_packets = capacity = (capacity + 1) % 7
            cs.evict()
        while len(model) > capacity:
            model.popitem(last=False)
        assert len(cs) == len(model)
        assert cs.used_bytes == sum(len(name) + len(wire) + ENTRY_OVERHEAD_BYTES for name, (wire, _) in model.items())


def test_what_was_asked_for_last_stays_longest() -> None:
    cs = ContentStore(2, 1 << 20)
    cs.insert(uri("/a"), b"a", 0, 0.0)
    cs.insert(uri("/b"), b"b", 0, 0.0)
    assert cs.find(uri("/a"), can_be_prefix=False, must_be_fresh=False, now=0.0) == b"a"
    cs.insert(uri("/c"), b"c", 0, 0.0)
    assert cs.find(uri("/b"), can_be_prefix=False, must_be_fresh=False, now=0.0) is None
    assert cs.find(uri("/a"), can_be_prefix=True, must_be_fresh=False, now=0.0) == b"a"
    cs.insert(uri("/c"), b"c2", 0, 0.0)
    cs.insert(uri("/d"), b"d", 0, 0.0)
    assert cs.find(uri("/c"), can_be_prefix=False, must_be_fresh=False, now=0.0) == b"c2"


def test_content_store_is_bounded_by_bytes() -> None:
    cs = ContentStore(1000, 10 * (1000 + len(uri("/a/10")) + ENTRY_OVERHEAD_BYTES))
    for number in range(25):
        cs.insert(uri(f"/a/{number}"), bytes(1000), 0, 0.0)
    assert len(cs) == 10 and cs.evicted == 15 and cs.classes.root.inserted == 25
    assert cs.find(uri("/a/15"), can_be_prefix=False, must_be_fresh=False, now=0.0) is not None
    assert cs.find(uri("/a/14"), can_be_prefix=False, must_be_fresh=False, now=0.0) is None
    assert (cs.hits, cs.misses) == (1, 1)


def test_the_last_answer_to_a_prefix_is_given_as_long_as_it_will_do() -> None:
    """Without a look at the order of names."""
    cs = ContentStore(3, 1 << 20)
    for number, freshness_ms in enumerate((1000, 9000)):
        cs.insert(uri(f"/a/{number}"), b"%d" % number, freshness_ms, 0.0)
    cs.answered(uri("/a"), uri("/a/1"))
    cs._below = None  # type: ignore[method-assign, assignment]
    assert cs.find(uri("/a"), can_be_prefix=True, must_be_fresh=True, now=8.0) == b"1"
    del cs._below  # type: ignore[method-assign]
    assert cs.find(uri("/a"), can_be_prefix=True, must_be_fresh=True, now=10.0) is None
    for number in range(3):
        cs.insert(uri(f"/b/{number}"), b"b", 0, 10.0)
    assert cs.find(uri("/a"), can_be_prefix=True, must_be_fresh=False, now=10.0) is None, "evicted"
    for number in range(content_store.MAX_ANSWERS + 5):
        cs.answered(uri(f"/c/{number}"), uri(f"/c/{number}/1"))
    assert len(cs._answers) == content_store.MAX_ANSWERS


def test_content_store_admit_off() -> None:
    cs = ContentStore(10, 1000)
    cs.admit = False
    cs.insert(uri("/a"), b"x", 0, 0.0)
    assert len(cs) == 0


def test_implicit_digest_of_another_packet_misses() -> None:
    """So a consumer can ask past a bad packet in a cache."""
    cs = ContentStore(10, 100_000)
    wire = data("/a")
    cs.insert(uri("/a"), wire, 1000, 0.0)
    for fresh in (False, True):
        digest = ndn.implicit_digest(hashlib.sha256(wire).digest())
        assert cs.find(uri("/a") + digest, can_be_prefix=False, must_be_fresh=fresh, now=0.5) == wire
        other = ndn.implicit_digest(bytes(32))
        assert cs.find(uri("/a") + other, can_be_prefix=True, must_be_fresh=fresh, now=0.5) is None
    digest = ndn.implicit_digest(hashlib.sha256(wire).digest())
    assert cs.find(uri("/a") + digest, can_be_prefix=False, must_be_fresh=True, now=1.5) is None


@given(st.lists(st.tuples(st.integers(0, 4000), st.booleans()), max_size=300), st.integers(0, 40))
def test_name_order_is_a_sorted_set(steps: list[tuple[int, bool]], prefix: int) -> None:
    order, model = NameOrder(), set[bytes]()
    for number, add in [*((number, True) for number in range(0, 3000, 2)), *steps]:
        name = uri(f"/{number % 40}/{number}")
        if add and name not in model:
            order.add(name)
            model.add(name)
        elif not add and name in model:
            order.remove(name)
            model.discard(name)
        elif not add:
            with pytest.raises(KeyError):
                order.remove(name)
    assert list(order.below(b"")) == sorted(model)
    wanted = uri(f"/{prefix}")
    assert list(order.below(wanted)) == sorted(name for name in model if name.startswith(wanted))


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 1500), st.booleans()), max_size=4))
def test_many_names_at_once_are_as_each_alone(steps: list[tuple[int, int, bool]]) -> None:
    order, model = NameOrder(), set[bytes]()
    for first, count, one_by_one in steps:
        batch = {uri(f"/{number % 40}/{number}") for number in range(first, first + count)} - model
        if one_by_one:
            for name in batch:
                order.add(name)
        else:
            order.add_all(batch)
        model |= batch
        for name in sorted(model)[::7]:
            order.remove(name)
            model.discard(name)
    assert list(order.below(b"")) == sorted(model)
    assert list(order.below(uri("/7"))) == sorted(name for name in model if name.startswith(uri("/7")))


def test_names_of_bulk_data_are_found_by_prefix_before_and_after_they_were_put_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(content_store, "UNORDERED_MOST", 10)
    cs = ContentStore(50, 1 << 20)
    for number in range(80):
        name = uri(f"/{number}/x")
        cs.insert(name, b"x", 1000, 0.0)
        if number % 7 == 3:
            assert cs.has_below(uri(f"/{number}")) and not cs.has_below(uri(f"/{number + 1}"))
    assert [cs.has_below(uri(f"/{number}")) for number in range(80)] == [number >= 30 for number in range(80)]
    assert cs.erase(uri("/40"), 10) == 1 and not cs.has_below(uri("/40"))


# ---------------------------------------------------------------- parsers


@given(
    names.filter(bool),
    st.booleans(),
    st.booleans(),
    st.lists(names.filter(bool), max_size=2),
    st.integers(0, 400_000),
    st.none() | st.integers(0, 255),
    st.none() | st.binary(max_size=300),
)
def test_interest_parser_agrees_with_the_codec(
    name: bytes, prefix: bool, fresh: bool, hints: list[bytes], lifetime: int, hop: int | None, parameters: bytes | None
) -> None:
    wire, final = encode_interest(
        name, nonce=b"nonc", can_be_prefix=prefix, must_be_fresh=fresh, hints=tuple(hints), lifetime_ms=lifetime,
        hop_limit=hop, parameters=parameters,
    )  # fmt: skip
    found = parse_interest(wire)
    assert found[:6] == (final, ndn.prefix_ends(final), prefix, fresh, tuple(hints), b"nonc")
    assert found.lifetime_ms == min(lifetime, 300_000)
    assert (wire[found.hop_limit_at] if found.hop_limit_at else None) == hop


@given(st.binary(max_size=60), st.sampled_from([0x05, 0x06]), st.booleans())
def test_parsers_refuse_or_agree(body: bytes, kind: int, named: bool) -> None:
    """Any bytes: BadPacket, or the same reading as the full decoder's; never another exception."""
    value = (b"\x07\x03\x08\x01a" if named else b"") + body
    wire = bytes((kind, len(value))) + value
    parse = parse_interest if kind == 0x05 else parse_data
    try:
        found = parse(wire)
    except BadPacket:
        return
    try:
        full = decode_interest(wire) if kind == 0x05 else decode_data(wire)
    except BadPacket:
        return  # the full decoder also looks into what forwarding does not read
    assert full.name == found[0]
