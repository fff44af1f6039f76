"""Packets that come together: to everybody around the forwarder it looks as if each had come alone."""

from __future__ import annotations

import random
from dataclasses import astuple
from typing import Any, Final

import pytest

from ndn_infer import ndn
from ndn_infer.forwarder.core.alike import KNOWN_MOST, data_shape, interest_shape
from ndn_infer.forwarder.core.content_store import ContentStore
from ndn_infer.forwarder.core.cs_classes import CsClasses
from ndn_infer.forwarder.core.faces import Face
from ndn_infer.forwarder.core.pipeline import Forwarder
from ndn_infer.forwarder.core.strategy import BEST_ROUTE, MULTICAST
from ndn_infer.forwarder.link.link_service import LinkService
from ndn_infer.ndn.name import Name
from tests.forwarder_world import World, data, interest, link, nack

OBJECTS: Final = ("/a/x", "/a/y", "/a/longer/z", "/b/x", "/localhop/x", "/localhost/x")
SEGMENTS: Final = 12


class Stage:
    """One forwarder with two producers and three consumers, and all the bytes that it sent, by face."""

    def __init__(self, seed: int, *, together: bool) -> None:
        rng = random.Random(seed)
        classes = CsClasses(protected=[ndn.from_uri("/a/y")], counted=[ndn.from_uri("/a/longer")])
        capacity = rng.choice((5, 40, 1000))
        cs = ContentStore(capacity, 1 << 20, classes=classes)
        pit = rng.choice((20, 300, 5000))
        self.core = Forwarder(cs, pit_capacity=pit, seed=seed, one_copy=rng.random() < 0.3)
        self.together = together
        self.sent: dict[str, list[bytes]] = {}
        self.faces: dict[str, Face] = {}
        for name in "cdENpQ":
            self.add(name, local_fields=name.islower() and rng.random() < 0.5)
        self.route("/a", "p", 0)
        self.route("/a", "Q", 5)
        self.route("/b", "Q", 0)
        self.route("/local", "p", 0)

    def add(self, name: str, **options: Any) -> None:
        sent = self.sent.setdefault(name, [])

        def take_all(pieces: Any, size: int) -> bool:
            assert size == sum(map(len, pieces))
            taken = size % 5 > 0
            sent.extend(pieces if taken else ())
            return taken

        service = LinkService(sent.append, transmit_all=take_all, **options)
        face = Face(self.core.new_face_id(), f"test://{name}", "test://", service, local=name.islower())
        self.faces[name] = face
        self.core.add_face(face)

    def route(self, uri: str, name: str, cost: int) -> None:
        if self.faces[name].id in self.core.faces:
            self.core.add_next_hop(ndn.from_uri(uri), self.faces[name].id, cost, 0.0)

    def arrive(self, name: str, packets: list[bytes], now: float) -> None:
        while (wake := self.core.next_wake()) is not None and wake <= now:
            self.core.tick(wake)
        face = self.faces[name]
        if face.id not in self.core.faces:
            return
        if self.together:
            self.core.receive_all(face, packets, now)
        else:
            for packet in packets:
                self.core.receive(face, packet, now)

    def state(self) -> dict[str, Any]:
        core = self.core
        return {
            "sent": {name: b"".join(pieces) for name, pieces in self.sent.items()},
            "counters": astuple(core.counters),
            "faces": {name: astuple(face.counters) for name, face in self.faces.items()},
            "shares": {name: (face.share.entries, face.share.used_bytes) for name, face in self.faces.items()},
            "PIT": (core.pit_size, core._pit.used_bytes, core._pit._digests, core._pit._prefix_depths),
            "dead": len(core._dead),
            "store": (list(core.cs._plain), list(core.cs._protected), core.cs.used_bytes),
            "classes": [astuple(kind) for kind in core.cs.classes.all()],
        }

    def entries(self) -> set[tuple[Any, ...]]:
        return {
            (
                entry.name, entry.can_be_prefix, entry.must_be_fresh, entry.expires, entry.depth, entry.cost,
                tuple((at, r.wire, r.nonce, r.expires, r.last_hop) for at, r in entry.ins.items()),
                tuple((at, r.nonce, r.expires, r.sent) for at, r in entry.outs.items()),
            )
            for entry in self.core._pit
        }  # fmt: skip


class Script:
    """What happens, drawn from a seed: bursts that are mostly alike, and what can go wrong between them."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.nonce = 0

    def interests(self) -> list[bytes]:
        rng = self.rng
        uri, first = rng.choice(OBJECTS), rng.randrange(SEGMENTS)
        options: dict[str, Any] = {"lifetime_ms": rng.choice((4000, 4000, 1000, 50))}
        if rng.random() < 0.4:
            options["hop_limit"] = rng.choice((1, 2, 9))
        if rng.random() < 0.2:
            options["must_be_fresh"] = True
        if rng.random() < 0.1:
            options["hints"] = ("/b",)
        found = []
        for number in range(first, rng.randint(first, SEGMENTS) + 1):
            self.nonce += rng.random() < 0.95
            given = {**options, "can_be_prefix": True} if rng.random() < 0.02 else options
            name = f"{uri}/seg={number}"
            if rng.random() < 0.03:
                name = rng.choice((uri, f"{name}/{'9' * rng.randint(1, 40)}", f"{uri}/sha256digest={'ab' * 32}"))
            nonce = None if rng.random() < 0.02 and not given.get("hints") else self.nonce
            found.append(interest(name, nonce, **given))
        return self.spoilt(found)

    def datas(self) -> list[bytes]:
        rng = self.rng
        uri, first = rng.choice(OBJECTS), rng.randrange(SEGMENTS)
        fresh_ms, size = rng.choice((0, 10, 60_000)), rng.choice((1, 300))
        return self.spoilt([
            data(f"{uri}/seg={number}", fresh_ms=fresh_ms, content=rng.randbytes(size))
            for number in range(first, rng.randint(first, SEGMENTS) + 1)
        ])  # fmt: skip

    def spoilt(self, packets: list[bytes]) -> list[bytes]:
        """Some with a token, a mark or a Nack around them, twice, cut off, with a byte changed, or empty."""
        rng = self.rng
        for at in range(len(packets)):
            wire, chance = packets[at], rng.random()
            if chance < 0.02:
                packets[at] = link(wire, pit_token=b"\1\2")
            elif chance < 0.03:
                packets[at] = link(wire, congestion_mark=1)
            elif chance < 0.05 and wire[0] == 5:
                packets[at] = nack(wire, rng.choice((50, 150)))
            elif chance < 0.07:
                packets[at] = packets[rng.randrange(len(packets))]
            elif chance < 0.08:
                packets[at] = wire[: rng.randrange(len(wire))]
            elif chance < 0.11:
                place = rng.randrange(len(wire))
                packets[at] = wire[:place] + rng.randbytes(1) + wire[place + 1 :]
        return packets

    def step(self, stages: list[Stage]) -> None:
        """The same at all of them."""
        rng = self.rng
        self.now += rng.choice((0.0, 0.001, 0.02, 0.3))
        chance = rng.random()
        if chance < 0.5:
            name, packets = rng.choice("ccdENp"), self.interests()
        elif chance < 0.92:
            name, packets = rng.choice("pppQc"), self.datas()
        else:
            self.change(stages)
            return
        for stage in stages:
            stage.arrive(name, list(packets), self.now)

    def change(self, stages: list[Stage]) -> None:
        rng = self.rng
        kind, name, cost, uri = rng.randrange(5), rng.choice("cdENpQ"), rng.randrange(9), rng.choice(OBJECTS)
        prefix, strategy = ndn.from_uri(uri), rng.choice((MULTICAST, BEST_ROUTE))
        for stage in stages:
            if kind == 0:
                stage.core.strategies.set(prefix, strategy)
            elif kind == 1:
                stage.core.remove_face(stage.faces[name].id, self.now)
                stage.add(name)
                stage.route("/a", "p", 0)
            elif kind == 2:
                stage.route(f"{uri}/seg=3" if cost == 4 else uri, name, cost)
            elif kind == 3:
                stage.core.lost_refuse = not stage.core.lost_refuse
            elif kind == 4:
                stage.core.cs.erase(prefix, cost)


@pytest.mark.parametrize("seed", range(25))
def test_together_is_as_one_after_the_other(seed: int) -> None:
    script, stages = Script(seed), [Stage(seed, together=True), Stage(seed, together=False)]
    for turn in range(80):
        script.step(stages)
        mine, reference = (stage.state() for stage in stages)
        assert mine == reference, turn
        if turn % 20 == 19:
            assert stages[0].entries() == stages[1].entries()
    for stage in stages:
        stage.arrive("c", [], script.now + 400.0)
        assert stage.core.pit_size == stage.core._pit.used_bytes == 0
        assert not any(stage.core._pit._by_name) and not any(face.share.held for face in stage.faces.values())


class Counting(Forwarder):
    """Counts the packets that were handled alone."""

    alone = 0

    def receive(self, face: Face, wire: bytes, now: float) -> None:
        self.alone += 1
        super().receive(face, wire, now)


def world_of(core: Forwarder) -> World:
    world = World(core)
    for name in "cdp":
        world.add_face(name)
    world.route("/a", "p")
    return world


def asked(uri: str, numbers: range, first_nonce: int = 1) -> list[bytes]:
    return [interest(f"{uri}/seg={number}", first_nonce + number, hop_limit=9) for number in numbers]


def test_of_many_that_are_alike_few_are_handled_alone() -> None:
    core = Counting(ContentStore(1000, 1 << 20))
    world = world_of(core)
    for at, uri in enumerate(("/a/x", "/a/y")):
        world.sent.clear()
        core.receive_all(world.faces["c"], asked(uri, range(40)), 0.0)
        assert world.outgoing() == sorted(f"p<I{uri}/seg={n}#{n + 1} h8" for n in range(40))
        world.sent.clear()
        core.receive_all(world.faces["p"], [data(f"{uri}/seg={n}") for n in range(40)], 0.0)
        assert world.outgoing() == sorted(f"c<D{uri}/seg={n}" for n in range(40))
        assert core.alone == 2 * (at + 1), "the first Interest and the first Data of each object"
    world.sent.clear()
    core.receive_all(world.faces["d"], asked("/a/y", range(40), 100), 0.0)
    assert len(world.sent) == 40 and core.alone == 5, "from the Content Store too"


def test_hits_are_handled_together_where_no_route_leads() -> None:
    core = Counting(ContentStore(1000, 1 << 20))
    world = world_of(core)
    core.receive_all(world.faces["c"], asked("/a/x", range(40)), 0.0)
    core.receive_all(world.faces["p"], [data(f"/a/x/seg={n}") for n in range(40)], 0.0)
    core.remove_face(world.faces["p"].id, 0.0)
    core.alone = 0
    world.sent.clear()
    core.receive_all(world.faces["d"], asked("/a/x", range(40), 100), 0.0)
    assert world.outgoing() == sorted(f"d<D/a/x/seg={n}" for n in range(40))
    assert core.alone == 1
    core.alone = 0
    core.receive_all(world.faces["d"], asked("/a/x", range(100, 300), 1000), 0.0)
    assert core.alone == 200 and core.counters.no_route == 200
    core.alone = 0
    for turn in range(2, 7):
        core.receive_all(world.faces["d"], asked("/a/x", range(40), 1000 * turn), 0.0)
    assert core.alone <= 128, "soon they are handled together again"


def test_objects_by_turns_are_remembered_and_strangers_cost_little() -> None:
    core = Counting(ContentStore(1000, 1 << 20))
    world = world_of(core)
    for number in range(20):
        core.receive_all(world.faces["c"], [asked(uri, range(number, number + 1))[0] for uri in ("/a/x", "/a/y")], 0.0)
    assert core.alone == 2
    memory = world.faces["c"].asks
    for number in range(500):
        core.receive_all(world.faces["c"], asked(f"/a/{number:03}", range(1)), 0.0)
    assert len(memory._known) <= KNOWN_MOST
    assert core.alone == 502 and memory.rest, "they are looked at now and then only"


@pytest.mark.parametrize(
    ("wire", "name"),
    [
        (interest("/a/b/seg=1", 7), "/a/b/seg=1"),
        (interest("/a/b/seg=1", 7, must_be_fresh=True, hop_limit=2, lifetime_ms=10), "/a/b/seg=1"),
        (interest("/a", 7), None),
        (interest("/a/b", 7, can_be_prefix=True), None),
        (interest("/a/b", 7, hints=("/h",)), None),
        (interest("/a/b", 7, hop_limit=1), None),
        (interest("/a/b", None), None),
        (interest(f"/a/sha256digest={'00' * 32}", 7), None),
        (interest(f"/a/{'x' * 300}", 7), None),
        (interest("/a/b", 7)[:-1], None),
    ],
)
def test_which_interests_have_a_shape(wire: bytes, name: str | None) -> None:
    shape = interest_shape(wire)
    assert (None if shape is None else shape.names([wire, wire, b""], 0, 9)) == _twice(name)
    if shape is not None:
        assert shape.names([wire] * 3, 1, 1) == [ndn.from_uri("/a/b/seg=1")]
        changed = [wire[:at] + bytes((wire[at] ^ 1,)) + wire[at + 1 :] for at in range(len(wire))]
        alike = {at for at, other in enumerate(changed) if shape.names([other], 0, 1)}
        assert alike == {shape.end - 1, *range(shape.after - 4, shape.after)}


@pytest.mark.parametrize(
    ("wire", "name"),
    [(data("/a/b/seg=1"), "/a/b/seg=1"), (data("/a/b/seg=1", fresh_ms=9, content=b"xy" * 400), "/a/b/seg=1"),
     (data("/a"), None), (data("/a/b")[:-1], None)],
)  # fmt: skip
def test_which_data_have_a_shape(wire: bytes, name: str | None) -> None:
    shape = data_shape(wire)
    assert (None if shape is None else shape.names([wire, wire, b""], 0, 9)) == _twice(name)
    if shape is not None:
        changed = [wire[:at] + bytes((wire[at] ^ 1,)) + wire[at + 1 :] for at in range(len(wire))]
        alike = {at for at, other in enumerate(changed) if shape.names([other], 0, 1)}
        content = range(shape.end + len(shape.middle), shape.info_at)
        assert alike == {shape.end - 1, *content, *range(len(wire) - 32, len(wire))}


def _twice(uri: str | None) -> list[Name] | None:
    return None if uri is None else [ndn.from_uri(uri)] * 2
