"""Sockets of the forwarder: Unix and TCP streams, UDP.

Owns: turning bytes on sockets into packets for the core and back, bounded send queues, faces that come and go. Thin: no
decision about forwarding is taken here.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, Protocol, cast

from ndn_infer.errors import BadPacket
from ndn_infer.forwarder.faces import ON_DEMAND, Face
from ndn_infer.tlv import Framer

log = logging.getLogger(__name__)


class Core(Protocol):
    """What transports need of the daemon."""

    queue_bytes: int
    udp_mtu_bytes: int

    def new_face_id(self) -> int: ...

    def open_face(self, face: Face) -> None: ...

    def close_face(self, face: Face) -> None: ...

    def receive(self, face: Face, wire: bytes) -> None: ...


class StreamFace(asyncio.Protocol):
    """One Unix or TCP connection. A reader slower than the queue's bound loses packets, as on any link."""

    def __init__(self, core: Core, scheme: str, *, remote_uri: str | None = None, persistency: int = ON_DEMAND) -> None:
        self._core = core
        self._scheme = scheme
        self._remote_uri = remote_uri
        self._persistency = persistency
        self._framer = Framer()
        self._transport: asyncio.Transport | None = None
        self.face: Face | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        face_id = self._core.new_face_id()
        uri, local_uri, local = self._describe(transport, face_id)
        self.face = Face(
            face_id,
            self._remote_uri or uri,
            local_uri,
            self._send,
            local=local,
            persistency=self._persistency,
            queued_bytes=transport.get_write_buffer_size,
            close=transport.close,
        )
        self._core.open_face(self.face)

    def data_received(self, data: bytes) -> None:
        assert self.face is not None and self._transport is not None
        try:
            packets = self._framer.feed(data)
        except BadPacket as error:
            self.face.counters.malformed += 1
            log.info("closing face %d: %s", self.face.id, error)
            self._transport.close()
            return
        for wire in packets:
            self._core.receive(self.face, wire)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.face is not None:
            self._core.close_face(self.face)

    def _send(self, packet: bytes) -> None:
        assert self._transport is not None and self.face is not None
        if self._transport.is_closing() or self._transport.get_write_buffer_size() > self._core.queue_bytes:
            self.face.counters.queue_drops += 1
            return
        self._transport.write(packet)

    def _describe(self, transport: asyncio.Transport, face_id: int) -> tuple[str, str, bool]:
        if self._scheme == "unix":
            return f"fd://{face_id}", f"unix://{transport.get_extra_info('sockname')}", True
        peer, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        return _ip_uri("tcp", peer), _ip_uri("tcp", here), is_loopback(peer[0])


class UdpListener(asyncio.DatagramProtocol):
    """A bound UDP socket; every remote address gets a face of its own."""

    def __init__(self, core: Core, idle_timeout_s: float, now: Callable[[], float]) -> None:
        self._core = core
        self._idle_timeout_s = idle_timeout_s
        self._now = now
        self._transport: asyncio.DatagramTransport | None = None
        self._faces: dict[tuple[str, int], tuple[Face, float]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # asyncio's own class does not inherit it

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        peer = (str(addr[0]), int(addr[1]))
        known = self._faces.get(peer)
        face = known[0] if known is not None else self.open_face(peer, persistency=ON_DEMAND)
        self._faces[peer] = (face, self._now())
        self._core.receive(face, data)

    def open_face(self, peer: tuple[str, int], *, persistency: int) -> Face:
        """The face to `peer`, made when there is none."""
        known = self._faces.get(peer)
        if known is not None:
            known[0].persistency = min(known[0].persistency, persistency)
            return known[0]
        assert self._transport is not None
        transport = self._transport
        face = Face(
            self._core.new_face_id(),
            _ip_uri("udp", peer),
            _ip_uri("udp", transport.get_extra_info("sockname")),
            lambda packet: transport.sendto(packet, peer),
            local=is_loopback(peer[0]),
            persistency=persistency,
            mtu_bytes=self._core.udp_mtu_bytes,
            queued_bytes=getattr(transport, "get_write_buffer_size", lambda: 0),  # not in the stubs
            close=lambda: self._forget(peer),
        )
        self._faces[peer] = (face, self._now())
        self._core.open_face(face)
        return face

    def sweep(self) -> None:
        """Close on-demand faces from which nothing came for a while."""
        limit = self._now() - self._idle_timeout_s
        for peer, (face, heard) in list(self._faces.items()):
            if face.persistency == ON_DEMAND and heard < limit:
                self._forget(peer)
                self._core.close_face(face)

    def _forget(self, peer: tuple[str, int]) -> None:
        self._faces.pop(peer, None)

    def error_received(self, exc: Exception) -> None:
        log.debug("UDP: %s", exc)


def is_loopback(host: str) -> bool:
    """Loopback counts as local also over UDP: python-ndn expects it (NFD does not, NDNd does)."""
    return host.startswith("127.") or host in ("::1", "::ffff:127.0.0.1")


def _ip_uri(scheme: str, address: tuple[Any, ...]) -> str:
    host, port = str(address[0]), address[1]
    return f"{scheme}6://[{host}]:{port}" if ":" in host else f"{scheme}4://{host}:{port}"


def parse_bind(text: str) -> tuple[str, int]:
    """host and port of "host:port" or "[v6]:port"; raises ValueError."""
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"expected host:port, not {text!r}")
    return host.strip("[]") or "0.0.0.0", int(port)


def parse_face_uri(uri: str) -> tuple[str, str, int] | None:
    """(scheme, host, port) of a canonical udp4/udp6/tcp4/tcp6 URI with a numeric address, else None."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in ("udp4", "udp6", "tcp4", "tcp6"):
        return None
    try:
        host, port = parse_bind(rest)
        family = socket.AF_INET6 if scheme.endswith("6") else socket.AF_INET
        socket.inet_pton(family, host)
    except (ValueError, OSError):
        return None
    return scheme[:3], host, port
