"""The embedded forwarder as a running thing: listeners, one timer, the core.

Owns: start and stop, addresses, the clock. Must not know: forwarding rules (pipeline.py), commands (management.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ndn_infer.errors import ConfigError
from ndn_infer.forwarder.content_store import ContentStore
from ndn_infer.forwarder.face_uri import FaceUri, ip_uri, parse_face_uri
from ndn_infer.forwarder.faces import Face
from ndn_infer.forwarder.link_service import MIN_MTU_BYTES
from ndn_infer.forwarder.listeners import (
    Acceptor,
    Address,
    address_error,
    any_udp,
    bind_udp,
    connect_tcp,
    listen_tcp,
    listen_unix,
    parse_address,
)
from ndn_infer.forwarder.management import Management
from ndn_infer.forwarder.mgmt_commands import FaceDone
from ndn_infer.forwarder.options import ForwarderOptions
from ndn_infer.forwarder.pipeline import Forwarder
from ndn_infer.forwarder.transports import StreamFace
from ndn_infer.forwarder.udp import UdpSocket
from ndn_infer.forwarder.websocket import WebSocketServer, websocket_uri

log = logging.getLogger(__name__)

SWEEP_INTERVAL_S: Final = 10.0
REDIAL_FIRST_S: Final = 0.25
REDIAL_LAST_S: Final = 30.0


class ForwarderDaemon:
    """`await start()`, use, `await close()`. Raises AddressTaken when a socket or port belongs to somebody else, and
    ConfigError for other reasons not to listen there."""

    def __init__(self, options: ForwarderOptions) -> None:
        self.options = options
        cs = ContentStore(options.cs_capacity_packets, options.cs_capacity_bytes)
        self.core = Forwarder(cs, producer_regions=options.producer_regions, pit_capacity=options.pit_capacity)
        self.management = Management(
            self.core, wall_us=lambda: time.time_ns() // 1000, make_face=self._make_face, listening=self._listening
        )
        self._clock: Callable[[], float] = time.monotonic
        self._acceptors: list[Acceptor] = []
        self._udp: list[UdpSocket] = []
        self._unix_inode: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._sweeper: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.tcp_address: tuple[str, int] | None = None
        self.udp_address: tuple[str, int] | None = None
        self._websocket = WebSocketServer(self)

    @property
    def ws_address(self) -> tuple[str, int] | None:
        return self._websocket.address

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Listen. `tcp_address` and `udp_address` then tell the ports, also of a bind to port 0."""
        if self.options.udp_mtu_bytes < MIN_MTU_BYTES:
            raise ConfigError(f"forwarder.udp_mtu_bytes is at least {MIN_MTU_BYTES}")
        self._clock = asyncio.get_running_loop().time
        try:
            if self.options.unix_path is not None:
                await self._listen_unix(Path(self.options.unix_path))
            if self.options.tcp_bind is not None:
                await self._listen_tcp(parse_address("tcp", self.options.tcp_bind))
            if self.options.udp_bind is not None:
                await self._listen_udp(parse_address("udp", self.options.udp_bind))
            if self.options.ws_bind is not None:
                await self._listen_websocket(parse_address("ws", self.options.ws_bind))
        except BaseException:
            await self.close()
            raise
        self._sweep()

    async def close(self) -> None:
        """Stop listening, close all faces, remove the Unix socket."""
        for timer in (self._timer, self._sweeper):
            if timer is not None:
                timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for acceptor in self._acceptors:
            acceptor.close()
        self._acceptors.clear()
        for face in list(self.core.faces.values()):
            face.close()
        await self._websocket.close()
        for udp in self._udp:
            udp.close()
        self._udp.clear()
        self._remove_unix_socket()
        await asyncio.sleep(0)  # connection_lost callbacks

    # ------------------------------------------------------------ Core (transports.py)

    def new_face_id(self) -> int:
        return self.core.new_face_id()

    def open_face(self, face: Face) -> None:
        self.core.add_face(face)
        log.info("face %d up: %s", face.id, face.uri)

    def close_face(self, face: Face) -> None:
        self.core.remove_face(face.id)
        log.info("face %d down: %s", face.id, face.uri)

    def receive(self, face: Face, packets: Sequence[bytes]) -> None:
        now = self._clock()
        for wire in packets:
            self.core.receive(face, wire, now)
        self._settle(now)

    def _settle(self, now: float) -> None:
        self.management.run(now)
        self._arm()

    def _arm(self) -> None:
        """One timer, for whatever runs out first. A later deadline leaves it alone: waking early costs nothing."""
        wake = self.core.next_wake()
        if wake is None or wake >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = wake
        self._timer = asyncio.get_running_loop().call_at(wake, self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self.core.tick(self._clock())
        self._arm()

    def _sweep(self) -> None:
        for udp in self._udp:
            udp.sweep()
        interval = min(SWEEP_INTERVAL_S, self.options.udp_idle_timeout_s)
        self._sweeper = asyncio.get_running_loop().call_later(interval, self._sweep)

    # ------------------------------------------------------------ listeners

    async def _listen_unix(self, path: Path) -> None:
        sock = listen_unix(path, self.options.unix_mode)
        self._unix_inode = os.stat(path).st_ino
        self._acceptors.append(Acceptor(sock, lambda peer: StreamFace(self, peer, "unix")))

    async def _listen_tcp(self, bind: Address) -> None:
        sock = await listen_tcp(bind)
        self.tcp_address = sock.getsockname()[:2]
        self._acceptors.append(Acceptor(sock, lambda peer: StreamFace(self, peer, "tcp")))

    async def _listen_udp(self, bind: Address) -> None:
        self.udp_address = self._serve_udp(await bind_udp(bind)).address

    async def _listen_websocket(self, bind: Address) -> None:
        try:
            await self._websocket.start(*bind)
        except OSError as error:
            raise address_error(f"WebSocket port {bind[0]}:{bind[1]}", error) from error

    def _serve_udp(self, sock: socket.socket) -> UdpSocket:
        udp = UdpSocket(self, sock, self._clock)
        self._udp.append(udp)
        return udp

    def _listening(self) -> Iterator[str]:
        """URIs of the listeners, for faces/channels."""
        if self._unix_inode is not None:
            yield f"unix://{self.options.unix_path}"
        if self.tcp_address is not None:
            yield ip_uri("tcp", *self.tcp_address)
        if self.udp_address is not None:
            yield ip_uri("udp", *self.udp_address)
        if self.ws_address is not None:
            yield websocket_uri("ws", self.ws_address)

    def _remove_unix_socket(self) -> None:
        """Unless another process put its own there meanwhile."""
        path = self.options.unix_path
        if path is not None and self._unix_inode is not None:
            with suppress(OSError):
                if os.stat(path).st_ino == self._unix_inode:
                    os.unlink(path)
        self._unix_inode = None

    # ------------------------------------------------------------ faces to other hosts

    def _make_face(self, uri: FaceUri, persistency: int, mtu: int | None, done: FaceDone) -> None:
        if uri.kind == "tcp":
            self._spawn(self._connect(uri, persistency, done))
            return
        try:
            udp = self._udp_socket(6 if ":" in uri.host else 4)
        except OSError as error:
            done(None, 504, f"no UDP socket for {uri}: {error.strerror}")
            return
        done(udp.open_face((uri.host, uri.port), persistency=persistency, mtu_bytes=mtu), 200, "OK")

    def _udp_socket(self, family: int) -> UdpSocket:
        """The listener, or for want of one a socket on any port. Raises OSError."""
        for udp in self._udp:
            if udp.family == family:
                return udp
        return self._serve_udp(any_udp(family))

    async def _connect(self, uri: FaceUri, persistency: int, done: FaceDone) -> None:
        try:
            sock = await connect_tcp(uri)
        except OSError as error:
            done(None, 504, f"cannot connect to {uri}: {error.strerror or error}")
        else:
            done(StreamFace(self, sock, "tcp", remote_uri=str(uri), persistency=persistency).face, 200, "OK")
        self._settle(self._clock())

    def redial(self, stream: StreamFace) -> None:
        self._spawn(self._reconnect(stream))

    async def _reconnect(self, stream: StreamFace) -> None:
        """Try until the face has a connection or is gone; every time after twice as long."""
        uri, pause_s = parse_face_uri(stream.face.uri), REDIAL_FIRST_S
        while stream.face.id in self.core.faces:
            try:
                sock = await connect_tcp(uri)
            except OSError as error:
                log.debug("face %d: %s", stream.face.id, error)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, REDIAL_LAST_S)
                continue
            if stream.face.id in self.core.faces:
                stream.attach(sock)
                log.info("face %d is connected again: %s", stream.face.id, stream.face.uri)
            else:
                sock.close()
            return

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
