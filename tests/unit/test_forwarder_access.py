"""Who may command, face events, prefix announcements: management in virtual time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.forwarder.core.announcement import PrefixAnnouncement, decode_announcement
from ndn_infer.forwarder.management.access import CommandClaim, anybody_local
from ndn_infer.forwarder.management.encoding import ControlParameters
from ndn_infer.forwarder.management.manager import Management
from ndn_infer.ndn import lp, packet, tlv
from tests.forwarder_world import World, data, interest

WALL_S = 1_800_000_000
SIGNED = packet.SignatureInfo(packet.SIGNATURE_DIGEST_SHA256, nonce=bytes(8), time_ms=1)
VALID = (b"20200101T000000", b"20400101T000000")
PAST = (b"20000101T000000", b"20010101T000000")


class Commanded(World):
    """`c` is a local application, `N` a neighbour; verdicts come from `authority`."""

    def __init__(self, authority: Callable[[CommandClaim, Callable[[str | None], None]], None] = anybody_local) -> None:
        super().__init__()
        self.management = Management(
            self.core, wall_us=lambda: WALL_S * 1_000_000, authority=authority, neighbours=True
        )
        self.add_face("c")
        self.add_face("N")

    def send(self, face: str, wire: bytes, now: float = 0.0) -> list[str]:
        self.sent.clear()
        self.core.receive(self.faces[face], wire, now)
        self.management.run(now)
        return self.outgoing()

    def code(self, face: str, wire: bytes, now: float = 0.0) -> int | None:
        """Status code of the reply to a command."""
        self.send(face, wire, now)
        return self.reply()

    def reply(self) -> int | None:
        for _, wire in self.sent:
            fragment = lp.decode_lp(wire).fragment
            if fragment[0] == tlv.DATA:
                content = packet.decode_data(fragment).content
                _, value, end = tlv.read_header(content, 0, len(content))
                _, start, stop = next(tlv.iterate(content, value, end))
                return tlv.decode_nonneg(content[start:stop])
        return None


def command(
    path: str, parameters: ControlParameters | None = None, *, application: bytes = b"", nonce: int = 1
) -> bytes:
    base = ndn.from_uri(path) + (ndn.generic(parameters.encode()) if parameters is not None else b"")
    signature = packet.SignatureInfo(packet.SIGNATURE_DIGEST_SHA256, nonce=bytes(7) + bytes((nonce,)), time_ms=1)
    wire, _ = packet.encode_interest(
        base, parameters=application, nonce=bytes((0, 0, 0, nonce)), info=signature,
        signer=packet.digest_signer,
    )  # fmt: skip
    return wire


def announcement(
    prefix: str, expiration_ms: int | None = 60_000, valid: tuple[bytes, bytes] | None = VALID, *, kind: int = 5
) -> bytes:
    content = b"" if expiration_ms is None else tlv.encode_tlv(0x6D, tlv.encode_nonneg(expiration_ms))
    if valid is not None:
        content += tlv.encode_tlv(0xFD, tlv.encode_tlv(0xFE, valid[0]) + tlv.encode_tlv(0xFF, valid[1]))
    name = ndn.from_uri(prefix) + ndn.keyword("PA") + ndn.version(1) + ndn.segment(0)
    return packet.encode_data(name, content, content_type=kind)


REGISTER = ControlParameters(name=ndn.from_uri("/ndn/n1/app"))


def routes(world: World) -> list[str]:
    return [ndn.to_uri(prefix) for prefix, _ in world.core.rib.items()]


# ---------------------------------------------------------------- authority


def test_by_default_local_faces_command_and_neighbours_do_not() -> None:
    world = Commanded()
    assert world.code("c", command("/localhost/nfd/rib/register", REGISTER)) == 200
    assert world.code("N", command("/localhost/nfd/rib/register", REGISTER)) is None, "scope: it never gets there"
    assert world.code("N", command("/localhop/nfd/rib/register", REGISTER, nonce=2)) == 403
    assert world.code("c", command("/localhop/nfd/rib/register", REGISTER, nonce=3)) == 403


def test_a_neighbour_registers_for_itself_only_and_nothing_but_routes() -> None:
    claims: list[CommandClaim] = []

    def authority(claim: CommandClaim, verdict: Callable[[str | None], None]) -> None:
        claims.append(claim)
        verdict(None)

    world = Commanded(authority)
    assert world.code("N", command("/localhop/nfd/rib/register", REGISTER)) == 200
    assert (claims[0].module, claims[0].verb, claims[0].prefix, claims[0].local) == (
        "rib", "register", REGISTER.name, False,
    )  # fmt: skip
    assert routes(world) == ["/ndn/n1/app"]
    other = ControlParameters(name=REGISTER.name, face_id=world.faces["c"].id)
    assert world.code("N", command("/localhop/nfd/rib/register", other, nonce=2)) == 403
    assert world.code("N", command("/localhop/nfd/rib/unregister", other, nonce=3)) == 403
    for path in ("/localhop/nfd/cs/erase", "/localhop/nfd/faces/destroy", "/localhop/nfd/strategy-choice/set"):
        world.core.fib.add(ndn.from_uri("/localhop/nfd"), 1, 0)  # even if somebody routes it there
        assert world.code("N", command(path, other, nonce=9)) == 501
    assert world.code("N", command("/localhop/nfd/rib/unregister", REGISTER, nonce=4)) == 200
    assert routes(world) == []


def test_a_verdict_may_come_later_and_a_refusal_changes_nothing() -> None:
    waiting: list[Callable[[str | None], None]] = []
    world = Commanded(lambda _, verdict: waiting.append(verdict))
    for refusal, code, expected in (("the key may not", 403, []), (None, 200, ["/ndn/n1/app"])):
        assert world.code("c", command("/localhost/nfd/rib/register", REGISTER, nonce=code % 100)) is None
        assert routes(world) == []
        waiting.pop()(refusal)
        world.management.run(0.1)
        assert world.reply() == code
        assert routes(world) == expected


# ---------------------------------------------------------------- face events


def ask_events(nonce: int, name: str = "/localhost/nfd/faces/events") -> bytes:
    return interest(name, nonce, can_be_prefix="seq" not in name, must_be_fresh=True, lifetime_ms=60_000)


def test_a_subscriber_learns_of_faces_that_come_and_go() -> None:
    world = Commanded()
    world.management.run(0.0)  # the two faces of this world are events too
    assert world.send("c", ask_events(1), 5.0) == [], "what happened long ago is no news"
    world.add_face("X")
    world.management.run(6.0)
    assert world.outgoing() == ["c<D/localhost/nfd/faces/events/seq=2"]
    content = packet.decode_data(lp.decode_lp(world.sent[0][1]).fragment).content
    assert content[:1] == b"\xc0"
    _, value, end = tlv.read_header(content, 0, len(content))
    fields = {kind: content[start:stop] for kind, start, stop in tlv.iterate(content, value, end)}
    assert fields[0xC1] == b"\1" and fields[0x72] == b"test://X" and fields[0x84] == b"\0"
    assert world.send("c", ask_events(2, "/localhost/nfd/faces/events/seq=3"), 7.0) == []
    world.core.remove_face(world.faces["X"].id)
    world.management.run(8.0)
    assert world.outgoing() == ["c<D/localhost/nfd/faces/events/seq=3"]
    assert world.core.counters.unsolicited == 0


def test_two_subscribers_and_a_late_one() -> None:
    world = Commanded()
    world.add_face("d")
    world.management.run(0.0)
    world.send("c", ask_events(1), 5.0)
    world.send("d", ask_events(2), 5.1)
    world.add_face("X")
    world.management.run(6.0)
    assert world.outgoing() == [f"{face}<D/localhost/nfd/faces/events/seq=3" for face in "cd"]
    assert world.send("d", ask_events(3, "/localhost/nfd/faces/events/seq=3"), 30.0) == [
        "d<D/localhost/nfd/faces/events/seq=3"
    ]
    assert world.send("d", ask_events(4), 30.0) == []


# ---------------------------------------------------------------- announcements


def test_an_announcement_makes_a_route_that_ends() -> None:
    world = Commanded()
    assert world.code("c", command("/localhost/nfd/rib/announce", application=announcement("/ndn/p", 1000))) == 200
    (route,) = dict(world.core.rib.items())[ndn.from_uri("/ndn/p")]
    assert (route.face_id, route.origin, route.cost, route.expires) == (world.faces["c"].id, 129, 2048, 1.0)
    world.advance(1.1)
    assert routes(world) == []


@pytest.mark.parametrize(
    "application, code",
    [
        (b"", 400),
        (data("/ndn/p"), 400),
        (announcement("/ndn/p", kind=0), 400),
        (announcement("/ndn/p", None), 400),
        (announcement("/ndn/p", valid=(b"yesterday", b"tomorrow")), 400),
        (announcement("/ndn/p", valid=PAST), 403),
        (announcement("/ndn/p", 0), 403),
        (announcement("/a" * 40), 414),
        (announcement("/ndn/p") + b"\0", 400),
    ],
)
def test_what_is_no_valid_announcement_makes_no_route(application: bytes, code: int) -> None:
    world = Commanded()
    assert world.code("c", command("/localhost/nfd/rib/announce", application=application)) == code
    assert routes(world) == []


def test_an_announcement_ends_with_its_validity() -> None:
    found = decode_announcement(announcement("/ndn/p", 3_600_000, (b"20200101T000000", b"20270115T080010")))
    assert found.prefix == ndn.from_uri("/ndn/p") and found.valid is not None
    assert found.lifetime_s(found.valid[1] - 10) == 10
    assert found.lifetime_s(found.valid[1] + 1) == 0
    assert PrefixAnnouncement(b"", 2000, None).lifetime_s(0) == 2


@given(st.binary(max_size=200))
def test_announcements_are_decoded_or_refused(content: bytes) -> None:
    name = ndn.from_uri("/p") + ndn.keyword("PA") + ndn.version(1) + ndn.segment(0)
    wire = packet.encode_data(name, content, content_type=5)
    try:
        assert decode_announcement(wire).expiration_ms >= 0
    except BadPacket:
        pass
