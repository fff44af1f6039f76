"""What the forwarder listens on: Unix, TCP, UDP and WebSocket, opened, reported, changed while it runs.

Owns: listeners by kind. Faces that came through a listener outlive it. Must not know: forwarding, commands.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from ndn_infer.forwarder.face_uri import ip_uri
from ndn_infer.forwarder.listeners import (
    Acceptor,
    Address,
    address_error,
    any_udp,
    bind_udp,
    listen_tcp,
    listen_unix,
    parse_address,
)
from ndn_infer.forwarder.options import ForwarderOptions
from ndn_infer.forwarder.transports import Core, StreamFace
from ndn_infer.forwarder.udp import UdpSocket
from ndn_infer.forwarder.websocket import WebSocketServer, websocket_uri

BINDS: Final = ("tcp", "udp", "ws")


class Ports:
    """`open` and `change` raise AddressTaken when a socket or port belongs to somebody else, and ConfigError for other
    reasons not to listen there."""

    def __init__(self, core: Core, clock: Callable[[], float]) -> None:
        self._core = core
        self._clock = clock
        self._unix: tuple[Acceptor, Path, int] | None = None
        self._tcp: Acceptor | None = None
        self._websocket: WebSocketServer | None = None
        self.udp: list[UdpSocket] = []
        self.addresses: dict[str, Address] = {}

    async def open(self, options: ForwarderOptions) -> None:
        if options.unix_path is not None:
            self._open_unix(Path(options.unix_path), options.unix_mode)
        for kind, bind in _binds(options).items():
            await self._open(kind, bind)

    async def change(self, old: ForwarderOptions, new: ForwarderOptions) -> None:
        """Listen where `new` says. Those that stay are not touched; faces stay in any case, and a UDP socket that has
        any goes on serving them."""
        wanted, known = _binds(new), _binds(old)
        if new.unix_path != old.unix_path:
            self._close_unix()
            if new.unix_path is not None:
                self._open_unix(Path(new.unix_path), new.unix_mode)
        for kind in BINDS:
            if wanted.get(kind) != known.get(kind):
                await self._close(kind)
                if kind in wanted:
                    await self._open(kind, wanted[kind])

    async def close(self) -> None:
        for kind in BINDS:
            await self._close(kind)
        for udp in self.udp:
            udp.close()
        self.udp.clear()
        self._close_unix()

    def uris(self) -> Iterator[str]:
        """Of the listeners, for faces/channels."""
        if self._unix is not None:
            yield f"unix://{self._unix[1]}"
        for kind, address in self.addresses.items():
            yield websocket_uri("ws", address) if kind == "ws" else ip_uri(kind, *address)

    def udp_socket(self, family: int) -> UdpSocket:
        """One to send from, IPv4 or 6: the listener, or for want of one a socket on any port. Raises OSError."""
        for udp in self.udp:
            if udp.family == family:
                return udp
        return self._serve_udp(any_udp(family))

    # ------------------------------------------------------------

    async def _open(self, kind: str, bind: Address) -> None:
        if kind == "tcp":
            sock = await listen_tcp(bind)
            self._tcp = Acceptor(sock, lambda peer: StreamFace(self._core, peer, "tcp"))
            self.addresses["tcp"] = sock.getsockname()[:2]
        elif kind == "udp":
            self.addresses["udp"] = self._serve_udp(await bind_udp(bind)).address
        else:
            self._websocket = WebSocketServer(self._core)
            try:
                self.addresses["ws"] = await self._websocket.start(*bind)
            except OSError as error:
                raise address_error(f"WebSocket port {bind[0]}:{bind[1]}", error) from error

    async def _close(self, kind: str) -> None:
        self.addresses.pop(kind, None)
        if kind == "tcp" and self._tcp is not None:
            self._tcp.close()
            self._tcp = None
        elif kind == "ws" and self._websocket is not None:
            await self._websocket.close()
            self._websocket = None

    def _open_unix(self, path: Path, mode: int) -> None:
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

    def _serve_udp(self, sock: socket.socket) -> UdpSocket:
        udp = UdpSocket(self._core, sock, self._clock)
        self.udp.append(udp)
        return udp


def _binds(options: ForwarderOptions) -> dict[str, Address]:
    texts = {"tcp": options.tcp_bind, "udp": options.udp_bind, "ws": options.ws_bind}
    return {kind: parse_address(kind, text) for kind, text in texts.items() if text is not None}
