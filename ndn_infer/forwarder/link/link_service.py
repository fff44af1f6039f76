"""The link service of one face: NDNLPv2 towards the neighbour and back.

Owns: header fields (PIT token, Nack, local fields, congestion mark), fragmentation, congestion marking from the length
of the send queue. Pure: bytes leave through `transmit`, `now` is passed in. Must not know: forwarding,
sockets. Sources: NDNLPv2 revision 4; NFD developer guide, section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from ndn_infer.errors import BadPacket
from ndn_infer.forwarder.link.counters import FaceCounters
from ndn_infer.forwarder.link.reassembly import REASSEMBLY_TIMEOUT_S, Reassembler
from ndn_infer.forwarder.link.reliability import TX_SEQUENCE_BYTES, Reliability
from ndn_infer.ndn.lp import LpPacket, decode_lp, misplaced
from ndn_infer.ndn.tlv import encode_nonneg, encode_number, encode_tlv

DEFAULT_THRESHOLD_BYTES: Final = 65536
DEFAULT_MARK_INTERVAL_NS: Final = 100_000_000
OVERLOAD: Final = 8
"""Queues of more thresholds than this mark every packet."""
RELIABLE_REASSEMBLY_TIMEOUT_S: Final = 5.0
"""A lost fragment comes again after a second or more; those that were acknowledged must still be there."""
MIN_MTU_BYTES: Final = 64
JOINED_BYTES: Final = 1000
"""Packets that are shorter, with their header, are copied into one piece: a piece costs as much as so many bytes."""
FRAGMENT_OVERHEAD_BYTES: Final = 28
"""LpPacket (4), Sequence (10), FragIndex and FragCount (4 each), Fragment (4), and two to spare."""


class LinkService:
    """`transmit` takes one link packet; `queued_bytes` says how much waits in the send queue.

    `transmit_all` takes pieces of a stream, with the bytes of all, that `queued_bytes` does not count before the end of
    the event loop's turn; False when it has no room for all of them, and has taken none.

    `mtu_bytes` is None on streams; on datagrams larger packets are fragmented. `local_fields` lets the application
    choose next hops and tells it where packets came from.
    """

    __slots__ = (
        "_marks", "_next_mark", "_sequence", "congestion_marking", "counters", "local_fields", "mark_interval_ns",
        "mtu_bytes", "queued_bytes", "reassembler", "reliability", "threshold_bytes", "transmit", "transmit_all",
    )  # fmt: skip

    def __init__(
        self,
        transmit: Callable[[bytes], None],
        *,
        mtu_bytes: int | None = None,
        queued_bytes: Callable[[], int] = lambda: 0,
        local_fields: bool = False,
        transmit_all: Callable[[Sequence[bytes], int], bool] = lambda pieces, size: False,
    ) -> None:
        self.transmit = transmit
        self.transmit_all = transmit_all
        self.mtu_bytes = mtu_bytes
        self.queued_bytes = queued_bytes
        self.local_fields = local_fields
        self.congestion_marking = True
        self.mark_interval_ns = DEFAULT_MARK_INTERVAL_NS
        self.threshold_bytes = DEFAULT_THRESHOLD_BYTES
        self.counters = FaceCounters()
        self.reassembler = Reassembler()
        self.reliability: Reliability | None = None
        self._next_mark: float | None = None
        self._marks = 0
        self._sequence = 0

    # ------------------------------------------------------------ out

    def send(
        self,
        wire: bytes,
        now: float,
        *,
        token: bytes = b"",
        nack_reason: int | None = None,
        incoming_face_id: int | None = None,
        mark: int = 0,
    ) -> None:
        """Send one Interest, Data or Nack with the header fields that this face wants."""
        queued = self.queued_bytes()
        if queued > self.threshold_bytes:
            if self._congested(queued, now):
                mark = mark or 1
                self.counters.marked += 1
        elif self._next_mark is not None:
            self._next_mark, self._marks = None, 0
        header = b"\x62" + bytes((len(token),)) + token if token else b""
        if nack_reason is not None:
            header += _nack_field(nack_reason)
        if self.local_fields and incoming_face_id is not None:
            header += b"\xfd\x03\x2c" + _short(incoming_face_id)
        if mark:
            header += b"\xfd\x03\x40" + _short(mark)
        if self.reliability is not None:
            self._emit(self.reliability.outgoing(self._pieces(header, wire), now, mtu_bytes=self.mtu_bytes))
            return
        if header and self.mtu_bytes is None and len(wire) > JOINED_BYTES:
            ahead = _ahead(header, len(wire))
            if self.transmit_all((ahead, wire), len(ahead) + len(wire)):
                self.counters.out_bytes += len(ahead) + len(wire)
                return
        packet = _wrap(header, wire) if header else wire
        if self.mtu_bytes is not None and len(packet) > self.mtu_bytes:
            self._send_fragments(header, wire, self.mtu_bytes)
        else:
            self.counters.out_bytes += len(packet)
            self.transmit(packet)

    def send_all(self, wires: Sequence[bytes], now: float, *, incoming_face_id: int) -> None:
        """`send` for each of them, Interests or Data that came together."""
        plain = self.reliability is None and self.mtu_bytes is None
        if (
            len(wires) == 1
            or not plain
            or self.queued_bytes()
            or self._next_mark is not None
            or not self._transmitted(wires, incoming_face_id)
        ):
            for wire in wires:
                self.send(wire, now, incoming_face_id=incoming_face_id)

    def _transmitted(self, wires: Sequence[bytes], incoming_face_id: int) -> bool:
        """Whether the link took them all at once. Short ones are one piece then; long ones are not copied."""
        size = sum(map(len, wires))
        if self.local_fields:
            field = b"\xfd\x03\x2c" + _short(incoming_face_id)
            wires = [part for wire in wires for part in (_known_ahead(field, len(wire)), wire)]
            size = sum(map(len, wires))
        if size <= JOINED_BYTES * len(wires):
            wires = (b"".join(wires),)
        if not self.transmit_all(wires, size):
            return False
        self.counters.out_bytes += size
        return True

    def set_reliability(self, wanted: bool, first: int = 0) -> None:
        """Switch NDNLPv2 reliability; both ends must have it. `first` is the first TxSequence."""
        if wanted != (self.reliability is not None):
            self.reliability = Reliability(first) if wanted else None
            self.reassembler.timeout_s = RELIABLE_REASSEMBLY_TIMEOUT_S if wanted else REASSEMBLY_TIMEOUT_S

    def next_wake(self) -> float | None:
        """When `tick` is due next (monotonic seconds)."""
        return None if self.reliability is None else self.reliability.next_wake()

    def tick(self, now: float) -> None:
        """Send lost packets again, and acknowledgements that wait."""
        if self.reliability is not None:
            self._emit(self.reliability.due(now, mtu_bytes=self.mtu_bytes))

    def _emit(self, packets: Iterable[bytes]) -> None:
        for packet in packets:
            self.counters.out_bytes += len(packet)
            self.transmit(packet)

    def _send_fragments(self, header: bytes, wire: bytes, mtu_bytes: int) -> None:
        self._emit(_wrap(fields, piece) for fields, piece in self._fragments(header, wire, mtu_bytes))

    def _pieces(self, header: bytes, wire: bytes) -> list[tuple[bytes, bytes]]:
        """What reliability sends: every packet has a Sequence, and leaves room for a TxSequence."""
        room = None if self.mtu_bytes is None else self.mtu_bytes - TX_SEQUENCE_BYTES
        if room is None or len(header) + len(wire) + FRAGMENT_OVERHEAD_BYTES <= room:
            return [(self._next_sequence() + header, wire)]
        return list(self._fragments(header, wire, room))

    def _fragments(self, header: bytes, wire: bytes, mtu_bytes: int) -> Iterator[tuple[bytes, bytes]]:
        """Header fields of the network packet travel with its first fragment (NDNLPv2, Fragmentation). Nothing when
        they leave no room for any of it."""
        size = mtu_bytes - FRAGMENT_OVERHEAD_BYTES - len(header)
        if size < 1:
            self.counters.dropped += 1
            return
        count = -(-len(wire) // size)
        count_field = b"\x53" + _short(count)
        for index in range(count):
            fields = self._next_sequence() + b"\x52" + _short(index) + count_field + (header if index == 0 else b"")
            yield fields, wire[index * size : (index + 1) * size]

    def _next_sequence(self) -> bytes:
        sequence = b"\x51\x08" + (self._sequence & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "big")
        self._sequence += 1
        return sequence

    def _congested(self, queued: int, now: float) -> bool:
        """Whether this packet is to be marked: the queue was above the threshold for an interval, then ever sooner
        (CoDel's law, as in NFD's GenericLinkService).

        A queue of OVERLOAD thresholds marks without delay: a consumer in slow start fills megabytes within the
        interval, which NFD, whose queue on Unix sockets has no bound, holds in memory and we would have to drop.
        """
        if not self.congestion_marking:
            return False
        if queued > OVERLOAD * self.threshold_bytes:
            return True
        if self._next_mark is None:
            self._next_mark = now + self.mark_interval_ns / 1e9
            return False
        if now < self._next_mark:
            return False
        self._marks += 1
        self._next_mark += self.mark_interval_ns / 1e9 / (self._marks + 1) ** 0.5
        return True

    # ------------------------------------------------------------ in

    def unwrap(self, wire: bytes, now: float) -> LpPacket | None:
        """The network packet with its header fields; None for IDLE packets and while fragments are missing.

        Raises BadPacket.
        """
        packet = decode_lp(wire)
        if self.reliability is not None:
            is_new = self.reliability.incoming(packet, now)
            wake = self.reliability.next_wake()
            if wake is not None and wake <= now:
                self.tick(now)
            if not is_new:
                return None
        if not packet.fragment:
            return None
        whole = self.reassembler.add(packet, now) if packet.frag_count > 1 else packet
        if whole is not None and misplaced(whole):
            raise BadPacket("a header field does not belong to this kind of packet")
        return whole


def _wrap(header: bytes, fragment: bytes) -> bytes:
    return _ahead(header, len(fragment)) + fragment


def _ahead(header: bytes, size: int) -> bytes:
    """What stands before a fragment of `size` bytes."""
    inner = header + b"\x50" + encode_number(size)
    return b"\x64" + encode_number(len(inner) + size) + inner


_known_ahead = lru_cache(64)(_ahead)  # of packets that came together all have the same


def _short(number: int) -> bytes:
    """Length and value of a NonNegativeInteger element."""
    value = encode_nonneg(number)
    return bytes((len(value),)) + value


def _nack_field(reason: int) -> bytes:
    return encode_tlv(0x0320, b"\xfd\x03\x21" + _short(reason) if reason else b"")
