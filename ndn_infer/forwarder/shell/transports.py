"""Stream sockets of the forwarder: Unix and TCP connections, accepted and made.

Owns: turning bytes of a stream into packets for the core and back, bounded send queues, fair turns. Thin: no decision
about forwarding is taken here. UDP is in udp.py, WebSocket in websocket.py.

Works on plain non-blocking sockets, because two things decide the speed of a forwarder in Python: everything that a
turn of the event loop produced for a face leaves in one system call, and nothing is copied on the way.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import logging
import socket
import termios
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from ndn_infer.addresses import is_loopback
from ndn_infer.config import ForwarderConfig
from ndn_infer.forwarder.core.admission import FaceAdmission
from ndn_infer.forwarder.core.faces import ON_DEMAND, PERMANENT, PERSISTENT, Face
from ndn_infer.forwarder.link.link_service import LinkService
from ndn_infer.forwarder.shell.sockaddr import uri_of
from ndn_infer.ndn.tlv import Framer
from ndn_infer.wire.send_queue import SendQueue

log = logging.getLogger(__name__)

UNIX_PERSISTENCY: Final = frozenset({ON_DEMAND})
ACCEPTED_PERSISTENCY: Final = frozenset({ON_DEMAND, PERSISTENT})
DIALLED_PERSISTENCY: Final = frozenset({ON_DEMAND, PERSISTENT, PERMANENT})
READ_BYTES: Final = 65536
PACKETS_A_TURN: Final = 64
LEAST_A_TURN: Final = 8
"""More packets of one face wait until the others had their turn. Faces that are behind share a turn, so that it
does not grow with their number: whoever sends one Interest among floods waits for one turn."""
PAUSE_BYTES: Final = 1 << 20
PAUSE_S: Final = 0.1
"""A face with more than this in its send queue is not read for so long; see StreamFace._pause."""
UNIX_BUFFER_BYTES: Final = 1 << 19
KEEPALIVE_S: Final = 60


class Core(Protocol):
    """What transports need of the daemon."""

    options: ForwarderConfig
    backlogged: int
    """Faces of which packets wait for their turn."""
    queue_room: int
    """Bytes that the send queues of all faces together may still take."""
    admission: FaceAdmission
    room: bytearray
    """What all its stream faces read into, of tlv.READ_BYTES; another forwarder may read in another thread."""

    def new_face_id(self) -> int: ...

    def open_face(self, face: Face) -> None: ...

    def close_face(self, face: Face) -> None: ...

    def receive(self, face: Face, packets: Sequence[bytes], source: object = None) -> None:
        """Packets that came together; `source` is the socket they came from."""

    def flush_soon(self, stream: StreamFace) -> None:
        """Call `stream.flush` at the end of this turn of the event loop."""

    def redial(self, stream: StreamFace) -> None:
        """A permanent face lost its connection: make another and `attach` it."""


def unsent_bytes(sock: Any) -> int:
    """What the system has not sent yet (0 once the socket is closed)."""
    queue = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, queue)
    except (OSError, ValueError):
        return 0
    return queue[0]


class StreamFace:
    """One Unix or TCP connection. A reader slower than the queue's bound loses packets, as on any link."""

    def __init__(
        self,
        core: Core,
        sock: socket.socket,
        scheme: str,
        *,
        remote_uri: str | None = None,
        persistency: int = ON_DEMAND,
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        self._core = core
        self._scheme = scheme
        self._tell_closed = closed
        self._loop = asyncio.get_running_loop()
        self._framer = Framer(room=core.room)
        self._queue = SendQueue()
        self._flushing = False  # a flush is due, or the socket is full and will tell when it is not
        self._blocked = False
        self._in_kernel = 0
        self._waiting: list[bytes] = []
        self._backlogged = False
        self._reading = False
        self._paused: asyncio.TimerHandle | None = None
        self._closed = False
        self._detached = True
        self._proven = False
        self._socket = sock
        face_id = core.new_face_id()
        uri, local_uri, local = self._describe(face_id)
        self.face = Face(
            face_id,
            remote_uri or uri,
            local_uri,
            LinkService(self._send, queued_bytes=self._queued, transmit_all=self._send_all),
            local=local,
            persistency=persistency,
            allowed_persistency=_allowed_persistency(scheme, remote_uri),
            close=self.close,
            private=scheme == "unix",
        )
        core.open_face(self.face)
        self.attach(sock)

    def is_closed(self) -> bool:
        return self._closed

    def attach(self, sock: socket.socket) -> None:
        """Use this connection; a permanent face gets a new one after it lost the last."""
        _prepare(sock, self._scheme)
        self._socket = sock
        self._framer = Framer(room=self._core.room)
        self._detached = False
        self._proven = self._scheme != "tcp"  # until its first packet came whole
        self._start_reading()

    def close(self) -> None:
        """Close at once; what waits is lost (a reader that stopped reading would keep it for ever)."""
        if self._closed:
            return
        self._closed = True
        self._detach()
        self._tell_closed()
        self._core.close_face(self.face)

    def _detach(self) -> None:
        if self._detached:
            return
        self._detached = True
        self._stop_reading()
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._core.queue_room += self._queue.size
        self._queue.clear()
        self._waiting.clear()
        self._count_backlog()
        self._flushing = self._blocked = False
        self._in_kernel = 0

    def _lost(self) -> None:
        """The connection ended. A permanent face stays, with its routes, and waits for the next connection."""
        if self.face.persistency == PERMANENT and not self._closed:
            self._detach()
            self._core.redial(self)
        else:
            self.close()

    # ------------------------------------------------------------ in

    def _readable(self) -> None:
        try:
            packets = self._framer.feed_from(self._socket.recv_into, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            log.debug("face %d: %s", self.face.id, error)
            packets = None
        if packets is None:
            self._lost()
        elif packets:
            self._waiting = packets
            self._turn()
        elif self._framer.fault is not None:
            self._end_of_ndn(self._framer.fault)

    def _turn(self) -> None:
        """Some of what waits; the rest, and further reading, after the other faces had their turn."""
        counters = self.face.counters
        size = max(LEAST_A_TURN, PACKETS_A_TURN // max(1, self._core.backlogged)) if self._proven else 1
        if len(self._waiting) <= size:
            packets, self._waiting = self._waiting, []
        else:
            packets, self._waiting = self._waiting[:size], self._waiting[size:]
        self._count_backlog()
        data_before, malformed_before = counters.in_data, counters.malformed
        self._core.receive(self.face, packets, self._socket)
        if self._detached:
            return
        if not self._proven and counters.malformed > malformed_before:
            self._end_of_ndn("its first packet is malformed")
            return
        self._proven = True
        if not self._waiting and self._framer.fault is not None:
            self._end_of_ndn(self._framer.fault)
        elif self._queue.size > PAUSE_BYTES and counters.in_data == data_before:
            self._pause()
        elif self._waiting:
            self._stop_reading()
            self._loop.call_soon(self._more)
        else:
            self._start_reading()

    def _end_of_ndn(self, why: object) -> None:
        """The peer speaks another protocol. What it sends must not run as commands once it happens to look like NDN: a
        browser posts whatever a page wants to any port (a method of the page's choice may even begin like a packet)."""
        self.face.counters.malformed += 1
        log.info("closing the connection of face %d: %s", self.face.id, why)
        self._lost()

    def _count_backlog(self) -> None:
        behind = bool(self._waiting)
        if behind != self._backlogged:
            self._backlogged = behind
            self._core.backlogged += 1 if behind else -1

    def _more(self) -> None:
        if not self._detached and self._waiting:
            self._turn()

    def _pause(self) -> None:
        """A consumer that asks for more than it reads waits; nothing need be dropped, and the other faces are served.

        Only faces that send nothing but Interests: two forwarders that stop reading each other would wait for ever.
        And not for long, for an application may want to write before it reads."""
        self._stop_reading()
        self._paused = self._loop.call_later(PAUSE_S, self._resume)

    def _resume(self) -> None:
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None
        if self._waiting:
            self._turn()
        elif not self._detached:
            self._start_reading()

    def _start_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self._loop.add_reader(self._socket, self._readable)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket)

    # ------------------------------------------------------------ out

    def _send(self, packet: bytes) -> None:
        core, waits = self._core, self._queue.size
        if self._detached or waits > core.options.face_queue_mib << 20 or waits > core.queue_room:
            self.face.counters.queue_drops += 1
            return
        core.queue_room -= len(packet)
        self._queue.append(packet)
        self._flush_soon()

    def _send_all(self, pieces: Sequence[bytes], size: int) -> bool:
        """The same for all of them; False when that would not take each."""
        core, waits = self._core, self._queue.size + size
        if self._detached or waits > core.options.face_queue_mib << 20 or waits > core.queue_room - size:
            return False
        core.queue_room -= size
        self._queue.extend(pieces, size)
        self._flush_soon()
        return True

    def _flush_soon(self) -> None:
        """At the end of this turn of the event loop, or when the socket is not full any more."""
        if not self._flushing:
            self._flushing = True
            self._core.flush_soon(self)

    def flush(self) -> None:
        """Write what waits, as far as the system takes it."""
        if self._detached:
            return
        queue = self._queue
        while queue.size:
            try:
                count = self._socket.sendmsg(queue.head())
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                log.debug("face %d: %s", self.face.id, error)
                self._lost()
                return
            queue.sent(count)
            self._core.queue_room += count
        if self._scheme == "tcp":
            self._in_kernel = unsent_bytes(self._socket)
        blocked = queue.size > 0
        if blocked and not self._blocked:
            self._loop.add_writer(self._socket, self.flush)
        elif self._blocked and not blocked:
            self._loop.remove_writer(self._socket)
        self._flushing = self._blocked = blocked
        if self._paused is not None and queue.size < PAUSE_BYTES // 2:
            self._resume()

    def _queued(self) -> int:
        """Bytes that the system did not take; with TCP also those that it holds (as NFD counts them)."""
        return self._queue.size + self._in_kernel if self._blocked else self._in_kernel

    def _describe(self, face_id: int) -> tuple[str, str, bool]:
        here: Any = self._socket.getsockname()
        if self._scheme == "unix":
            return f"fd://{face_id}", f"unix://{here}", True
        try:
            peer = self._socket.getpeername()
        except OSError:
            peer = ("0.0.0.0", 0)  # gone already
        return uri_of("tcp", peer), uri_of("tcp", here), is_loopback(peer[0]) and is_loopback(here[0])


def _allowed_persistency(scheme: str, remote_uri: str | None) -> frozenset[int]:
    if scheme == "unix":
        return UNIX_PERSISTENCY
    return ACCEPTED_PERSISTENCY if remote_uri is None else DIALLED_PERSISTENCY


def _prepare(sock: socket.socket, scheme: str) -> None:
    sock.setblocking(False)
    if scheme == "unix":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNIX_BUFFER_BYTES)
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A peer that vanished without a word is noticed, also when nothing is sent to it.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", KEEPALIVE_S), ("TCP_KEEPINTVL", KEEPALIVE_S // 4), ("TCP_KEEPCNT", 4)):
        sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
