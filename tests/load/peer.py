"""A light NDN application for load tests: one connection of any kind, many Interests in flight.

Owns: connecting (unix://, tcp://, udp://, ws://), asking with retransmissions, answering, management commands. The link
service of the forwarder does the NDNLPv2 part. Must not know: what a test wants to find out.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.forwarder.core.parsing import parse_data, parse_interest
from ndn_infer.forwarder.link.link_service import LinkService
from ndn_infer.forwarder.management.encoding import ControlParameters
from ndn_infer.ndn import packet, tlv
from ndn_infer.ndn.tlv import Framer

MANAGEMENT: Final = "/localhost/nfd"
SUCCESS: Final = 200
CONNECT_S: Final = 10.0

Answer = Callable[[bytes], bytes | None]
"""Takes the name of an Interest, gives the Data packet."""


class Unanswered(Exception):
    """No Data after all transmissions."""


def constant_data(name: bytes, size: int, *, freshness_ms: int = 0) -> bytes:
    """Data whose content follows from its name. The signature is constant: forwarders do not look at it."""
    content = (name * (size // len(name) + 1))[:size]
    return packet.encode_data(name, content, freshness_ms=freshness_ms, signer=lambda _: bytes(32))


class Peer:
    """`await open_peer(uri)`, `ask`, `command`, `close()`. `answer` is asked for Data of Interests that arrive;
    `lost` is called when the forwarder ends the connection."""

    def __init__(self) -> None:
        self.answer: Answer = lambda name: None
        self.lost: Callable[[], None] = lambda: None
        self.nacks = 0
        self.bad = 0
        self.received = 0
        self.closed = False
        self.ending: asyncio.Task[None] | None = None
        self.link = LinkService(self._transmit)
        self._write: Callable[[bytes], None] = lambda wire: None
        self._close: Callable[[], None] = lambda: None
        self._exact: dict[bytes, asyncio.Future[bytes]] = {}
        self._below: dict[bytes, asyncio.Future[bytes]] = {}

    # ------------------------------------------------------------ in and out

    def _transmit(self, wire: bytes) -> None:
        if not self.closed:
            self._write(wire)

    def attach(self, write: Callable[[bytes], None], close: Callable[[], None]) -> None:
        self._write, self._close = write, close

    def close(self) -> None:
        self.closed = True
        self._close()

    async def aclose(self) -> None:
        """Close, and wait until that is done (WebSocket says goodbye)."""
        self.close()
        if self.ending is not None:
            await self.ending

    def receive(self, wire: bytes) -> None:
        now = time.monotonic()
        try:
            if wire[0] == tlv.LP_PACKET:
                unwrapped = self.link.unwrap(wire, now)
                if unwrapped is not None:
                    self._on_packet(unwrapped.fragment, unwrapped.pit_token, unwrapped.nack_reason, now)
            else:
                self._on_packet(wire, b"", None, now)
        except BadPacket:
            self.bad += 1

    def _on_packet(self, wire: bytes, token: bytes, nack: int | None, now: float) -> None:
        self.received += 1
        if nack is not None:
            self.nacks += 1
        elif wire[0] == tlv.INTEREST:
            data = self.answer(parse_interest(wire).name)
            if data is not None:
                self.link.send(data, now, token=token)
        else:
            name = parse_data(wire)[0]
            waiting = self._exact.pop(name, None) or self._prefix_waiter(name)
            if waiting is not None and not waiting.done():
                waiting.set_result(wire)

    def _prefix_waiter(self, name: bytes) -> asyncio.Future[bytes] | None:
        for prefix in self._below:
            if name.startswith(prefix):
                return self._below.pop(prefix)
        return None

    # ------------------------------------------------------------ asking

    async def ask(
        self, name: bytes, *, every_s: float = 0.5, tries: int = 8, prefix: bool = False, wire: bytes = b""
    ) -> bytes:
        """The Data of a name, or below it; the Interest is sent every `every_s` seconds. Raises Unanswered."""
        table = self._below if prefix else self._exact
        waiting = table.setdefault(name, asyncio.get_running_loop().create_future())  # one answer serves all who ask
        lifetime_ms = max(1, int(every_s * 1000))
        for attempt in range(tries):
            if wire and attempt == 0:
                self.link.send(wire, time.monotonic())
            else:
                self.link.send(interest(name, prefix=prefix, lifetime_ms=lifetime_ms), time.monotonic())
            done, _ = await asyncio.wait((waiting,), timeout=every_s)
            if done:
                return waiting.result()
        if table.get(name) is waiting:
            del table[name]
        raise Unanswered(ndn.to_uri(name))

    async def command(self, module: str, verb: str, body: ControlParameters, *, tries: int = 4) -> int:
        """The status code of a management command. Raises Unanswered."""
        for _ in range(tries):
            name = ndn.from_uri(f"{MANAGEMENT}/{module}/{verb}") + ndn.generic(body.encode())
            info = packet.SignatureInfo(
                packet.SIGNATURE_DIGEST_SHA256, nonce=os.urandom(8), time_ms=time.time_ns() // 1_000_000
            )
            wire, name = packet.encode_interest(
                name, nonce=os.urandom(4), must_be_fresh=True, parameters=b"", info=info, signer=packet.digest_signer
            )
            try:
                reply = await self.ask(name, every_s=2.0, tries=1, wire=wire)
            except Unanswered:
                continue
            return status_code(packet.decode_data(reply).content)
        raise Unanswered(f"{module}/{verb}")

    async def register(self, uri: str, *, flags: int | None = None) -> None:
        assert await self.command("rib", "register", ControlParameters(name=ndn.from_uri(uri), flags=flags)) == SUCCESS

    async def dataset(self, path: str) -> bytes:
        """All segments of a status dataset. Raises Unanswered."""
        base = ndn.from_uri(f"{MANAGEMENT}/{path}")
        first = packet.decode_data(await self.ask(base, prefix=True, every_s=1.0))
        content = first.content
        versioned = b"".join(ndn.components(first.name)[:-1])
        last = 0 if first.final_block is None else ndn.component_number(first.final_block, ndn.SEGMENT)
        for number in range(1, last + 1):
            content += packet.decode_data(await self.ask(versioned + ndn.segment(number), every_s=1.0)).content
        return content


def interest(name: bytes, *, prefix: bool = False, lifetime_ms: int = 4000) -> bytes:
    wire, _ = packet.encode_interest(
        name, nonce=random.randbytes(4), can_be_prefix=prefix, must_be_fresh=prefix, lifetime_ms=lifetime_ms
    )
    return wire


def status_code(content: bytes) -> int:
    _, start, end = tlv.read_header(content, 0, len(content))
    for kind, value, after in tlv.iterate(content, start, end):
        if kind == 0x66:
            return tlv.decode_nonneg(content[value:after])
    raise BadPacket("a ControlResponse has a StatusCode")


def numbers_of(content: bytes) -> dict[int, int]:
    """Number fields of a dataset without structure."""
    return {
        kind: tlv.decode_nonneg(content[value:after])
        for kind, value, after in tlv.iterate(content)
        if after - value in (1, 2, 4, 8)
    }


def entries_of(content: bytes) -> int:
    return sum(1 for _ in tlv.iterate(content))


# ---------------------------------------------------------------- connections


class _Stream(asyncio.Protocol):
    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._framer = Framer()

    def data_received(self, chunk: bytes) -> None:
        for wire in self._framer.feed(chunk):
            self._peer.receive(wire)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._peer.closed:
            self._peer.closed = True
            self._peer.lost()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def datagram_received(self, wire: bytes, address: Any) -> None:
        self._peer.receive(wire)


async def open_peer(uri: str) -> Peer:
    """Raises OSError, TimeoutError."""
    loop, parts, peer = asyncio.get_running_loop(), urlsplit(uri), Peer()
    async with asyncio.timeout(CONNECT_S):
        if parts.scheme == "unix":
            transport, _ = await loop.create_unix_connection(lambda: _Stream(peer), parts.path)
            peer.attach(transport.write, transport.abort)
        elif parts.scheme.startswith("tcp"):
            transport, _ = await loop.create_connection(lambda: _Stream(peer), parts.hostname, parts.port)
            peer.attach(transport.write, transport.abort)
        elif parts.scheme.startswith("udp"):
            address = (parts.hostname or "", parts.port or 0)
            datagrams, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(peer), remote_addr=address)
            peer.link.mtu_bytes = 1400
            peer.attach(datagrams.sendto, datagrams.abort)
        else:
            await _attach_websocket(peer, uri)
    return peer


async def _attach_websocket(peer: Peer, uri: str) -> None:
    session = aiohttp.ClientSession()
    socket = await session.ws_connect(uri, max_msg_size=0)
    out: asyncio.Queue[bytes] = asyncio.Queue()

    async def write() -> None:
        while True:
            await socket.send_bytes(await out.get())

    async def read() -> None:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                peer.receive(message.data)
        if not peer.closed:
            peer.closed = True
            peer.lost()

    tasks = [asyncio.create_task(write()), asyncio.create_task(read())]

    async def end() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await socket.close()
        await session.close()

    def close() -> None:
        peer.ending = asyncio.create_task(end())

    peer.attach(out.put_nowait, close)
