"""Keys, signatures and the Signer, through the `cryptography` package.

Owns: which kinds of keys exist here (ECDSA P-256 by default; Ed25519; RSA and P-384 are verified and never made) and
what their signatures look like on the wire (NDN Packet Format 0.3, section 3). Must not know: which key may sign which
name, where keys are kept. About 40 us to sign and 90 us to verify with ECDSA P-256 where python-ndn takes 3 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from ndn_infer.errors import BadPacket, StorageError
from ndn_infer.ndn.name import Component, Name
from ndn_infer.ndn.packet import (
    CONTENT_BLOB,
    DEFAULT_LIFETIME_MS,
    SIGNATURE_ED25519,
    SIGNATURE_SHA256_WITH_ECDSA,
    SIGNATURE_SHA256_WITH_RSA,
    SignatureInfo,
    encode_data,
    encode_interest,
)

ECDSA: Final = "ecdsa"
ED25519: Final = "ed25519"
KEY_KINDS: Final = (ECDSA, ED25519)
"""What `PrivateKey.generate` makes."""

PUBLIC_KEY_SIGNATURES: Final = frozenset({SIGNATURE_SHA256_WITH_RSA, SIGNATURE_SHA256_WITH_ECDSA, SIGNATURE_ED25519})
"""Signature types that can prove authorship. DigestSha256 proves none, and HMAC needs a secret nobody shares here."""

_RSA_BITS: Final = range(2048, 8193)
_ECDSA_SHA256: Final = ec.ECDSA(hashes.SHA256())
_PKCS1: Final = padding.PKCS1v15()
_SHA256: Final = hashes.SHA256()
_HOW: Final[dict[int, tuple[Any, ...]]] = {
    SIGNATURE_SHA256_WITH_ECDSA: (_ECDSA_SHA256,), SIGNATURE_SHA256_WITH_RSA: (_PKCS1, _SHA256), SIGNATURE_ED25519: (),
}  # fmt: skip
"""What keys of a signature type sign and verify with."""

_Public: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey
_Private: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class PublicKey:
    """`signature_type` is the one SignatureType that this key verifies."""

    signature_type: int
    _key: _Public

    @classmethod
    def from_spki(cls, der: bytes) -> PublicKey:
        """From a DER SubjectPublicKeyInfo (RFC 5280). Raises BadPacket for a damaged, weak or other key."""
        try:
            key = serialization.load_der_public_key(der)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise BadPacket(f"this public key cannot be used here: {error}") from error
        if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in ("secp256r1", "secp384r1"):
            return cls(SIGNATURE_SHA256_WITH_ECDSA, key)
        if isinstance(key, ed25519.Ed25519PublicKey):
            return cls(SIGNATURE_ED25519, key)
        if isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA_BITS:
            return cls(SIGNATURE_SHA256_WITH_RSA, key)
        raise BadPacket("public keys are ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits")

    def to_pem(self) -> bytes:
        """SubjectPublicKeyInfo as PEM, for tools of others."""
        return self._key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def verify(self, signature_type: int, portion: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over `portion`; false too when the type is not this key's."""
        if signature_type != self.signature_type:
            return False
        try:
            self._key.verify(signature, portion, *_HOW[signature_type])  # by the type: classes take longer to look at
        except InvalidSignature:
            return False
        return True


class PrivateKey:
    """A private key that we made or were given: ECDSA P-256 or Ed25519."""

    __slots__ = ("_key", "public_der", "signature_type")

    def __init__(self, key: _Private) -> None:
        self._key = key
        is_ec = isinstance(key, ec.EllipticCurvePrivateKey)
        self.signature_type = SIGNATURE_SHA256_WITH_ECDSA if is_ec else SIGNATURE_ED25519
        self.public_der = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @classmethod
    def generate(cls, kind: str = ECDSA) -> PrivateKey:
        """A new key of one of KEY_KINDS."""
        if kind == ECDSA:
            return cls(ec.generate_private_key(ec.SECP256R1()))
        if kind == ED25519:
            return cls(ed25519.Ed25519PrivateKey.generate())
        raise ValueError(f"keys are {' or '.join(KEY_KINDS)}, not {kind!r}")

    @classmethod
    def from_pem(cls, pem: bytes) -> PrivateKey:
        """From PKCS#8 PEM without a password. Raises StorageError for anything else."""
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise StorageError(f"this is not an unencrypted PKCS#8 private key: {error}", hint=_PEM_HINT) from error
        usable_ec = isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
        if not usable_ec and not isinstance(key, ed25519.Ed25519PrivateKey):
            raise StorageError("private keys are ECDSA P-256 or Ed25519", hint=_PEM_HINT)
        assert isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey)
        return cls(key)

    def to_pem(self) -> bytes:
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def sign(self, portion: bytes) -> bytes:
        """The SignatureValue over `portion`."""
        signature: bytes = self._key.sign(portion, *_HOW[self.signature_type])
        return signature

    def __repr__(self) -> str:
        return f"PrivateKey(type={self.signature_type})"  # never the key itself


_PEM_HINT: Final = "make keys with 'ndn-infer keys', or import the bundle that your operator made"


@dataclass(frozen=True, slots=True)
class Signer:
    """A key and the certificate that vouches for it.

    `info` is the SignatureInfo of Data signed with it; its key locator is the certificate's name. `public_der`: its
    public key, as `PublicKey.from_spki` reads it.
    """

    identity: Name
    certificate_name: Name
    info: SignatureInfo
    sign: Callable[[bytes], bytes]
    public_der: bytes

    @classmethod
    def of(cls, key: PrivateKey, identity: Name, certificate_name: Name) -> Signer:
        return cls(
            identity, certificate_name, SignatureInfo(key.signature_type, certificate_name), key.sign, key.public_der
        )

    def sign_data(
        self,
        name: Name,
        content: bytes,
        *,
        freshness_ms: int = 0,
        final_block: Component | None = None,
        content_type: int = CONTENT_BLOB,
        time_ms: int | None = None,
    ) -> bytes:
        """A Data packet signed with this key; with `time_ms` (Unix epoch) it carries a SignatureTime.

        Raises BadPacket when it would exceed 8,800 bytes.
        """
        info = self.info if time_ms is None else SignatureInfo(self.info.type, self.info.key_locator, time_ms=time_ms)
        return encode_data(
            name,
            content,
            freshness_ms=freshness_ms,
            final_block=final_block,
            content_type=content_type,
            info=info,
            signer=self.sign,
        )

    def sign_interest(
        self,
        name: Name,
        parameters: bytes,
        *,
        nonce: bytes,
        signature_nonce: bytes,
        time_ms: int,
        can_be_prefix: bool = False,
        must_be_fresh: bool = False,
        hints: tuple[Name, ...] = (),
        lifetime_ms: int = DEFAULT_LIFETIME_MS,
        hop_limit: int | None = None,
    ) -> tuple[bytes, Name]:
        """A signed Interest and its final name. `nonce` has 4 bytes, `signature_nonce` 8 random ones.

        `time_ms` is the sender's clock (Unix epoch). Both are what `replay.ReplayWindow` asks for.
        """
        info = SignatureInfo(self.info.type, self.info.key_locator, nonce=signature_nonce, time_ms=time_ms)
        return encode_interest(
            name,
            nonce=nonce,
            can_be_prefix=can_be_prefix,
            must_be_fresh=must_be_fresh,
            hints=hints,
            lifetime_ms=lifetime_ms,
            hop_limit=hop_limit,
            parameters=parameters,
            info=info,
            signer=self.sign,
        )
