"""Stream sockets of the forwarder: Unix and TCP connections, accepted and made.

Owns: turning bytes of a stream into packets for the core and back, bounded send queues. Thin: no decision about
forwarding is taken here. UDP is in udp.py.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import logging
import termios
from collections.abc import Sequence
from typing import Any, Final, Protocol

from ndn_infer.errors import BadPacket
from ndn_infer.forwarder.face_uri import ip_uri, is_loopback
from ndn_infer.forwarder.faces import ON_DEMAND, PERSISTENT, Face
from ndn_infer.forwarder.link_service import LinkService
from ndn_infer.forwarder.options import ForwarderOptions
from ndn_infer.tlv import Framer

log = logging.getLogger(__name__)

UNIX_PERSISTENCY: Final = frozenset({ON_DEMAND})
TCP_PERSISTENCY: Final = frozenset({ON_DEMAND, PERSISTENT})


class Core(Protocol):
    """What transports need of the daemon."""

    options: ForwarderOptions

    def new_face_id(self) -> int: ...

    def open_face(self, face: Face) -> None: ...

    def close_face(self, face: Face) -> None: ...

    def receive(self, face: Face, packets: Sequence[bytes]) -> None: ...


def unsent_bytes(sock: Any) -> int:
    """What the system has not sent yet (0 once the socket is closed)."""
    queue = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, queue)
    except (OSError, ValueError):
        return 0
    return queue[0]


class StreamFace(asyncio.Protocol):
    """One Unix or TCP connection. A reader slower than the queue's bound loses packets, as on any link."""

    def __init__(self, core: Core, scheme: str, *, remote_uri: str | None = None, persistency: int = ON_DEMAND) -> None:
        self._core = core
        self._scheme = scheme
        self._remote_uri = remote_uri
        self._persistency = persistency
        self._queue_bytes = core.options.face_queue_bytes
        self._framer = Framer()
        self._transport: asyncio.Transport | None = None
        self._socket: Any = None
        self.face: Face | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._socket = transport.get_extra_info("socket")
        face_id = self._core.new_face_id()
        uri, local_uri, local = self._describe(transport, face_id)
        self.face = Face(
            face_id,
            self._remote_uri or uri,
            local_uri,
            LinkService(self._send, queued_bytes=self._queued),
            local=local,
            persistency=self._persistency,
            allowed_persistency=UNIX_PERSISTENCY if self._scheme == "unix" else TCP_PERSISTENCY,
            close=transport.abort,  # a reader that stopped reading would keep the rest of the queue for ever
        )
        self._core.open_face(self.face)

    def data_received(self, data: bytes) -> None:
        assert self.face is not None and self._transport is not None
        try:
            packets = self._framer.feed(data)
        except BadPacket as error:
            self.face.counters.malformed += 1
            log.info("closing face %d: %s", self.face.id, error)
            self._transport.abort()
            return
        if packets and not self._transport.is_closing():
            self._core.receive(self.face, packets)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.face is not None:
            self._core.close_face(self.face)

    def _send(self, packet: bytes) -> None:
        assert self._transport is not None and self.face is not None
        if self._transport.is_closing() or self._transport.get_write_buffer_size() > self._queue_bytes:
            self.face.counters.queue_drops += 1
            return
        self._transport.write(packet)

    def _queued(self) -> int:
        """Bytes not sent yet; with TCP also those that the system holds (as NFD counts them)."""
        assert self._transport is not None
        waiting = self._transport.get_write_buffer_size()
        return waiting + unsent_bytes(self._socket) if self._scheme == "tcp" else waiting

    def _describe(self, transport: asyncio.Transport, face_id: int) -> tuple[str, str, bool]:
        here: Any = transport.get_extra_info("sockname")
        if self._scheme == "unix":
            return f"fd://{face_id}", f"unix://{here}", True
        peer = transport.get_extra_info("peername") or ("0.0.0.0", 0)  # gone already
        return ip_uri("tcp", peer[0], peer[1]), ip_uri("tcp", here[0], here[1]), is_loopback(peer[0])
