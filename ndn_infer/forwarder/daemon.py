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
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ndn_infer.errors import AddressTaken, ConfigError
from ndn_infer.forwarder.content_store import ContentStore
from ndn_infer.forwarder.face_uri import FaceUri, ip_uri, parse_bind
from ndn_infer.forwarder.faces import Face
from ndn_infer.forwarder.link_service import MIN_MTU_BYTES
from ndn_infer.forwarder.management import Management
from ndn_infer.forwarder.mgmt_commands import FaceDone
from ndn_infer.forwarder.options import ForwarderOptions
from ndn_infer.forwarder.pipeline import Forwarder
from ndn_infer.forwarder.transports import StreamFace
from ndn_infer.forwarder.udp import UdpSocket

log = logging.getLogger(__name__)

SWEEP_INTERVAL_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 3.0


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
        self._servers: list[asyncio.Server] = []
        self._udp: list[UdpSocket] = []
        self._unix_inode: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._sweeper: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.tcp_address: tuple[str, int] | None = None
        self.udp_address: tuple[str, int] | None = None

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
                await self._listen_tcp(*_bind("tcp", self.options.tcp_bind))
            if self.options.udp_bind is not None:
                await self._listen_udp(*_bind("udp", self.options.udp_bind))
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
        for server in self._servers:
            server.close()
        self._servers.clear()
        for face in list(self.core.faces.values()):
            face.close()
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
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _clear_stale_socket(path)
        except OSError as error:
            raise _taken(f"Unix socket {path}", error) from error
        old = os.umask(0o777 & ~self.options.unix_mode)  # from its first moment on it is for those meant only
        try:
            loop = asyncio.get_running_loop()
            server = await loop.create_unix_server(lambda: StreamFace(self, "unix"), str(path))
        except OSError as error:
            raise _taken(f"Unix socket {path}", error) from error
        finally:
            os.umask(old)
        self._servers.append(server)
        self._unix_inode = os.stat(path).st_ino

    async def _listen_tcp(self, host: str, port: int) -> None:
        try:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(lambda: StreamFace(self, "tcp"), host, port)
        except OSError as error:
            raise _taken(f"TCP port {host}:{port}", error) from error
        self._servers.append(server)
        self.tcp_address = server.sockets[0].getsockname()[:2]

    async def _listen_udp(self, host: str, port: int) -> None:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            family, _, _, _, address = found[0]
            udp = self._open_udp(family, (str(address[0]), int(address[1])))
        except OSError as error:
            raise _taken(f"UDP port {host}:{port}", error) from error
        self.udp_address = udp.address

    def _open_udp(self, family: int, address: tuple[str, int]) -> UdpSocket:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
        except OSError:
            sock.close()
            raise
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
            task = asyncio.get_running_loop().create_task(self._connect(uri, persistency, done))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
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
        return self._open_udp(*((socket.AF_INET6, ("::", 0)) if family == 6 else (socket.AF_INET, ("0.0.0.0", 0))))

    async def _connect(self, uri: FaceUri, persistency: int, done: FaceDone) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, stream = await asyncio.get_running_loop().create_connection(
                    lambda: StreamFace(self, "tcp", remote_uri=str(uri), persistency=persistency), uri.host, uri.port
                )
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or "no answer"
            done(None, 504, f"cannot connect to {uri}: {reason}")
        else:
            done(stream.face, 200, "OK")
        self._settle(self._clock())


def _bind(kind: str, text: str) -> tuple[str, int]:
    try:
        return parse_bind(text)
    except ValueError as error:
        raise ConfigError(f"forwarder.{kind}_bind: {error}") from error


def _clear_stale_socket(path: Path) -> None:
    """Remove the socket file of a process that is gone; one that answers belongs to somebody."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise AddressTaken(f"{path} exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise AddressTaken(f"Unix socket {path} is in use: {error.strerror}") from error
    raise AddressTaken(f"Unix socket {path} is in use: a forwarder is running there")


def _taken(what: str, error: OSError) -> AddressTaken | ConfigError:
    if error.errno == errno.EADDRINUSE:
        return AddressTaken(f"{what} is taken by another process")
    return ConfigError(f"cannot listen on {what}: {error.strerror or error}")
