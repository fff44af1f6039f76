"""SafeBags: a certificate with its encrypted private key, as `ndnsec export` writes them.

Owns: that format: base64 of SafeBag TLV 128 with the certificate's Data and EncryptedKey 129, PKCS#8 with a password.
Must not know: where keys are kept, who vouches for the certificate.
"""

from __future__ import annotations

import base64
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from ndn_infer.errors import BadPacket, StorageError, UsageError
from ndn_infer.ndn import tlv
from ndn_infer.security.certificate import Certificate, parse
from ndn_infer.security.crypto import PrivateKey

_SAFE_BAG: Final = 128
_ENCRYPTED_KEY: Final = 129


def is_safebag(text: str) -> bool:
    """Whether this text begins as a SafeBag does."""
    try:
        return base64.b64decode("".join(text[:64].split())[:4], validate=True)[:1] == bytes((_SAFE_BAG,))
    except ValueError:
        return False


def open_safebag(text: str, password: bytes) -> tuple[Certificate, PrivateKey]:
    """The certificate and its key. Raises StorageError for damaged text, UsageError for the wrong password or a key of
    another kind than P-256 and Ed25519."""
    try:
        wire = base64.b64decode("".join(text.split()), validate=True)
        kind, start, end = tlv.read_header(wire, 0, len(wire))
        parts = {type_number: (at, value, after) for at, type_number, value, after in _elements(wire, start, end)}
        at, _, after = parts[tlv.DATA]
        _, value, stop = parts[_ENCRYPTED_KEY]
        if kind != _SAFE_BAG:
            raise BadPacket("not a SafeBag")
        certificate = parse(wire[at:after])
    except (ValueError, KeyError, BadPacket) as error:
        raise StorageError(f"this SafeBag is damaged: {error}", hint="make it again with 'ndnsec export'") from error
    try:
        key = serialization.load_der_private_key(wire[value:stop], password)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        mine = PrivateKey.from_pem(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm, StorageError) as error:
        raise UsageError(
            f"the key in this SafeBag cannot be used: {error}", hint="is the password right? keys are P-256 or Ed25519"
        ) from error
    if mine.public_der != certificate.public_der:
        raise StorageError("the key in this SafeBag is not the one of its certificate")
    return certificate, mine


def _elements(wire: bytes, start: int, end: int) -> list[tuple[int, int, int, int]]:
    """(where it begins, type, where its value begins, where it ends) of the elements in a range."""
    found, at = [], start
    for type_number, value, after in tlv.iterate(wire, start, end):
        found.append((at, type_number, value, after))
        at = after
    return found
