"""Sockets to listen on and to connect with.

Owns: binding, stale Unix sockets, clear errors when an address cannot be had, accepting. Must not know: packets, faces.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from ndn_infer.addresses import address_error, split_host_port
from ndn_infer.errors import AddressTaken
from ndn_infer.forwarder.link.face_uri import FaceUri
from ndn_infer.forwarder.shell.sockaddr import address_of

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S: Final = 3.0
BACKLOG: Final = 1024
ACCEPTS_A_TURN: Final = 16
ACCEPT_PAUSE_S: Final = 1.0
"""After the process ran out of file descriptors."""

Address = tuple[str, int]


class Acceptor:
    """Hands every accepted connection to `accepted`."""

    def __init__(self, sock: socket.socket, accepted: Callable[[socket.socket], object]) -> None:
        self._socket = sock
        self._accepted = accepted
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        sock.listen(BACKLOG)
        self._listen()

    def close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _listen(self) -> None:
        self._loop.add_reader(self._socket, self._readable)

    def _readable(self) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                peer, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("cannot accept a connection: %s", error.strerror)
                self._loop.remove_reader(self._socket)
                self._pause = self._loop.call_later(ACCEPT_PAUSE_S, self._listen)
                return
            try:
                self._accepted(peer)
            except OSError as error:  # gone before it was looked at
                log.debug("an accepted connection failed: %s", error)
                peer.close()


def addresses_of(items: Iterable[str]) -> list[Address]:
    """The addresses in an option, each once."""
    return list(dict.fromkeys(map(split_host_port, items)))


def listen_unix(path: Path, mode: int) -> socket.socket:
    """A bound Unix socket with permission bits `mode`. Raises AddressTaken, ConfigError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _clear_stale_socket(path)
        old = os.umask(0o777 & ~mode)  # from its first moment on it is for those meant only
        try:
            return _bound(socket.AF_UNIX, socket.SOCK_STREAM, str(path))
        finally:
            os.umask(old)
    except OSError as error:
        raise address_error(f"Unix socket {path}", error) from error


async def listen_tcp(bind: Address) -> list[socket.socket]:
    """Bound TCP sockets, one for each address that the host has. Raises AddressTaken, ConfigError."""
    return await _open(bind, "TCP", socket.SOCK_STREAM)


async def bind_udp(bind: Address) -> list[socket.socket]:
    """The same for UDP."""
    return await _open(bind, "UDP", socket.SOCK_DGRAM)


def any_udp(family: int) -> socket.socket:
    """A UDP socket on any port, for IPv4 or 6. Raises OSError."""
    if family == 6:
        return _bound(socket.AF_INET6, socket.SOCK_DGRAM, ("::", 0))
    return _bound(socket.AF_INET, socket.SOCK_DGRAM, ("0.0.0.0", 0))


async def connect_tcp(uri: FaceUri) -> socket.socket:
    """A connection to a canonical URI. Raises OSError."""
    family = socket.AF_INET6 if ":" in uri.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await asyncio.get_running_loop().sock_connect(sock, address_of(uri))
    except TimeoutError as error:
        sock.close()
        raise OSError(errno.ETIMEDOUT, "no answer") from error
    except BaseException:
        sock.close()
        raise
    return sock


async def _open(bind: Address, what: str, kind: int) -> list[socket.socket]:
    """No host is all IPv4 and IPv6 addresses of this machine, a name all addresses that it has; those of a family that
    this machine does not have are left out, unless none remains. A port 0 is the same for all of them."""
    host, port = bind
    what = f"{what} port {host or '*'}:{port}"
    opened: list[socket.socket] = []
    refused: OSError | None = None
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host or None, port, type=kind, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in sorted(dict.fromkeys(found), key=lambda entry: entry[0]):
            at = opened[0].getsockname()[1] if opened else port
            try:
                opened.append(_bound(family, kind, (address[0], at, *address[2:])))
            except OSError as error:
                refused = error
                if error.errno not in _NOT_HERE:
                    raise
        if refused is not None and not opened:
            raise refused
    except (OSError, UnicodeError) as error:
        for sock in opened:
            sock.close()
        raise address_error(what, error) from error
    return opened


_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def _bound(family: int, kind: int, address: Any) -> socket.socket:
    sock = socket.socket(family, kind)
    try:
        if kind == socket.SOCK_STREAM and family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _clear_stale_socket(path: Path) -> None:
    """Remove the socket file of a process that is gone; one that answers belongs to somebody."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise AddressTaken(f"{path} exists and is not a socket")
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
