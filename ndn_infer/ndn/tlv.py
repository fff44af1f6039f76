"""NDN-TLV at byte level: type and length numbers, non-negative integers, and the framing of a byte stream.

Owns: the TLV rules of the NDN Packet Format 0.3, section 1 (shortest-form numbers, NonNegativeInteger of 1, 2, 4 or
8 bytes) and the number table. Must not know: names, packets, sockets. It stands on the hot path of the forwarder and
of the fetcher, so it works on plain `bytes` and integers and makes no objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import ClassVar, Final, overload

from ndn_infer.errors import BadPacket

MAX_PACKET_BYTES: Final = 8800
"""NDN packets stay within this (NFD's MAX_NDN_PACKET_SIZE)."""

MAX_LP_OVERHEAD_BYTES: Final = 512
"""Room for NDNLPv2 header fields around a packet of the largest size, on stream transports."""

READ_BYTES: Final = 1 << 18
"""Most that is read from a stream at a time: about thirty packets of the largest size."""

INTEREST: Final = 0x05
DATA: Final = 0x06
NAME: Final = 0x07
LP_PACKET: Final = 0x64

Buffer = bytes | bytearray | memoryview


def encode_number(number: int) -> bytes:
    """A TLV-TYPE or TLV-LENGTH in its shortest form (1, 3, 5 or 9 bytes)."""
    if number < 253:
        return bytes((number,))
    if number < 0x10000:
        return b"\xfd" + number.to_bytes(2, "big")
    if number < 0x100000000:
        return b"\xfe" + number.to_bytes(4, "big")
    return b"\xff" + number.to_bytes(8, "big")


def encode_tlv(type_number: int, value: Buffer = b"") -> bytes:
    """One TLV element."""
    length = len(value)
    if type_number < 253 and length < 253:
        return bytes((type_number, length)) + value
    return encode_number(type_number) + encode_number(length) + value


def read_number(buffer: Buffer, offset: int, end: int) -> tuple[int, int]:
    """The TLV number at `offset` and the offset after it.

    Raises BadPacket when the number is cut short by `end` or not in its shortest form.
    """
    if offset >= end:
        raise BadPacket("TLV number cut short")
    first = buffer[offset]
    if first < 253:
        return first, offset + 1
    size = 1 << (first - 252)
    after = offset + 1 + size
    if after > end:
        raise BadPacket("TLV number cut short")
    number = int.from_bytes(buffer[offset + 1 : after], "big")
    if number < (253, 0x10000, 0x100000000)[first - 253]:
        raise BadPacket("TLV number is not in its shortest form")
    return number, after


def read_header(buffer: Buffer, offset: int, end: int) -> tuple[int, int, int]:
    """Type, offset of the value, and offset after the value of the element at `offset`.

    Raises BadPacket when the element does not fit before `end`, or is of type 0.
    """
    # The common case, both numbers below 253, without a call.
    if offset + 1 < end and 0 < buffer[offset] < 253 and buffer[offset + 1] < 253:
        value = offset + 2
        after = value + buffer[offset + 1]
        if after > end:
            raise BadPacket("TLV value cut short")
        return buffer[offset], value, after
    type_number, offset = read_number(buffer, offset, end)
    if type_number == 0:
        raise BadPacket("TLV type 0 is not allowed")
    length, value = read_number(buffer, offset, end)
    after = value + length
    if after > end:
        raise BadPacket("TLV value cut short")
    return type_number, value, after


def iterate(buffer: Buffer, offset: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int]]:
    """(type, value offset, end offset) of every element between `offset` and `end`. Raises BadPacket."""
    stop = len(buffer) if end is None else end
    while offset < stop:
        type_number, value, after = read_header(buffer, offset, stop)
        yield type_number, value, after
        offset = after


def encode_nonneg(number: int) -> bytes:
    """A NonNegativeInteger value: the shortest of 1, 2, 4, 8 bytes."""
    if number < 0x100:
        return bytes((number,))
    if number < 0x10000:
        return number.to_bytes(2, "big")
    if number < 0x100000000:
        return number.to_bytes(4, "big")
    return number.to_bytes(8, "big")


def decode_nonneg(value: Buffer) -> int:
    """The integer of a NonNegativeInteger value. Raises BadPacket unless it has 1, 2, 4 or 8 bytes."""
    if len(value) not in (1, 2, 4, 8):
        raise BadPacket(f"a NonNegativeInteger has 1, 2, 4 or 8 bytes, this one {len(value)}")
    return int.from_bytes(value, "big")


def is_critical(type_number: int) -> bool:
    """Whether an unrecognised element of this type makes its packet unacceptable (Packet Format 0.3, section 1.3)."""
    return type_number <= 31 or type_number & 1 == 1


class Frames(Sequence[bytes]):
    """Whole packets, one after another in a buffer that the next read overwrites: packet n is
    `room[bounds[n]:bounds[n + 1]]`, and a copy of it when taken out by number."""

    __slots__ = ("bounds", "room", "view")

    def __init__(self, room: bytes | bytearray, view: memoryview, bounds: list[int]) -> None:
        self.room, self.view, self.bounds = room, view, bounds

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> list[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | list[bytes]:
        if isinstance(at, slice):
            first, last, _ = at.indices(len(self))
            view = self.view
            return [bytes(view[start:end]) for start, end in pairwise(self.bounds[first : last + 1])]
        if not 0 <= at < len(self):
            raise IndexError(at)
        return bytes(self.view[self.bounds[at] : self.bounds[at + 1]])


class Framer:
    """Cuts the bytes of a stream transport into whole packets.

    `feed` takes what arrived and returns the packets now complete. A stream carries Interests, Data and LpPackets and
    nothing else: at any other type, a malformed length, or an element longer than `limit`, `fault` says why, and what
    came before is still returned. A stream cannot be resynchronised, so its face must be closed after that; more bytes
    raise the fault. Holds at most one incomplete packet.

    `feed_from` does the same for a socket's `recv_into`, with every byte copied once: all framers of a thread read
    into one buffer, `room`, into which an incomplete packet is put back first. Without one, that of the process; then
    one thread alone may read.
    """

    __slots__ = ("_buffer", "_limit", "_room", "fault")
    _shared: ClassVar[bytearray] = bytearray(READ_BYTES)

    def __init__(self, limit: int = MAX_PACKET_BYTES + MAX_LP_OVERHEAD_BYTES, room: bytearray | None = None) -> None:
        """`room` has READ_BYTES."""
        self._room = self._shared if room is None else room
        self.fault: BadPacket | None = None
        self._buffer = b""
        self._limit = limit

    def feed(self, chunk: bytes) -> list[bytes]:
        buffer = self._buffer + chunk if self._buffer else chunk
        return self._cut(buffer, memoryview(buffer), len(buffer))[:]

    def feed_from(self, recv_into: Callable[[memoryview], int], most: int = READ_BYTES) -> list[bytes] | None:
        """Read once, at most `most` bytes, and cut. None at the end of the stream; what `recv_into` raises is passed
        on and loses nothing."""
        frames = self.frames_from(recv_into, most)
        return None if frames is None else frames[:]

    def frames_from(self, recv_into: Callable[[memoryview], int], most: int = READ_BYTES) -> Frames | None:
        """As `feed_from`, with the packets left where they lie: good until the next read of whoever shares `room`."""
        shared, kept = self._room, len(self._buffer)
        view = memoryview(shared)
        if kept:
            shared[:kept] = self._buffer
        count = recv_into(view[kept : min(kept + most, READ_BYTES)] if kept or most < READ_BYTES else view)
        return self._cut(shared, view, kept + count) if count else None

    def _cut(self, buffer: bytes | bytearray, view: memoryview, size: int) -> Frames:
        if self.fault is not None:
            raise self.fault
        bounds = [0]
        offset = 0
        while offset < size:
            kind = buffer[offset]
            if kind != DATA and kind != LP_PACKET and kind != INTEREST:
                self.fault = BadPacket(f"bytes that are not an NDN packet: type {kind}")
                break
            # The common cases without a call: a length of one byte, or of three.
            after: int | None
            length = buffer[offset + 1] if size - offset >= 4 else 255
            if length < 253:
                after = offset + 2 + length
            elif length == 253 and 253 <= (length := buffer[offset + 2] << 8 | buffer[offset + 3]) < self._limit - 4:
                after = offset + 4 + length
            else:
                after = self._packet_end(buffer, offset, size)
            if after is None or after > size:
                break
            bounds.append(after)
            if length > 252:  # most that follow a large one are like it
                stride, head = after - offset, bytes(view[offset : offset + 4])
                while after + stride <= size and buffer.startswith(head, after):
                    after += stride
                    bounds.append(after)
            offset = after
        self._buffer = b"" if self.fault is not None else bytes(view[offset:size])
        return Frames(buffer, view, bounds)

    def _packet_end(self, buffer: bytes | bytearray, offset: int, size: int) -> int | None:
        """Where the packet at `offset` ends; None while its header is incomplete, or with a `fault`."""
        at = offset + 1
        if at == size or at + _number_size(buffer[at]) > size:
            return None
        try:
            length, value = read_number(buffer, at, size)
        except BadPacket as error:
            self.fault = error
            return None
        if value + length - offset > self._limit:
            self.fault = BadPacket(f"a packet of {length} bytes: at most {self._limit} are allowed")
            return None
        return value + length


def _number_size(first: int) -> int:
    return 1 if first < 253 else 1 + (1 << (first - 252))
