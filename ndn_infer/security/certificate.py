"""NDN certificates: build them, read them, print them.

Owns: NDN Certificate Format 2.0 (name `<identity>/KEY/<key id>/<issuer>/v=<n>`, ContentType KEY, ValidityPeriod in
SignatureInfo) and its base64 text form, as `ndnsec` writes it. Must not know: who may issue what, files, clocks.
`parse` takes hostile bytes and verifies nothing: a certificate is a claim until validator.py has followed its chain.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Protocol

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.ndn import tlv
from ndn_infer.ndn.name import Component, Name
from ndn_infer.ndn.packet import (
    CONTENT_KEY,
    Data,
    SignatureInfo,
    decode_data,
    encode_metainfo,
    encode_signature_info,
)
from ndn_infer.ndn.tlv import encode_tlv
from ndn_infer.security.identity import KEY

FRESHNESS_MS: Final = 3_600_000
"""Certificate Format 2.0 recommends one hour."""

CLOCK_SKEW_S: Final = 300
"""Certificates start this much in the past, so that a machine whose clock is behind accepts them at once."""

_VALIDITY_PERIOD: Final = 0xFD
_NOT_BEFORE: Final = 0xFE
_NOT_AFTER: Final = 0xFF
_TIME: Final = re.compile(rb"[0-9]{8}T[0-9]{6}")
_LINE: Final = 64


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate as read, not yet believed. Times are Unix epoch seconds, both ends inclusive as in the format."""

    name: Name
    public_der: bytes
    not_before: int
    not_after: int
    issuer_locator: Name
    wire: bytes = field(repr=False)
    data: Data = field(repr=False, compare=False)

    @property
    def key_name(self) -> Name:
        """`<identity>/KEY/<key id>`."""
        return above(self.name, 2)

    @property
    def identity(self) -> Name:
        return above(self.name, 4)

    @property
    def self_signed(self) -> bool:
        """Whether its key locator names its own key (a claim: see `validator`)."""
        return self.issuer_locator.startswith(self.key_name)

    def valid_at(self, now: float) -> bool:
        return self.not_before <= now <= self.not_after


# ---------------------------------------------------------------- names


def key_name(identity: Name, key_id: Component) -> Name:
    return identity + KEY + key_id


def certificate_name(key: Name, issuer: str, version: int) -> Name:
    """`key` is a key name, `issuer` one word that says who signs, `version` microseconds of the Unix epoch."""
    return key + ndn.generic(issuer) + ndn.version(version)


@dataclass(frozen=True, slots=True)
class KeyLocator:
    """A key locator taken apart. `is_certificate` is false when it stops at the key name."""

    identity: Name
    key_name: Name
    is_certificate: bool


_LOCATORS: Final = 512
"""Names of keys and certificates that are not taken apart again: every packet of a stream names the same one."""


@lru_cache(maxsize=_LOCATORS)
def above(name: Name, count: int) -> Name:
    """`name` without its last `count` components."""
    return ndn.prefix(name, -count)


@lru_cache(maxsize=_LOCATORS)
def split_locator(locator: Name) -> KeyLocator | None:
    """A certificate name or a key name taken apart; None when it is neither."""
    parts = ndn.components(locator)
    if len(parts) >= 4 and parts[-4] == KEY and ndn.component_type(parts[-1]) == ndn.VERSION:
        return KeyLocator(b"".join(parts[:-4]), b"".join(parts[:-2]), is_certificate=True)
    if len(parts) >= 2 and parts[-2] == KEY:
        return KeyLocator(b"".join(parts[:-2]), locator, is_certificate=False)
    return None


def version_of(certificate: Certificate) -> int:
    """The number at the end of its name: the greatest is the newest."""
    return ndn.last_version(certificate.name)


# ---------------------------------------------------------------- build and parse


class SelfSigning(Protocol):
    """A private key (crypto.PrivateKey)."""

    @property
    def public_der(self) -> bytes: ...

    @property
    def signature_type(self) -> int: ...

    def sign(self, portion: bytes) -> bytes: ...


def build(
    name: Name,
    public_der: bytes,
    *,
    info: SignatureInfo,
    sign: Callable[[bytes], bytes],
    validity: tuple[int, int],
) -> Certificate:
    """A certificate for the key `public_der` (SubjectPublicKeyInfo), signed by the issuer's `info` and `sign`.

    `validity`: from and to, Unix epoch seconds of the years 1970 to 9999. Raises ValueError for other ones.
    """
    not_before, not_after = validity
    if not 0 <= not_before <= not_after:
        raise ValueError("a certificate's validity starts in 1970 or later and ends after its start")
    period = encode_tlv(_NOT_BEFORE, _encode_time(not_before)) + encode_tlv(_NOT_AFTER, _encode_time(not_after))
    plain = encode_signature_info(info)
    type_number, value, after = tlv.read_header(plain, 0, len(plain))
    fields = plain[value:after] + encode_tlv(_VALIDITY_PERIOD, period)
    portion = b"".join(
        (
            ndn.encode_name(name),
            encode_metainfo(CONTENT_KEY, FRESHNESS_MS, None),
            encode_tlv(0x15, public_der),
            encode_tlv(type_number, fields),
        )
    )
    return parse(encode_tlv(tlv.DATA, portion + encode_tlv(0x17, sign(portion))))


def new_key_name(identity: Name) -> Name:
    """The name of a key that is made now."""
    return key_name(identity, ndn.generic(secrets.token_hex(8)))


def self_signed(
    own_name: Name, key: SelfSigning, now: float, life_s: float, *, version: int | None = None
) -> Certificate:
    """The certificate that a key makes for itself; `now` is Unix epoch seconds."""
    name = certificate_name(own_name, "self", int(now * 1e6) if version is None else version)
    return build(
        name,
        key.public_der,
        info=SignatureInfo(key.signature_type, name),
        sign=key.sign,
        validity=(int(now) - CLOCK_SKEW_S, int(now + life_s)),
    )


def parse(wire: bytes) -> Certificate:
    """Raises BadPacket for anything that is not one well-formed certificate. Verifies no signature."""
    data = decode_data(wire)
    if data.content_type != CONTENT_KEY:
        raise BadPacket(f"a certificate has ContentType 2 (KEY), not {data.content_type}")
    if len(wire) > tlv.MAX_PACKET_BYTES:
        raise BadPacket(f"a certificate of {len(wire)} bytes exceeds {tlv.MAX_PACKET_BYTES}")
    located = split_locator(data.name)
    if located is None or not located.is_certificate:
        raise BadPacket(
            f"{ndn.to_uri(data.name)} is not the name of a certificate (<identity>/KEY/<key id>/<issuer>/v=<n>)"
        )
    ndn.last_version(data.name)
    if data.signature_info.key_locator is None:
        raise BadPacket("a certificate names its issuer in a key locator")
    if not data.content:
        raise BadPacket("a certificate without a public key")
    not_before, not_after = _decode_validity(data.signature_info.raw)
    return Certificate(data.name, data.content, not_before, not_after, data.signature_info.key_locator, wire, data)


def _decode_validity(raw: bytes) -> tuple[int, int]:
    """The ValidityPeriod among the fields of a SignatureInfo."""
    for type_number, value, after in tlv.iterate(raw):
        if type_number == _VALIDITY_PERIOD:
            times = {kind: raw[start:end] for kind, start, end in tlv.iterate(raw, value, after)}
            if _NOT_BEFORE in times and _NOT_AFTER in times:
                not_before, not_after = _decode_time(times[_NOT_BEFORE]), _decode_time(times[_NOT_AFTER])
                if not_before > not_after:
                    raise BadPacket("a certificate whose validity ends before it starts")
                return not_before, not_after
    raise BadPacket("a certificate has a ValidityPeriod with NotBefore and NotAfter")


def _encode_time(seconds: int) -> bytes:
    # Not strftime: its %Y is not padded to four digits everywhere.
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment.year:04}{moment.month:02}{moment.day:02}T{moment:%H%M%S}".encode()


def _decode_time(text: bytes) -> int:
    if not _TIME.fullmatch(text):
        raise BadPacket("times of a ValidityPeriod are written YYYYMMDDThhmmss")
    try:
        return int(datetime.strptime(text.decode(), "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise BadPacket(f"no such time: {text.decode()}") from error


# ---------------------------------------------------------------- text


def to_text(certificate: Certificate) -> str:
    """Base64 in lines of 64 characters: what `ndnsec cert-dump` writes and `ndnsec cert-install` reads."""
    text = base64.b64encode(certificate.wire).decode()
    return "".join(text[at : at + _LINE] + "\n" for at in range(0, len(text), _LINE))


def from_text(text: str) -> Certificate:
    """Raises BadPacket."""
    try:
        wire = base64.b64decode("".join(text.split()).encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise BadPacket(f"a certificate's text form is base64: {error}") from error
    return parse(wire)


def format_time(seconds: float) -> str:
    """An epoch second for people: "2026-11-23 05:40:00 UTC"."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
