"""State vectors and mapping data as bytes.

Owns: the TLVs of State Vector Sync version 3 (specification of 2026-07-17, section 3) and of its publication layer
(2026-07-24, "Name Mapping"). Must not know: who is believed, what is outdated. Decoders take bytes of strangers whose
signature was verified: they return what is in bounds or raise BadPacket, and never more entries than the packet can
hold. Names are the values of Name elements, so their order as bytes is NDN's canonical order.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Final, NamedTuple

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.ndn import tlv
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.tlv import decode_nonneg, encode_nonneg, encode_tlv, is_critical, read_header

STATE_VECTOR: Final = 201
STATE_VECTOR_ENTRY: Final = 202
SEQ_NO_ENTRY: Final = 210
BOOTSTRAP_TIME: Final = 212
SEQ_NO: Final = 214
MAPPING_DATA: Final = 205
MAPPING_ENTRY: Final = 206
MAPPING_SEQ_NO: Final = 204

MAX_NAME_BYTES: Final = 512
"""Of a member's name. Longer ones are refused: a vector holds many names."""
MAX_CONTENT_BYTES: Final = tlv.MAX_PACKET_BYTES


class Entry(NamedTuple):
    """One member's word: since it started at `boot` (Unix epoch, seconds) it has published numbers 1 to `sequence`."""

    name: Name
    boot: int
    sequence: int


# ---------------------------------------------------------------- state vectors


def encode_vector(entries: Iterable[Entry]) -> bytes:
    """A StateVector TLV, names in canonical order, a name's bootstrap times rising."""
    parts = []
    for name, same in groupby(sorted(entries), key=lambda entry: entry.name):
        numbers = b"".join(map(_encode_numbers, same))
        parts.append(encode_tlv(STATE_VECTOR_ENTRY, ndn.encode_name(name) + numbers))
    return encode_tlv(STATE_VECTOR, b"".join(parts))


def _encode_numbers(entry: Entry) -> bytes:
    boot = encode_tlv(BOOTSTRAP_TIME, encode_nonneg(entry.boot))
    return encode_tlv(SEQ_NO_ENTRY, boot + encode_tlv(SEQ_NO, encode_nonneg(entry.sequence)))


def entry_bytes(name: Name) -> int:
    """What an entry with one bootstrap time takes at most, sequence numbers below 2^32."""
    return len(name) + 24


def decode_vector(content: bytes, latest_boot: float = float("inf")) -> list[Entry]:
    """The entries of the StateVector with which `content` begins, in its order.

    Blocks after it (mapping data) are skipped when they may be. Raises BadPacket for anything malformed, names out of
    order, a number 0, a name longer than MAX_NAME_BYTES, or a far future: a bootstrap time after `latest_boot`.
    """
    if len(content) > MAX_CONTENT_BYTES:
        raise BadPacket(f"a state vector of {len(content)} bytes")
    kind, value, end = read_header(content, 0, len(content))
    if kind != STATE_VECTOR:
        raise BadPacket("the content of a Sync Interest begins with a state vector")
    for other, _, _ in tlv.iterate(content, end):
        if is_critical(other) and other != MAPPING_DATA:
            raise BadPacket(f"unknown critical element {other} after a state vector")
    entries: list[Entry] = []
    last = b""
    for kind, start, stop in tlv.iterate(content, value, end):
        if kind != STATE_VECTOR_ENTRY:
            raise BadPacket("a state vector has entries and nothing else")
        name = _decode_member(content, start, stop, latest_boot, entries)
        if name <= last:
            raise BadPacket("the names of a state vector are not in canonical order")
        last = name
    return entries


def _decode_member(content: bytes, start: int, stop: int, latest_boot: float, entries: list[Entry]) -> Name:
    """Appends the entries of one name; returns the name."""
    name, offset = _decode_name(content, start, stop)
    if len(name) > MAX_NAME_BYTES or not name:
        raise BadPacket(f"a member's name of {len(name)} bytes")
    while offset < stop:
        kind, value, offset = read_header(content, offset, stop)
        if kind != SEQ_NO_ENTRY:
            raise BadPacket("a member of a state vector has sequence numbers and nothing else")
        boot, sequence = _decode_pair(content, value, offset)
        if boot > latest_boot:
            raise BadPacket("a bootstrap time of the far future")
        if not sequence:
            raise BadPacket("sequence numbers begin with 1")
        entries.append(Entry(name, boot, sequence))
    return name


def _decode_pair(content: bytes, value: int, end: int) -> tuple[int, int]:
    kind, start, stop = read_header(content, value, end)
    other, start_b, stop_b = read_header(content, stop, end)
    if kind != BOOTSTRAP_TIME or other != SEQ_NO or stop_b != end:
        raise BadPacket("a sequence number entry is a bootstrap time and a sequence number")
    return decode_nonneg(content[start:stop]), decode_nonneg(content[start_b:stop_b])


def _decode_name(content: bytes, start: int, stop: int) -> tuple[Name, int]:
    kind, value, end = read_header(content, start, stop)
    if kind != tlv.NAME:
        raise BadPacket("an entry begins with a name")
    return ndn.decode_name(content, value, end), end


# ---------------------------------------------------------------- mapping data


def encode_mapping(member: Name, names: Iterable[tuple[int, Name]]) -> bytes:
    """A MappingData TLV: which application name each sequence number of a member stands for."""
    entries = [
        encode_tlv(MAPPING_ENTRY, encode_tlv(MAPPING_SEQ_NO, encode_nonneg(sequence)) + ndn.encode_name(name))
        for sequence, name in names
    ]
    return encode_tlv(MAPPING_DATA, ndn.encode_name(member) + b"".join(entries))


def decode_mapping(content: bytes) -> tuple[Name, dict[int, Name]]:
    """The member and its names by sequence number. Raises BadPacket. What an entry has after the name is skipped."""
    if len(content) > MAX_CONTENT_BYTES:
        raise BadPacket(f"mapping data of {len(content)} bytes")
    kind, value, end = read_header(content, 0, len(content))
    if kind != MAPPING_DATA or end != len(content):
        raise BadPacket("not mapping data")
    member, offset = _decode_name(content, value, end)
    names: dict[int, Name] = {}
    for kind, start, stop in tlv.iterate(content, offset, end):
        if kind != MAPPING_ENTRY:
            raise BadPacket("mapping data has entries and nothing else")
        number, at, after = read_header(content, start, stop)
        if number != MAPPING_SEQ_NO:
            raise BadPacket("a mapping entry begins with a sequence number")
        names[decode_nonneg(content[at:after])] = _decode_name(content, after, stop)[0]
    return member, names
