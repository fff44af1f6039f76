"""Bundles: the keys and certificates of one node in one text file, made by the operator and imported on the node.

Owns: the file's form, PEM blocks one after the other. Must not know: key directories, the trust schema.

    NDN TRUST ANCHOR    one block, the anchor's certificate
    NDN CERTIFICATE     the node's certificates and those of their issuers
    PRIVATE KEY         PKCS#8; a key belongs to the certificates that hold its public half
    NDN RECORD          a record of the operator's catalogue, as signed packets: what aliases mean (catalog.py)
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from ndn_infer.errors import BadPacket, StorageError
from ndn_infer.security.certificate import Certificate, parse
from ndn_infer.security.crypto import PrivateKey

MAX_BYTES: Final = 1 << 20

_ANCHOR: Final = "NDN TRUST ANCHOR"
_CERTIFICATE: Final = "NDN CERTIFICATE"
_KEY: Final = "PRIVATE KEY"
_RECORD: Final = "NDN RECORD"
_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z ]+)-----\s*([A-Za-z0-9+/=\s]*)-----END \1-----")
_HINT: Final = "make it with 'ndn-infer keys issue' on the machine that holds the root key"


@dataclass(frozen=True, slots=True)
class Bundle:
    anchor: Certificate
    certificates: tuple[Certificate, ...]
    keys: tuple[PrivateKey, ...]
    records: tuple[bytes, ...] = ()


def encode(bundle: Bundle) -> str:
    blocks = [_encode_block(_ANCHOR, bundle.anchor.wire)]
    blocks += [_encode_block(_CERTIFICATE, certificate.wire) for certificate in bundle.certificates]
    blocks += [key.to_pem().decode("ascii") for key in bundle.keys]
    blocks += [_encode_block(_RECORD, record) for record in bundle.records]
    return "".join(blocks)


def decode(text: str) -> Bundle:
    """Raises StorageError for anything that is not one whole bundle. Verifies no signature."""
    if len(text) > MAX_BYTES:
        raise StorageError(f"a key bundle has {MAX_BYTES} characters at most, this file {len(text)}", hint=_HINT)
    anchors: list[Certificate] = []
    certificates: list[Certificate] = []
    keys: list[PrivateKey] = []
    records: list[bytes] = []
    for match in _BLOCK.finditer(text):
        if match[1] == _KEY:
            keys.append(PrivateKey.from_pem(match[0].encode("ascii")))
        elif match[1] == _RECORD:
            records.append(_decode_block(match[2], "record"))
        elif match[1] in (_ANCHOR, _CERTIFICATE):
            (anchors if match[1] == _ANCHOR else certificates).append(_decode_certificate(match[2]))
        else:
            raise StorageError(f"a key bundle holds no block {match[1]!r}", hint=_HINT)
    if _BLOCK.sub("", text).strip():
        raise StorageError("this file is damaged, or no key bundle", hint=_HINT)
    if len(anchors) != 1:
        raise StorageError(f"a key bundle holds one trust anchor, this one {len(anchors)}", hint=_HINT)
    return Bundle(anchors[0], tuple(certificates), tuple(keys), tuple(records))


def _encode_block(label: str, content: bytes) -> str:
    text = base64.b64encode(content).decode()
    lines = "".join(text[at : at + 64] + "\n" for at in range(0, len(text), 64))
    return f"-----BEGIN {label}-----\n{lines}-----END {label}-----\n"


def _decode_certificate(text: str) -> Certificate:
    try:
        return parse(_decode_block(text, "certificate"))
    except BadPacket as error:
        raise StorageError(f"a certificate of this key bundle is damaged: {error}", hint=_HINT) from error


def _decode_block(text: str, what: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error as error:
        raise StorageError(f"a {what} of this key bundle is damaged: {error}", hint=_HINT) from error
