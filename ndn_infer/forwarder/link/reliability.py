"""NDNLPv2 link reliability of one face: what was sent is acknowledged, what is lost goes out again.

Owns: TxSequence numbers, unacknowledged link packets, loss detection, acknowledgements due to the peer, duplicates.
Pure: `now` is passed in, bytes come back to the caller. Must not know: how a packet is cut into fragments, sockets,
forwarding. Sources: NDNLPv2 wiki, "Reliability"; NFD's LpReliability (24.07), with whose numbers this works.

Two things differ from NFD, both on the sending side where each end is free. An acknowledgement of an earlier
transmission counts too, so a round trip longer than the timeout costs a few copies, not the packet; and as every
transmission has its own TxSequence, all of them measure the round trip (Karn's ambiguity does not arise). The timeout
is the current one for all packets in flight, not the one at the time of sending.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ndn_infer.ndn.lp import LpPacket
from ndn_infer.ndn.tlv import MAX_PACKET_BYTES, encode_number
from ndn_infer.wire.congestion import RttEstimator

MAX_RETRANSMISSIONS: Final = 3
LOSS_THRESHOLD: Final = 3
"""A packet is lost when this many with a greater TxSequence were acknowledged."""

IDLE_ACK_S: Final = 0.005
RECENT_S: Final = 4.0
"""How long a received Sequence is remembered at least: a peer that waits a second (the timeout before it has measured
anything) sends its last copy three seconds after the first. Longer when our own timeout says that the link is slow."""

MAX_UNACKED: Final = 4096
MAX_ACKS: Final = 4096
MAX_RECENT: Final = 32768
"""Received Sequences of one generation; two are kept."""

TX_SEQUENCE_BYTES: Final = 12
"""What a TxSequence adds to a link packet; an Ack is as long."""

_ACK: Final = b"\xfd\x03\x44\x08"
_TX_SEQUENCE: Final = b"\xfd\x03\x48\x08"
_OUTER_BYTES: Final = 4
_WRAP: Final = 1 << 64


@dataclass(slots=True)
class ReliabilityCounters:
    """Network packets `acknowledged` at once, `repaired` by retransmission, and `exhausted`: given up, retransmissions
    spent. Link packets `retransmitted`, `duplicates` received, `unprotected`: sent once, too many were in flight."""

    acknowledged: int = 0
    repaired: int = 0
    exhausted: int = 0
    retransmitted: int = 0
    duplicates: int = 0
    unprotected: int = 0


class _Group:
    """The link packets of one network packet that are not acknowledged yet."""

    __slots__ = ("open", "retransmitted")

    def __init__(self) -> None:
        self.open: set[_Piece] = set()
        self.retransmitted = False


class _Piece:
    """One link packet without its TxSequence and Acks. `overtaken` counts acknowledged packets sent after it."""

    __slots__ = ("earlier", "fields", "fragment", "group", "overtaken", "sent", "tries", "tx")

    def __init__(self, fields: bytes, fragment: bytes, group: _Group) -> None:
        self.fields = fields
        self.fragment = fragment
        self.group = group
        self.earlier: list[int] = []
        self.tx = 0
        self.sent = 0.0
        self.tries = 0
        self.overtaken = 0


class Reliability:
    """Both directions of one face.

    `first` is the first TxSequence. A face whose peer may have known an earlier face at the same address (UDP) should
    start anywhere, or stale acknowledgements are taken for new ones.
    """

    def __init__(self, first: int = 0) -> None:
        self.counters = ReliabilityCounters()
        self.rtt = RttEstimator()
        self._next_tx = first % _WRAP
        self._unacked: OrderedDict[int, _Piece] = OrderedDict()  # in the order of sending, whatever the numbers
        self._earlier: dict[int, tuple[_Piece, float]] = {}
        self._lost: OrderedDict[_Piece, None] = OrderedDict()
        self._lost_at = 0.0
        self._acks: deque[bytes] = deque(maxlen=MAX_ACKS)
        self._acks_due: float | None = None
        self._recent: set[bytes] = set()
        self._older: set[bytes] = set()
        self._turn_at = 0.0

    @property
    def in_flight(self) -> int:
        """Link packets in flight or waiting to go out again."""
        return len(self._unacked) + len(self._lost)

    # ------------------------------------------------------------ out

    def outgoing(self, pieces: Sequence[tuple[bytes, bytes]], now: float, *, mtu_bytes: int | None) -> list[bytes]:
        """The link packets of one network packet.

        A piece is its header fields in ascending order, Sequence first and nothing above CongestionMark, and a
        fragment that is not empty; the two and what frames them leave TX_SEQUENCE_BYTES of the MTU. Acknowledgements
        use what room is left.
        """
        if self.in_flight + len(pieces) > MAX_UNACKED:
            self.counters.unprotected += len(pieces)
            return [
                _frame(fields + self._take_acks(fields, fragment, mtu_bytes), fragment) for fields, fragment in pieces
            ]
        group = _Group()
        wires = []
        for fields, fragment in pieces:
            piece = _Piece(fields, fragment, group)
            group.open.add(piece)
            wires.append(self._transmit(piece, now, mtu_bytes))
        return wires

    def due(self, now: float, *, mtu_bytes: int | None) -> list[bytes]:
        """What is to be sent now: lost packets again, and acknowledgements that nothing came along to carry. To be
        called when `next_wake` says so, thus after `incoming` and after its own time."""
        while self._unacked:
            first = next(iter(self._unacked.values()))
            if first.sent + self.rtt.rto_s > now:
                break
            self._on_lost(first, now)
        wires = []
        while self._lost:
            wires.append(self._transmit(self._lost.popitem(last=False)[0], now, mtu_bytes))
            self.counters.retransmitted += 1
        if self._acks_due is not None and self._acks_due <= now:
            while self._acks:
                wires.append(_frame(self._take_acks(b"", b"", mtu_bytes), b""))
        return wires

    def next_wake(self) -> float | None:
        """When `due` has something to send (monotonic seconds), None while nothing is under way."""
        times = [] if self._acks_due is None else [self._acks_due]
        if self._lost:
            times.append(self._lost_at)
        if self._unacked:
            times.append(next(iter(self._unacked.values())).sent + self.rtt.rto_s)
        return min(times, default=None)

    def _transmit(self, piece: _Piece, now: float, mtu_bytes: int | None) -> bytes:
        piece.tx, piece.sent, piece.overtaken = self._next_tx, now, 0
        self._next_tx = (self._next_tx + 1) % _WRAP
        piece.tries += 1
        self._unacked[piece.tx] = piece
        number = _TX_SEQUENCE + piece.tx.to_bytes(8, "big")
        acks = self._take_acks(piece.fields + number, piece.fragment, mtu_bytes)
        return _frame(piece.fields + acks + number, piece.fragment)

    def _take_acks(self, fields: bytes, fragment: bytes, mtu_bytes: int | None) -> bytes:
        """As many queued Ack fields as fit; an IDLE packet always has room for one."""
        if not self._acks:
            return b""
        limit = MAX_PACKET_BYTES if mtu_bytes is None else min(mtu_bytes, MAX_PACKET_BYTES)
        size = _OUTER_BYTES + len(fields) + (_OUTER_BYTES + len(fragment) if fragment else 0)
        count = max((limit - size) // TX_SEQUENCE_BYTES, 0 if fragment else 1)
        taken = b"".join(_ACK + self._acks.popleft() for _ in range(min(count, len(self._acks))))
        if not self._acks:
            self._acks_due = None
        return taken

    # ------------------------------------------------------------ in

    def incoming(self, packet: LpPacket, now: float) -> bool:
        """Count what a received link packet acknowledges and owe it an acknowledgement; False for a duplicate, which
        the caller drops."""
        for ack in packet.acks:
            self._on_ack(int.from_bytes(ack, "big"), now)
        if packet.tx_sequence is None or not packet.fragment:
            return True
        self._acks.append(packet.tx_sequence)
        if self._acks_due is None:
            self._acks_due = now + IDLE_ACK_S
        return packet.sequence is None or self._is_new(packet.sequence, now)

    def _is_new(self, sequence: bytes, now: float) -> bool:
        if now >= self._turn_at or len(self._recent) >= MAX_RECENT:
            # Two generations; the elder is forgotten when the younger is as old as a duplicate can be.
            self._older = self._recent if now < self._turn_at + self._memory_s() else set()
            self._recent, self._turn_at = set(), now + self._memory_s()
        if sequence in self._recent or sequence in self._older:
            self.counters.duplicates += 1
            return False
        self._recent.add(sequence)
        return True

    def _memory_s(self) -> float:
        return max(RECENT_S, (MAX_RETRANSMISSIONS + 1) * self.rtt.rto_s)

    def _on_ack(self, tx: int, now: float) -> None:
        piece = self._unacked.get(tx)
        if piece is None:
            late = self._earlier.get(tx)
            if late is not None:
                piece, sent = late
                self.rtt.sample(max(0.0, now - sent))
                self._on_acknowledged(piece)
            return
        self.rtt.sample(max(0.0, now - piece.sent))
        lost = []
        for other in self._unacked.values():
            if other is piece:
                break
            other.overtaken += 1
            if other.overtaken >= LOSS_THRESHOLD:
                lost.append(other)
        self._on_acknowledged(piece)
        for other in lost:
            if self._unacked.get(other.tx) is other:  # not given up with another packet of its group
                self._on_lost(other, now)

    def _on_acknowledged(self, piece: _Piece) -> None:
        self._forget(piece)
        group = piece.group
        group.open.discard(piece)
        if group.open:
            return
        if group.retransmitted:
            self.counters.repaired += 1
        else:
            self.counters.acknowledged += 1

    def _on_lost(self, piece: _Piece, now: float) -> None:
        """Have it sent again, or give up the whole network packet."""
        if piece.tries > MAX_RETRANSMISSIONS:
            for sibling in piece.group.open:
                self._forget(sibling)
            piece.group.open.clear()
            self.counters.exhausted += 1
            return
        del self._unacked[piece.tx]
        self._earlier[piece.tx] = piece, piece.sent
        piece.earlier.append(piece.tx)
        piece.group.retransmitted = True
        self._lost[piece] = None
        self._lost_at = now

    def _forget(self, piece: _Piece) -> None:
        for tx in piece.earlier:
            del self._earlier[tx]
        if self._unacked.get(piece.tx) is piece:
            del self._unacked[piece.tx]
        else:
            self._lost.pop(piece, None)


def _frame(fields: bytes, fragment: bytes) -> bytes:
    """The LpPacket TLV; without a fragment it is IDLE."""
    inner = fields + b"\x50" + encode_number(len(fragment)) if fragment else fields
    return b"".join((b"\x64", encode_number(len(inner) + len(fragment)), inner, fragment))
