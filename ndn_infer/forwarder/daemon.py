"""The embedded forwarder as a running thing: listeners, one timer, the core.

Owns: start and stop, addresses, the clock. Must not know: forwarding rules (pipeline.py), commands (management.py).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ndn_infer.errors import AddressTaken, ConfigError
from ndn_infer.forwarder.content_store import ContentStore
from ndn_infer.forwarder.faces import Face
from ndn_infer.forwarder.management import Management
from ndn_infer.forwarder.options import ForwarderOptions
from ndn_infer.forwarder.pipeline import Forwarder
from ndn_infer.forwarder.transports import StreamFace, UdpListener, parse_bind, parse_face_uri

log = logging.getLogger(__name__)

SWEEP_INTERVAL_S: Final = 10.0
SOCKET_BUFFER_BYTES: Final = 4 << 20


class ForwarderDaemon:
    """`await start()`, use, `await close()`. Raises AddressTaken when a socket or port belongs to somebody else."""

    def __init__(self, options: ForwarderOptions) -> None:
        self.options = options
        cs = ContentStore(options.cs_capacity_packets, options.cs_capacity_bytes)
        self.core = Forwarder(cs, producer_regions=options.producer_regions, pit_capacity=options.pit_capacity)
        self.management = Management(self.core, make_face=self._make_face)
        self.queue_bytes = options.face_queue_bytes
        self.udp_mtu_bytes = options.udp_mtu_bytes
        self._loop: asyncio.AbstractEventLoop | None = None
        self._servers: list[asyncio.Server] = []
        self._udp: UdpListener | None = None
        self._udp_transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._sweeper: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            if self.options.unix_path is not None:
                await self._listen_unix(Path(self.options.unix_path))
            if self.options.tcp_bind is not None:
                await self._listen_tcp(*_bind("tcp", self.options.tcp_bind))
            if self.options.udp_bind is not None:
                await self._listen_udp(*_bind("udp", self.options.udp_bind))
        except BaseException:
            await self.close()
            raise
        self._sweep()

    async def close(self) -> None:
        for timer in (self._timer, self._sweeper):
            if timer is not None:
                timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        listening = bool(self._servers)
        for server in self._servers:
            server.close()
        self._servers.clear()
        for face in list(self.core.faces.values()):
            face.close()
        if self._udp_transport is not None:
            self._udp_transport.close()
        await asyncio.sleep(0)  # connection_lost callbacks
        if listening and self.options.unix_path is not None:
            _remove(self.options.unix_path)

    # ------------------------------------------------------------ Core (transports.py)

    def new_face_id(self) -> int:
        return self.core.new_face_id()

    def open_face(self, face: Face) -> None:
        self.core.add_face(face)
        log.info("face %d up: %s", face.id, face.uri)

    def close_face(self, face: Face) -> None:
        self.core.remove_face(face.id)
        log.info("face %d down: %s", face.id, face.uri)

    def receive(self, face: Face, wire: bytes) -> None:
        assert self._loop is not None
        now = self._loop.time()
        self.core.receive(face, wire, now)
        self.management.run(now)
        self._arm()

    def _arm(self) -> None:
        """One timer, for whatever runs out first. A later deadline leaves it alone: waking early costs nothing."""
        assert self._loop is not None
        wake = self.core.next_wake()
        if wake is None or wake >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = wake
        self._timer = self._loop.call_at(wake, self._on_timer)

    def _on_timer(self) -> None:
        assert self._loop is not None
        self._timer, self._timer_at = None, float("inf")
        self.core.tick(self._loop.time())
        self._arm()

    def _sweep(self) -> None:
        assert self._loop is not None
        if self._udp is not None:
            self._udp.sweep()
        self._sweeper = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep)

    # ------------------------------------------------------------ listeners

    async def _listen_unix(self, path: Path) -> None:
        assert self._loop is not None
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _clear_stale_socket(path)
        old = os.umask(0o177)  # the socket is its owner's alone
        try:
            server = await self._loop.create_unix_server(lambda: StreamFace(self, "unix"), str(path))
        except OSError as error:
            raise _taken(f"Unix socket {path}", error) from error
        finally:
            os.umask(old)
        self._servers.append(server)

    async def _listen_tcp(self, host: str, port: int) -> None:
        assert self._loop is not None
        try:
            server = await self._loop.create_server(lambda: StreamFace(self, "tcp"), host, port)
        except OSError as error:
            raise _taken(f"TCP port {host}:{port}", error) from error
        self._servers.append(server)

    async def _listen_udp(self, host: str, port: int) -> None:
        assert self._loop is not None
        loop = self._loop
        try:
            transport, protocol = await loop.create_datagram_endpoint(
                lambda: UdpListener(self, self.options.udp_idle_timeout_s, loop.time), (host, port)
            )
        except OSError as error:
            raise _taken(f"UDP port {host}:{port}", error) from error
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        self._udp, self._udp_transport = protocol, transport

    # ------------------------------------------------------------ faces to other hosts

    def _make_face(self, uri: str, persistency: int, done: Callable[[Face | None, int, str], None]) -> None:
        parsed = parse_face_uri(uri)
        if parsed is None:
            done(None, 400, "only canonical udp4, udp6, tcp4 and tcp6 URIs make faces")
            return
        scheme, host, port = parsed
        if scheme == "udp":
            if self._udp is None:
                done(None, 406, "this forwarder has no UDP socket; start it with --udp")
            else:
                done(self._udp.open_face((host, port), persistency=persistency), 200, "Success")
            return
        assert self._loop is not None
        task = self._loop.create_task(self._connect(uri, host, port, persistency, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(
        self, uri: str, host: str, port: int, persistency: int, done: Callable[[Face | None, int, str], None]
    ) -> None:
        assert self._loop is not None
        try:
            async with asyncio.timeout(3.0):
                _, stream = await self._loop.create_connection(
                    lambda: StreamFace(self, "tcp", remote_uri=uri, persistency=persistency), host, port
                )
        except (OSError, TimeoutError) as error:
            done(None, 504, f"cannot connect to {uri}: {error}")
            return
        done(stream.face, 200, "Success")


def _bind(kind: str, text: str) -> tuple[str, int]:
    try:
        return parse_bind(text)
    except ValueError as error:
        raise ConfigError(f"forwarder.{kind}_bind: {error}") from error


def _clear_stale_socket(path: Path) -> None:
    """Remove the socket file of a process that is gone; one that answers belongs to somebody."""
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise AddressTaken(f"{path} exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise AddressTaken(f"Unix socket {path} is in use: {error.strerror}") from error
    raise AddressTaken(f"Unix socket {path} is in use: a forwarder is running there")


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def _taken(what: str, error: OSError) -> AddressTaken | ConfigError:
    if error.errno == errno.EADDRINUSE:
        return AddressTaken(f"{what} is taken by another process")
    return ConfigError(f"cannot listen on {what}: {error.strerror or error}")
