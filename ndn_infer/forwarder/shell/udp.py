"""UDP sockets of the forwarder: one socket, a face for every remote address.

Owns: datagrams in and out, on-demand faces that come and go. Thin. Works on a plain non-blocking socket: several
datagrams are read at a time, and one that the system does not take at once is dropped and counted, so nothing queues
in this process. Must not know: forwarding.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import Final

from ndn_infer.addresses import is_loopback
from ndn_infer.forwarder.core.faces import ON_DEMAND, PERMANENT, PERSISTENT, Face
from ndn_infer.forwarder.link.counters import FaceCounters
from ndn_infer.forwarder.link.link_service import LinkService
from ndn_infer.forwarder.shell.sockaddr import SockAddress, uri_of, without_flow
from ndn_infer.forwarder.shell.transports import Core, unsent_bytes

log = logging.getLogger(__name__)

DATAGRAMS_AT_A_TIME: Final = 64
QUIET_S: Final = 2.0
EXAMINED: Final = 16
DATAGRAM_BYTES: Final = 9400
"""Longer ones carry no packet of NDN: they arrive cut, and are then malformed."""
SOCKET_BUFFER_BYTES: Final = 4 << 20
_SO_RCVBUFFORCE: Final = 33
_SO_SNDBUFFORCE: Final = 32


class UdpSocket:
    """A bound socket. `now` is the loop's clock, `bind` the option that it was opened for, if any."""

    def __init__(
        self, core: Core, sock: socket.socket, now: Callable[[], float], bind: tuple[str, int] | None = None
    ) -> None:
        self._core = core
        self.bind = bind
        self._sock = sock
        self._now = now
        self._faces: dict[SockAddress, Face] = {}
        self._heard: OrderedDict[int, float] = OrderedDict()  # by face id, the one silent longest first
        self._peer_of: dict[int, SockAddress] = {}
        sock.setblocking(False)
        _enlarge(sock)
        self.address: tuple[str, int] = sock.getsockname()[:2]
        self.uri = uri_of("udp", sock.getsockname())
        asyncio.get_running_loop().add_reader(sock, self._readable)

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if self._sock.family == socket.AF_INET6 else 4

    def open_face(self, peer: SockAddress, *, persistency: int, mtu_bytes: int | None = None) -> Face:
        """The face to `peer`, made when there is none."""
        known = self._faces.get(peer)
        if known is not None:
            return known
        face_id = self._core.new_face_id()
        link = LinkService(
            lambda packet: self._send(packet, peer, link.counters),
            mtu_bytes=min(mtu_bytes or self._core.options.udp_mtu_bytes, DATAGRAM_BYTES),
            queued_bytes=lambda: unsent_bytes(self._sock),
        )
        face = Face(
            face_id,
            uri_of("udp", peer),
            self.uri,
            link,
            local=is_loopback(peer[0]),
            persistency=persistency,
            allowed_persistency=frozenset({ON_DEMAND, PERSISTENT, PERMANENT}),
            close=lambda: self._forget(peer, face_id),
            expires_in_s=lambda: self._expires_in_s(face),
        )
        self._faces[peer] = face
        self._heard[face_id] = self._now()
        self._peer_of[face_id] = peer
        self._core.open_face(face)
        return face

    def sweep(self) -> None:
        """Close on-demand faces from which nothing came for a while."""
        for peer, face in list(self._faces.items()):
            left = self._expires_in_s(face)
            if left is not None and left <= 0:
                self._forget(peer, face.id)
                self._core.close_face(face)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()

    def _expires_in_s(self, face: Face) -> float | None:
        heard = self._heard.get(face.id)
        if face.persistency != ON_DEMAND or heard is None:
            return None
        return heard + self._core.options.udp_idle_timeout_s - self._now()

    def _forget(self, peer: SockAddress, face_id: int) -> None:
        self._faces.pop(peer, None)
        self._heard.pop(face_id, None)
        self._peer_of.pop(face_id, None)

    def _readable(self) -> None:
        now = self._now()
        batch: list[bytes] = []
        batch_face: Face | None = None
        for _ in range(DATAGRAMS_AT_A_TIME):
            try:
                datagram, address = self._sock.recvfrom(DATAGRAM_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:  # an ICMP error of an earlier datagram
                log.debug("UDP: %s", error)
                continue
            face = self._face_of(without_flow(address))
            if face is None:
                continue
            self._heard[face.id] = now
            self._heard.move_to_end(face.id)
            if face is not batch_face:
                if batch_face is not None:
                    self._core.receive(batch_face, batch)
                batch, batch_face = [], face
            batch.append(datagram)
        if batch_face is not None:
            self._core.receive(batch_face, batch)

    def _face_of(self, peer: SockAddress) -> Face | None:
        face = self._faces.get(peer)
        if face is None and (len(self._faces) < self._core.options.max_udp_faces or self._make_room()):
            face = self.open_face(peer, persistency=ON_DEMAND)
        return face

    def _make_room(self) -> bool:
        """Close the on-demand face that was silent longest, if that is a while: addresses that send once and never
        again must not keep others out."""
        for face_id, heard in islice(self._heard.items(), EXAMINED):
            peer = self._peer_of[face_id]
            face = self._faces[peer]
            if face.persistency == ON_DEMAND and heard < self._now() - QUIET_S:
                self._forget(peer, face_id)
                self._core.close_face(face)
                return True
        return False

    def _send(self, packet: bytes, peer: SockAddress, counters: FaceCounters) -> None:
        try:
            self._sock.sendto(packet, peer)
        except OSError:  # the socket's queue is full, or there is no way to that host
            counters.queue_drops += 1


def _enlarge(sock: socket.socket) -> None:
    """Room for a burst of fragments; beyond the system's limit only with the privilege for it."""
    for forced, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, SOCKET_BUFFER_BYTES)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, plain, SOCKET_BUFFER_BYTES)
