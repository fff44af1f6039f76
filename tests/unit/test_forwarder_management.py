"""NFD management in virtual time: commands and datasets encoded and decoded by python-ndn's own models.

Required fields of replies are those that ndn-cxx refuses to do without (its ControlCommand response validators).
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ndn import encoding as enc
from ndn.app_support import nfd_mgmt
from ndn.security import DigestSha256Signer

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.forwarder.core.faces import PERMANENT, PERSISTENT, Face
from ndn_infer.forwarder.link.face_uri import FaceUri
from ndn_infer.forwarder.link.link_service import LinkService
from ndn_infer.forwarder.management.commands import FaceDone
from ndn_infer.forwarder.management.encoding import ControlParameters, decode_face_filter, decode_parameters
from ndn_infer.forwarder.management.manager import Management
from ndn_infer.ndn import lp, packet, tlv
from tests.forwarder_world import World, data, interest

BEST = "/localhost/nfd/strategy/best-route"
V2, V3 = "v0.2", "v0.3"
SIGNED = packet.SignatureInfo(packet.SIGNATURE_DIGEST_SHA256, nonce=bytes(8), time_ms=1)


class Managed(World):
    """A world with management; `c` is a local application, `N` a neighbour. Faces are made when `finish` is called."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.nonce = 0
        self.wanted: list[tuple[FaceUri, int, int | None, FaceDone]] = []
        self.management = Management(
            self.core,
            wall_us=lambda: 1_700_000_000_000_000 + int(self.now * 1e6),
            make_face=lambda *wanted: self.wanted.append(wanted),
            listening=lambda: ["unix:///run/x.sock", "tcp4://127.0.0.1:6363"],
        )
        self.add_face("c")
        self.add_face("N", mtu_bytes=1400)

    def ask(self, wire: bytes, face: str = "c") -> list[packet.Data]:
        """Data that come back to the face that sent this Interest."""
        self.sent.clear()
        self.core.receive(self.faces[face], wire, self.now)
        self.management.run(self.now)
        return [packet.decode_data(lp.decode_lp(found).fragment) for name, found in self.sent if name == face]

    def command(self, module: str, verb: str, version: str = V3, face: str = "c", **fields: Any) -> dict[str, Any]:
        """A command as python-ndn encodes it, and its reply as python-ndn reads it."""
        self.nonce += 1
        if version == V2:
            name = b"".join(bytes(part) for part in nfd_mgmt.make_command(module, verb, **fields))
            wire, _ = packet.encode_interest(name, nonce=self.nonce.to_bytes(4, "big"))
        else:
            parameters = enc.InterestParam(nonce=self.nonce, lifetime=1000)
            wire = bytes(
                enc.make_interest(
                    nfd_mgmt.make_command_v2(module, verb, **fields), parameters, b"", DigestSha256Signer(True)
                )
            )
        replies = self.ask(wire, face)
        assert len(replies) == 1
        assert packet.decode_interest(wire).name == replies[0].name
        assert packet.digest_signer(replies[0].signed_portion) == replies[0].signature
        return nfd_mgmt.parse_response(replies[0].content)

    def dataset(self, path: str) -> bytes:
        """All segments of a dataset, by name after discovery."""
        self.nonce += 1
        prefix = ndn.from_uri(f"/localhost/nfd/{path}")
        wire, _ = packet.encode_interest(
            prefix, nonce=self.nonce.to_bytes(4, "big"), can_be_prefix=True, must_be_fresh=True
        )
        first = self.ask(wire)[0]
        parts = ndn.components(first.name[len(prefix) :])
        assert [ndn.component_type(part) for part in parts] == [ndn.VERSION, ndn.SEGMENT]
        assert first.final_block is not None and 0 < first.freshness_ms <= 1000
        content, last = first.content, ndn.component_number(first.final_block, ndn.SEGMENT)
        for number in range(1, last + 1):
            name = first.name[: -len(parts[1])] + ndn.segment(number)
            found = self.ask(packet.encode_interest(name, nonce=b"seg!")[0])[0]
            assert found.name == name and found.final_block == first.final_block
            content += found.content
        return content

    def finish(self) -> Face:
        """The shell made the face that was asked for first."""
        uri, persistency, mtu, done = self.wanted.pop(0)
        link = LinkService(lambda _: None, mtu_bytes=mtu or 1400)
        face = Face(
            self.core.new_face_id(), str(uri), "udp4://10.0.0.1:6363", link, persistency=persistency,
            allowed_persistency=frozenset({PERSISTENT, 1, PERMANENT}),
        )  # fmt: skip
        self.core.add_face(face)
        done(face, 200, "OK")
        return face


def present(reply: dict[str, Any]) -> set[str]:
    return {key for key, value in reply.items() if value is not None} - {"status_code", "status_text"}


# ---------------------------------------------------------------- commands


@pytest.mark.parametrize("version", [V2, V3])
def test_register_serves_and_unregister_withdraws(version: str) -> None:
    """The FIB has the route when the answer goes out, so the next Interest finds it (unlike NFD)."""
    world = Managed()
    reply = world.command("rib", "register", version, name="/app")
    assert reply["status_code"] == 200
    assert present(reply) == {"name", "face_id", "origin", "cost", "flags"}
    assert (reply["face_id"], reply["origin"], reply["cost"], reply["flags"]) == (world.faces["c"].id, 0, 0, 1)
    assert "c<I/app/x#9" in world.receive("N", interest("/app/x", 9), world.now)
    reply = world.command("rib", "unregister", version, name="/app")
    assert reply["status_code"] == 200 and present(reply) == {"name", "face_id", "origin"}
    assert "N<N150/app/y#10" in world.receive("N", interest("/app/y", 10), world.now)
    assert world.command("rib", "unregister", version, name="/app")["status_code"] == 200  # as NFD: also when absent


def test_register_for_another_face_with_expiry_and_refresh() -> None:
    world = Managed()
    given = {"name": "/x", "face_id": world.faces["N"].id, "origin": 65, "cost": 7, "flags": 2}
    reply = world.command("rib", "register", expiration_period=60_000, **given)
    assert {key: reply[key] for key in given if key != "name"} == {k: v for k, v in given.items() if k != "name"}
    assert reply["expiration_period"] == 60_000
    world.now = 50.0
    routes = nfd_mgmt.RibStatus.parse(world.dataset("rib/list")).entries
    assert [route.expiration_period for entry in routes for route in entry.routes] == [10_000]
    world.command("rib", "register", expiration_period=60_000, **given)
    world.now = 100.0
    world.core.tick(world.now)
    assert world.core.fib.lookup(ndn.from_uri("/x"))
    world.core.tick(110.1)
    assert not world.core.fib.lookup(ndn.from_uri("/x"))


@pytest.mark.parametrize("expiration", [0, 1, (1 << 64) - 1])
def test_extreme_expiration_periods(expiration: int) -> None:
    world = Managed()
    assert world.command("rib", "register", name="/x", expiration_period=expiration)["status_code"] == 200
    nfd_mgmt.RibStatus.parse(world.dataset("rib/list"))


DEEP = "/" + "/".join("abcdefghijklmnopqrstuvwxyz0123456")

REFUSED = [
    ("rib", "register", {}, 400),
    ("rib", "register", {"name": "/x", "face_id": 9999}, 410),
    ("rib", "register", {"name": DEEP}, 414),
    ("rib", "unregister", {}, 400),
    ("rib", "announce", {"name": "/x"}, 400),
    ("fib", "add-nexthop", {"name": "/x", "face_id": 9999}, 410),
    ("fib", "add-nexthop", {"name": DEEP}, 414),
    ("fib", "remove-nexthop", {}, 400),
    ("faces", "create", {}, 400),
    ("faces", "create", {"uri": "nonsense"}, 400),
    ("faces", "create", {"uri": "udp4://example.net:6363"}, 400),
    ("faces", "create", {"uri": "udp://10.0.0.2:6363"}, 400),
    ("faces", "create", {"uri": "udp4://10.0.0.2:0"}, 400),
    ("faces", "create", {"uri": "ether://[01:00:5e:00:17:aa]"}, 406),
    ("faces", "create", {"uri": "udp4://224.0.23.170:56363"}, 406),
    ("faces", "create", {"uri": "udp4://10.0.0.2:6363", "face_persistency": nfd_mgmt.FacePersistency.ON_DEMAND}, 406),
    ("faces", "create", {"uri": "udp4://10.0.0.2:6363", "local_uri": "udp4://10.0.0.1:6363"}, 406),
    ("faces", "create", {"uri": "udp4://10.0.0.2:6363", "flags": 1, "mask": 1}, 406),
    ("faces", "create", {"uri": "udp4://10.0.0.2:6363", "mtu": 20}, 406),
    ("faces", "create", {"uri": "udp4://10.0.0.2:6363", "flags": 4}, 400),
    ("faces", "update", {"face_id": 9999}, 404),
    ("faces", "update", {"face_id": 1, "flags": 0, "mask": 1}, 404),
    ("faces", "update", {"face_id": 257, "flags": 1, "mask": 1}, 409),
    ("faces", "update", {"face_persistency": nfd_mgmt.FacePersistency.PERMANENT}, 409),
    ("faces", "update", {"mtu": 1400}, 409),
    ("faces", "update", {"flags": 1}, 400),
    ("faces", "destroy", {}, 400),
    ("cs", "config", {"mask": 1}, 400),
    ("cs", "erase", {}, 400),
    ("strategy-choice", "set", {"name": "/x"}, 400),
    ("strategy-choice", "set", {"name": "/x", "strategy": "/localhost/nfd/strategy/unknown"}, 404),
    ("strategy-choice", "set", {"name": "/x", "strategy": BEST + "/v=99"}, 404),
    ("strategy-choice", "set", {"name": DEEP, "strategy": BEST}, 414),
    ("strategy-choice", "unset", {"name": "/"}, 400),
    ("nothing", "here", {"name": "/x"}, 501),
]


@pytest.mark.parametrize("module, verb, fields, code", REFUSED)
def test_refusals(module: str, verb: str, fields: dict[str, Any], code: int) -> None:
    """Status codes of NFD 24.07; nothing has changed."""
    world = Managed()
    before = (world.dataset("fib/list"), world.dataset("strategy-choice/list"), len(world.core.faces))
    assert world.command(module, verb, **fields)["status_code"] == code
    assert (world.dataset("fib/list"), world.dataset("strategy-choice/list"), len(world.core.faces)) == before
    assert not world.wanted


def test_fib_commands() -> None:
    world = Managed()
    reply = world.command("fib", "add-nexthop", name="/f", face_id=257, cost=3)
    assert reply["status_code"] == 200 and present(reply) == {"name", "face_id", "cost"}
    world.command("fib", "add-nexthop", name="/f", cost=9)
    entries = nfd_mgmt.FibStatus.parse(world.dataset("fib/list")).entries
    hops = {enc.Name.to_str(e.name): [(h.face_id, h.cost) for h in e.next_hop_records] for e in entries}
    assert hops == {"/localhost/nfd": [(1, 0)], "/f": [(257, 3), (256, 9)]}
    reply = world.command("fib", "remove-nexthop", name="/f", face_id=257)
    assert reply["status_code"] == 200 and present(reply) == {"name", "face_id"}
    assert [hop.face_id for hop in world.core.fib.lookup(ndn.from_uri("/f"))] == [256]


CREATED = {"face_id", "uri", "local_uri", "flags", "face_persistency"}


def answered(world: Managed) -> tuple[int, ControlParameters]:
    """Code and body of the last reply. Marking and MTU stand where ndn-cxx and NDNts have them, behind
    FacePersistency, where python-ndn 0.5.2 cannot decode them (it crashes at NFD's replies too)."""
    content = packet.decode_data(lp.decode_lp(world.sent[-1][1]).fragment).content
    _, value, end = tlv.read_header(content, 0, len(content))
    parts = {kind: (start, stop) for kind, start, stop in tlv.iterate(content, value, end)}
    body = content[parts[0x67][1] :]
    return tlv.decode_nonneg(content[slice(*parts[0x66])]), decode_parameters(body)


def test_faces_are_made_later_answered_then_and_known_afterwards() -> None:
    world = Managed()
    fields = {"uri": "udp4://10.0.0.2:6363", "mtu": 5000, "flags": 0, "mask": 4, "base_congestion_mark_interval": 5}
    name = nfd_mgmt.make_command_v2("faces", "create", **fields)
    wire, _ = packet.encode_interest(
        b"".join(bytes(part) for part in name), nonce=b"cr8!", info=SIGNED, signer=packet.digest_signer
    )
    assert world.ask(wire) == [] and len(world.wanted) == 1
    face = world.finish()
    world.management.run(world.now)
    code, reply = answered(world)
    assert code == 200
    assert (reply.face_id, reply.uri, reply.flags, reply.mtu) == (face.id, fields["uri"], 0, 5000)
    assert (reply.base_mark_interval, reply.default_threshold) == (5, 65536) and not face.link.congestion_marking
    again = world.command("faces", "create", uri=fields["uri"])
    assert again["status_code"] == 409 and present(again) == CREATED and again["face_id"] == face.id


def test_a_face_that_cannot_be_made() -> None:
    world = Managed()
    name = b"".join(bytes(part) for part in nfd_mgmt.make_command("faces", "create", uri="tcp4://10.0.0.2:6363"))
    assert world.ask(packet.encode_interest(name, nonce=b"cr8!")[0]) == []
    world.wanted[0][3](None, 504, "connection refused")
    world.management.run(world.now)
    reply = nfd_mgmt.parse_response(packet.decode_data(world.sent[-1][1]).content)
    assert (reply["status_code"], reply["status_text"]) == (504, "connection refused")


def test_an_application_turns_on_local_fields_on_its_own_face() -> None:
    """FaceId 0 or none is the incoming face; then the store's Data says 254 and the producer's its face."""
    for face_id in ({}, {"face_id": 0}):
        world = Managed()
        world.route("/p", "N")
        reply = world.command("faces", "update", flags=1, mask=1, **face_id)
        assert reply["status_code"] == 200 and reply["face_id"] == world.faces["c"].id and reply["flags"] == 5
        assert {"face_id", "flags", "face_persistency"} <= present(reply)
        world.receive("c", interest("/p/1", 1), world.now)
        assert world.receive("N", data("/p/1"), world.now) == ["c<D/p/1 from=257"]
        assert world.receive("c", interest("/p/1", 2), world.now) == ["c<D/p/1 from=254"]
        assert world.command("faces", "update", flags=0, mask=1)["flags"] == 4
        assert world.receive("c", interest("/p/1", 3), world.now) == ["c<D/p/1"]


def test_face_update_and_destroy_of_another() -> None:
    world = Managed()
    fields = {"face_id": 257, "mtu": 9000, "base_congestion_mark_interval": 7, "default_congestion_threshold": 8}
    name = b"".join(bytes(part) for part in nfd_mgmt.make_command_v2("faces", "update", **fields))
    world.ask(packet.encode_interest(name, nonce=b"upd!", info=SIGNED, signer=packet.digest_signer)[0])
    code, body = answered(world)
    assert code == 200 and (body.mtu, body.base_mark_interval, body.default_threshold) == (8800, 7, 8)
    assert body.uri is None and body.local_uri is None
    link = world.faces["N"].link
    assert (link.mtu_bytes, link.mark_interval_ns, link.threshold_bytes) == (8800, 7, 8)
    world.route("/n", "N")
    reply = world.command("faces", "destroy", face_id=257)
    assert reply["status_code"] == 200 and reply["face_id"] == 257
    assert 257 not in world.core.faces and not world.core.fib.lookup(ndn.from_uri("/n"))
    assert world.dataset("rib/list") == b""
    assert world.command("faces", "destroy", face_id=257)["status_code"] == 200
    assert world.command("faces", "destroy", face_id=1)["status_code"] == 200 and 1 in world.core.faces


def test_cs_commands() -> None:
    world = Managed()
    reply = world.command("cs", "config", capacity=700, flags=0, mask=1)
    assert reply["status_code"] == 200 and present(reply) == {"capacity", "flags"}
    assert (reply["capacity"], reply["flags"]) == (700, 2)
    assert world.command("cs", "config", flags=1, mask=1)["flags"] == 3
    for number in range(300):
        world.core.cs.insert(ndn.from_uri(f"/a/{number}"), b"x", 0, 0.0)
    world.core.cs.insert(ndn.from_uri("/b"), b"x", 0, 0.0)
    info = nfd_mgmt.CsInfo.parse(enc.parse_and_check_tl(world.dataset("cs/info"), 0x80))
    assert (info.capacity, info.flags, info.n_cs_entries) == (700, 3, 301)
    reply = world.command("cs", "erase", name="/a")
    assert (reply["count"], reply["capacity"]) == (256, 256)  # there are more
    assert present(reply) == {"name", "count", "capacity"}
    assert present(world.command("cs", "erase", name="/a", count=40)) == {"name", "count"}
    assert world.command("cs", "erase", name="/a")["count"] == 4
    assert len(world.core.cs) == 1
    world.command("cs", "config", capacity=0)
    assert len(world.core.cs) == 0


def test_strategy_commands() -> None:
    world = Managed()
    reply = world.command("strategy-choice", "set", name="/x", strategy="/localhost/nfd/strategy/multicast")
    assert reply["status_code"] == 200 and present(reply) == {"name", "strategy"}
    assert enc.Name.to_str(reply["strategy"].name) == "/localhost/nfd/strategy/multicast/v=5"
    choices = nfd_mgmt.StrategyChoiceMsg.parse(world.dataset("strategy-choice/list")).strategy_choices
    found = {enc.Name.to_str(entry.name): enc.Name.to_str(entry.strategy.name) for entry in choices}
    assert found == {
        "/": BEST + "/v=5",
        "/localhost": "/localhost/nfd/strategy/multicast/v=5",
        "/localhost/nfd": BEST + "/v=5",
        "/ndn/broadcast": "/localhost/nfd/strategy/multicast/v=5",
        "/x": "/localhost/nfd/strategy/multicast/v=5",
    }
    assert present(world.command("strategy-choice", "unset", name="/x")) == {"name"}
    assert world.core.strategies.of(ndn.from_uri("/x")).name == ndn.from_uri(BEST + "/v=5")


# ---------------------------------------------------------------- who may, and what is ignored


def test_management_is_for_local_faces() -> None:
    world = Managed()
    assert world.ask(interest("/localhost/nfd/faces/list", 1, can_be_prefix=True), "N") == []
    assert world.core.counters.scope_violations == 1


def test_wrong_parameters_digest_is_ignored() -> None:
    world = Managed()
    name = ndn.from_uri("/localhost/nfd/rib/register") + ndn.generic(ControlParameters(name=ndn.generic("x")).encode())
    wire, _ = packet.encode_interest(name, nonce=b"abcd", info=SIGNED, signer=packet.digest_signer)
    assert len(world.ask(wire)) == 1
    damaged = wire[:-1] + bytes((wire[-1] ^ 1,))
    world.now = 9.0
    assert world.ask(damaged) == []


@pytest.mark.parametrize("raw", [b"", b"\x68", b"\x68\x02\x69\x05", b"\x69\x00", b"\x68\x05\x69\x03\x00\x00\x01"])
def test_malformed_parameters_are_answered_with_400(raw: bytes) -> None:
    world = Managed()
    name = ndn.from_uri("/localhost/nfd/rib/register") + ndn.generic(raw)
    replies = world.ask(packet.encode_interest(name, nonce=b"abcd")[0])
    assert nfd_mgmt.parse_response(replies[0].content)["status_code"] == 400


def test_what_is_no_request_is_ignored() -> None:
    """Names that are too short, too long, or not management's at all (a route or a next hop may bring them)."""
    world = Managed()
    for uri in (
        "/localhost/nfd",
        "/localhost/nfd/rib",
        "/localhost/nfd/rib/register",
        "/localhost/nfd/faces/list/seg=3",
    ):
        assert world.ask(interest(uri, 5, can_be_prefix=True)) == []
    assert world.ask(interest("/localhost/nfd/faces/list/" + "x" * 1300, 5, can_be_prefix=True)) == []
    world.command("fib", "add-nexthop", name="/", face_id=1)
    assert len(ndn.from_uri("/fourteen-chars")) == len(ndn.from_uri("/localhost/nfd"))
    assert world.ask(interest("/elsewhere", 6)) == []
    assert world.ask(interest("/fourteen-chars/cs/info", 7, can_be_prefix=True)) == []


# ---------------------------------------------------------------- datasets


def test_large_dataset_is_segmented_and_versions_differ() -> None:
    world = Managed()
    for number in range(1000):
        world.route(f"/prefix/number/{number}", "N", number)
    entries = nfd_mgmt.RibStatus.parse(world.dataset("rib/list")).entries
    assert [entry.routes[0].cost for entry in entries] == list(range(1000))
    assert len(nfd_mgmt.FibStatus.parse(world.dataset("fib/list")).entries) == 1001
    versions = {
        ndn.components(world.ask(interest("/localhost/nfd/status/general", nonce, can_be_prefix=True))[0].name)[-2]
        for nonce in range(100, 105)
    }
    assert len(versions) == 5  # although the clock stands still


def test_old_segments_are_forgotten() -> None:
    world = Managed()
    first = world.ask(interest("/localhost/nfd/cs/info", 1, can_be_prefix=True))[0]
    again = packet.encode_interest(first.name, nonce=b"aaaa")[0]
    assert world.ask(again)[0].wire == first.wire
    for nonce in range(2, 2100):
        world.now += 1
        world.core.tick(world.now)
        world.ask(interest("/localhost/nfd/cs/info", nonce, can_be_prefix=True))
    world.now += 10
    assert world.ask(packet.encode_interest(first.name, nonce=b"bbbb")[0]) == []


def test_signed_dataset_interest() -> None:
    """As pynfdc sends it: the reply's name extends the signed name (ndn-cxx, StatusDatasetContext)."""
    world = Managed()
    wire, name = packet.encode_interest(
        ndn.from_uri("/localhost/nfd/faces/list"), nonce=b"pynf", can_be_prefix=True, info=SIGNED,
        signer=packet.digest_signer,
    )  # fmt: skip
    found = world.ask(wire)[0]
    assert found.name.startswith(name)
    assert len(nfd_mgmt.FaceStatusMsg.parse(found.content).face_status) == 3


def test_face_list_tells_counters_and_kinds() -> None:
    world = Managed()
    world.route("/n", "N")
    world.receive("c", interest("/n/1", 1), 0.0)
    world.receive("N", data("/n/1"), 0.0)
    faces = {face.face_id: face for face in nfd_mgmt.FaceStatusMsg.parse(world.dataset("faces/list")).face_status}
    neighbour = faces[257]
    assert neighbour.uri == "test://N" and neighbour.local_uri == "test://"
    assert neighbour.face_scope is nfd_mgmt.FaceScope.NON_LOCAL
    assert neighbour.face_persistency is nfd_mgmt.FacePersistency.PERSISTENT
    assert neighbour.link_type is nfd_mgmt.FaceLinkType.POINT_TO_POINT
    assert (neighbour.n_in_data, neighbour.n_out_interests, neighbour.mtu) == (1, 1, 1400)
    assert neighbour.n_in_bytes == len(data("/n/1")) and neighbour.n_out_bytes == len(interest("/n/1", 1))
    assert faces[256].face_scope is nfd_mgmt.FaceScope.LOCAL and faces[256].flags is nfd_mgmt.FaceFlags(4)


@pytest.mark.parametrize(
    "wanted, expected",
    [
        ({"face_id": 257}, [257]),
        ({"uri": "test://N"}, [257]),
        ({"uri_scheme": "internal"}, [1]),
        ({"local_uri": "test://"}, [256, 257]),
        ({"face_scope": nfd_mgmt.FaceScope.LOCAL}, [1, 256]),
        ({"face_persistency": nfd_mgmt.FacePersistency.PERMANENT}, [1]),
        ({"link_type": nfd_mgmt.FaceLinkType.MULTI_ACCESS}, []),
        ({}, [1, 256, 257]),
    ],
)
def test_face_query(wanted: dict[str, Any], expected: list[int]) -> None:
    world = Managed()
    query = nfd_mgmt.FaceQueryFilter()
    query.face_query_filter = nfd_mgmt.FaceQueryFilterValue()
    for key, value in wanted.items():
        setattr(query.face_query_filter, key, value)
    name = ndn.from_uri("/localhost/nfd/faces/query") + ndn.generic(bytes(query.encode()))
    found = world.ask(packet.encode_interest(name, nonce=b"qury", can_be_prefix=True)[0])[0]
    assert [face.face_id for face in nfd_mgmt.FaceStatusMsg.parse(found.content).face_status] == expected


def test_malformed_face_query_is_answered_with_400() -> None:
    world = Managed()
    for number, uri in enumerate(("/localhost/nfd/faces/query", "/localhost/nfd/faces/query/xyz")):
        found = world.ask(interest(uri, number, can_be_prefix=True))[0]
        assert nfd_mgmt.parse_response(found.content)["status_code"] == 400


def test_general_status_and_channels() -> None:
    world = Managed()
    world.now = 12.5
    status = nfd_mgmt.GeneralStatus.parse(world.dataset("status/general"))
    assert status.current_timestamp - status.start_timestamp == 12_500
    assert status.n_fib_entries == 1 and status.n_in_interests == 1 and status.n_pit_entries == 1
    channels = world.dataset("faces/channels")
    assert channels == b"\x82\x14\x81\x12unix:///run/x.sock\x82\x17\x81\x15tcp4://127.0.0.1:6363"


def test_answers_never_enter_the_content_store() -> None:
    world = Managed()
    world.dataset("faces/list")
    world.command("rib", "register", name="/x")
    assert len(world.core.cs) == 0


# ---------------------------------------------------------------- codecs

numbers = st.none() | st.integers(0, (1 << 64) - 1)
texts = st.none() | st.text("abc:/[]0", max_size=20)
names = st.none() | st.sampled_from([b"", ndn.from_uri("/a/b"), ndn.from_uri("/x/v=3")])


@given(
    name=names, face_id=numbers, uri=texts, local_uri=texts,
    origin=numbers, cost=numbers, capacity=numbers, count=numbers, base_mark_interval=numbers,
    default_threshold=numbers, mtu=numbers, flags=numbers, mask=numbers, strategy=names, expiration_ms=numbers,
    persistency=st.none() | st.integers(0, 2),
)  # fmt: skip
def test_control_parameters_agree_with_python_ndn(**fields: Any) -> None:
    everything = ControlParameters(**fields)
    assert decode_parameters(everything.encode()) == everything
    for elsewhere in ("base_mark_interval", "default_threshold", "mtu"):
        fields[elsewhere] = None
    wire = ControlParameters(**fields).encode()
    theirs = nfd_mgmt.ControlParameters.parse(wire).cp
    renamed = {
        "base_mark_interval": "base_congestion_mark_interval", "default_threshold": "default_congestion_threshold",
        "expiration_ms": "expiration_period", "persistency": "face_persistency",
    }  # fmt: skip
    for key, value in fields.items():
        found = getattr(theirs, renamed.get(key, key))
        if key in ("name", "strategy"):
            found = found.name if key == "strategy" and found is not None else found
            assert (None if found is None else b"".join(bytes(part) for part in found)) == value
        else:
            assert (found.value if key == "persistency" and found is not None else found) == value
    again = nfd_mgmt.ControlParameters()
    again.cp = theirs
    assert bytes(again.encode()) == wire


@given(st.binary(max_size=40), st.sampled_from([0x68, 0x96]))
def test_decoders_of_hostile_bytes(body: bytes, kind: int) -> None:
    for wire in (body, bytes((kind, len(body))) + body):
        for decode in (decode_parameters, decode_face_filter):
            try:
                decode(wire)
            except BadPacket:
                pass
