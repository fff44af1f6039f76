"""WebSocket faces of the daemon, with aiohttp's client as the peer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from ndn_infer import ndn
from ndn_infer.config import ForwarderConfig
from ndn_infer.forwarder.core.rib import Route
from ndn_infer.forwarder.shell.daemon import ForwarderDaemon
from ndn_infer.ndn import lp
from tests.forwarder_world import data, describe, interest

WAIT_S = 10.0


@asynccontextmanager
async def listening(tmp_path: Path, **options: object) -> AsyncIterator[tuple[ForwarderDaemon, str]]:
    settings = {"unix_path": str(tmp_path / "nfd.sock"), "ws_bind": ("127.0.0.1:0",), **options}
    daemon = ForwarderDaemon(ForwarderConfig(**settings))  # type: ignore[arg-type]
    await daemon.start()
    try:
        assert daemon.ws_address is not None
        yield daemon, f"ws://127.0.0.1:{daemon.ws_address[1]}/"
    finally:
        await daemon.close()


async def receive(socket: aiohttp.ClientWebSocketResponse) -> str:
    return describe(await socket.receive_bytes(timeout=WAIT_S))


async def until(condition) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110  (it polls what has no event)
            await asyncio.sleep(0.005)


def faces_of(daemon: ForwarderDaemon) -> list:  # type: ignore[type-arg]
    return [face for face in daemon.core.faces.values() if face.uri.startswith("wsclient://")]


async def test_packets_both_ways_and_the_face_goes_with_its_routes(tmp_path: Path) -> None:
    async with listening(tmp_path) as (daemon, uri), aiohttp.ClientSession() as session:
        producer, consumer = await session.ws_connect(uri), await session.ws_connect(uri + "any/path")
        await until(lambda: len(faces_of(daemon)) == 2)
        face = faces_of(daemon)[0]
        assert face.local and face.local_uri == uri.rstrip("/")
        daemon.core.rib.register(ndn.from_uri("/a"), Route(face.id, 0, 0, 1))
        await consumer.send_bytes(lp.encode_lp(lp.LpPacket(interest("/a/b"), pit_token=b"\1\2\3")))
        assert await receive(producer) == "I/a/b#1"
        await producer.send_bytes(data("/a/b", content=b"x" * 8000))
        assert await receive(consumer) == "D/a/b t=010203"
        await producer.close()
        await until(lambda: len(faces_of(daemon)) == 1)
        assert not list(daemon.core.rib.items())


@pytest.mark.parametrize(
    ("origin", "local"),
    [
        (None, True),
        ("http://localhost:8080", True),
        ("http://127.0.0.1", True),
        ("https://attacker.example", False),
        ("null", False),
        ("http://[::broken", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://127.attacker.net", False),
    ],
)
async def test_a_page_from_elsewhere_is_not_local(tmp_path: Path, origin: str | None, local: bool) -> None:
    async with listening(tmp_path) as (daemon, uri), aiohttp.ClientSession() as session:
        socket = await session.ws_connect(uri, origin=origin)
        await until(lambda: faces_of(daemon))
        assert faces_of(daemon)[0].local is local
        await socket.send_bytes(interest("/localhost/nfd/status/general", must_be_fresh=True, can_be_prefix=True))
        if local:
            assert (await receive(socket)).startswith("D/localhost/nfd/status/general/v=")
        else:
            await until(lambda: daemon.core.counters.scope_violations == 1)


async def test_a_page_that_lets_its_name_resolve_to_this_machine_is_not_local(tmp_path: Path) -> None:
    """DNS rebinding: the peer is loopback, what was asked for is a name of the page's."""
    async with listening(tmp_path) as (daemon, uri), aiohttp.ClientSession() as session:
        await session.ws_connect(uri, headers={"Host": "rebound.example:9696"})
        await until(lambda: faces_of(daemon))
        assert not faces_of(daemon)[0].local


async def test_what_is_no_packet_is_counted_and_an_endless_message_ends_the_face(tmp_path: Path) -> None:
    async with listening(tmp_path) as (daemon, uri), aiohttp.ClientSession() as session:
        socket = await session.ws_connect(uri)
        await until(lambda: faces_of(daemon))
        face = faces_of(daemon)[0]
        await socket.send_str("hello")
        await socket.send_bytes(b"")
        await socket.send_bytes(interest("/a") + b"\0")
        await socket.send_bytes(interest("/a"))
        assert await receive(socket) == "N150/a#1"
        assert face.counters.malformed == 3
        await socket.send_bytes(b"x" * 20_000)
        await until(lambda: not faces_of(daemon))


async def test_destroying_the_face_closes_the_connection(tmp_path: Path) -> None:
    async with listening(tmp_path) as (daemon, uri), aiohttp.ClientSession() as session:
        socket = await session.ws_connect(uri)
        await until(lambda: faces_of(daemon))
        faces_of(daemon)[0].close()
        message = await socket.receive(timeout=WAIT_S)
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        await until(lambda: not faces_of(daemon))


async def test_a_slow_reader_loses_packets_not_the_forwarder_memory(tmp_path: Path) -> None:
    async with listening(tmp_path, face_queue_mib=1) as (daemon, uri), aiohttp.ClientSession() as session:
        await session.ws_connect(uri)
        await until(lambda: faces_of(daemon))
        face = faces_of(daemon)[0]
        for index in range(3000):
            face.link.send(data(f"/a/{index}", content=b"x" * 8000), float(index))
            if index % 100 == 0:
                await asyncio.sleep(0)
        assert face.counters.queue_drops > 0
        assert face.link.queued_bytes() <= (1 << 20) + 9000


async def test_plain_http_gets_an_explanation(tmp_path: Path) -> None:
    async with listening(tmp_path) as (_, uri), aiohttp.ClientSession() as session:
        async with session.get(uri.replace("ws://", "http://")) as response:
            assert response.status == 426
            assert "NDN" in await response.text()
