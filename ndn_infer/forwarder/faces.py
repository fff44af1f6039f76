"""Faces: what the forwarder knows of each neighbour, and the link service in front of it.

Owns: face records with NFD's counters, NDNLPv2 encoding towards a face (PIT token, Nack, local fields, congestion mark,
fragmentation) and reassembly from it. Pure: bytes go out through a `transmit` callable. Must not know: forwarding,
sockets. Sources: NDNLPv2; NFD developer guide, section 2.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ndn_infer.errors import BadPacket
from ndn_infer.lp import LpPacket, encode_lp

MANAGEMENT_FACE_ID: Final = 1
FIRST_FACE_ID: Final = 256
"""Face ids below are reserved, as in NFD (254 is the Content Store)."""

CONGESTION_THRESHOLD_BYTES: Final = 65536
CONGESTION_INTERVAL_S: Final = 0.1
REASSEMBLY_TIMEOUT_S: Final = 0.5
MAX_FRAGMENTS: Final = 400
MAX_PARTIAL_PACKETS: Final = 64
FRAGMENT_OVERHEAD_BYTES: Final = 64

ON_DEMAND: Final = 1
PERSISTENT: Final = 0
PERMANENT: Final = 2


@dataclass(slots=True)
class FaceCounters:
    """As in NFD's FaceStatus; the last three are ours: why packets did not get through."""

    in_interests: int = 0
    in_data: int = 0
    in_nacks: int = 0
    out_interests: int = 0
    out_data: int = 0
    out_nacks: int = 0
    in_bytes: int = 0
    out_bytes: int = 0
    malformed: int = 0
    dropped: int = 0
    queue_drops: int = 0


@dataclass(slots=True, eq=False)
class Face:
    """One face. `transmit` takes one link packet; `queued_bytes` says how much waits in its send queue.

    `mtu_bytes` is None on streams; on datagrams larger packets are fragmented. `local` decides about /localhost.
    """

    id: int
    uri: str
    local_uri: str
    transmit: Callable[[bytes], None]
    local: bool = False
    persistency: int = PERSISTENT
    mtu_bytes: int | None = None
    local_fields: bool = False
    queued_bytes: Callable[[], int] = lambda: 0
    close: Callable[[], None] = lambda: None
    counters: FaceCounters = field(default_factory=FaceCounters)
    reassembler: Reassembler = field(default_factory=lambda: Reassembler())
    _congested_since: float | None = None
    _next_mark: float = 0.0
    _marks: int = 0
    _sequence: int = 0

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
        if self._congestion(now):
            mark = mark or 1
        told = incoming_face_id if self.local_fields else None
        if not token and nack_reason is None and told is None and not mark:
            packet = wire
        else:
            packet = encode_lp(
                LpPacket(wire, pit_token=token, nack_reason=nack_reason, incoming_face_id=told, congestion_mark=mark)
            )
        if self.mtu_bytes is not None and len(packet) > self.mtu_bytes:
            self._send_fragments(wire, token, nack_reason, mark)
        else:
            self.counters.out_bytes += len(packet)
            self.transmit(packet)

    def _send_fragments(self, wire: bytes, token: bytes, nack_reason: int | None, mark: int) -> None:
        assert self.mtu_bytes is not None
        size = self.mtu_bytes - FRAGMENT_OVERHEAD_BYTES - len(token)
        count = -(-len(wire) // size)
        for index in range(count):
            packet = LpPacket(
                wire[index * size : (index + 1) * size],
                sequence=(self._sequence & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "big"),
                frag_index=index,
                frag_count=count,
            )
            if index == 0:  # header fields of the network packet travel with its first fragment
                packet.pit_token, packet.nack_reason, packet.congestion_mark = token, nack_reason, mark
            self._sequence += 1
            encoded = encode_lp(packet)
            self.counters.out_bytes += len(encoded)
            self.transmit(encoded)

    def _congestion(self, now: float) -> bool:
        """Whether this packet is to be marked: the queue was above the threshold for an interval, then ever sooner
        (CoDel's law, as in NFD's GenericLinkService)."""
        if self.queued_bytes() <= CONGESTION_THRESHOLD_BYTES:
            self._congested_since = None
            self._marks = 0
            return False
        if self._congested_since is None:
            self._congested_since = now
            self._next_mark = now + CONGESTION_INTERVAL_S
        if now < self._next_mark:
            return False
        self._marks += 1
        self._next_mark = now + CONGESTION_INTERVAL_S / (self._marks + 1) ** 0.5
        return True


@dataclass(slots=True)
class _Partial:
    started: float
    pieces: list[bytes | None]
    header: LpPacket


class Reassembler:
    """Puts fragments together. Bounded: at most MAX_PARTIAL_PACKETS at a time, each for REASSEMBLY_TIMEOUT_S."""

    def __init__(self) -> None:
        self._partial: OrderedDict[int, _Partial] = OrderedDict()

    def add(self, packet: LpPacket, now: float) -> LpPacket | None:
        """The whole packet when `packet` completes one, else None. Raises BadPacket."""
        if packet.sequence is None or packet.frag_count > MAX_FRAGMENTS:
            raise BadPacket("a fragment has a sequence number and at most 400 siblings")
        first = int.from_bytes(packet.sequence, "big") - packet.frag_index
        while self._partial and next(iter(self._partial.values())).started < now - REASSEMBLY_TIMEOUT_S:
            self._partial.popitem(last=False)
        partial = self._partial.get(first)
        if partial is None:
            if len(self._partial) >= MAX_PARTIAL_PACKETS:
                self._partial.popitem(last=False)
            partial = self._partial[first] = _Partial(now, [None] * packet.frag_count, packet)
        if len(partial.pieces) != packet.frag_count:
            del self._partial[first]
            raise BadPacket("fragments of one packet disagree about their number")
        partial.pieces[packet.frag_index] = packet.fragment
        if packet.frag_index == 0:
            partial.header = packet
        pieces = [piece for piece in partial.pieces if piece is not None]
        if len(pieces) < packet.frag_count:
            return None
        del self._partial[first]
        whole = partial.header
        whole.fragment, whole.frag_index, whole.frag_count = b"".join(pieces), 0, 1
        return whole
