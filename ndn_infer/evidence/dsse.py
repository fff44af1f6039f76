"""DSSE: a signature over bytes and the type of what they are, as JSON that tools of others verify.

Owns: the envelope, what is signed (the pre-authentication encoding), ids of keys as securesystemslib computes them, and
bundles of envelopes (JSON Lines). Must not know: what a payload says, which key may say it: that is the schema's matter
and is decided for the packet in which an envelope travels. Source: DSSE 1.0.2, in-toto attestation framework 1.0
("Bundle").
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from ndn_infer.errors import BadPacket, BadRecord
from ndn_infer.evidence.plain_json import canonical, parse
from ndn_infer.security.crypto import PublicKey, Signer

STATEMENT_TYPE: Final = "application/vnd.in-toto+json"
"""Payload type of in-toto's statements, links and layouts."""

MAX_ENVELOPE: Final = 1 << 20
"""Bytes of an envelope, where its reader says nothing else."""
MAX_SIGNATURES: Final = 8
MAX_ENVELOPES: Final = 4
"""Of one bundle."""
_MAX_TYPE = 128
_MAX_SIGNATURE = 1024
_KEY_ID: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class DsseSignature:
    """`keyid`: see `key_id`. It says where to look and proves nothing."""

    keyid: str
    sig: bytes


@dataclass(frozen=True, slots=True)
class DsseEnvelope:
    payload: bytes
    payload_type: str
    signatures: tuple[DsseSignature, ...]


def pae(payload_type: str, payload: bytes) -> bytes:
    """What is signed."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


@lru_cache(256)
def key_id(public_der: bytes) -> str:
    """The id of a key (DER SubjectPublicKeyInfo): 64 hex digits, as securesystemslib computes them by default. Raises
    BadPacket for a key of another kind than ECDSA P-256 and Ed25519."""
    try:
        key = serialization.load_der_public_key(public_der)
    except ValueError as error:
        raise BadPacket(f"this is no public key: {error}") from error
    if isinstance(key, ed25519.Ed25519PublicKey):
        kind, scheme, public = "ed25519", "ed25519", key.public_bytes_raw().hex()
    elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1":
        pem = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        kind, scheme, public = "ecdsa", "ecdsa-sha2-nistp256", key.public_bytes(*pem).decode("ascii")
    else:
        raise BadPacket("envelopes are signed by keys of the kinds ECDSA P-256 and Ed25519")
    # Canonical JSON of OLPC: line breaks in strings are not escaped, so json.dumps is of no use here.
    text = f'{{"keytype":"{kind}","keyval":{{"public":"{public}"}},"scheme":"{scheme}"}}'
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def sign(payload: bytes, signer: Signer, payload_type: str = STATEMENT_TYPE) -> DsseEnvelope:
    """An envelope around `payload`, signed with the signer's key."""
    signature = DsseSignature(key_id(signer.public_der), signer.sign(pae(payload_type, payload)))
    return DsseEnvelope(payload, payload_type, (signature,))


def verify(envelope: DsseEnvelope, public_der: bytes) -> bool:
    """Whether one of the signatures is this key's. Raises BadPacket for a key of a kind that signs no envelopes."""
    key, wanted = PublicKey.from_spki(public_der), key_id(public_der)
    signed = pae(envelope.payload_type, envelope.payload)
    return any(
        signature.keyid == wanted and key.verify(key.signature_type, signed, signature.sig)
        for signature in envelope.signatures
    )


def encode(envelope: DsseEnvelope) -> bytes:
    """Its JSON: one line, in canonical form."""
    return canonical(
        {
            "payload": _text(envelope.payload),
            "payloadType": envelope.payload_type,
            "signatures": [{"keyid": one.keyid, "sig": _text(one.sig)} for one in envelope.signatures],
        }
    )


def decode(wire: bytes | memoryview, most: int = MAX_ENVELOPE) -> DsseEnvelope:
    """The envelope in `wire`. Raises BadRecord for anything but the fields that `encode` writes; in any form of JSON,
    since tools of others write their own."""
    value = parse(wire, most)
    _expect(value, {"payload", "payloadType", "signatures"}, "a DSSE envelope")
    kind, signatures = value["payloadType"], value["signatures"]
    if type(kind) is not str or not 1 <= len(kind) <= _MAX_TYPE or not kind.isascii():
        raise BadRecord(f"payloadType is 1 to {_MAX_TYPE} characters of ASCII")
    if type(signatures) is not list or not 1 <= len(signatures) <= MAX_SIGNATURES:
        raise BadRecord(f"a DSSE envelope has 1 to {MAX_SIGNATURES} signatures")
    found = tuple(_signature(one) for one in signatures)
    if len({one.keyid for one in found}) != len(found):
        raise BadRecord("a DSSE envelope has one signature for each key")
    return DsseEnvelope(_bytes(value["payload"], "payload"), kind, found)


def encode_bundle(envelopes: tuple[DsseEnvelope, ...]) -> bytes:
    """In-toto's bundle: an envelope a line."""
    return b"".join(encode(envelope) + b"\n" for envelope in envelopes)


def decode_bundle(wire: bytes | memoryview, most: int = MAX_ENVELOPE) -> tuple[DsseEnvelope, ...]:
    """The envelopes of a bundle of `most` bytes: 1 to MAX_ENVELOPES. Raises BadRecord for anything else."""
    whole = bytes(wire)
    if len(whole) > most:
        raise BadRecord(f"a bundle of {len(whole)} bytes where {most} are taken")
    lines = whole.split(b"\n", MAX_ENVELOPES)
    if not whole.endswith(b"\n") or lines.pop() or not lines:
        raise BadRecord(f"a bundle has 1 to {MAX_ENVELOPES} lines, each with an envelope")
    return tuple(decode(line, most) for line in lines)


def _signature(value: Any) -> DsseSignature:
    _expect(value, {"keyid", "sig"}, "a signature of an envelope")
    keyid, sig = value["keyid"], _bytes(value["sig"], "sig")
    if type(keyid) is not str or not _KEY_ID.fullmatch(keyid):
        raise BadRecord("a keyid is 64 lower-case hex digits")
    if not 1 <= len(sig) <= _MAX_SIGNATURE:
        raise BadRecord(f"a signature has 1 to {_MAX_SIGNATURE} bytes")
    return DsseSignature(keyid, sig)


def _expect(value: Any, names: set[str], what: str) -> None:
    if type(value) is not dict or set(value) != names:
        raise BadRecord(f"{what} is an object with {', '.join(sorted(names))}")


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _bytes(value: Any, where: str) -> bytes:
    """Of base64 in its one form (RFC 4648 section 4, padded)."""
    try:
        found = base64.b64decode(value, validate=True) if type(value) is str else None
    except (binascii.Error, ValueError):
        found = None
    if found is None or _text(found) != value:
        raise BadRecord(f"{where} is base64 with its padding")
    return found
