"""COSE receipts: that a leaf is in a log, signed by the log, for tools of others (RFC 9942 with proofs of RFC 9162).

Owns: their bytes, both ways. Must not know: what a leaf says, where proofs come from, which key a log has.

A receipt is a COSE_Sign1 (RFC 9052) whose detached payload is a root. Its protected header says ES256, the tree's form,
and whose root of which size it is; its unprotected header has the proof, so that one signature serves all leaves of a
tree. Receipts of records that were erased stay good: a leaf has nothing readable in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ndn_infer.errors import BadRecord
from ndn_infer.ndn.packet import SIGNATURE_SHA256_WITH_ECDSA
from ndn_infer.prompt_log import cbor, merkle
from ndn_infer.security.crypto import PublicKey

MAX_BYTES: Final = 4096
_SIGN1: Final = 18
_ALGORITHM, _KEY_ID, _CLAIMS, _TREE_FORM, _PROOFS = 1, 4, 15, 395, 396
_ES256: Final = -7
_RFC9162_SHA256: Final = 1
_INCLUSION: Final = -1
_ISSUER, _SUBJECT, _ISSUED_AT = 1, 2, 6
_HALF: Final = 32


@dataclass(frozen=True, slots=True)
class Root:
    """What is signed: a root, of the log `issuer` (URI), in `subject` (the checkpoint's versioned name, which says the
    size), at `issued` (seconds of the Unix epoch), by the key with this id."""

    root: bytes
    issuer: str
    subject: str
    issued: int
    key_id: bytes

    def protected(self) -> bytes:
        claims = {_ISSUER: self.issuer, _SUBJECT: self.subject, _ISSUED_AT: self.issued}
        header = {_ALGORITHM: _ES256, _KEY_ID: self.key_id, _CLAIMS: claims, _TREE_FORM: _RFC9162_SHA256}
        return cbor.encode(header)


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """That a leaf is the one of `index` among `size`."""

    size: int
    index: int
    path: tuple[bytes, ...]


def sign_root(root: Root, sign: Callable[[bytes], bytes]) -> bytes:
    """The signature of the receipts over this root, 64 bytes. `sign` makes ECDSA signatures over SHA-256 in DER."""
    first, second = decode_dss_signature(sign(_to_sign(root.protected(), root.root)))
    return first.to_bytes(_HALF, "big") + second.to_bytes(_HALF, "big")


def verify_root(root: Root, signature: bytes, key: PublicKey) -> bool:
    return _verified(root.protected(), root.root, signature, key)


def receipt_of(root: Root, signature: bytes, proof: InclusionProof) -> bytes:
    """The receipt of a leaf, from the signature over a root that its proof leads to."""
    inclusion = cbor.encode([proof.size, proof.index, list(proof.path)])
    unprotected = {_PROOFS: {_INCLUSION: [inclusion]}}
    return cbor.encode(cbor.Tagged(_SIGN1, [root.protected(), unprotected, None, signature]))


def verify_receipt(receipt: bytes, leaf: bytes, key: PublicKey) -> tuple[Root, InclusionProof]:
    """What a receipt proves of the leaf with these bytes, by a log with this key. Raises BadRecord."""
    if len(receipt) > MAX_BYTES:
        raise BadRecord(f"a receipt of {len(receipt)} bytes")
    protected, unprotected, payload, signature = _parts(cbor.decode(receipt))
    proof = _proof(unprotected)
    value = merkle.root_of_inclusion(merkle.leaf_hash(leaf), proof.index, proof.size, proof.path)
    if payload is not None or value is None:
        raise BadRecord("a receipt whose proof has another form")
    root = _root(protected, value)
    if root.protected() != protected or not root.subject.endswith(f"/v={proof.size}"):
        raise BadRecord("a receipt whose header says something else")
    if not _verified(protected, value, signature, key):
        raise BadRecord("the signature of the receipt is not the log's over a tree with this record")
    return root, proof


def _parts(value: Any) -> tuple[bytes, dict[Any, Any], Any, bytes]:
    if not isinstance(value, cbor.Tagged) or value.tag != _SIGN1 or not isinstance(value.value, list):
        raise BadRecord("not a COSE_Sign1")
    match value.value:
        case [bytes() as protected, dict() as unprotected, payload, bytes() as signature]:
            return protected, unprotected, payload, signature
    raise BadRecord("a COSE_Sign1 of another form")


def _proof(unprotected: dict[Any, Any]) -> InclusionProof:
    match unprotected:
        case {396: {-1: [bytes() as blob]} as proofs} if len(unprotected) == len(proofs) == 1:
            found = cbor.decode(blob)
        case _:
            raise BadRecord("a receipt without one proof of inclusion")
    match found:
        case [int(size), int(index), [*path]] if all(isinstance(item, bytes) for item in path):
            return InclusionProof(size, index, tuple(path))
    raise BadRecord("a proof of inclusion of another form")


def _root(protected: bytes, value: bytes) -> Root:
    match cbor.decode(protected):
        case {4: bytes(key_id), 15: {1: str(issuer), 2: str(subject), 6: int(issued)}}:
            return Root(value, issuer, subject, issued, key_id)
    raise BadRecord("a receipt without its issuer")


def _verified(protected: bytes, root: bytes, signature: bytes, key: PublicKey) -> bool:
    if len(signature) != 2 * _HALF:
        return False
    halves = (int.from_bytes(signature[:_HALF], "big"), int.from_bytes(signature[_HALF:], "big"))
    return key.verify(SIGNATURE_SHA256_WITH_ECDSA, _to_sign(protected, root), encode_dss_signature(*halves))


def _to_sign(protected: bytes, payload: bytes) -> bytes:
    """Sig_structure of RFC 9052, 4.4."""
    return cbor.encode(["Signature1", protected, b"", payload])
