"""TLVs of NFD's management protocol.

Owns: ControlParameters, ControlResponse and dataset entries as bytes. Must not know: what a command does. Field numbers
and order: NFD management protocol (redmine wiki), as ndn-cxx and python-ndn decode them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ndn_infer.errors import BadPacket
from ndn_infer.ndn import tlv
from ndn_infer.ndn.name import Name, decode_name, encode_name
from ndn_infer.ndn.tlv import decode_nonneg, encode_nonneg, encode_tlv

CONTROL_PARAMETERS: Final = 0x68
CONTROL_RESPONSE: Final = 0x65
FACE_QUERY_FILTER: Final = 0x96

_NUMBERS: Final = {
    "face_id": 0x69,
    "origin": 0x6F,
    "cost": 0x6A,
    "capacity": 0x83,
    "count": 0x84,
    "base_mark_interval": 0x87,
    "default_threshold": 0x88,
    "mtu": 0x89,
    "flags": 0x6C,
    "mask": 0x70,
    "expiration_ms": 0x6D,
    "persistency": 0x85,
}
_TEXTS: Final = {"uri": 0x72, "local_uri": 0x81}
_ORDER: Final = (
    "face_id", "uri", "local_uri", "origin", "cost", "capacity", "count", "flags", "mask", "strategy",
    "expiration_ms", "persistency", "base_mark_interval", "default_threshold", "mtu",
)  # fmt: skip
_FIELD_OF: Final = {number: key for key, number in {**_NUMBERS, **_TEXTS}.items()}


@dataclass(frozen=True, slots=True)
class ControlParameters:
    """One ControlParameters element; None for absent fields."""

    name: Name | None = None
    face_id: int | None = None
    uri: str | None = None
    local_uri: str | None = None
    origin: int | None = None
    cost: int | None = None
    capacity: int | None = None
    count: int | None = None
    base_mark_interval: int | None = None
    default_threshold: int | None = None
    mtu: int | None = None
    flags: int | None = None
    mask: int | None = None
    strategy: Name | None = None
    expiration_ms: int | None = None
    persistency: int | None = None

    def encode(self) -> bytes:
        fields = [encode_name(self.name)] if self.name is not None else []
        for key in _ORDER:
            value = getattr(self, key)
            if value is None:
                continue
            if key == "strategy":
                fields.append(encode_tlv(0x6B, encode_name(value)))
            elif key in _TEXTS:
                fields.append(encode_tlv(_TEXTS[key], value.encode()))
            else:
                fields.append(encode_tlv(_NUMBERS[key], encode_nonneg(value)))
        return encode_tlv(CONTROL_PARAMETERS, b"".join(fields))


def decode_parameters(wire: bytes) -> ControlParameters:
    """Raises BadPacket."""
    kind, value, end = tlv.read_header(wire, 0, len(wire))
    if kind != CONTROL_PARAMETERS:
        raise BadPacket("not ControlParameters")
    values: dict[str, Any] = {}
    for kind, start, stop in tlv.iterate(wire, value, end):
        raw = wire[start:stop]
        if kind == tlv.NAME:
            values["name"] = decode_name(wire, start, stop)
        elif kind == 0x6B:
            inner, first, last = tlv.read_header(raw, 0, len(raw))
            if inner == tlv.NAME:
                values["strategy"] = decode_name(raw, first, last)
        elif kind in _FIELD_OF:
            key = _FIELD_OF[kind]
            values[key] = raw.decode("utf-8", "replace") if key in _TEXTS else decode_nonneg(raw)
        elif tlv.is_critical(kind):
            raise BadPacket(f"unknown ControlParameters field {kind}")
    return ControlParameters(**values)


@dataclass(frozen=True, slots=True)
class FaceFilter:
    """A FaceQueryFilter; None for what does not matter."""

    face_id: int | None = None
    uri_scheme: str | None = None
    uri: str | None = None
    local_uri: str | None = None
    scope: int | None = None
    persistency: int | None = None
    link_type: int | None = None


_FILTER_NUMBERS: Final = {0x69: "face_id", 0x84: "scope", 0x85: "persistency", 0x86: "link_type"}
_FILTER_TEXTS: Final = {0x83: "uri_scheme", 0x72: "uri", 0x81: "local_uri"}


def decode_face_filter(wire: bytes) -> FaceFilter:
    """Raises BadPacket."""
    kind, value, end = tlv.read_header(wire, 0, len(wire))
    if kind != FACE_QUERY_FILTER:
        raise BadPacket("not a FaceQueryFilter")
    values: dict[str, Any] = {}
    for kind, start, stop in tlv.iterate(wire, value, end):
        if kind in _FILTER_NUMBERS:
            values[_FILTER_NUMBERS[kind]] = decode_nonneg(wire[start:stop])
        elif kind in _FILTER_TEXTS:
            values[_FILTER_TEXTS[kind]] = wire[start:stop].decode("utf-8", "replace")
        elif tlv.is_critical(kind):
            raise BadPacket(f"unknown FaceQueryFilter field {kind}")
    return FaceFilter(**values)


def encode_response(code: int, text: str, body: ControlParameters | None) -> bytes:
    """A ControlResponse. Without a body it gets an empty one: python-ndn's parser raises AttributeError otherwise, and
    an application is then not told that it was refused."""
    value = encode_tlv(0x66, encode_nonneg(code)) + encode_tlv(0x67, text.encode())
    return encode_tlv(CONTROL_RESPONSE, value + (body or ControlParameters()).encode())


def number(kind: int, value: int) -> bytes:
    return encode_tlv(kind, encode_nonneg(value))


def numbers(pairs: dict[int, int]) -> bytes:
    """Several number fields, in the order given."""
    return b"".join(number(kind, value) for kind, value in pairs.items())


def text(kind: int, value: str) -> bytes:
    return encode_tlv(kind, value.encode())
