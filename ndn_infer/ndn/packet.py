"""Interest and Data packets, as bytes and as small objects.

Owns: the layout of NDN Packet Format 0.3, sections 3 to 5. Must not know: NDNLPv2 headers (lp.py), keys, sockets, what
a name means. Decoders accept hostile bytes: they return a packet or raise BadPacket, and they never verify anything;
`signed_portion` and `signature` are what security/ verifies before anybody looks at `content`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from ndn_infer.errors import BadPacket
from ndn_infer.ndn import tlv
from ndn_infer.ndn.name import (
    PARAMETERS_DIGEST,
    Component,
    Name,
    components,
    decode_name,
    encode_name,
    parameters_digest,
)
from ndn_infer.ndn.tlv import Buffer, decode_nonneg, encode_nonneg, encode_tlv, is_critical, read_header

SIGNATURE_DIGEST_SHA256: Final = 0
SIGNATURE_SHA256_WITH_RSA: Final = 1
SIGNATURE_SHA256_WITH_ECDSA: Final = 3
SIGNATURE_ED25519: Final = 5

CONTENT_BLOB: Final = 0
CONTENT_KEY: Final = 2
CONTENT_NACK: Final = 3
CONTENT_PREFIX_ANNOUNCEMENT: Final = 5

DEFAULT_LIFETIME_MS: Final = 4000


@dataclass(frozen=True, slots=True)
class SignatureInfo:
    """SignatureInfo or InterestSignatureInfo. `time_ms` is SignatureTime; `raw` the whole element as received."""

    type: int
    key_locator: Name | None = None
    nonce: bytes | None = None
    time_ms: int | None = None
    sequence: int | None = None
    raw: bytes = b""


@dataclass(slots=True)
class Interest:
    """One Interest. `nonce` has 4 bytes or is None; `signed_portion` and `signature` are set on signed ones only."""

    name: Name
    can_be_prefix: bool = False
    must_be_fresh: bool = False
    hints: tuple[Name, ...] = ()
    nonce: bytes | None = None
    lifetime_ms: int = DEFAULT_LIFETIME_MS
    hop_limit: int | None = None
    parameters: bytes | None = None
    signature_info: SignatureInfo | None = None
    signature: bytes = b""
    signed_portion: bytes = b""
    parameters_portion: bytes = b""
    """ApplicationParameters to the end: what ParametersSha256Digest covers."""

    def parameters_digest_matches(self) -> bool:
        """Whether the name's ParametersSha256Digest is that of the parameters (false when either is missing)."""
        expected = parameters_digest(hashlib.sha256(self.parameters_portion).digest())
        return self.parameters is not None and expected in components(self.name)


@dataclass(slots=True)
class Data:
    """One Data. `wire` is the packet as received; `content` is not to be decoded before it has been verified."""

    name: Name
    content: bytes
    content_type: int
    freshness_ms: int
    final_block: Component | None
    signature_info: SignatureInfo
    signature: bytes
    signed_portion: bytes
    wire: bytes = field(repr=False)

    def implicit_digest(self) -> bytes:
        """SHA-256 over the whole packet."""
        return hashlib.sha256(self.wire).digest()


Signer = Callable[[bytes], bytes]
"""Takes the signed portion, returns the signature value."""


def digest_signer(portion: bytes) -> bytes:
    """SignatureValue of DigestSha256: integrity of the bytes, no authorship."""
    return hashlib.sha256(portion).digest()


# ---------------------------------------------------------------- encoding


def encode_signature_info(info: SignatureInfo, *, for_interest: bool = False) -> bytes:
    value = encode_tlv(0x1B, encode_nonneg(info.type))
    if info.key_locator is not None:
        value += encode_tlv(0x1C, encode_name(info.key_locator))
    if info.nonce is not None:
        value += encode_tlv(0x26, info.nonce)
    if info.time_ms is not None:
        value += encode_tlv(0x28, encode_nonneg(info.time_ms))
    if info.sequence is not None:
        value += encode_tlv(0x2A, encode_nonneg(info.sequence))
    return encode_tlv(0x2C if for_interest else 0x16, value)


def encode_metainfo(content_type: int, freshness_ms: int, final_block: Component | None) -> bytes:
    value = b""
    if content_type:
        value += encode_tlv(0x18, encode_nonneg(content_type))
    if freshness_ms:
        value += encode_tlv(0x19, encode_nonneg(freshness_ms))
    if final_block is not None:
        value += encode_tlv(0x1A, final_block)
    return encode_tlv(0x14, value) if value else b""


DIGEST_INFO: Final = SignatureInfo(SIGNATURE_DIGEST_SHA256)
_info_wire: Final = lru_cache(64)(encode_signature_info)  # a process signs with a few keys


def encode_data(
    name: Name,
    content: bytes,
    *,
    freshness_ms: int = 0,
    final_block: Component | None = None,
    content_type: int = CONTENT_BLOB,
    info: SignatureInfo = DIGEST_INFO,
    signer: Signer = digest_signer,
) -> bytes:
    """A signed Data packet. Raises BadPacket when it would exceed 8,800 bytes."""
    info_wire = _info_wire(info) if info.time_ms is None else encode_signature_info(info)
    portion = b"".join(
        (
            encode_name(name),
            encode_metainfo(content_type, freshness_ms, final_block),
            encode_tlv(0x15, content),
            info_wire,
        )
    )
    wire = encode_tlv(tlv.DATA, portion + encode_tlv(0x17, signer(portion)))
    if len(wire) > tlv.MAX_PACKET_BYTES:
        raise BadPacket(f"a Data packet of {len(wire)} bytes exceeds {tlv.MAX_PACKET_BYTES}")
    return wire


def encode_interest(
    name: Name,
    *,
    nonce: bytes,
    can_be_prefix: bool = False,
    must_be_fresh: bool = False,
    hints: tuple[Name, ...] = (),
    lifetime_ms: int = DEFAULT_LIFETIME_MS,
    hop_limit: int | None = None,
    parameters: bytes | None = None,
    info: SignatureInfo | None = None,
    signer: Signer | None = None,
) -> tuple[bytes, Name]:
    """An Interest packet and its final name (with ParametersSha256Digest when there are parameters).

    `nonce` has 4 bytes. With `info` and `signer` the Interest is signed (Packet Format 0.3, section 5.4); without,
    parameters alone make a name that is the same for the same parameters, so such Interests aggregate and cache.
    Raises BadPacket when it would exceed 8,800 bytes.
    """
    tail = b""
    if info is not None and parameters is None:
        parameters = b""
    if parameters is not None:
        tail = encode_tlv(0x24, parameters)
        if info is not None and signer is not None:
            tail += encode_signature_info(info, for_interest=True)
            tail += encode_tlv(0x2E, signer(name + tail))
        name += parameters_digest(hashlib.sha256(tail).digest())
    fields = [encode_name(name)]
    if can_be_prefix:
        fields.append(b"\x21\x00")
    if must_be_fresh:
        fields.append(b"\x12\x00")
    if hints:
        fields.append(encode_tlv(0x1E, b"".join(map(encode_name, hints))))
    fields.append(b"\x0a\x04" + nonce)
    if lifetime_ms != DEFAULT_LIFETIME_MS:
        fields.append(encode_tlv(0x0C, encode_nonneg(lifetime_ms)))
    if hop_limit is not None:
        fields.append(bytes((0x22, 1, hop_limit)))
    fields.append(tail)
    wire = encode_tlv(tlv.INTEREST, b"".join(fields))
    if len(wire) > tlv.MAX_PACKET_BYTES:
        raise BadPacket(f"an Interest of {len(wire)} bytes exceeds {tlv.MAX_PACKET_BYTES}")
    return wire, name


# ---------------------------------------------------------------- decoding


def decode_interest(wire: Buffer) -> Interest:
    """Raises BadPacket for anything that is not one well-formed Interest."""
    start, end = _outer(wire, tlv.INTEREST)
    type_number, value, offset = read_header(wire, start, end)
    if type_number != tlv.NAME or value == offset:
        raise BadPacket("an Interest starts with a non-empty Name")
    interest = Interest(decode_name(wire, value, offset))
    parameters_at = signature_info_end = 0
    last = 0
    while offset < end:
        element = offset
        type_number, value, offset = read_header(wire, offset, end)
        if type_number not in _INTEREST_ORDER:
            _ignore(type_number)
            continue
        if _INTEREST_ORDER[type_number] <= last:
            if not tlv.is_critical(type_number):
                continue  # as if it were not there (Packet Format 0.3, section 1.3)
            raise BadPacket(f"Interest element {type_number:#x} is repeated or out of order")
        last = _INTEREST_ORDER[type_number]
        _set_interest_field(interest, type_number, wire, value, offset)
        if type_number == 0x24:
            parameters_at = element
        elif type_number == 0x2C:
            signature_info_end = offset
    if parameters_at:
        interest.parameters_portion = bytes(wire[parameters_at:end])
    if interest.signature_info is not None:
        if not parameters_at or not interest.signature:
            raise BadPacket("a signed Interest has ApplicationParameters and an InterestSignatureValue")
        signed_name = b"".join(part for part in components(interest.name) if part[0] != PARAMETERS_DIGEST)
        interest.signed_portion = signed_name + bytes(wire[parameters_at:signature_info_end])
    return interest


_INTEREST_ORDER: Final = {0x21: 1, 0x12: 2, 0x1E: 3, 0x0A: 4, 0x0C: 5, 0x22: 6, 0x24: 7, 0x2C: 8, 0x2E: 9}


def _set_interest_field(interest: Interest, type_number: int, wire: Buffer, value: int, end: int) -> None:
    raw = bytes(wire[value:end])
    match type_number:
        case 0x21:
            interest.can_be_prefix = True
        case 0x12:
            interest.must_be_fresh = True
        case 0x1E:
            interest.hints = tuple(
                decode_name(wire, start, stop) for kind, start, stop in tlv.iterate(wire, value, end) if kind == 0x07
            )
        case 0x0A:
            if len(raw) != 4:
                raise BadPacket("a Nonce has 4 bytes")
            interest.nonce = raw
        case 0x0C:
            interest.lifetime_ms = decode_nonneg(raw)
        case 0x22:
            if len(raw) != 1:
                raise BadPacket("a HopLimit has 1 byte")
            interest.hop_limit = raw[0]
        case 0x24:
            interest.parameters = raw
        case 0x2C:
            interest.signature_info = _decode_signature_info(wire, value, end)
        case 0x2E:
            interest.signature = raw


def decode_data(wire: bytes) -> Data:
    """Raises BadPacket for anything that is not one well-formed, signed Data packet."""
    start, end = _outer(wire, tlv.DATA)
    type_number, value, offset = read_header(wire, start, end)
    if type_number != tlv.NAME or value == offset:
        raise BadPacket("a Data packet starts with a non-empty Name")
    name = decode_name(wire, value, offset)
    content_type = freshness_ms = last = 0
    final_block: Component | None = None
    content = signature = b""
    info: SignatureInfo | None = None
    signed_end = 0
    while offset < end:
        type_number, value, offset = read_header(wire, offset, end)
        if type_number not in _DATA_ORDER:
            _ignore(type_number)
            continue
        if _DATA_ORDER[type_number] <= last:
            raise BadPacket(f"Data element {type_number:#x} is repeated or out of order")
        last = _DATA_ORDER[type_number]
        if type_number == 0x15:
            content = wire[value:offset]
        elif type_number == 0x17:
            signature = wire[value:offset]
        elif type_number == 0x16:
            info = _decode_signature_info(wire, value, offset)
            signed_end = offset
        else:
            content_type, freshness_ms, final_block = _decode_metainfo(wire, value, offset)
    if info is None or last != 4:
        raise BadPacket("a Data packet has SignatureInfo and SignatureValue")
    return Data(
        name, content, content_type, freshness_ms, final_block, info, signature, wire[start:signed_end], wire[:end]
    )


def content_span(wire: bytes) -> tuple[int, int]:
    """Where the Content of a *verified* Data packet begins and ends, without decoding the rest. Raises BadPacket."""
    offset, end = _outer(wire, tlv.DATA)
    while offset < end:
        type_number, value, offset = read_header(wire, offset, end)
        if type_number == 0x15:
            return value, offset
    return end, end


_DATA_ORDER: Final = {0x14: 1, 0x15: 2, 0x16: 3, 0x17: 4}
_APPLICATIONS: Final = 0x1B


def _decode_metainfo(wire: Buffer, offset: int, end: int) -> tuple[int, int, Component | None]:
    """From the first element that is none of the three on, all is the application's (ndn-cxx, AppMetaInfo)."""
    content_type = freshness_ms = last = 0
    final_block: Component | None = None
    for type_number, value, after in tlv.iterate(wire, offset, end):
        raw = bytes(wire[value:after])
        if last == _APPLICATIONS:
            _ignore(type_number)
            continue
        if 0x18 <= type_number <= 0x1A:
            if type_number <= last:
                raise BadPacket(f"MetaInfo element {type_number:#x} is repeated or out of order")
            last = type_number
        if type_number == 0x18:
            content_type = decode_nonneg(raw)
        elif type_number == 0x19:
            freshness_ms = decode_nonneg(raw)
        elif type_number == 0x1A:
            if len(components(raw)) != 1:
                raise BadPacket("FinalBlockId holds one name component")
            final_block = raw
        else:
            _ignore(type_number)
            last = _APPLICATIONS
    return content_type, freshness_ms, final_block


def _decode_signature_info(wire: Buffer, offset: int, end: int) -> SignatureInfo:
    kind = time_ms = sequence = None
    locator: Name | None = None
    nonce: bytes | None = None
    for type_number, value, after in tlv.iterate(wire, offset, end):
        raw = bytes(wire[value:after])
        if type_number == 0x1B:
            kind = decode_nonneg(raw)
        elif type_number == 0x1C:
            locator = _decode_key_locator(raw)
        elif type_number == 0x26:
            nonce = raw
        elif type_number == 0x28:
            time_ms = decode_nonneg(raw)
        elif type_number == 0x2A:
            sequence = decode_nonneg(raw)
        elif type_number not in _SIGNATURE_INFO_EXTENSIONS:
            _ignore(type_number)
    if kind is None:
        raise BadPacket("SignatureInfo has no SignatureType")
    return SignatureInfo(kind, locator, nonce, time_ms, sequence, bytes(wire[offset:end]))


# Critical by number, but defined for certificates: ValidityPeriod and AdditionalDescription (security/ reads `raw`).
_SIGNATURE_INFO_EXTENSIONS: Final = {0xFD, 0x102}


def _decode_key_locator(raw: bytes) -> Name | None:
    """The KeyLocator's name; None for a KeyDigest, which names nothing that could be fetched."""
    type_number, value, after = read_header(raw, 0, len(raw))
    return decode_name(raw, value, after) if type_number == tlv.NAME else None


def _outer(wire: Buffer, expected: int) -> tuple[int, int]:
    type_number, value, after = read_header(wire, 0, len(wire))
    if type_number != expected or after != len(wire):
        raise BadPacket(f"expected one packet of type {expected}, got type {type_number} in {len(wire)} bytes")
    return value, after


def _ignore(type_number: int) -> None:
    if is_critical(type_number):
        raise BadPacket(f"unknown critical TLV type {type_number}")
