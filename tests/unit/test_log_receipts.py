"""Receipts of a prompt log, as the judge scitt-cose reads them, and its entries: what opens them, and what does not."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.errors import BadRecord, NdnInferError
from ndn_infer.prompt_log import cbor, merkle
from ndn_infer.prompt_log.entries import Erasure, LeafEntry, SealedEntry, opened, seal
from ndn_infer.prompt_log.receipt import InclusionProof, Root, receipt_of, sign_root, verify_receipt
from ndn_infer.prompt_log.tiles import TileTree
from ndn_infer.security.crypto import PrivateKey, PublicKey
from ndn_infer.security.domain_keys import DecryptionKey

LOG = "/ndn-infer/local/home/n1/log"
SIZE = 1000
KEY = PrivateKey.generate()
PUBLIC = PublicKey.from_spki(KEY.public_der)
LEAVES = [hashlib.sha512(number.to_bytes(4, "big")).digest() + b"\1" for number in range(SIZE)]


def receipt(index: int) -> bytes:
    tree = TileTree(0, lambda level, at: b"")
    for leaf in LEAVES:
        tree.append(merkle.leaf_hash(leaf))
    key_id = hashlib.sha256(KEY.public_der).digest()
    root = Root(tree.root(), LOG, f"{LOG}/checkpoint/v={SIZE}", 1_764_000_000, key_id)
    path = tuple(tree.inclusion(index, SIZE))
    return receipt_of(root, sign_root(root, KEY.sign), InclusionProof(SIZE, index, path))


def test_our_receipts_and_every_one_with_a_flipped_bit() -> None:
    for index in (0, 517, SIZE - 1):
        made = receipt(index)
        root, proof = verify_receipt(made, LEAVES[index], PUBLIC)
        assert (proof.index, proof.size, root.issuer) == (index, SIZE, LOG)
        for at in range(len(made)):
            flipped = made[:at] + bytes([made[at] ^ 1 << (at + index) % 8]) + made[at + 1 :]
            with pytest.raises(BadRecord):
                verify_receipt(flipped, LEAVES[index], PUBLIC)
        with pytest.raises(BadRecord):
            verify_receipt(made, LEAVES[index - 1], PUBLIC)


def test_the_judge_accepts_ours_and_refuses_flipped_ones() -> None:
    """RFC 9942 signs the root and not the tree's size, which stands beside it unsigned: another size by which the same
    path leads to the same root says the same of the leaf. Ours compares it with the signed name of the checkpoint; the
    judge does not, and reports the size that stands there."""
    scitt = pytest.importorskip("scitt_cose.receipt")
    pem = PUBLIC.to_pem()
    for index in (0, 517, SIZE - 1):
        made, leaf = receipt(index), LEAVES[index].hex()
        found = scitt.verify_receipt(made, leaf_entry_hex=leaf, log_public_key_pem=pem)
        assert found.ok and (found.leaf_index, found.tree_size, found.issuer) == (index, SIZE, LOG), found.errors
        other = LEAVES[index - 1].hex()
        assert not scitt.verify_receipt(made, leaf_entry_hex=other, log_public_key_pem=pem).ok
        accepted = []
        for at in range(len(made)):
            flipped = made[:at] + bytes([made[at] ^ 0xFF]) + made[at + 1 :]
            judged = scitt.verify_receipt(flipped, leaf_entry_hex=leaf, log_public_key_pem=pem)
            if judged.ok:
                accepted.append((judged.root, judged.leaf_index, judged.tree_size != SIZE))
        assert accepted in ([], [(found.root, index, True)])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_what_is_no_receipt_is_refused(noise: bytes) -> None:
    with pytest.raises(BadRecord):
        verify_receipt(noise, LEAVES[0], PUBLIC)


VALUES = st.recursive(
    st.none() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(-9, 999) | st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_cbor_comes_back(value: object) -> None:
    try:
        wire = cbor.encode(value)
        assert cbor.decode(wire) == value
    except BadRecord as error:
        assert "deep" in str(error)
    else:
        with pytest.raises(BadRecord):
            cbor.decode(wire + b"\0")
        with pytest.raises(BadRecord):
            cbor.decode(wire[:-1])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_other_cbor_is_refused_or_has_one_form(noise: bytes) -> None:
    try:
        value = cbor.decode(noise)
    except BadRecord:
        return
    assert cbor.encode(value) == noise


# ---------------------------------------------------------------- entries


def test_an_entry_opens_with_its_users_key_and_no_other() -> None:
    alice, bob = DecryptionKey.generate(), DecryptionKey.generate()
    record = b"what alice asked, 300 bytes of it" * 9
    entry = seal(record, alice.public)
    assert opened(entry, alice) == record
    assert record[:33] not in entry.sealed
    with pytest.raises(BadRecord):
        opened(entry, bob)
    other = seal(b"another text", alice.public)
    assert entry.leaf() != seal(record, alice.public).leaf()  # a leaf tells nothing of equal records
    for forged in (
        SealedEntry(entry.user, entry.commitment, other.sealed, entry.wrapped),
        SealedEntry(entry.user, other.commitment, entry.sealed, entry.wrapped),
        SealedEntry(entry.user, entry.commitment, other.sealed, other.wrapped),
    ):
        assert forged.leaf() != entry.leaf()
        with pytest.raises(BadRecord):
            opened(forged, alice)


def test_a_leaf_is_of_a_record_or_of_an_erasure() -> None:
    entry = seal(b"text", DecryptionKey.generate().public)
    erased = Erasure(entry.user, 1, "/ndn-infer/local/home/n1")
    assert LeafEntry(sealed=entry).leaf() == entry.leaf() != LeafEntry(erased=erased).leaf()
    for wrong in (LeafEntry(), LeafEntry(entry, erased)):
        with pytest.raises(BadRecord):
            wrong.leaf()
    with pytest.raises(NdnInferError):
        seal(b"text", b"\4" + bytes(64))
