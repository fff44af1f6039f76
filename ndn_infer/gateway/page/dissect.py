"""A packet by its elements, each with its name in the specification.

Owns: names of TLV types (NDN Packet Format 0.3, NDNLPv2 is not part of a packet), and how a value reads. Pure: takes
any bytes, verifies nothing, never raises. Must not know: what a content means.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.ndn import tlv
from ndn_infer.ndn.tlv import decode_nonneg

MAX_ELEMENTS: Final = 512
MAX_DEPTH: Final = 8

_PACKETS: Final = {0x05: "Interest", 0x06: "Data"}
_NESTED: Final = frozenset({0x05, 0x06, 0x07, 0x14, 0x16, 0x1A, 0x1C, 0x1E, 0x2C, 0xFD})
"""Elements whose values are elements."""
_NAMES: Final = {
    **_PACKETS, 0x07: "Name", 0x08: "GenericNameComponent", 0x01: "ImplicitSha256DigestComponent",
    0x02: "ParametersSha256DigestComponent", 0x20: "KeywordNameComponent", 0x32: "SegmentNameComponent",
    0x34: "ByteOffsetNameComponent", 0x36: "VersionNameComponent", 0x38: "TimestampNameComponent",
    0x3A: "SequenceNumNameComponent", 0x14: "MetaInfo", 0x15: "Content", 0x16: "SignatureInfo",
    0x17: "SignatureValue", 0x18: "ContentType", 0x19: "FreshnessPeriod", 0x1A: "FinalBlockId", 0x1B: "SignatureType",
    0x1C: "KeyLocator", 0x1D: "KeyDigest", 0x1E: "ForwardingHint", 0x21: "CanBePrefix", 0x12: "MustBeFresh",
    0x0A: "Nonce", 0x0C: "InterestLifetime", 0x22: "HopLimit", 0x24: "ApplicationParameters",
    0x2C: "InterestSignatureInfo", 0x2E: "InterestSignatureValue", 0x26: "SignatureNonce", 0x28: "SignatureTime",
    0x2A: "SignatureSeqNum", 0xFD: "ValidityPeriod", 0xFE: "NotBefore", 0xFF: "NotAfter",
}  # fmt: skip
_NUMBERS: Final = frozenset({0x18, 0x19, 0x1B, 0x0C, 0x22, 0x28, 0x2A})
_COMPONENTS: Final = frozenset({0x01, 0x02, 0x08, 0x20, 0x32, 0x34, 0x36, 0x38, 0x3A})
_SIGNATURES: Final = {
    0: "DigestSha256",
    1: "SignatureSha256WithRsa",
    3: "SignatureSha256WithEcdsa",
    4: "HMAC",
    5: "Ed25519",
}
_CONTENTS: Final = {0: "blob", 1: "link", 2: "key", 3: "nack", 5: "prefix announcement"}


def dissect(wire: bytes) -> list[dict[str, Any]]:
    """The elements in order, outer ones before inner ones: `depth`, `type`, `name`, `offset` of its first byte, `value`
    offset of its value, `end`, and `reads`, the value in words (empty where it is elements, or only bytes). What is no
    TLV ends the list, as one element "not TLV"."""
    found: list[dict[str, Any]] = []
    _walk(wire, 0, len(wire), 0, found)
    return found


def _walk(wire: bytes, at: int, end: int, depth: int, found: list[dict[str, Any]]) -> None:
    while at < end and len(found) < MAX_ELEMENTS:
        try:
            kind, value, after = tlv.read_header(wire, at, end)
        except BadPacket as error:
            found.append(_element(depth, (0, "not TLV"), (at, at, end), str(error)))
            return
        name = _NAMES.get(kind, f"type {kind:#04x}")
        nested = kind in _NESTED and depth < MAX_DEPTH
        found.append(_element(depth, (kind, name), (at, value, after), "" if nested else _reads(kind, wire[at:after])))
        if nested:
            _walk(wire, value, after, depth + 1, found)
        at = after


def _element(depth: int, what: tuple[int, str], where: tuple[int, int, int], reads: str) -> dict[str, Any]:
    at, value, end = where
    return {"depth": depth, "type": what[0], "name": what[1], "offset": at, "value": value, "end": end, "reads": reads}


def _reads(kind: int, element: bytes) -> str:
    """A value in words. `element` is whole, so that a name's component reads as in a URI."""
    _, at, _ = tlv.read_header(element, 0, len(element))
    value = element[at:]
    if kind in _COMPONENTS:
        return _component(kind, element)
    if kind in (0xFE, 0xFF):
        return value.decode("ascii", "replace")[:15]
    if kind in _NUMBERS and len(value) in (1, 2, 4, 8):
        return _number(kind, decode_nonneg(value))
    if kind in (0x21, 0x12):
        return "yes"
    return f"{len(value):,} bytes"


def _component(kind: int, element: bytes) -> str:
    text = ndn.component_to_uri(element)
    if kind in (ndn.VERSION, ndn.component_type(ndn.timestamp(0))) and "=" in text:
        micros = text.partition("=")[2]
        if micros.isdigit() and 10**15 < int(micros) < 10**16:
            return f"{text} ({datetime.fromtimestamp(int(micros) / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC)"
    return text


def _number(kind: int, number: int) -> str:
    if kind == 0x1B:
        return _SIGNATURES.get(number, str(number))
    if kind == 0x18:
        return _CONTENTS.get(number, str(number))
    return f"{number:,} ms" if kind in (0x19, 0x0C) else f"{number:,}"
