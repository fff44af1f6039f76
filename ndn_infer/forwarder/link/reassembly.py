"""Fragments become packets again (NDNLPv2, Indexed Fragmentation).

Owns: partial packets of one face, and what those of all faces may take together. Pure: `now` is passed in. Must not
know: sockets, what a packet says. Sources: NDNLPv2 revision 4; NFD's LpReassembler.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ndn_infer.errors import BadPacket
from ndn_infer.ndn.lp import LpPacket
from ndn_infer.ndn.tlv import MAX_PACKET_BYTES

REASSEMBLY_TIMEOUT_S: Final = 0.5
MAX_FRAGMENTS: Final = 400
MAX_PARTIAL_PACKETS: Final = 64
"""Of one face."""
FACE_BYTES: Final = 1 << 20
PACKET_BYTES: Final = 10 << 10
"""A face may always hold this, one packet, while there is any room."""
POOL_BYTES: Final = 48 << 20
"""More than a packet for each of max_udp_faces and max_stream_faces."""
SWEEP_S: Final = 0.25
"""Partial packets of faces that fell silent are removed at most so long after their time."""

PARTIAL_BYTES: Final = 900
FRAGMENT_BYTES: Final = 64
"""What the objects take beside the bytes of fragments."""

_SEQUENCES: Final = 1 << 64


class FragmentPool:
    """What partial packets of all faces take. A face may hold as much as is left (dynamic thresholds, Choudhury and
    Hahne 1998): floods from n faces leave an (n+1)th to a face that comes now."""

    def __init__(self, capacity_bytes: int = POOL_BYTES) -> None:
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0
        self.busy: dict[Reassembler, None] = {}
        self._next_sweep = 0.0

    def room(self) -> int:
        return self.capacity_bytes - self.used_bytes

    def take(self, holder: Reassembler, size: int, now: float) -> None:
        if not self.busy:
            self._next_sweep = now + SWEEP_S
        self.busy[holder] = None
        self.used_bytes += size

    def give(self, holder: Reassembler, size: int) -> None:
        self.used_bytes -= size
        if not len(holder):
            self.busy.pop(holder, None)

    def sweep(self, now: float) -> None:
        """Remove what ran out, of faces that send nothing too."""
        if self.busy and now >= self._next_sweep:
            self._next_sweep = now + SWEEP_S
            for holder in list(self.busy):
                holder.expire(now)

    def next_wake(self) -> float | None:
        """When `sweep` is due next (monotonic seconds)."""
        return self._next_sweep if self.busy else None


class _Partial:
    __slots__ = ("cost", "header", "last", "missing", "pieces", "size")

    def __init__(self, now: float, count: int, header: LpPacket) -> None:
        self.last = now
        self.pieces: list[bytes] = [b""] * count
        self.missing = count
        self.size = 0
        self.header = header
        self.cost = 0


class Reassembler:
    """Puts the fragments of one face together. Bounded: MAX_PARTIAL_PACKETS and FACE_BYTES at a time, none larger than
    a packet may be, each for `timeout_s` after its last fragment; all faces together by their `pool`."""

    def __init__(self, pool: FragmentPool | None = None) -> None:
        self.timeout_s = REASSEMBLY_TIMEOUT_S
        self.pool = pool or FragmentPool()
        self.used_bytes = 0
        self._partial: OrderedDict[int, _Partial] = OrderedDict()  # the one silent longest first

    def __len__(self) -> int:
        return len(self._partial)

    def add(self, packet: LpPacket, now: float) -> LpPacket | None:
        """The whole packet when `packet` completes one, else None. Raises BadPacket."""
        count, index = packet.frag_count, packet.frag_index
        if packet.sequence is None or count > MAX_FRAGMENTS:
            raise BadPacket(f"a fragment has a sequence number and at most {MAX_FRAGMENTS} siblings")
        first = (int.from_bytes(packet.sequence, "big") - index) % _SEQUENCES
        self.expire(now)
        partial = self._partial.get(first)
        if partial is None:
            partial = self._begin(first, packet, now)
        if len(partial.pieces) != count:
            raise BadPacket("fragments of one packet disagree about their number")
        partial.last = now  # the wait begins anew with every fragment (NFD, LpReassembler)
        self._partial.move_to_end(first)
        if partial.pieces[index]:
            return None  # a duplicate
        if partial.size + len(packet.fragment) > MAX_PACKET_BYTES:
            self._drop(first)
            raise BadPacket(f"fragments make a packet of more than {MAX_PACKET_BYTES} bytes")
        if not self._charge(first, partial, _cost(packet), now):
            return None
        partial.pieces[index] = packet.fragment
        partial.missing -= 1
        partial.size += len(packet.fragment)
        if index == 0:
            partial.header = packet
        if partial.missing:
            return None
        self._drop(first)
        whole = partial.header
        whole.fragment, whole.frag_index, whole.frag_count = b"".join(partial.pieces), 0, 1
        return whole

    def expire(self, now: float) -> None:
        """Remove what lacks a fragment for too long."""
        while self._partial:
            first, partial = next(iter(self._partial.items()))
            if partial.last >= now - self.timeout_s:
                return
            self._drop(first)

    def clear(self) -> None:
        """The face is gone."""
        while self._partial:
            self._drop(next(iter(self._partial)))

    def _begin(self, first: int, packet: LpPacket, now: float) -> _Partial:
        if len(self._partial) >= MAX_PARTIAL_PACKETS:
            self._drop(next(iter(self._partial)))
        partial = self._partial[first] = _Partial(now, packet.frag_count, packet)
        return partial

    def _charge(self, first: int, partial: _Partial, size: int, now: float) -> bool:
        """Whether there is room, made at the cost of this face's oldest; else the packet is given up."""
        if not partial.cost:
            size += PARTIAL_BYTES + 8 * len(partial.pieces)
        pool = self.pool
        while size > pool.room() or self.used_bytes + size > max(PACKET_BYTES, min(FACE_BYTES, pool.room())):
            oldest = next(iter(self._partial))
            self._drop(oldest)
            if oldest == first:  # touched last: nothing else was left
                return False
        partial.cost += size
        self.used_bytes += size
        pool.take(self, size, now)
        return True

    def _drop(self, first: int) -> None:
        partial = self._partial.pop(first)
        self.used_bytes -= partial.cost
        self.pool.give(self, partial.cost)


def _cost(packet: LpPacket) -> int:
    packet.acks = ()  # they have done their work, and there may be hundreds
    return FRAGMENT_BYTES + len(packet.fragment) + len(packet.prefix_announcement or b"")
