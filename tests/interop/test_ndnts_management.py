"""NDNts (JavaScript, npm @ndn/*), unmodified, at the management of a running ForwarderDaemon: the commands of its own
interoperability suite (NDNts integ/nfdmgmt-interop: general, face-rib, strategy, cs), signed commands, and errors.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ndn_infer import ndn
from ndn_infer.errors import Timeout
from ndn_infer.forwarder.management.access import CommandClaim
from ndn_infer.forwarder.shell.daemon import ForwarderDaemon
from ndn_infer.security.command_authority import CommandAuthority
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import Validator
from tests.harness import NET, keychain_in, role
from tests.integration.test_forwarder_clients import forwarder
from tests.interop.ndnts_kit import Agent, AgentFailed, until
from tests.interop.ndnts_world import (
    BIG,
    BIG_SEGMENTS,
    NO_ROUTE,
    WITH_NDNTS,
    a_few_at_a_time,
    base64_of,
    digest,
    every_kind,
    listening,
    registered,
)

pytestmark = WITH_NDNTS


@every_kind
async def test_status_and_faces(tmp_path: Path, agent: Agent, kind: str) -> None:
    """Datasets as @ndn/nfdmgmt decodes them."""
    async with listening(tmp_path) as daemon, agent.face(daemon, kind) as face:
        [status] = await face.dataset("GeneralStatus")
        assert status["nfdVersion"].startswith("24.07") and status["startTimestamp"] <= status["currentTimestamp"]
        assert status["nFibEntries"] == len(daemon.core.fib) and status["nInInterests"] > 0
        rows = await face.dataset("FaceStatus")
        assert {row["faceId"] for row in rows} == set(daemon.core.faces)
        [own] = [row for row in rows if row["uri"].startswith("fd" if kind == "unix" else kind)]
        assert own["faceScope"] == 1 and own["nInInterests"] > 0 and own["nInBytes"] > 0 and own["linkType"] == 0
        assert await face.dataset("FaceStatus", faceId=own["faceId"], uriScheme="nothing") == []
        [same] = await face.dataset("FaceStatus", faceId=own["faceId"])
        assert same["uri"] == own["uri"] and same["nInInterests"] > own["nInInterests"]
        channels = await face.dataset("ChannelStatus")
    assert {row["localUri"].partition(":")[0] for row in channels} == {"unix", "tcp4", "udp4", "ws"}


@every_kind
async def test_face_and_route_lifecycle(tmp_path: Path, agent: Agent, kind: str) -> None:
    """integ/nfdmgmt-interop/face-rib.ts, with what it prints asserted too."""
    async with listening(tmp_path) as daemon, agent.face(daemon, kind) as face:
        made = await face.command("faces/create", uri="udp4://127.0.0.1:7001", facePersistency=2, mtu=1300)
        assert made["code"] == 200
        body, number = made["body"], made["body"]["faceId"]
        assert body["uri"] == "udp4://127.0.0.1:7001" and body["localUri"].startswith("udp4://127.0.0.1:")
        assert (body["facePersistency"], body["mtu"], body["flags"]) == (2, 1300, 4)
        again = await face.command("faces/create", uri="udp4://127.0.0.1:7001")
        assert again["code"] == 409 and again["body"]["faceId"] == number
        updated = await face.command("faces/update", faceId=number, mtu=1250)
        assert updated["code"] == 200
        assert [updated["body"][key] for key in ("faceId", "facePersistency", "mtu")] == [number, 2, 1250]
        [row] = await face.dataset("FaceStatus", faceId=number)
        assert [row[key] for key in ("uri", "mtu", "facePersistency")] == [body["uri"], 1250, 2]

        route = await face.command("rib/register", faceId=number, name="/NDNts-nfdmgmt-interop")
        assert route["code"] == 200 and route["body"]["name"] == "/NDNts-nfdmgmt-interop"
        assert [route["body"][key] for key in ("faceId", "origin", "cost", "flags")] == [number, 0, 0, 1]
        [entry] = await face.dataset("RibEntry")
        assert entry["name"] == "/NDNts-nfdmgmt-interop" and entry["route"][0]["faceId"] == number
        for _ in range(2):  # the second time there is nothing left to do
            gone = await face.command("rib/unregister", faceId=number, name="/NDNts-nfdmgmt-interop")
            assert gone["code"] == 200
            assert [gone["body"][key] for key in ("name", "faceId", "origin")] == ["/NDNts-nfdmgmt-interop", number, 0]
        assert await face.dataset("RibEntry") == []

        destroyed = await face.command("faces/destroy", faceId=number)
        assert destroyed["code"] == 200 and destroyed["body"]["faceId"] == number
        assert await face.dataset("FaceStatus", faceId=number) == [] and number not in daemon.core.faces


async def test_refused_commands(tmp_path: Path, agent: Agent) -> None:
    async with listening(tmp_path) as daemon, agent.face(daemon, "unix") as face:
        for code, command, params in (
            (400, "faces/create", {"uri": "udp4://"}),
            (406, "faces/create", {"uri": "ether://[08:00:27:01:01:01]"}),
            (404, "faces/update", {"faceId": 9999, "mtu": 1300}),
            (410, "rib/register", {"name": "/x", "faceId": 9999}),
            (414, "rib/register", {"name": "/x" * 33}),
            (404, "strategy-choice/set", {"name": "/x", "strategy": "/localhost/nfd/strategy/unknown"}),
            (400, "strategy-choice/unset", {"name": "/"}),
        ):
            answer = await face.command(command, **params)
            assert answer["code"] == code and answer["text"], (command, answer)
        assert await face.dataset("RibEntry") == []
        destroyed = await face.command("faces/destroy", faceId=9999)
        assert destroyed["code"] == 200


@every_kind
async def test_expiring_route(tmp_path: Path, agent: Agent, other: Agent, kind: str) -> None:
    """A route that is not refreshed goes by itself."""
    async with listening(tmp_path) as daemon, agent.face(daemon, kind) as face, other.face(daemon, "tcp") as consumer:
        lasting = await face.command(
            "rib/register", name="/ts", origin=255, cost=7, flags=3, expirationPeriod=3_600_000
        )
        assert lasting["code"] == 200 and lasting["body"]["expirationPeriod"] == 3_600_000
        assert [lasting["body"][key] for key in ("origin", "cost", "flags")] == [255, 7, 3]
        [entry] = await consumer.dataset("RibEntry")
        [route] = entry["route"]
        assert [route[key] for key in ("origin", "cost", "flags")] == [255, 7, 3]
        assert 0 < route["expirationPeriod"] <= 3_600_000
        assert (await face.command("rib/register", name="/ts", origin=255, expirationPeriod=1))["code"] == 200
        await registered(daemon, "/ts", present=False)
        assert await consumer.dataset("RibEntry") == []
        assert await consumer.call("express", uri="/ts/x") == {"nack": NO_ROUTE}


async def test_long_datasets_have_segments(tmp_path: Path, agent: Agent) -> None:
    names = [f"/ts/{'long-' * 8}/{number}" for number in range(300)]
    async with listening(tmp_path) as daemon, agent.face(daemon, "udp") as face:
        answers = await a_few_at_a_time(face.command("rib/register", name=name) for name in names)
        assert {answer["code"] for answer in answers} == {200}
        rows = await face.dataset("RibEntry")
        assert sorted(row["name"] for row in rows) == sorted(names) and len(daemon.core.fib) == 301


@every_kind
async def test_strategy_choices(tmp_path: Path, agent: Agent, kind: str) -> None:
    """integ/nfdmgmt-interop/strategy.ts; and the choice changes what is done."""
    async with listening(tmp_path) as daemon, agent.face(daemon, kind) as face:
        before = await face.dataset("StrategyChoice")
        assert {"/", "/localhost"} <= {row["name"] for row in before}
        chosen = await face.command("strategy-choice/set", name="/m", strategy="/localhost/nfd/strategy/multicast")
        assert chosen["code"] == 200 and chosen["body"]["name"] == "/m"
        assert chosen["body"]["strategy"].startswith("/localhost/nfd/strategy/multicast/v=")
        rows = {row["name"]: row["strategy"] for row in await face.dataset("StrategyChoice")}
        assert rows["/m"] == chosen["body"]["strategy"] and len(rows) == len(before) + 1
        unset = await face.command("strategy-choice/unset", name="/m")
        assert unset["code"] == 200 and unset["body"]["name"] == "/m"
        assert await face.dataset("StrategyChoice") == before


async def test_multicast_reaches_every_producer(tmp_path: Path, agent: Agent, other: Agent) -> None:
    async with (
        listening(tmp_path) as daemon,
        agent.face(daemon, "unix", register=True) as first,
        agent.face(daemon, "ws", register=True) as second,
        other.face(daemon, "tcp") as consumer,
    ):
        for producer in (first, second):
            await producer.call("answer", uri="/ts", text="x")
        await until(lambda: len(daemon.core.fib.lookup(ndn.from_uri("/ts"))) == 2)
        hops = [daemon.core.faces[hop.face_id].counters for hop in daemon.core.fib.lookup(ndn.from_uri("/ts"))]
        for strategy, reached in (("best-route", 1), ("multicast", 2)):
            name = f"/localhost/nfd/strategy/{strategy}"
            assert (await consumer.command("strategy-choice/set", name="/ts", strategy=name))["code"] == 200
            before = [counters.out_interests for counters in hops]
            assert (await consumer.call("express", uri=f"/ts/{strategy}"))["name"] == f"/ts/{strategy}"
            after = [counters.out_interests for counters in hops]
            assert sum(now - then for now, then in zip(after, before, strict=True)) == reached


@every_kind
async def test_content_store_commands(tmp_path: Path, agent: Agent, other: Agent, kind: str) -> None:
    """integ/nfdmgmt-interop/cs.ts: erase in as many commands as it takes; and cs/config switches serving off."""
    async with (
        listening(tmp_path) as daemon,
        other.face(daemon, "unix", register=True) as producer,
        agent.face(daemon, kind) as face,
    ):
        await producer.call("answer", uri="/ts", text="x", freshness=3_600_000)
        await registered(daemon, "/ts")
        await a_few_at_a_time(face.call("express", uri=f"/ts/{part}/{i}") for part in "ab" for i in range(150))
        [info] = await face.dataset("CsInfo")
        assert (info["nCsEntries"], info["capacity"], info["flags"]) == (300, daemon.core.cs.capacity_packets, 3)
        assert info["nHits"] == 0 and info["nMisses"] >= 300

        few = await face.command("cs/erase", name="/ts/b", count=10)
        assert few["code"] == 200 and (few["body"]["name"], few["body"]["count"]) == ("/ts/b", 10)
        many = await face.command("cs/erase", name="/ts")
        assert many["code"] == 200 and many["body"]["count"] == many["body"]["capacity"] == 256
        assert await face.call("erase", uri="/ts") == 34 and len(daemon.core.cs) == 0

        off = await face.command("cs/config", capacity=1234, flags=0, mask=2)
        assert off["code"] == 200 and (off["body"]["capacity"], off["body"]["flags"]) == (1234, 1)
        for _ in range(2):
            await face.call("express", uri="/ts/c")
        [info] = await face.dataset("CsInfo")
        assert [info[key] for key in ("nHits", "nCsEntries", "capacity", "flags")] == [0, 1, 1234, 1]
        on = await face.command("cs/config", flags=2, mask=2)
        assert on["code"] == 200 and on["body"]["flags"] == 3
        await face.call("express", uri="/ts/c")
        assert daemon.core.cs.hits == 1


@pytest.mark.parametrize("kind", ["tcp4", "udp4"])
async def test_ndnts_links_two_forwarders(tmp_path: Path, agent: Agent, other: Agent, big_file: str, kind: str) -> None:
    """NDNts as the operator: a face from one forwarder to another, a route over it, an object across, and the end."""
    async with (
        listening(tmp_path, "near") as near,
        listening(tmp_path, "far") as far,
        other.face(far, "unix", register=True) as producer,
        agent.face(near, "ws") as face,
    ):
        await producer.call("serve", uri="/ts/object", path=big_file)
        await registered(far, "/ts/object")
        where = far.tcp_address if kind == "tcp4" else far.udp_address
        assert where is not None
        made = await face.command("faces/create", uri=f"{kind}://{where[0]}:{where[1]}")
        assert made["code"] == 200
        number = made["body"]["faceId"]
        assert (await face.command("rib/register", name="/ts", faceId=number, origin=255))["code"] == 200
        assert (await face.call("fetch", uri="/ts/object"))["sha256"] == digest(BIG)
        assert near.core.faces[number].counters.in_data >= BIG_SEGMENTS
        assert (await face.command("faces/destroy", faceId=number))["code"] == 200
        assert await face.dataset("RibEntry") == []
        assert await face.call("express", uri="/ts/object/seg=99") == {"nack": NO_ROUTE}


@asynccontextmanager
async def wanting_signatures(directory: Path) -> AsyncIterator[tuple[ForwarderDaemon, Keychain]]:
    """A forwarder that takes commands by certificate only, and who issues these."""
    keychain = keychain_in(directory / "keys", "tokenize")

    async def nowhere(name: ndn.Name) -> bytes:
        raise Timeout(f"nobody has {ndn.to_uri(name)}")

    validator = Validator(TrustSchema.load(NET), keychain.anchor, nowhere)
    authority = CommandAuthority(validator, NET, ())

    async def check(claim: CommandClaim) -> None:
        validator.add_certificates(*keychain.certificates())
        await authority.check(claim.interest, claim.module, claim.prefix)

    options = {"ws_bind": ("127.0.0.1:0",), "local_commands": "signed", "remote_commands": "signed"}
    async with forwarder(directory, **options) as daemon:
        daemon.check = check
        yield daemon, keychain
    await validator.aclose()


@pytest.mark.parametrize(("kind", "localhop"), [("unix", False), ("tcp", False), ("udp", True), ("ws", True)])
async def test_commands_signed_by_ndnts(tmp_path: Path, agent: Agent, kind: str, localhop: bool) -> None:
    """An ECDSA key that NDNts made and our keychain certified registers below its own identity, at /localhost/nfd or
    /localhop/nfd, and nothing else; a digest in place of a signature does not do."""
    identity = ndn.to_uri(role("tokenize"))
    async with wanting_signatures(tmp_path) as (daemon, keychain):
        made = await agent.call("makeKey", identity=identity)
        certificate = keychain.certify(role("tokenize"), ndn.from_uri(made["name"]), base64.b64decode(made["spki"]))
        await agent.call("certified", key=made["key"], certificate=ndn.to_uri(certificate.name))
        options = {"localhop": localhop, "register": True}
        async with (
            agent.face(daemon, kind, signer=made["key"], **options) as known,
            agent.face(daemon, kind, **options) as unknown,
        ):
            assert (await unknown.command("rib/register", name=f"{identity}/x"))["code"] == 403
            refused = await known.command("rib/register", name="/elsewhere")
            assert refused["code"] == 403 and "may not register" in refused["text"]
            assert ndn.from_uri(f"{identity}/x") not in daemon.core.fib
            await known.call("answer", uri=f"{identity}/x", text="signed")
            await registered(daemon, f"{identity}/x")
            answered = await unknown.call("express", uri=f"{identity}/x/y")
            assert answered["content"] == base64_of(b"signed")


async def test_errors_of_ndnts_are_seen(agent: Agent) -> None:
    """The harness itself: what NDNts throws fails the call."""
    with pytest.raises(AgentFailed):
        await agent.call("open", kind="unix", path="/nowhere/at/all.sock")
