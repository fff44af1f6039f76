"""A running daemon on Unix, TCP, UDP and WebSocket, fed with hostile packets from clients that come and go.

Owns: spraying, and what an honest pair on any two transports must get. Must not know: how the packets came to be. The
daemon runs in this process, so that its tables can be looked at.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from ndn_infer import ndn
from ndn_infer.config import ForwarderConfig
from ndn_infer.forwarder.core.faces import MANAGEMENT_FACE_ID
from ndn_infer.forwarder.core.parsing import MAX_LIFETIME_MS
from ndn_infer.forwarder.core.rib import CAPTURE
from ndn_infer.forwarder.shell.daemon import ForwarderDaemon
from tests.load.peer import constant_data, open_peer

KINDS: Final = ("unix", "tcp", "udp", "ws")
PIT_CAPACITY: Final = 2000
CS_BYTES: Final = 4 << 20
QUEUE_BYTES: Final = 1 << 20
GONE_S: Final = 10.0
UPGRADE: Final = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def broken_frame(rng: random.Random, payload: bytes) -> bytes:
    """A WebSocket frame with an operation code, a length and a mask bit that may be wrong."""
    first = rng.choice((0x82, 0x82, 0x82, 0x02, 0x00, 0x80, 0x81, 0x88, 0x89, 0x8A, rng.randrange(256)))
    size = len(payload) if rng.random() < 0.9 else rng.choice((0, 125, 126, 65535, 1 << 40))
    masked = 0x80 if rng.random() < 0.9 else 0
    if size < 126:
        head = bytes((first, masked | size))
    elif size < 1 << 16:
        head = bytes((first, masked | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, masked | 127)) + size.to_bytes(8, "big")
    return head + (bytes(4) if masked else b"") + payload


class SocketTarget:
    """Made by `running`. `spray` packets, then `check_service`; `check_end` once."""

    def __init__(self, daemon: ForwarderDaemon, faults: list[str]) -> None:
        self.daemon = daemon
        self.faults = faults
        self.sent: Counter[str] = Counter()
        self.honest = 0
        tcp, ws = daemon.tcp_address, daemon.ws_address
        assert tcp is not None and daemon.udp_address is not None and ws is not None
        self.uris = {
            "unix": f"unix://{daemon.options.unix_path}",
            "tcp": f"tcp://127.0.0.1:{tcp[1]}",
            "udp": f"udp://127.0.0.1:{daemon.udp_address[1]}",
            "ws": f"ws://127.0.0.1:{ws[1]}/",
        }
        self._rng = random.Random(1)
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.setblocking(False)
        self._udp.connect(daemon.udp_address)

    def close(self) -> None:
        self._udp.close()

    async def spray(self, kind: str, packets: list[bytes]) -> None:
        """All packets over one connection, which the forwarder may end before."""
        self.sent[kind] += len(packets)
        with suppress(ConnectionError):
            await getattr(self, f"_spray_{kind}")(packets)

    async def _spray_unix(self, packets: list[bytes]) -> None:
        await self._pour(await asyncio.open_unix_connection(self.daemon.options.unix_path), packets)

    async def _spray_tcp(self, packets: list[bytes]) -> None:
        assert self.daemon.tcp_address is not None
        await self._pour(await asyncio.open_connection(*self.daemon.tcp_address), packets)

    async def _pour(self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], packets: list[bytes]) -> None:
        """One in two goes in the middle of it, without reading; the others say goodbye and hear everything."""
        reader, writer = streams
        try:
            writer.write(b"".join(packets))
            await writer.drain()
            if len(packets) % 2:
                writer.write_eof()
                while await reader.read(1 << 16):
                    pass
        finally:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _spray_udp(self, packets: list[bytes]) -> None:
        for wire in packets:
            with suppress(BlockingIOError, OSError):
                self._udp.send(wire)
        await asyncio.sleep(0)
        with suppress(BlockingIOError):
            while True:
                self._udp.recv(9400)

    async def _spray_ws(self, packets: list[bytes]) -> None:
        """One in two in messages as they should be, the others in frames that break the protocol."""
        if len(packets) % 2:
            streams = await asyncio.open_connection("127.0.0.1", urlsplit(self.uris["ws"]).port)
            streams[1].write(UPGRADE)
            with suppress(asyncio.IncompleteReadError):
                await streams[0].readuntil(b"\r\n\r\n")
                await self._pour(streams, [broken_frame(self._rng, wire) for wire in packets])
            return
        async with aiohttp.ClientSession() as session, session.ws_connect(self.uris["ws"], max_msg_size=0) as client:
            for wire in packets:
                await client.send_bytes(wire)

    # ------------------------------------------------------------ what has to hold

    async def check_service(self, rng: random.Random) -> None:
        """A producer and a consumer, each on any transport."""
        self.honest += 1
        producer = await open_peer(self.uris[rng.choice(KINDS)])
        consumer = await open_peer(self.uris[rng.choice(KINDS)])
        producer.answer = lambda name: constant_data(name, rng.choice((10, 8000)))
        uri = f"/honest/{self.honest}"
        await producer.register(uri, flags=CAPTURE)
        name = ndn.from_uri(uri) + ndn.segment(0)
        assert name in await consumer.ask(name)
        for peer in (producer, consumer):
            await peer.aclose()
        self.check_bounds()

    def check_bounds(self) -> None:
        core = self.daemon.core
        assert not self.faults, self.faults[0]
        assert core.pit_size <= PIT_CAPACITY and core.cs.used_bytes <= CS_BYTES
        for face in core.faces.values():
            assert face.link.queued_bytes() <= QUEUE_BYTES + 9000 or face.uri.startswith("udp")

    async def check_end(self) -> None:
        """Faces of clients that are gone are gone; when all lifetimes have passed nothing pends."""
        core = self.daemon.core
        async with asyncio.timeout(GONE_S):
            while any(not face.uri.startswith(("udp", "internal")) for face in core.faces.values()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        core.tick(asyncio.get_running_loop().time() + MAX_LIFETIME_MS / 1000 + 1)
        assert core.pit_size == 0, f"{core.pit_size} Interests pend for ever"
        known = core.faces.keys()
        assert {route.face_id for _, routes in core.rib.items() for route in routes} <= known
        assert known >= {MANAGEMENT_FACE_ID}
        self.check_bounds()


class _Faults(logging.Handler):
    """What somebody logged as an error: nothing may."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        self._faults.append(logging.Formatter().format(record))


@asynccontextmanager
async def running() -> AsyncIterator[SocketTarget]:
    faults: list[str] = []
    raised: list[dict[str, Any]] = []

    def unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        raised.append(context)
        faults.append(f"{context['message']}: {context.get('exception')!r}")

    asyncio.get_running_loop().set_exception_handler(unhandled)
    handler = _Faults(faults)
    logging.getLogger().addHandler(handler)
    with tempfile.TemporaryDirectory(prefix="ndn-fuzz-") as directory:
        options = ForwarderConfig(
            unix_path=str(Path(directory) / "f.sock"), tcp_bind=("127.0.0.1:0",), udp_bind=("127.0.0.1:0",),
            loopback_commands="any", ws_bind=("127.0.0.1:0",), pit_capacity=PIT_CAPACITY,
            cs_capacity_mib=CS_BYTES >> 20, face_queue_mib=QUEUE_BYTES >> 20,
        )  # fmt: skip
        daemon = ForwarderDaemon(options)
        await daemon.start()
        target = SocketTarget(daemon, faults)
        try:
            yield target
        finally:
            target.close()
            await daemon.close()
            logging.getLogger().removeHandler(handler)
