"""Just as much of an Interest or Data as forwarding needs, read in one pass over the bytes.

Owns: the hot-path parsers. Must not know: tables, faces. They accept hostile bytes: what NFD (ndn-cxx) refuses to
decode is refused, so that nothing malformed is passed on or cached (element order, sizes, critical types, MetaInfo,
SignatureInfo); the values of parameters, content, key locators and signatures are not looked into. What one packet
costs is bounded: MAX_COMPONENTS, MAX_HINTS. Source: NDN Packet Format 0.3, sections 2 to 5.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from ndn_infer.errors import BadPacket
from ndn_infer.ndn import tlv
from ndn_infer.ndn.name import PARAMETERS_DIGEST, Name, decode_name
from ndn_infer.ndn.tlv import decode_nonneg, read_header

MAX_LIFETIME_MS: Final = 300_000
"""Longer InterestLifetimes are cut: nobody may occupy a PIT for days."""

MAX_COMPONENTS: Final = 128
"""Packets with longer names are not forwarded: every prefix of a name may be looked up for one packet."""

MAX_HINTS: Final = 16


class ParsedInterest(NamedTuple):
    """`ends` are `prefix_ends(name)`; `nonce` is b"" when missing, `hop_limit_at` 0 when there is no HopLimit, and
    `nonce_at` the offset at which a Nonce element belongs; `hints_span` is where the ForwardingHint element stands,
    (0, 0) without one."""

    name: Name
    ends: list[int]
    can_be_prefix: bool
    must_be_fresh: bool
    hints: tuple[Name, ...]
    nonce: bytes
    lifetime_ms: int
    hop_limit_at: int
    nonce_at: int
    hints_span: tuple[int, int]


_INTEREST_ORDER: Final = {0x21: 1, 0x12: 2, 0x1E: 3, 0x0A: 4, 0x0C: 5, 0x22: 6, 0x24: 7}
_DATA_ORDER: Final = {0x14: 1, 0x15: 2, 0x16: 3, 0x17: 4}
_MAX_COMPONENT_TYPE: Final = 0xFFFF
_DELEGATION: Final = 31
_VALIDITY_PERIOD: Final = 0xFD
_DIGEST_HEAD: Final = b"\x02\x20"


def parse_name(wire: bytes, expected: int) -> tuple[Name, list[int], int, int]:
    """(name, prefix ends, offset after the Name, end) of a packet of type `expected`. Raises BadPacket."""
    size = len(wire)
    if size > tlv.MAX_PACKET_BYTES:
        raise BadPacket(f"a packet has at most {tlv.MAX_PACKET_BYTES} bytes")
    kind, offset, end = read_header(wire, 0, size)
    if kind != expected or end != size:
        raise BadPacket("not one whole packet")
    kind, start, after = read_header(wire, offset, end)
    if kind != tlv.NAME or start == after:
        raise BadPacket("a packet starts with a non-empty Name")
    ends = [0]
    at = start
    while at < after:
        if wire[at] == 8 and at + 1 < after and wire[at + 1] < 253:  # the common component, without a call
            at += 2 + wire[at + 1]
            if at > after:
                raise BadPacket("TLV value cut short")
        else:
            at = _component_end(wire, at, after)
        ends.append(at - start)
    if len(ends) > MAX_COMPONENTS + 1:
        raise BadPacket(f"a name of more than {MAX_COMPONENTS} components is not forwarded")
    return wire[start:after], ends, after, end


def _component_end(wire: bytes, offset: int, end: int) -> int:
    kind, value, after = read_header(wire, offset, end)
    if kind in (1, 2) and after - value != 32:
        raise BadPacket("a digest component has 32 bytes")
    if not 0 < kind <= _MAX_COMPONENT_TYPE:
        raise BadPacket(f"a name component has no type {kind}")
    return after


def parse_interest(wire: bytes) -> ParsedInterest:
    """Raises BadPacket."""
    name, ends, offset, end = parse_name(wire, tlv.INTEREST)
    digests = _parameters_digests(name, ends) if _DIGEST_HEAD in name else 0
    nonce_at = offset
    can_be_prefix = must_be_fresh = False
    hints: tuple[Name, ...] = ()
    nonce, lifetime_ms, hop_limit_at, last, hints_span = b"", 4000, 0, 0, (0, 0)
    while offset < end:
        element = offset
        kind, value, offset = read_header(wire, offset, end)
        place = _INTEREST_ORDER.get(kind)
        if place is None:
            _ignore(kind)
            continue
        if place <= last:
            if not tlv.is_critical(kind):
                continue  # out of order and not critical: as if it were not there (Packet Format 0.3, 1.3)
            raise BadPacket(f"Interest element {kind:#x} is repeated or out of order")
        last = place
        if place < 4:
            nonce_at = offset
            if place < 3:
                if value != offset:
                    raise BadPacket("CanBePrefix and MustBeFresh have no value")
                can_be_prefix, must_be_fresh = can_be_prefix or place == 1, must_be_fresh or place == 2
            else:
                hints, hints_span = _hints(wire, value, offset), (element, offset)
        elif place == 4:
            nonce = _sized(wire[value:offset], 4)
        elif place == 5:
            lifetime_ms = min(decode_nonneg(wire[value:offset]), MAX_LIFETIME_MS)
        elif place == 6:
            _sized(wire[value:offset], 1)
            hop_limit_at = value
        elif not digests:
            raise BadPacket("an Interest with parameters has their digest in its name")
    return ParsedInterest(
        name, ends, can_be_prefix, must_be_fresh, hints, nonce, lifetime_ms, hop_limit_at, nonce_at, hints_span
    )


def _parameters_digests(name: Name, ends: list[int]) -> int:
    found = sum(name[at] == PARAMETERS_DIGEST for at in ends[:-1])
    if found > 1:
        raise BadPacket("a name has one parameters digest at most")
    return found


def _hints(wire: bytes, value: int, end: int) -> tuple[Name, ...]:
    """The names of a ForwardingHint; those of Delegations (Packet Format 0.2) too, as ndn-cxx takes them."""
    hints: list[Name] = []
    for kind, start, stop in tlv.iterate(wire, value, end):
        if kind == _DELEGATION:
            nested = next(
                ((first, last) for kind, first, last in tlv.iterate(wire, start, stop) if kind == tlv.NAME), None
            )
            if nested is None:
                raise BadPacket("a Delegation has a Name")
            start, stop = nested
        elif kind != tlv.NAME:
            _ignore(kind)
            continue
        hints.append(decode_name(wire, start, stop))
    if not 0 < len(hints) <= MAX_HINTS:
        raise BadPacket(f"a ForwardingHint has 1 to {MAX_HINTS} names")
    return tuple(hints)


def _sized(raw: bytes, size: int) -> bytes:
    if len(raw) != size:
        raise BadPacket(f"a Nonce has 4 bytes and a HopLimit 1, this one {len(raw)}")
    return raw


def parse_data(wire: bytes) -> tuple[Name, int, list[int]]:
    """(name, FreshnessPeriod in ms, `prefix_ends(name)`) of a Data packet. Raises BadPacket."""
    name, ends, offset, end = parse_name(wire, tlv.DATA)
    freshness_ms = last = 0
    signed = False
    while offset < end:
        kind, value, offset = read_header(wire, offset, end)
        place = _DATA_ORDER.get(kind)
        if place is None:
            _ignore(kind)
            continue
        if place <= last:
            raise BadPacket(f"Data element {kind:#x} is repeated or out of order")
        last = place
        if place == 1:
            meta = wire[value:offset]
            freshness_ms = _known_meta_info(meta) if len(meta) <= _REMEMBERED_BYTES else _meta_info(meta)
        elif place == 3:
            _check_signature_info(wire, value, offset)
            signed = True
    if not signed or last != 4:
        raise BadPacket("a Data packet has SignatureInfo and SignatureValue")
    return name, freshness_ms, ends


def _meta_info(meta: bytes) -> int:
    """The FreshnessPeriod. ContentType, FreshnessPeriod and FinalBlockId come in this order or not at all; from the
    first other element on all is the application's, whatever its type (ndn-cxx, MetaInfo::wireDecode)."""
    freshness_ms = last = 0
    for kind, value, after in tlv.iterate(meta):
        place = kind - 0x17 if 0x18 <= kind <= 0x1A else 0
        if place <= last:
            last = 3
            continue
        last = place
        if place == 2:
            freshness_ms = decode_nonneg(meta[value:after])
        elif place == 1:
            if decode_nonneg(meta[value:after]) > 0xFFFFFFFF:
                raise BadPacket("a ContentType has at most 32 bits")
        elif _component_end(meta, value, after) != after:
            raise BadPacket("a FinalBlockId is one name component")
    return freshness_ms


_REMEMBERED_BYTES: Final = 64
_known_meta_info = lru_cache(256)(_meta_info)  # all segments of an object have the same


def _check_signature_info(wire: bytes, value: int, end: int) -> None:
    """ndn-cxx, SignatureInfo::wireDecode, but for what is in the KeyLocator."""
    if wire[value : value + 2] == b"\x1b\x01" and (
        value + 3 == end or (value + 5 <= end and wire[value + 3] == 0x1C and value + 5 + wire[value + 4] == end)
    ):
        return  # the common case: one byte of SignatureType, perhaps a short KeyLocator
    last, typed, offset = 0, False, value
    while offset < end:
        kind, value, offset = read_header(wire, offset, end)
        if kind in (0x1B, 0x1C):
            if kind - 0x1A <= last:
                raise BadPacket("SignatureType or KeyLocator is repeated or out of order")
            last = kind - 0x1A
            if kind == 0x1B:
                typed = True
                if decode_nonneg(wire[value:offset]) > 0xFFFF:
                    raise BadPacket("a SignatureType has at most 16 bits")
        elif kind == 0x26 and value == offset:
            raise BadPacket("a SignatureNonce is not empty")
        elif kind != _VALIDITY_PERIOD:
            _ignore(kind)
    if not typed:
        raise BadPacket("a SignatureInfo has a SignatureType")


def _ignore(kind: int) -> None:
    if kind == 0 or tlv.is_critical(kind):
        raise BadPacket(f"unknown critical element {kind}")
