"""What the hot path reads of a packet without decoding it: its name, and the segment number in that.

Owns: quick looks at packets that are checked later (a digest, a validator) or need no check (a table look-up by name).
Must not know: anything about a packet beyond its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.ndn import tlv
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import DEFAULT_LIFETIME_MS

_WIDTHS: Final = (1, 2, 4, 8)
_SEGMENT_HEADS: Final = {width: bytes((ndn.SEGMENT, width)) for width in _WIDTHS}


def data_name(wire: bytes) -> Name:
    """The name of a Data packet. Raises BadPacket when there is none."""
    if len(wire) > 260 and wire[1] == 0xFD and wire[4] == tlv.NAME and wire[5] < 0xFD:  # one that carries much
        return wire[6 : 6 + wire[5]]
    _, value, end = tlv.read_header(wire, 0, len(wire))
    kind, start, after = tlv.read_header(wire, value, end)
    if kind != tlv.NAME:
        raise BadPacket("a Data packet starts with a Name")
    return wire[start:after]


def interest_name(wire: bytes) -> Name:
    """The name of an Interest as short as most are; b"" for others, and for what is no Interest."""
    if len(wire) < 8 or wire[1] > 0xFD:
        return b""
    at = 2 if wire[1] < 0xFD else 4
    if wire[at] == tlv.NAME and wire[at + 1] < 0xFD:
        return wire[at + 2 : at + 2 + wire[at + 1]]
    return b""


def lifetime_ms(wire: bytes, name: Name) -> int | None:
    """The lifetime of an Interest of the shape that readers of streams send: the `name` that `interest_name` read,
    flags, hints, Nonce and lifetime in their order, and nothing else. None for others; whoever wants to know what they
    are decodes them."""
    size, short = len(wire), wire[1] < 0xFD
    if size != (2 + wire[1] if short else 4 + int.from_bytes(wire[2:4], "big")):
        return None
    at = (4 if short else 6) + len(name)
    for flag in (b"\x21\x00", b"\x12\x00"):
        at += 2 if wire[at : at + 2] == flag else 0
    if wire[at : at + 1] == b"\x1e" and at + 2 < size and wire[at + 1] < 0xFD:
        at += 2 + wire[at + 1]
    if wire[at : at + 2] != b"\x0a\x04":
        return None
    at += 6
    if at == size:
        return DEFAULT_LIFETIME_MS
    width = wire[at + 1] if at + 2 < size and wire[at] == 0x0C else 0
    return int.from_bytes(wire[at + 2 :], "big") if width in _WIDTHS and at + 2 + width == size else None


def segment_splits(name: Name) -> Iterator[tuple[Name, int]]:
    """(prefix, number) for every way in which the name's end can be read as a segment component; rarely two."""
    for width in _WIDTHS:
        at = -2 - width
        if name[at : at + 2] == _SEGMENT_HEADS[width]:
            yield name[:at], int.from_bytes(name[-width:], "big")
