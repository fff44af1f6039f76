"""Protocol Buffers, as far as ONNX's files need them: fields of a message, by number.

Owns: the wire format, and how many fields are read of one file. Must not know: what a field means.

Source: protobuf.dev/programming-guides/encoding. Groups (kinds 3 and 4) are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

Value = int | memoryview
"""A varint, or the bytes of what is of fixed or given length."""
_LAST: Final = bytes(range(0x80))
"""Bytes that end a varint."""


class ProtobufReader:
    """Reads one file, `most` fields and numbers of it at most: of a field of two bytes an object becomes. All raise
    ValueError, IndexError (the file ends) or struct.error."""

    def __init__(self, most: int) -> None:
        self._left = most

    def fields(self, data: memoryview) -> Iterator[tuple[int, Value]]:
        """Numbers and values of a message; fixed ones as their bytes."""
        at = 0
        while at < len(data):
            self._count(1)
            tag, at = _varint(data, at)
            match tag & 7:
                case 0:
                    value, at = _varint(data, at)
                    yield tag >> 3, value
                    continue
                case 1:
                    size = 8
                case 2:
                    size, at = _varint(data, at)
                case 5:
                    size = 4
                case kind:
                    raise ValueError(f"a field of kind {kind}")
            if size > len(data) - at:
                raise ValueError("a field ends beyond its message")
            yield tag >> 3, data[at : at + size]
            at += size

    def message(self, value: Value) -> Iterator[tuple[int, Value]]:
        """The fields of a value that is a message."""
        if isinstance(value, int):
            raise ValueError("a number where a message is due")
        return self.fields(value)

    def text(self, value: Value) -> str:
        if isinstance(value, int):
            raise ValueError("a number where a text is due")
        return str(value, "utf-8")

    def number(self, value: Value) -> int:
        if not isinstance(value, int):
            raise ValueError("bytes where a number is due")
        return value

    def floats(self, value: Value) -> Sequence[float]:
        """One of 32 bits, or several packed."""
        if isinstance(value, int) or len(value) % 4:
            raise ValueError("what is no row of floats")
        self._count(len(value) // 4)
        return struct.unpack(f"<{len(value) // 4}f", value)

    def integers(self, value: Value) -> Sequence[int]:
        """One of 64 bits, signed, or several packed."""
        if isinstance(value, int):
            return (_signed(value),)
        found, at = [], 0
        self._count(len(value) - len(bytes(value).translate(None, _LAST)))
        while at < len(value):
            number, at = _varint(value, at)
            found.append(_signed(number))
        return found

    def _count(self, fields: int) -> None:
        self._left -= fields
        if self._left < 0:
            raise ValueError("more fields than are read of a file")


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]  # IndexError: the file ends
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, at
    raise ValueError("a number without an end")
