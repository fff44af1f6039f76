"""Scenarios: packets in at certain times, packets out, the clause beside it.

Owns: the form of a scenario, its words, running one in virtual time. Must not know: sockets (nfd_driver.py), what the
clauses say in full (clauses.py).
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import Protocol

from ndn_infer import ndn
from ndn_infer.forwarder.core.content_store import ContentStore
from ndn_infer.forwarder.core.pipeline import Forwarder
from ndn_infer.forwarder.core.rib import CAPTURE, CHILD_INHERIT, Route
from ndn_infer.ndn import tlv
from tests.forwarder_world import World, data, interest


class Change(Protocol):
    """Something other than a packet that happens to the forwarder."""

    def apply(self, world: World) -> None: ...


Step = tuple[float, str, bytes | Change, list[str]]


@dataclass(frozen=True)
class Scenario:
    """`rule` ends with its clauses in brackets, keys of clauses.CLAUSES. `steps`: (time, face, packet it sends or a
    Change, what goes out).

    Faces by one letter, upper case not local; `routes` are (prefix, face, cost); `local_fields` the faces that have
    them; `strategy` is (prefix, name). `ours` says why sockets are not asked for this rule ("": they are, if they
    can be).
    """

    rule: str
    steps: list[Step]
    faces: str = "cpP"
    routes: list[tuple[str, str, int]] = field(default_factory=lambda: [("/a", "p", 0)])
    strategy: tuple[str, str] = ("", "")
    local_fields: str = ""
    regions: tuple[str, ...] = ()
    mtu: dict[str, int] = field(default_factory=dict)
    cs_packets: int = 100
    ours: str = ""


def run(scenario: Scenario) -> None:
    """In virtual time; asserts."""
    regions = [ndn.from_uri(region) for region in scenario.regions]
    world = World(Forwarder(ContentStore(scenario.cs_packets, 1 << 20), producer_regions=regions, seed=1))
    for name in scenario.faces:
        world.add_face(name, mtu_bytes=scenario.mtu.get(name), local_fields=name in scenario.local_fields)
    for prefix, name, cost in scenario.routes:
        world.route(prefix, name, cost)
    prefix, strategy = scenario.strategy
    if prefix:
        SetStrategy(prefix, strategy).apply(world)
    for at, (now, name, sent, expected) in enumerate(scenario.steps):
        if isinstance(sent, bytes):
            assert world.receive(name, sent, now) == sorted(expected), f"step {at}"
        else:
            world.advance(now)
            world.now = now
            world.sent.clear()
            sent.apply(world)
            assert world.outgoing() == sorted(expected), f"step {at}"


# ---------------------------------------------------------------- changes


@dataclass(frozen=True, slots=True)
class RemoveFace:
    face: str

    def apply(self, world: World) -> None:
        world.core.remove_face(world.faces[self.face].id, world.now)


@dataclass(frozen=True, slots=True)
class Queue:
    """So much waits in the send queue of a face. No command does that."""

    face: str
    size: int

    def apply(self, world: World) -> None:
        world.queued[self.face] = self.size


@dataclass(frozen=True, slots=True)
class CsConfig:
    """`flag` is "admit", "serve" or "" for none."""

    flag: str = ""
    on: bool = True
    packets: int | None = None

    def apply(self, world: World) -> None:
        cs = world.core.cs
        if self.flag:
            setattr(cs, self.flag, self.on)
        if self.packets is not None:
            cs.capacity_packets = self.packets
            cs.evict()


@dataclass(frozen=True, slots=True)
class CsErase:
    prefix: str

    def apply(self, world: World) -> None:
        world.core.cs.erase(ndn.from_uri(self.prefix), 256)


@dataclass(frozen=True, slots=True)
class AddRoute:
    prefix: str
    face: str
    cost: int = 0
    flags: int = CHILD_INHERIT
    origin: int = 0
    lifetime_ms: int | None = None

    def apply(self, world: World) -> None:
        expires = None if self.lifetime_ms is None else world.now + self.lifetime_ms / 1000
        route = Route(world.faces[self.face].id, self.origin, self.cost, self.flags, expires)
        world.core.register(ndn.from_uri(self.prefix), route, world.now)


@dataclass(frozen=True, slots=True)
class DropRoute:
    prefix: str
    face: str
    origin: int = 0

    def apply(self, world: World) -> None:
        world.core.rib.unregister(ndn.from_uri(self.prefix), world.faces[self.face].id, self.origin)


@dataclass(frozen=True, slots=True)
class SetStrategy:
    prefix: str
    strategy: str

    def apply(self, world: World) -> None:
        assert world.core.strategies.set(ndn.from_uri(self.prefix), ndn.from_uri(self.strategy)) is not None


# ---------------------------------------------------------------- words


def remove(name: str) -> Change:
    return RemoveFace(name)


def queue(name: str, size: int) -> Change:
    return Queue(name, size)


def serve(on: bool) -> Change:
    return CsConfig("serve", on)


def admit(on: bool) -> Change:
    return CsConfig("admit", on)


def register(prefix: str, name: str, cost: int = 0) -> Change:
    return AddRoute(prefix, name, cost)


def captured(prefix: str, name: str, cost: int = 0) -> Change:
    return AddRoute(prefix, name, cost, CAPTURE)


def raw_interest(after_nonce: bytes) -> bytes:
    """/a/b with nonce 1 and whatever follows."""
    return tlv.encode_tlv(5, ndn.encode_name(ndn.from_uri("/a/b")) + b"\x0a\x04\0\0\0\1" + after_nonce)


def raw_link(fields: bytes, fragment: bytes) -> bytes:
    """A link packet with exactly these header fields."""
    return tlv.encode_tlv(0x64, fields + tlv.encode_tlv(0x50, fragment))


def fragments(wire: bytes, count: int, *, first: int = 0, header: bytes = b"") -> list[bytes]:
    """`wire` in `count` link packets with Sequence numbers from `first`; header fields on the first."""
    size = -(-len(wire) // count)
    pieces = [wire[at * size : (at + 1) * size] for at in range(count)]
    return [
        fragment(piece, at, count, first=first, header=header if at == 0 else b"") for at, piece in enumerate(pieces)
    ]


def fragment(piece: bytes, index: int, count: int, *, first: int = 0, header: bytes = b"") -> bytes:
    """One of `count` fragments; the Sequence of the first is `first`."""
    sequence = b"\x51\x08" + (first + index).to_bytes(8, "big")
    place = tlv.encode_tlv(0x52, tlv.encode_nonneg(index)) + tlv.encode_tlv(0x53, tlv.encode_nonneg(count))
    return raw_link(sequence + place + header, piece)


MULTICAST = "/localhost/nfd/strategy/multicast"
BEST_ROUTE = "/localhost/nfd/strategy/best-route"
ASF = "/localhost/nfd/strategy/asf"
DIGEST = "sha256digest=" + hashlib.sha256(data("/a/b")).hexdigest()
DRAWN = int.from_bytes(random.Random(1).randbytes(4), "big")
A = interest("/a/b")
DA = data("/a/b")
