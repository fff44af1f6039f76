"""NDNts (JavaScript, npm @ndn/*), unmodified, against a running ForwarderDaemon over Unix, TCP, UDP and WebSocket:
segmented objects both ways, registration, Nacks. Its management commands: test_ndnts_management.py.

Every NDNts face insists on its PIT tokens: Data that does not bring back the token of its Interest is dropped there.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ndn_infer import ndn
from ndn_infer.ndn.packet import encode_data
from ndn_infer.transport.objects.datasets import Datasets
from tests.harness import role
from tests.integration.test_forwarder_clients import CONTENT, fetch_v2, producer_v2
from tests.integration.test_python_ndn import BLOCK, OBJECT, endpoint_to, object_server
from tests.interop.ndnts_kit import Agent, native_websocket_flags, running_agent, until
from tests.interop.ndnts_world import (
    BIG,
    BIG_SEGMENTS,
    NO_ROUTE,
    WITH_NDNTS,
    base64_of,
    digest,
    every_kind,
    listening,
    read_by_python,
    registered,
)

pytestmark = WITH_NDNTS


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
