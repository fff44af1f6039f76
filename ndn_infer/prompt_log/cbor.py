"""CBOR, as far as COSE receipts need it (RFC 8949): integers, byte strings, texts, arrays, maps, tags, null.

Owns: one form for each value (4.2.1: shortest lengths, sorted keys), both ways. Must not know: what is encoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ndn_infer.errors import BadRecord

MAX_DEPTH: Final = 8
MAX_ITEMS: Final = 256
_NULL: Final = b"\xf6"
_WIDTHS: Final = {24: 1, 25: 2, 26: 4, 27: 8}


@dataclass(frozen=True, slots=True)
class Tagged:
    tag: int
    value: Any


def encode(value: Any) -> bytes:
    """Raises TypeError for a value of another kind."""
    if value is None:
        return _NULL
    if isinstance(value, int) and not isinstance(value, bool):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        return _head(3, len(raw := value.encode())) + raw
    if isinstance(value, Mapping):
        pairs = sorted((encode(key), encode(item)) for key, item in value.items())
        return _head(5, len(pairs)) + b"".join(key + item for key, item in pairs)
    if isinstance(value, Sequence):
        return _head(4, len(value)) + b"".join(map(encode, value))
    if isinstance(value, Tagged):
        return _head(6, value.tag) + encode(value.value)
    raise TypeError(f"{type(value).__name__} is not encoded here")


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    for short, width in _WIDTHS.items():
        if argument < 1 << 8 * width:
            return bytes([major << 5 | short]) + argument.to_bytes(width, "big")
    raise TypeError("a number of CBOR has 64 bits")


def decode(wire: bytes) -> Any:
    """The value, which is all of `wire`; arrays are lists. Raises BadRecord for other forms and other kinds."""
    value, end = _value(wire, 0, MAX_DEPTH)
    if end != len(wire):
        raise BadRecord("bytes after the end of CBOR")
    return value


def _value(wire: bytes, at: int, depth: int) -> tuple[Any, int]:
    if wire[at : at + 1] == _NULL:
        return None, at + 1
    major, argument, at = _read_head(wire, at)
    if not depth:
        raise BadRecord(f"CBOR more than {MAX_DEPTH} deep")
    match major:
        case 0:
            return argument, at
        case 1:
            return -1 - argument, at
        case 2 | 3:
            return _string(wire, at, argument, text=major == 3)
        case 4:
            return _items(wire, at, argument, depth)
        case 5:
            return _map(wire, at, argument, depth)
        case 6:
            value, at = _value(wire, at, depth - 1)
            return Tagged(argument, value), at
    raise BadRecord("a kind of CBOR that is not read here")


def _read_head(wire: bytes, at: int) -> tuple[int, int, int]:
    if at >= len(wire):
        raise BadRecord("CBOR ends too early")
    major, short = wire[at] >> 5, wire[at] & 31
    if short < 24:
        return major, short, at + 1
    width = _WIDTHS.get(short)
    if width is None or at + 1 + width > len(wire):
        raise BadRecord("a length of CBOR that is not read here")
    argument = int.from_bytes(wire[at + 1 : at + 1 + width], "big")
    if _head(major, argument) != wire[at : at + 1 + width]:
        raise BadRecord("a length of CBOR that is not the shortest")
    return major, argument, at + 1 + width


def _string(wire: bytes, at: int, size: int, *, text: bool) -> tuple[bytes | str, int]:
    raw = wire[at : at + size]
    if len(raw) != size:
        raise BadRecord("CBOR ends too early")
    try:
        return raw.decode() if text else raw, at + size
    except UnicodeDecodeError:
        raise BadRecord("a text of CBOR that is not UTF-8") from None


def _items(wire: bytes, at: int, count: int, depth: int) -> tuple[list[Any], int]:
    if count > MAX_ITEMS:
        raise BadRecord(f"an array of CBOR with {count} elements")
    items = []
    for _ in range(count):
        value, at = _value(wire, at, depth - 1)
        items.append(value)
    return items, at


def _map(wire: bytes, at: int, count: int, depth: int) -> tuple[dict[Any, Any], int]:
    if count > MAX_ITEMS:
        raise BadRecord(f"a map of CBOR with {count} keys")
    found: dict[Any, Any] = {}
    before = b""
    for _ in range(count):
        begin = at
        key, at = _value(wire, at, depth - 1)
        if not isinstance(key, int | str | bytes) or wire[begin:at] <= before:
            raise BadRecord("keys of a CBOR map that are not in order")
        before = wire[begin:at]
        found[key], at = _value(wire, at, depth - 1)
    return found, at
