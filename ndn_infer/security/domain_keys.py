"""Domain keys on their way to members: encryption keys of identities, and the record that wraps a key for each.

Owns: ECIES over P-256 and the meaning of DomainKeyRecord. Must not know: files, commands, sockets, what a domain's key
is used for. Every record here comes out of an object whose signature was verified first; who signed it is an argument.

An identity's encryption key is another key than the one it signs with. One key for ECDSA and ECDH would let each use
be an oracle for the other, could not be kept in hardware that only signs, and would have to be given up for both when
one leaks (NIST SP 800-57 part 1, 5.2: one key, one use). The signing key vouches for the other: EncryptionKeyRecord.

Wrapping: one fresh ephemeral key for a record; for each member ECDH, then HKDF-SHA256 over the shared secret with all
public values in its info, which gives a tag and a key for AES-256-GCM. That key encrypts one message, so its nonce is
constant. The tag tells a member which entry is its own and tells others nothing: a record does not say who the members
are, and their number only rounded up to eights, since entries for nobody fill it up. A shared ephemeral key for several
recipients is safe here because each recipient's key goes into its own derivation (Bellare, Boldyreva, Staddon 2003).

Who owns a domain cannot be usurped: its id is a digest of its owner's identity and a salt, the record must be signed by
that owner, and the trust schema says who may own domains at all.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ndn_infer import ndn, records
from ndn_infer.errors import BadName, BadRecord, KeyNotAllowed, MissingKey, StorageError
from ndn_infer.namespace import DomainKey
from ndn_infer.ndn.name import Name
from ndn_infer.records import Reply
from ndn_infer.records.bounds import AtMost, Between, Uri
from ndn_infer.security.domains import KEY_BYTES, MAX_EPOCH, SALT_BYTES, SealBroken

MAX_MEMBERS: Final = 4096
MAX_NAME: Final = 64

_POINT_BYTES: Final = 65
_TAG_BYTES: Final = 16
_SECRET_BYTES: Final = 128
_ENTRY_BYTES: Final = _TAG_BYTES + _SECRET_BYTES + 16
_ENTRIES_STEP: Final = 8
_NONCE: Final = bytes(12)
_INFO: Final = b"ndn-infer domain member v1\0"
_CURVE: Final = ec.SECP256R1()


@dataclass(frozen=True, slots=True)
class EncryptionKeyRecord(Reply):
    """The key with which others encrypt to an identity: an uncompressed P-256 point (SEC 1, 65 bytes)."""

    public: Annotated[bytes, AtMost(_POINT_BYTES)]


@dataclass(frozen=True, slots=True)
class DomainKeyRecord(Reply):
    """The key of one epoch of a domain, wrapped for its members. The domain's id is a digest of `owner` (URI) and
    `salt`. `ephemeral` is a P-256 point (SEC 1). Each member has one of `entries`; all are of one size, and some are
    for nobody."""

    owner: Uri
    salt: Annotated[bytes, AtMost(SALT_BYTES)]
    epoch: Annotated[int, Between(1, MAX_EPOCH)]
    ephemeral: Annotated[bytes, AtMost(_POINT_BYTES)]
    entries: Annotated[tuple[Annotated[bytes, AtMost(_ENTRY_BYTES)], ...], AtMost(MAX_MEMBERS + _ENTRIES_STEP)]


@dataclass(frozen=True, slots=True)
class DomainSecret(Reply):
    """What a member finds in its entry: the key, and what the owner calls the domain."""

    key: Annotated[bytes, AtMost(KEY_BYTES)]
    name: Annotated[str, AtMost(MAX_NAME)]


class DecryptionKey:
    """A private key that decrypts and never signs: P-256, for ECDH."""

    __slots__ = ("_key", "public")

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.public = _encode_point(key.public_key())

    @classmethod
    def generate(cls) -> DecryptionKey:
        return cls(ec.generate_private_key(_CURVE))

    @classmethod
    def from_pem(cls, pem: bytes) -> DecryptionKey:
        """From PKCS#8 PEM without a password. Raises StorageError."""
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise StorageError(f"this is not an unencrypted PKCS#8 private key: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise StorageError("encryption keys are P-256 keys")
        return cls(key)

    def to_pem(self) -> bytes:
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def shared(self, point: bytes) -> bytes:
        """ECDH with an encoded point. Raises BadRecord for bytes that are no point of the curve."""
        return self._key.exchange(ec.ECDH(), _decode_point(point))

    def __repr__(self) -> str:
        return "EncryptionKey()"  # never the key itself


def read_encryption_key(content: bytes) -> bytes:
    """The public key in a verified EncryptionKeyRecord. Raises BadRecord."""
    public = records.decode(EncryptionKeyRecord, content).public
    _decode_point(public)
    return public


def domain_id(owner: Name, salt: bytes) -> str:
    """The id of the domain that `owner` made with `salt`: 32 hex digits."""
    return hashlib.sha256(b"ndn-infer domain id v1\0" + salt + owner).hexdigest()[:32]


class Epoch(NamedTuple):
    """Which keys of a domain: the domain's salt, and how often they were changed."""

    salt: bytes
    number: int


def wrap(base: Name, owner: Name, epoch: Epoch, secret: DomainSecret, members: Sequence[bytes]) -> bytes:
    """Content of the key record `base` (namespace.DomainKey), for members with these public encryption keys.

    Random: every call makes other bytes. Raises BadRecord for too many members, a name too long, no point of the curve.
    """
    if len(members) > MAX_MEMBERS or len(secret.name) > MAX_NAME or len(secret.key) != KEY_BYTES:
        raise BadRecord(f"a domain has {MAX_MEMBERS} members at most, and a name of {MAX_NAME} characters")
    plain = records.encode(secret)
    if len(plain) >= _SECRET_BYTES:
        raise BadRecord("the name of a domain is too long")
    padded = plain + b"\x80" + bytes(_SECRET_BYTES - len(plain) - 1)
    ephemeral = DecryptionKey.generate()
    entries = []
    for public in dict.fromkeys(members):
        tag, key = _derive(ephemeral.shared(public), base, ephemeral.public, public)
        entries.append(tag + AESGCM(key).encrypt(_NONCE, padded, base))
    while not entries or len(entries) % _ENTRIES_STEP:
        entries.append(secrets.token_bytes(_ENTRY_BYTES))
    entries.sort()  # tags are random to others, and so is their order
    return records.encode(
        DomainKeyRecord(ndn.to_uri(owner), epoch.salt, epoch.number, ephemeral.public, tuple(entries))
    )


def unwrap(
    net: Name, base: Name, content: bytes, signed_by: Name, mine: DecryptionKey
) -> tuple[DomainKeyRecord, DomainSecret]:
    """A key record and the secret in it for `mine`, that `signed_by` signed (verified before).

    Raises BadRecord (no such record), KeyNotAllowed (not signed by the owner of this domain), MissingKey (nothing in it
    for this key), SealBroken (an entry that does not open).
    """
    record = check(net, base, content, signed_by)
    tag, key = _derive(mine.shared(record.ephemeral), base, record.ephemeral, mine.public)
    entry = next((item for item in record.entries if item[:_TAG_BYTES] == tag), None)
    if entry is None:
        raise MissingKey(
            f"{ndn.to_uri(base)} holds nothing for this machine's encryption key",
            hint="ask the domain's owner to add it: 'ndn-infer domain add', with what 'ndn-infer domain card' makes",
        )
    try:
        padded = AESGCM(key).decrypt(_NONCE, entry[_TAG_BYTES:], base)
    except InvalidTag:
        raise SealBroken(f"the entry of {ndn.to_uri(base)} for this machine does not open") from None
    secret = records.decode(DomainSecret, padded.rstrip(b"\0")[:-1])
    if len(secret.key) != KEY_BYTES or len(secret.name) > MAX_NAME:
        raise BadRecord(f"{ndn.to_uri(base)} holds no domain key")
    return record, secret


def check(net: Name, base: Name, content: bytes, signed_by: Name) -> DomainKeyRecord:
    """A key record whose name, owner and signer belong together. Raises BadRecord, KeyNotAllowed."""
    named = DomainKey.parse(net, base)
    if named is None:
        raise BadRecord(f"{ndn.to_uri(base)} is not the name of a domain key")
    record = records.decode(DomainKeyRecord, content)
    try:
        owner = ndn.from_uri(record.owner)
    except BadName as error:
        raise BadRecord(f"the owner of a domain is named by a URI: {error}") from error
    if owner != signed_by or len(record.salt) != SALT_BYTES or domain_id(owner, record.salt) != named.domain:
        raise KeyNotAllowed(f"{ndn.to_uri(base)} is signed by {ndn.to_uri(signed_by)}, which does not own this domain")
    if not 1 <= record.epoch <= MAX_EPOCH or str(record.epoch) != named.epoch:
        raise BadRecord(f"{ndn.to_uri(base)} holds the key of another epoch")
    if len(record.entries) > MAX_MEMBERS + _ENTRIES_STEP or any(len(item) != _ENTRY_BYTES for item in record.entries):
        raise BadRecord(f"{ndn.to_uri(base)} has entries of a wrong size or number")
    return record


def _derive(shared: bytes, base: Name, ephemeral: bytes, public: bytes) -> tuple[bytes, bytes]:
    """(tag, key) of one entry."""
    info = _INFO + ephemeral + public + base
    made = HKDF(hashes.SHA256(), _TAG_BYTES + 32, None, info).derive(shared)
    return made[:_TAG_BYTES], made[_TAG_BYTES:]


def _encode_point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def _decode_point(point: bytes) -> ec.EllipticCurvePublicKey:
    if len(point) != _POINT_BYTES:
        raise BadRecord(f"a public encryption key has {_POINT_BYTES} bytes")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, point)
    except ValueError as error:
        raise BadRecord("a public encryption key is not a point of P-256") from error
