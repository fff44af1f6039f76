"""Entries of a log: a record under a random key, the key wrapped for a user, and the leaf that commits to both.

Owns: how a record is sealed, what its leaf says, the keys of users. Must not know: files, what a record says, trees.

    key      32 random bytes for each record
    sealed   AES-256-GCM under HKDF(key, "seal"), nonce 0: the key encrypts one message
    leaf     version, HMAC-SHA256(HKDF(key, "commit"), record), SHA-256(sealed, wrapped)
    wrapped  the key, encrypted to the user's public key: ECDH over P-256 with a fresh key, HKDF, AES-256-GCM

GCM commits to no key, so the leaf has a commitment of its own: nobody can show another record for it later. Without the
record's key a leaf is a random number: a guessed prompt cannot be compared with it, as it could with a plain hash. So
who destroys a user's private key has erased the records about that user wherever they were copied, and no hash changes.
Whoever writes seals: the log itself never sees a record, nor a record's key.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ndn_infer import records
from ndn_infer.errors import BadRecord
from ndn_infer.records import Reply
from ndn_infer.records.bounds import AtMost, Size, Uri
from ndn_infer.security.domain_keys import DecryptionKey
from ndn_infer.security.domains import KEY_BYTES

MAX_RECORD_BYTES: Final = 4 << 20
LEAF_BYTES: Final = 65
KEY_ID_BYTES: Final = 16

_LEAF_FORM: Final = b"\x01"
_ERASED_FORM: Final = b"\x02"
_POINT_BYTES: Final = 65
_NONCE: Final = bytes(12)
_TAG_BYTES: Final = 16
_WRAPPED_BYTES: Final = _POINT_BYTES + KEY_BYTES + _TAG_BYTES
_PAD_BYTES: Final = 256
_SEALED_BYTES: Final = MAX_RECORD_BYTES + _PAD_BYTES + _TAG_BYTES


@dataclass(frozen=True, slots=True)
class SealedEntry(Reply):
    """A record as it travels and is kept. `user` is the id of the key that `wrapped` is encrypted to, `commitment` the
    HMAC of the record."""

    max_bytes: ClassVar[int] = _SEALED_BYTES + 1024
    user: Annotated[bytes, AtMost(KEY_ID_BYTES, KEY_ID_BYTES)]
    commitment: Annotated[bytes, AtMost(32, 32)]
    sealed: Annotated[bytes, AtMost(_SEALED_BYTES, _TAG_BYTES)]
    wrapped: Annotated[bytes, AtMost(_WRAPPED_BYTES, _WRAPPED_BYTES)]

    def leaf(self) -> bytes:
        """The bytes that the tree has a hash of."""
        held = hashlib.sha256(hashlib.sha256(self.sealed).digest() + self.wrapped).digest()
        return _LEAF_FORM + self.commitment + held


@dataclass(frozen=True, slots=True)
class Erasure(Reply):
    """That a user's key was destroyed: which key, when (microseconds of the Unix epoch), at whose command (URI)."""

    user: Annotated[bytes, AtMost(KEY_ID_BYTES, KEY_ID_BYTES)]
    time_us: Size
    by: Uri

    def leaf(self) -> bytes:
        """As of SealedEntry. There is nothing to hide in it."""
        return _ERASED_FORM + hashlib.sha256(records.encode(self)).digest()


@dataclass(frozen=True, slots=True)
class LeafEntry(Reply):
    """Content of the object of one leaf: one of the two."""

    max_bytes: ClassVar[int] = _SEALED_BYTES + 4096
    sealed: SealedEntry | None = None
    erased: Erasure | None = None

    def leaf(self) -> bytes:
        """Raises BadRecord."""
        if (self.sealed is None) == (self.erased is None):
            raise BadRecord("an entry of a log holds a sealed record or an erasure")
        return self.sealed.leaf() if self.sealed is not None else self.erased.leaf() if self.erased is not None else b""


def key_id(public: bytes) -> bytes:
    """Of a user's public key. It says nothing of the user: a key is drawn at random."""
    return hashlib.sha256(b"ndn-infer log user key v1\0" + public).digest()[:KEY_ID_BYTES]


def seal(record: bytes, public: bytes) -> SealedEntry:
    """An entry that the owner of this public key (a P-256 point) can open. Raises BadRecord for a record that is too
    large, or a point that is none."""
    if len(record) > MAX_RECORD_BYTES:
        raise BadRecord(f"a record of {len(record)} bytes; a log takes {MAX_RECORD_BYTES}")
    key = secrets.token_bytes(KEY_BYTES)
    padded = b"".join((record, b"\x80", bytes(-(len(record) + 1) % _PAD_BYTES)))
    sealed = AESGCM(_derived(key, b"seal")).encrypt(_NONCE, padded, None)
    ephemeral = DecryptionKey.generate()
    lock = _lock(ephemeral.shared(public), ephemeral.public, public)
    wrapped = ephemeral.public + AESGCM(lock).encrypt(_NONCE, key, None)
    return SealedEntry(key_id(public), _commitment(key, record), sealed, wrapped)


def opened(entry: SealedEntry, private: DecryptionKey) -> bytes:
    """The record. Raises BadRecord where it is another one than the leaf commits to, or for another user."""
    point, rest = entry.wrapped[:_POINT_BYTES], entry.wrapped[_POINT_BYTES:]
    try:
        key = AESGCM(_lock(private.shared(point), point, private.public)).decrypt(_NONCE, rest, None)
        padded = AESGCM(_derived(key, b"seal")).decrypt(_NONCE, entry.sealed, None)
    except InvalidTag:
        raise BadRecord("this key does not open the entry") from None
    record = padded[: max(0, padded.rfind(b"\x80"))]
    if not hmac.compare_digest(_commitment(key, record), entry.commitment):
        raise BadRecord("the entry holds another record than its leaf commits to")
    return record


def _derived(key: bytes, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_BYTES, None, b"ndn-infer log record v1 " + purpose).derive(key)


def _commitment(key: bytes, record: bytes) -> bytes:
    return hmac.digest(_derived(key, b"commit"), record, "sha256")


def _lock(shared: bytes, ephemeral: bytes, public: bytes) -> bytes:
    info = b"ndn-infer log user v1\0" + ephemeral + public
    return HKDF(hashes.SHA256(), KEY_BYTES, None, info).derive(shared)
