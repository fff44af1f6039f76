"""Segments of one object that came one after the other: recognised where they lie, without a look at each header.

Packets of one read that carry segments of one object have the same length and the same bytes up to the segment number:
link header, name. What was found out about one of them (where its Data begins, where the number stands) holds for all.
Owns: those shapes, and finding the packets that have one. What the packets carry is judged by their digest
(segments.py), which covers all that comes after. A packet that differs in any byte up to its number, is marked, a Nack
or of another length is none of these; it is read in full. Must not know: who waits, windows, sockets. Sources: NDN
Packet Format 0.3, NDNLPv2.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ndn_infer import ndn
from ndn_infer.ndn import lp, tlv
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.tlv import Frames

LEAST_BYTES: Final = 1024
"""Shorter packets are not worth a look: most are no segments."""
SHAPES_OF_A_LENGTH: Final = 4
LENGTHS: Final = 16
_HEADS: Final = {width: bytes((ndn.SEGMENT, width)) for width in (1, 2)}
"""Of numbers up to 65,535. How a name ends in one of these can be read in one way only; longer ones are left."""


class SegmentShape(NamedTuple):
    """Of a link packet that carries a segment: `before` are its bytes up to the name's value, which ends with a segment
    number of `width` bytes at `number_at`; its Data begins at `data_at`. `face_id` is IncomingFaceId, None where the
    link header has none."""

    before: bytes
    number_at: int
    width: int
    data_at: int
    face_id: int | None

    @property
    def prefix_end(self) -> int:
        return self.number_at - 2


class SegmentRun(NamedTuple):
    """So many `packets` of this shape, `stride` bytes each, from `start` of the buffer on; the same object's."""

    frames: Frames
    start: int
    stride: int
    packets: int
    shape: SegmentShape

    def names(self) -> list[Name]:
        room, begin, shape = self.frames.room, self.start + len(self.shape.before), self.shape
        size = shape.number_at + shape.width - len(shape.before)
        return [bytes(room[at : at + size]) for at in range(begin, begin + self.packets * self.stride, self.stride)]


def shape_of(packet: bytes) -> SegmentShape | None:
    """The shape of a link packet; None when it carries no segment's Data, is marked, or is unusual in its form."""
    if packet[0] == tlv.DATA:
        data_at, face_id = 0, None
    else:
        peeled = lp.peel(packet)
        if peeled is None or peeled[1] or peeled[0][0] != tlv.DATA:
            return None
        data_at, face_id = len(packet) - len(peeled[0]), peeled[2]
    name_at = data_at + 6
    if len(packet) < data_at + 300 or packet[data_at + 1] != 0xFD or packet[data_at + 4] != tlv.NAME:
        return None
    length = packet[name_at - 1]
    if length > 0xFC:
        return None
    end = name_at + length
    for width, head in _HEADS.items():
        number_at = end - width
        if length > 2 + width and packet[number_at - 2 : number_at] == head:
            return SegmentShape(packet[:name_at], number_at, width, data_at, face_id)
    return None


class Shapes:
    """What one link brought of late."""

    def __init__(self) -> None:
        self._known: dict[int, list[SegmentShape]] = {}

    def find(self, frames: Frames, at: int) -> tuple[SegmentShape, Name] | None:
        """The shape of packet `at`, and its name without the segment's number, if it has a known one."""
        start = frames.bounds[at]
        room = frames.room
        for shape in self._known.get(frames.bounds[at + 1] - start, ()):
            if room.startswith(shape.before, start):
                end = start + shape.prefix_end
                if room.startswith(_HEADS[shape.width], end):
                    return shape, bytes(room[start + len(shape.before) : end])
        return None

    def learn(self, packet: bytes) -> None:
        """Packets like this one may follow."""
        shape = shape_of(packet)
        if shape is None:
            return
        known = self._known.setdefault(len(packet), [])
        if shape not in known:
            known.insert(0, shape)
            del known[SHAPES_OF_A_LENGTH:]
        if len(self._known) > LENGTHS:
            del self._known[next(iter(self._known))]


def run_at(frames: Frames, at: int, shape: SegmentShape) -> SegmentRun:
    """Packet `at`, which has this shape, and those right after it that are equal to it up to their numbers."""
    bounds, room = frames.bounds, frames.room
    start = bounds[at]
    stride, head = bounds[at + 1] - start, bytes(room[start : start + shape.number_at])
    after, count, last = start + stride, 1, len(frames) - at
    while count < last and bounds[at + count + 1] == after + stride and room.startswith(head, after):
        after += stride
        count += 1
    return SegmentRun(frames, start, stride, count, shape)
