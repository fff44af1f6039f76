"""WebSocket faces: one binary message is one packet.

Owns: the HTTP upgrade, bounded send queues, who counts as local. aiohttp speaks it. Must not know: forwarding.
Source: NFD's WebSocket transport (path any, no subprotocol).

A browser names the page that connects in `Origin`, and any page may connect to a socket of this machine: only pages
that this machine itself serves count as local, others are like hosts elsewhere (no /localhost, no management).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, Final

from aiohttp import WSMsgType, web

from ndn_infer.addresses import is_loopback
from ndn_infer.forwarder.core.faces import ON_DEMAND, Face
from ndn_infer.forwarder.link.link_service import LinkService
from ndn_infer.forwarder.shell.listeners import Address
from ndn_infer.forwarder.shell.transports import Core
from ndn_infer.ndn.tlv import MAX_LP_OVERHEAD_BYTES, MAX_PACKET_BYTES
from ndn_infer.web_pages import from_this_machine

log = logging.getLogger(__name__)

_QUIET: Final = logging.getLogger(f"{__name__}.http")
_QUIET.setLevel(logging.CRITICAL)  # aiohttp logs a traceback for everything that is no HTTP; strangers send such things
HEARTBEAT_S: Final = 10.0
"""A peer that does not answer a ping within half of it is gone."""
SHUTDOWN_S: Final = 0.5


class WebSocketServer:
    """`await start(...)`, `await close()`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> list[Address]:
        """Listen; where (port 0 is any, no host all addresses). Raises OSError, UnicodeError."""
        application = web.Application()
        application.router.add_get("/{path:.*}", self._serve)
        self._runner = web.AppRunner(
            application, access_log=None, logger=_QUIET, handle_signals=False, shutdown_timeout=SHUTDOWN_S
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host or None, port).start()
        except (OSError, UnicodeError):
            await self.close()
            raise
        return [address[:2] for address in self._runner.addresses]

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, max_msg_size=MAX_PACKET_BYTES + MAX_LP_OVERHEAD_BYTES, compress=False
        )
        if not socket.can_prepare(request):
            return web.Response(status=426, text="This is a WebSocket of an NDN forwarder.\n")
        admission, (host, _) = self._core.admission, _host_port(request, "peername")
        if not admission.enter(host):
            return web.Response(status=503, text="too many connections\n")
        try:
            await socket.prepare(request)
            await WebSocketFace(self._core, request, socket).run()
        finally:
            admission.leave(host)
        return socket


class WebSocketFace:
    """One connection. A reader slower than the queue's bound loses packets."""

    def __init__(self, core: Core, request: web.Request, socket: web.WebSocketResponse) -> None:
        self._core = core
        self._socket = socket
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[Any] | None = asyncio.current_task()
        self._open = True
        peer, here = (_host_port(request, which) for which in ("peername", "sockname"))
        origins, hosts = (request.headers.getall(header, []) for header in ("Origin", "Host"))
        local = is_loopback(peer[0]) and from_this_machine(origins, hosts)
        self.face = Face(
            core.new_face_id(),
            websocket_uri("wsclient", peer),
            websocket_uri("ws", here),
            LinkService(self._send, queued_bytes=lambda: self._queued_bytes),
            local=local,
            persistency=ON_DEMAND,
            close=self._abort,
        )
        core.open_face(self.face)

    async def run(self) -> None:
        """Until the peer or the forwarder ends it."""
        writer = asyncio.create_task(self._write())
        try:
            async for message in self._socket:
                if message.type is WSMsgType.BINARY:
                    self._core.receive(self.face, (message.data,))
                else:
                    self.face.counters.malformed += 1
        finally:
            self._open = False
            writer.cancel()
            self._core.queue_room += self._queued_bytes
            self._queued_bytes = 0
            self._core.close_face(self.face)

    def _abort(self) -> None:
        if self._open and self._task is not None:
            self._open = False
            self._task.cancel()

    def _send(self, packet: bytes) -> None:
        core, waits = self._core, self._queued_bytes
        if not self._open or waits > core.options.face_queue_mib << 20 or waits > core.queue_room:
            self.face.counters.queue_drops += 1
            return
        core.queue_room -= len(packet)
        self._queue.append(packet)
        self._queued_bytes += len(packet)
        self._wake.set()

    async def _write(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    packet = self._queue.popleft()
                    await self._socket.send_bytes(packet)
                    self._queued_bytes -= len(packet)
                    self._core.queue_room += len(packet)
        except (OSError, RuntimeError) as error:  # closed meanwhile
            log.debug("face %d: %s", self.face.id, error)


def _host_port(request: web.Request, which: str) -> tuple[str, int]:
    address = request.transport.get_extra_info(which) if request.transport is not None else None
    return (address[0], address[1]) if address else ("0.0.0.0", 0)


def websocket_uri(scheme: str, address: tuple[str, int]) -> str:
    host, port = address
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
