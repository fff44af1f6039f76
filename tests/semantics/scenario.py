"""Scenarios: packets in at certain times, packets out, the clause beside it.

Owns: the form of a scenario, its words, running one in virtual time. Clauses: PF = NDN Packet Format 0.3, LP = NDNLPv2
revision 4, NFD = NFD developer guide (sections by number) and NFD's source (24.07, functions by name).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from ndn_infer import name as ndn
from ndn_infer import tlv
from ndn_infer.forwarder.content_store import ContentStore
from ndn_infer.forwarder.pipeline import Forwarder
from ndn_infer.forwarder.rib import CHILD_INHERIT, Route
from tests.forwarder_world import World, data, interest

Step = tuple[float, str, bytes | Callable[[World], None], list[str]]


@dataclass(frozen=True)
class Scenario:
    """`steps`: (time, face, packet it sends, what goes out). A callable in place of a packet changes the world.

    Faces by one letter, upper case not local; `routes` are (prefix, face, cost); `local_fields` the faces that have
    them; `strategy` is (prefix, name). `ours` says why NFD is not asked for this rule ("": it is, if it can be driven).
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
        assert world.core.strategies.set(ndn.from_uri(prefix), ndn.from_uri(strategy)) is not None
    for at, (now, name, sent, expected) in enumerate(scenario.steps):
        if callable(sent):
            world.advance(now)
            world.now = now
            world.sent.clear()
            sent(world)
            assert world.outgoing() == sorted(expected), f"step {at}"
        else:
            assert world.receive(name, sent, now) == sorted(expected), f"step {at}"


# ---------------------------------------------------------------- words


def remove(name: str) -> Callable[[World], None]:
    return lambda world: world.core.remove_face(world.faces[name].id)


def queue(name: str, size: int) -> Callable[[World], None]:
    return lambda world: world.queued.update({name: size})


def serve(on: bool) -> Callable[[World], None]:
    return lambda world: setattr(world.core.cs, "serve", on)


def admit(on: bool) -> Callable[[World], None]:
    return lambda world: setattr(world.core.cs, "admit", on)


def register(prefix: str, name: str) -> Callable[[World], None]:
    def change(world: World) -> None:
        route = Route(world.faces[name].id, 0, 0, CHILD_INHERIT)
        world.core.register(ndn.from_uri(prefix), route, world.now)

    return change


def raw_interest(after_nonce: bytes) -> bytes:
    """/a/b with nonce 1 and whatever follows."""
    return tlv.encode_tlv(5, ndn.encode_name(ndn.from_uri("/a/b")) + b"\x0a\x04\0\0\0\1" + after_nonce)


def fragments(wire: bytes, count: int, *, first: int = 0, header: bytes = b"") -> list[bytes]:
    """`wire` in `count` link packets with Sequence numbers from `first`; header fields on the first."""
    size = -(-len(wire) // count)
    pieces = [wire[at * size : (at + 1) * size] for at in range(count)]
    return [
        tlv.encode_tlv(
            0x64,
            b"\x51\x08" + (first + at).to_bytes(8, "big") + bytes((0x52, 1, at, 0x53, 1, count))
            + (header if at == 0 else b"") + tlv.encode_tlv(0x50, piece),
        )
        for at, piece in enumerate(pieces)
    ]  # fmt: skip


MULTICAST = "/localhost/nfd/strategy/multicast"
ASF = "/localhost/nfd/strategy/asf"
DIGEST = "sha256digest=" + hashlib.sha256(data("/a/b")).hexdigest()
DRAWN = int.from_bytes(random.Random(1).randbytes(4), "big")
A = interest("/a/b")
DA = data("/a/b")
