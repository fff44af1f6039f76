"""NDNts (JavaScript, npm @ndn/*), unmodified, against a running ForwarderDaemon over Unix, TCP, UDP and WebSocket:
segmented objects both ways, registration, Nacks, and the management commands of its own interoperability suite
(NDNts integ/nfdmgmt-interop: general, face-rib, strategy, cs).

Every NDNts face insists on its PIT tokens: Data that does not bring back the token of its Interest is dropped there.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from ndn import app as app_v1
from ndn.app_support.segment_fetcher import segment_fetcher
from ndn.security import KeychainDigest, sha256_digest_checker

from ndn_infer import ndn
from ndn_infer.errors import Timeout
from ndn_infer.forwarder.management.access import CommandClaim
from ndn_infer.forwarder.shell.daemon import ForwarderDaemon
from ndn_infer.ndn.packet import encode_data
from ndn_infer.security.command_authority import CommandAuthority
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import Validator
from ndn_infer.transport.objects.datasets import Datasets
from tests.harness import NET, keychain_in, role
from tests.integration.test_forwarder_clients import (
    CONTENT,
    face_to,
    fetch_v2,
    forwarder,
    producer_v2,
    running,
)
from tests.integration.test_python_ndn import BLOCK, OBJECT, endpoint_to, object_server
from tests.interop.ndnts_kit import (
    KINDS,
    Agent,
    AgentFailed,
    install,
    missing_tools,
    native_websocket_flags,
    running_agent,
    until,
)

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(missing_tools()), reason=f"not on PATH: {', '.join(missing_tools())}"),
]

BIG = random.Random(11).randbytes(200_000)
CHUNK_BYTES = 8000  # as agent.mjs cuts
BIG_SEGMENTS = -(-len(BIG) // CHUNK_BYTES)
NO_ROUTE = 150
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="session")
def ndnts(model_cache: Path) -> Path:
    """The npm packages, once a session; once and for all with NDNINFER_TEST_CACHE."""
    return install(model_cache)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def agent(ndnts: Path) -> AsyncIterator[Agent]:
    async with running_agent(ndnts) as running_one:
        yield running_one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other(ndnts: Path) -> AsyncIterator[Agent]:
    """A second process."""
    async with running_agent(ndnts) as running_one:
        yield running_one


@pytest.fixture(scope="module")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("big") / "object"
    path.write_bytes(BIG)
    return str(path)


def listening(directory: Path, name: str = "nfd") -> AbstractAsyncContextManager[ForwarderDaemon]:
    return forwarder(directory, name, ws_bind=("127.0.0.1:0",))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def a_few_at_a_time(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    """NDNts has no congestion control for single Interests, and a UDP socket's buffer holds some 250 datagrams."""
    free = asyncio.Semaphore(32)

    async def one(call: Awaitable[Any]) -> Any:
        async with free:
            return await call

    return await asyncio.gather(*(one(call) for call in calls))


async def registered(daemon: ForwarderDaemon, uri: str, *, present: bool = True) -> None:
    await until(lambda: (ndn.from_uri(uri) in daemon.core.fib) is present)


# ------------------------------------------------------------ objects


@every_kind
async def test_ndnts_reads_our_object(tmp_path: Path, agent: Agent, kind: str) -> None:
    """Its RDR client finds the version and verifies the metadata with our certificate; its fetcher reads all segments
    and checks their digest signatures. Read again, they come from the Content Store."""
    async with listening(tmp_path) as daemon, object_server(daemon, tmp_path / "keys") as (packets, keychain):
        certificate = ndn.to_uri(keychain.signer_for(role("tokenize")).certificate_name)
        async with agent.face(daemon, kind) as face:
            found = await face.call("metadata", uri=ndn.to_uri(BLOCK), certificate=certificate)
            assert ndn.from_uri(found) == packets.manifest.name
            fetched = await face.call("fetch", uri=found)
            assert fetched == {"bytes": len(OBJECT), "sha256": digest(OBJECT), "segments": 13}
            hits = daemon.core.cs.hits
            assert await face.call("fetch", uri=found) == fetched
            assert daemon.core.cs.hits >= hits + 13


ENDS = [("unix", "tcp", {}), ("tcp", "udp", {}), ("udp", "ws", {}), ("udp", "tcp", {"mtu": 1300}), ("ws", "unix", {})]


@pytest.mark.parametrize(("kind", "elsewhere", "lp"), ENDS, ids=["unix", "tcp", "udp", "udp-fragments", "ws"])
async def test_ndnts_serves(
    tmp_path: Path, agent: Agent, other: Agent, big_file: str, kind: str, elsewhere: str, lp: dict[str, int]
) -> None:
    """A 200 kB object of an NDNts producer, read by NDNts in another process over another transport and by python-ndn;
    on a link of 1300 B, NDNts fragments and we reassemble."""
    async with listening(tmp_path) as daemon, agent.face(daemon, kind, register=True, lp=lp) as producer:
        await producer.call("serve", uri="/ts/object/v=1", path=big_file, announcement="/ts")
        await registered(daemon, "/ts")
        async with other.face(daemon, elsewhere) as consumer:
            fetched = await consumer.call("fetch", uri="/ts/object/v=1")
            assert fetched == {"bytes": len(BIG), "sha256": digest(BIG), "segments": BIG_SEGMENTS}
            [entry] = await consumer.dataset("RibEntry")
        assert entry["name"] == "/ts"
        [route] = entry["route"]
        assert (route["origin"], route["cost"], route["flags"]) == (65, 0, 2)
        assert 0 < route["expirationPeriod"] <= 1_200_000
        face = daemon.core.faces[route["faceId"]]
        assert face.counters.in_data >= BIG_SEGMENTS and face.uri.startswith(("fd", "unix", kind))
        hits = daemon.core.cs.hits
        assert await read_by_python(daemon, "/ts/object/v=1") == BIG
        assert daemon.core.cs.hits >= hits + BIG_SEGMENTS


async def read_by_python(daemon: ForwarderDaemon, uri: str) -> bytes:
    """python-ndn's own loop over segments; each one's digest is checked."""
    async with running(app_v1.NDNApp(face=face_to(daemon, "unix"), keychain=KeychainDigest())) as application:
        fetcher = segment_fetcher(application, uri, validator=sha256_digest_checker, must_be_fresh=False)
        return b"".join([bytes(piece) async for piece in fetcher])


async def test_ndnts_as_in_a_browser(tmp_path: Path, ndnts: Path, big_file: str) -> None:
    """With the runtime's own WebSocket, which offers compression, in place of the package `ws`: an object each way."""
    async with (
        listening(tmp_path) as daemon,
        object_server(daemon, tmp_path / "keys") as (packets, _),
        running_agent(ndnts, *native_websocket_flags()) as browser,
        browser.face(daemon, "ws", register=True) as face,
    ):
        assert await browser.has_native_websocket()
        assert (await face.call("fetch", uri=ndn.to_uri(packets.manifest.name)))["sha256"] == digest(OBJECT)
        await face.call("serve", uri="/ts/object", path=big_file)
        await registered(daemon, "/ts/object")
        assert await read_by_python(daemon, "/ts/object") == BIG
        assert await face.call("express", uri="/nobody/x") == {"nack": NO_ROUTE}


async def test_version_discovery_between_ndnts_processes(
    tmp_path: Path, agent: Agent, other: Agent, big_file: str
) -> None:
    """CanBePrefix and MustBeFresh find an NDNts producer's version, at the producer and in the Content Store."""
    async with listening(tmp_path) as daemon, agent.face(daemon, "tcp", register=True) as producer:
        await producer.call("serve", uri="/ts/object/v=7", path=big_file, answerBelow="/ts/object")
        await registered(daemon, "/ts/object")
        async with other.face(daemon, "unix") as consumer:
            for _ in range(2):
                assert await consumer.call("discover", uri="/ts/object") == "/ts/object/v=7"
        assert daemon.core.cs.hits == 1


# ------------------------------------------------------------ registration


@every_kind
async def test_both_register_and_read_each_other(tmp_path: Path, agent: Agent, big_file: str, kind: str) -> None:
    """One NDNts face is producer and consumer at once, beside producers of python-ndn and of our own."""
    async with (
        listening(tmp_path) as daemon,
        producer_v2(daemon, "unix", "/py"),
        endpoint_to(daemon, "tcp") as (endpoint, registrar),
        agent.face(daemon, kind, register=True) as face,
    ):
        endpoint.attach(ndn.from_uri("/ours"), lambda request: request.reply(encode_data(request.interest.name, b"us")))
        await registrar.register(ndn.from_uri("/ours"))
        await face.call("serve", uri="/ts/object", path=big_file)
        await face.call("answer", uri="/ts/small", text="them")
        await registered(daemon, "/ts/object")
        await registered(daemon, "/ts/small")
        theirs, ours, big, small = await asyncio.gather(
            face.call("express", uri="/py/x"),
            face.call("express", uri="/ours/x"),
            read_by_python(daemon, "/ts/object"),
            endpoint.express(ndn.from_uri("/ts/small/x")),
        )
        assert theirs["content"] == base64_of(CONTENT) and ours["content"] == base64_of(b"us")
        assert big == BIG and small[0].content == b"them"
        assert await fetch_v2(daemon, "tcp", "/ts/small/y") == b"them"


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


@every_kind
async def test_a_withdrawn_prefix_is_gone(tmp_path: Path, agent: Agent, kind: str) -> None:
    """A producer that stops unregisters: its route goes, its face and its other prefix stay."""
    async with (
        listening(tmp_path) as daemon,
        agent.face(daemon, kind, register=True) as face,
        endpoint_to(daemon) as (endpoint, _),
    ):
        server = await face.call("answer", uri="/ts/short", text="x")
        await face.call("answer", uri="/ts/long", text="x")
        await registered(daemon, "/ts/short")
        await registered(daemon, "/ts/long")
        assert {row["prefix"] for row in await Datasets(endpoint).routes()} == {"/ts/short", "/ts/long"}
        await agent.call("stop", server=server)
        await registered(daemon, "/ts/short", present=False)
        assert {row["prefix"] for row in await Datasets(endpoint).routes()} == {"/ts/long"}
        assert await face.call("express", uri="/ts/short/y") == {"nack": NO_ROUTE}


async def test_prefix_announcements(tmp_path: Path, agent: Agent, other: Agent) -> None:
    """integ/nfdmgmt-interop/prefixann.ts: rib/announce makes a route of origin 129 that ends with its object, and
    rib/unregister ends it at once."""
    async with (
        listening(tmp_path) as daemon,
        agent.face(daemon, "unix", register=True) as face,
        other.face(daemon, "tcp") as consumer,
    ):
        server = await face.call("answer", uri="/ts", text="x", announced=600_000)
        await registered(daemon, "/ts")
        [entry] = await consumer.dataset("RibEntry")
        [route] = entry["route"]
        assert entry["name"] == "/ts" and (route["origin"], route["cost"], route["flags"]) == (129, 2048, 1)
        assert 0 < route["expirationPeriod"] <= 600_000
        assert (await consumer.call("express", uri="/ts/x"))["name"] == "/ts/x"
        await agent.call("stop", server=server)
        await registered(daemon, "/ts", present=False)


@pytest.mark.parametrize("kind", ["unix", "tcp", "ws"])
async def test_routes_go_with_the_connection(tmp_path: Path, agent: Agent, kind: str) -> None:
    async with listening(tmp_path) as daemon, endpoint_to(daemon) as (endpoint, _):
        assert await Datasets(endpoint).routes() == []  # our own face has been accepted
        faces = len(daemon.core.faces)
        async with agent.face(daemon, kind, register=True) as face:
            await face.call("answer", uri="/ts", text="x")
            await registered(daemon, "/ts")
        await registered(daemon, "/ts", present=False)
        await until(lambda: len(daemon.core.faces) == faces)
        assert await Datasets(endpoint).routes() == []


async def test_routes_go_with_a_killed_process(tmp_path: Path, ndnts: Path, agent: Agent) -> None:
    async with listening(tmp_path) as daemon, agent.face(daemon, "tcp") as consumer:
        async with running_agent(ndnts) as doomed:
            opened = await doomed.call("open", kind="unix", path=daemon.options.unix_path, register=True)
            await doomed.call("answer", face=opened["face"], uri="/ts", text="x")
            await registered(daemon, "/ts")
            assert (await consumer.call("express", uri="/ts/x"))["name"] == "/ts/x"
            doomed.kill()
        await registered(daemon, "/ts", present=False)
        assert await consumer.dataset("RibEntry") == []
        assert await consumer.call("express", uri="/ts/y") == {"nack": NO_ROUTE}


# ------------------------------------------------------------ packets


@every_kind
async def test_nacks_arrive(tmp_path: Path, agent: Agent, kind: str) -> None:
    """NDNts's endpoint ignores Nacks, its logical forwarder sees them: with the Interest's name, and NoRoute."""
    async with listening(tmp_path) as daemon, agent.face(daemon, kind) as face:
        assert await face.call("express", uri="/nobody/x") == {"nack": NO_ROUTE}
        assert await face.call("express", uri="/nobody/y", parameters="p") == {"nack": NO_ROUTE}
        seen = await face.call("seen")
        assert [nack["reason"] for nack in seen["nacks"]] == [NO_ROUTE, NO_ROUTE]
        assert seen["nacks"][0]["name"] == "/nobody/x" and seen["nacks"][1]["name"].startswith("/nobody/y/params-sha2")
        assert daemon.core.counters.out_nacks == 2


@every_kind
async def test_idle_packets_do_nothing(tmp_path: Path, agent: Agent, kind: str) -> None:
    """NDNts keeps links alive with LpPackets that have no fragment."""
    async with listening(tmp_path) as daemon, producer_v2(daemon, "unix", "/py"):
        before = set(daemon.core.faces)
        async with agent.face(daemon, kind, lp={"keepAlive": 5}) as face:
            assert (await face.call("express", uri="/py/a"))["name"] == "/py/a"
            [number] = set(daemon.core.faces) - before
            counters = daemon.core.faces[number].counters
            interests, bytes_before = counters.in_interests, counters.in_bytes
            await until(lambda: counters.in_bytes >= bytes_before + 10)
            assert counters.in_interests == interests and number in daemon.core.faces
            assert (await face.call("express", uri="/py/b"))["name"] == "/py/b"


async def test_parameters_and_freshness(tmp_path: Path, agent: Agent, other: Agent) -> None:
    """Interests with ApplicationParameters pass; MustBeFresh takes from the Content Store what is fresh, else not."""
    async with listening(tmp_path) as daemon, agent.face(daemon, "unix", register=True) as producer:
        await producer.call("answer", uri="/ts/lasting", text="x", freshness=3_600_000)
        await producer.call("answer", uri="/ts/fleeting", text="x", freshness=0)
        await registered(daemon, "/ts/lasting")
        await registered(daemon, "/ts/fleeting")
        async with other.face(daemon, "tcp") as consumer:
            answered = await consumer.call("express", uri="/ts/lasting/p", parameters="what")
            assert answered["name"].startswith("/ts/lasting/p/params-sha256=")
            for uri, from_store in (("/ts/lasting/a", 1), ("/ts/fleeting/a", 0)):
                hits = daemon.core.cs.hits
                for _ in range(2):
                    assert (await consumer.call("express", uri=uri, mustBeFresh=True))["name"] == uri
                assert daemon.core.cs.hits == hits + from_store, uri


# ------------------------------------------------------------ management


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
