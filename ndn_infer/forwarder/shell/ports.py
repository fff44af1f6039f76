"""What the forwarder listens on: Unix, TCP, UDP and WebSocket, opened, reported, changed while it runs.

Owns: listeners by kind and address, several of a kind. Faces that came through a listener outlive it. Must not know:
forwarding, commands.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from ndn_infer.addresses import address_error
from ndn_infer.config import ForwarderConfig
from ndn_infer.config.values import permissions
from ndn_infer.forwarder.shell.listeners import (
    Acceptor,
    Address,
    addresses_of,
    any_udp,
    bind_udp,
    listen_tcp,
    listen_unix,
)
from ndn_infer.forwarder.shell.sockaddr import uri_of
from ndn_infer.forwarder.shell.transports import Core, StreamFace
from ndn_infer.forwarder.shell.udp import UdpSocket
from ndn_infer.forwarder.shell.websocket import WebSocketServer, websocket_uri

log = logging.getLogger(__name__)

BINDS: Final = ("tcp", "udp", "ws")

Bind = tuple[str, Address]


class _Listener(NamedTuple):
    """What one bind opened: where it listens, as addresses and as URIs, and how to end it."""

    addresses: list[Address]
    uris: list[str]
    close: Callable[[], Awaitable[None]]


class Ports:
    """`open` and `change` raise AddressTaken when a socket or port belongs to somebody else, and ConfigError for other
    reasons not to listen there."""

    def __init__(self, core: Core, clock: Callable[[], float]) -> None:
        self._core = core
        self._clock = clock
        self._unix: tuple[Acceptor, Path, int] | None = None
        self._listeners: dict[Bind, _Listener] = {}
        self.udp: list[UdpSocket] = []

    async def open(self, options: ForwarderConfig) -> None:
        if options.unix_path:
            self._open_unix(options.unix_path, permissions(options.unix_mode))
        for bind in _binds(options):
            await self._open(bind)

    async def change(self, old: ForwarderConfig, new: ForwarderConfig) -> None:
        """Listen where `new` says. Those that stay are not touched; faces stay in any case, and a UDP socket that has
        any goes on serving them."""
        wanted = _binds(new)
        if new.unix_path != old.unix_path:
            self._close_unix()
            if new.unix_path:
                self._open_unix(new.unix_path, permissions(new.unix_mode))
        for bind in [known for known in self._listeners if known not in wanted]:
            await self._listeners.pop(bind).close()
        for bind in wanted:
            if bind not in self._listeners:
                await self._open(bind)

    async def close(self) -> None:
        while self._listeners:
            await self._listeners.popitem()[1].close()
        for udp in self.udp:
            udp.close()
        self.udp.clear()
        self._close_unix()

    def address(self, kind: str) -> Address | None:
        """The first of this kind, with its port."""
        found = (listener.addresses for (known, _), listener in self._listeners.items() if known == kind)
        return next((addresses[0] for addresses in found), None)

    def uris(self) -> Iterator[str]:
        """Of the listeners, for faces/channels."""
        if self._unix is not None:
            yield f"unix://{self._unix[1]}"
        for listener in self._listeners.values():
            yield from listener.uris

    def udp_socket(self, family: int) -> UdpSocket:
        """One to send from, IPv4 or 6: the listener, or for want of one a socket on any port. Raises OSError."""
        for udp in self.udp:
            if udp.family == family:
                return udp
        return self._serve_udp(any_udp(family))

    # ------------------------------------------------------------

    async def _open(self, bind: Bind) -> None:
        opener = {"tcp": self._open_tcp, "udp": self._open_udp, "ws": self._open_websocket}[bind[0]]
        self._listeners[bind] = await opener(bind[1])

    async def _open_tcp(self, bind: Address) -> _Listener:
        sockets = await listen_tcp(bind)
        acceptors = [Acceptor(sock, self._accepted) for sock in sockets]

        async def close() -> None:
            for acceptor in acceptors:
                acceptor.close()

        names = [sock.getsockname() for sock in sockets]
        return _Listener([name[:2] for name in names], [uri_of("tcp", name) for name in names], close)

    def _accepted(self, peer: socket.socket) -> None:
        """A stranger's TCP connection. Raises OSError when it is gone already."""
        admission, host = self._core.admission, peer.getpeername()[0]
        if not admission.enter(host):
            log.info("too many connections: refused one of %s", host)
            peer.close()
            return
        try:
            StreamFace(self._core, peer, "tcp", closed=lambda: admission.leave(host))
        except OSError:
            admission.leave(host)
            raise

    async def _open_udp(self, bind: Address) -> _Listener:
        """A bind that was given up and comes back has its sockets still: faces use them."""
        kept = [udp for udp in self.udp if udp.bind == bind]
        sockets = kept or [self._serve_udp(sock, bind) for sock in await bind_udp(bind)]

        async def close() -> None:
            return

        return _Listener([udp.address for udp in sockets], [udp.uri for udp in sockets], close)

    async def _open_websocket(self, bind: Address) -> _Listener:
        server = WebSocketServer(self._core)
        try:
            addresses = await server.start(*bind)
        except (OSError, UnicodeError) as error:
            raise address_error(f"WebSocket port {bind[0] or '*'}:{bind[1]}", error) from error
        return _Listener(addresses, [websocket_uri("ws", address) for address in addresses], server.close)

    def _open_unix(self, at: str, mode: int) -> None:
        path = Path(at).expanduser()
        sock = listen_unix(path, mode)
        self._unix = (
            Acceptor(sock, lambda peer: StreamFace(self._core, peer, "unix")), path, os.stat(path).st_ino,
        )  # fmt: skip

    def _close_unix(self) -> None:
        """And remove the socket file, unless another process put its own there meanwhile."""
        if self._unix is None:
            return
        acceptor, path, inode = self._unix
        self._unix = None
        acceptor.close()
        with suppress(OSError):
            if os.stat(path).st_ino == inode:
                os.unlink(path)

    def _serve_udp(self, sock: socket.socket, bind: Address | None = None) -> UdpSocket:
        udp = UdpSocket(self._core, sock, self._clock, bind)
        self.udp.append(udp)
        return udp


def _binds(options: ForwarderConfig) -> list[Bind]:
    texts = {"tcp": options.tcp_bind, "udp": options.udp_bind, "ws": options.ws_bind}
    return [(kind, address) for kind in BINDS for address in addresses_of(texts[kind])]
