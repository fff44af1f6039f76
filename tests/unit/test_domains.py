"""Tenant domains: how names and sealed bytes are made, and what does not open."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import chain, ndn
from ndn_infer.errors import MissingKey, TrustError
from ndn_infer.namespace import TokenBlock
from ndn_infer.security.domain_keys import domain_id
from ndn_infer.security.domains import (
    OVERHEAD_BYTES,
    PAD_BYTES,
    PUBLIC,
    DomainEpoch,
    SealBroken,
    TenantDomain,
    find_epoch,
    parse_request,
)
from tests.unit.domain_kit import BASE, EPOCH, ID, MODEL, NET, OWNER, SALT, SECRET, block_name

VECTOR_CHAIN = "b4e897eda89238bfc012b107e30afeea38a68103b7f5e500a7565e97e626b297"
VECTOR_SEALED = "ee33c8f5ae5424677ccd385689383d33d007ab645daa4904d321cacd0fba01d0"
VECTOR_ID = "bbf620503e496ad8c3cc1bd489f31c1c"
"""Made once; nothing may change them."""


# ---------------------------------------------------------------- vectors


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 by hand, one block."""
    return hmac.digest(hmac.digest(salt, secret, "sha256"), info + b"\x01", "sha256")


def test_chain_values_are_those_of_the_definition() -> None:
    key = hkdf(SECRET, f"{ID}.3".encode(), b"ndn-infer domain v1 chain")
    seed = hmac.digest(key, b"ndn-infer chain v1\x0016", "sha256")
    assert EPOCH.chain_seed(16) == seed
    first = hmac.digest(key, seed + b"".join(i.to_bytes(4, "little") for i in range(16)), "sha256")
    values = EPOCH.chain_values(range(40), 16)
    assert values[0] == first and len(values) == 2
    assert values[1].hex() == VECTOR_CHAIN


def test_sealed_bytes_are_fixed() -> None:
    """Every node of every version must make the same bytes of the same block."""
    sealed = EPOCH.seal(BASE, b"content")
    assert sealed[:5].hex() == "0100000003"
    assert hashlib.sha256(sealed).hexdigest() == VECTOR_SEALED
    assert EPOCH.open(BASE, sealed) == b"content"


def test_sealed_bytes_are_those_of_the_definition() -> None:
    salt = f"{ID}.3".encode()
    digest, seal = (hkdf(SECRET, salt, b"ndn-infer domain v1 " + purpose) for purpose in (b"digest", b"seal"))
    bound = b"".join(len(part).to_bytes(4, "big") + part for part in (b"object", salt, BASE, b""))
    padded = b"content\x80" + bytes(248)
    siv = hmac.digest(digest, bound + hashlib.sha256(padded).digest(), "sha256")
    key = hmac.digest(seal, siv + b"\x01", "sha256")
    sealed = b"\x01\0\0\0\x03" + siv + AESGCM(key).encrypt(bytes(12), padded, bound)
    assert EPOCH.seal(BASE, b"content") == sealed


def test_the_id_of_a_domain_is_fixed() -> None:
    assert domain_id(OWNER, SALT) == VECTOR_ID


def test_public_is_what_it_was() -> None:
    assert PUBLIC.label == "public"
    assert PUBLIC.chain_seed(16) == chain.seed(16)
    assert PUBLIC.chain_values(range(40), 16) == chain.chain(range(40), 16)
    assert PUBLIC.seal(BASE, b"x") == b"x" == PUBLIC.open(BASE, memoryview(b"x"))


def test_an_unkeyed_chain_does_not_change() -> None:
    assert chain.chain(range(40), 16, b"") == chain.chain(range(40), 16)
    assert chain.chain(range(40), 16, b"k") != chain.chain(range(40), 16)


# ---------------------------------------------------------------- sealing


@given(st.binary(max_size=2000), st.binary(min_size=1, max_size=40))
def test_round_trip(content: bytes, last: bytes) -> None:
    base = NET + ndn.generic(last)
    sealed = EPOCH.seal(base, content)
    assert EPOCH.open(base, sealed) == content == EPOCH.open(base, memoryview(sealed))
    assert sealed == DomainEpoch(ID, 3, SECRET).seal(base, content)
    assert (len(sealed) - OVERHEAD_BYTES) % PAD_BYTES == 0
    assert 1 <= len(sealed) - OVERHEAD_BYTES - len(content) <= PAD_BYTES


@pytest.mark.parametrize("size", [0, 1, 254, 255, 256, 511, 512, 400_000])
def test_sizes_at_the_borders(size: int) -> None:
    for content in (bytes(size), b"\x80" * size, b"\xff" * size):
        assert EPOCH.open(BASE, EPOCH.seal(BASE, content)) == content


def test_every_single_flipped_bit_is_refused() -> None:
    sealed = EPOCH.seal(BASE, b"a block of KV")
    for position in range(len(sealed) * 8):
        altered = bytearray(sealed)
        altered[position // 8] ^= 1 << position % 8
        with pytest.raises(SealBroken):
            EPOCH.open(BASE, bytes(altered))


@given(st.binary(max_size=700))
def test_any_bytes_are_refused(content: bytes) -> None:
    for opener in (EPOCH.open, EPOCH.open_answer, EPOCH.open_event):
        with pytest.raises(SealBroken):
            opener(BASE, content)


@given(st.integers(0, 600))
def test_what_is_cut_short_is_refused(length: int) -> None:
    sealed = EPOCH.seal(BASE, bytes(300))
    with pytest.raises(SealBroken):
        EPOCH.open(BASE, sealed[: min(length, len(sealed) - 1)])
    with pytest.raises(SealBroken):
        EPOCH.open(BASE, sealed + bytes(length + 1))


def test_another_name_key_epoch_domain_or_use_is_refused() -> None:
    sealed = EPOCH.seal(BASE, b"content")
    with pytest.raises(SealBroken):
        EPOCH.open(block_name(EPOCH.label, b"\1" * 32), sealed)
    strangers = [
        DomainEpoch(ID, 3, bytes(32)),
        DomainEpoch(ID, 4, SECRET),
        DomainEpoch("f" * 32, 3, SECRET),
    ]
    for stranger in strangers:
        with pytest.raises(SealBroken):
            stranger.open(BASE, sealed)
    for opener in (EPOCH.open_answer, EPOCH.open_event):
        with pytest.raises(SealBroken):
            opener(BASE, sealed)
    assert issubclass(SealBroken, TrustError)


def test_no_two_messages_share_a_key() -> None:
    """The synthetic IV, from which the key is derived, differs with content, name, use and key."""
    sealed = [EPOCH.seal(BASE, b"content"), EPOCH.seal(BASE, b"content\0"), EPOCH.seal(BASE + BASE, b"content")]
    sealed += [EPOCH.seal_answer(BASE, b"content"), EPOCH.seal_event(BASE, b"content")]
    sealed += [DomainEpoch(ID, 3, bytes(32)).seal(BASE, b"content"), EPOCH.seal(BASE, b"")]
    assert len({item[5:37] for item in sealed}) == len(sealed)
    assert len({item[37:] for item in sealed}) == len(sealed)


def test_parts_that_look_alike_when_joined_are_told_apart() -> None:
    """A component moved from the function's name into the caller's is another request."""
    a, b = ndn.generic("a"), ndn.generic("b")
    sealed = parse_request(EPOCH.seal_request(a + b, b"", b"x", SALT))
    with pytest.raises(SealBroken):
        EPOCH.open_request(a, b, sealed)


def test_keys_are_not_shown() -> None:
    assert SECRET.hex() not in repr(EPOCH) and repr(EPOCH) == f"DomainEpoch({ID}.3)"
    for bad in (b"", bytes(31), bytes(33)):
        with pytest.raises(ValueError, match="32 bytes"):
            DomainEpoch(ID, 1, bad)
    with pytest.raises(ValueError, match="from 1"):
        DomainEpoch(ID, 0, SECRET)


# ---------------------------------------------------------------- epochs


def test_epochs_rotate_and_old_ones_stay_readable() -> None:
    old = TenantDomain(ID, {1: SECRET})
    both = TenantDomain(ID, {2: bytes(32), 1: SECRET})
    base = block_name(old.newest.label, bytes(32))
    sealed = old.newest.seal(base, b"x")
    assert both.newest.label == f"{ID}.2" and [item.epoch for item in both.epochs] == [1, 2]
    assert both.at(1).open(base, sealed) == b"x"
    assert both.at(1).chain_values(range(16), 16) == old.newest.chain_values(range(16), 16)
    with pytest.raises(SealBroken):
        both.newest.open(base, sealed)
    with pytest.raises(MissingKey, match="epoch 2"):
        old.at(2)


def test_a_label_finds_its_epoch() -> None:
    domains = [TenantDomain("a" * 32, {1: SECRET}), TenantDomain(ID, {1: SECRET, 3: SECRET})]
    assert find_epoch(domains, f"{ID}.3").label == f"{ID}.3"
    for label in ("public", "", ".", f"{ID}.2", f"{ID}.", f"{ID}.-1", f"{ID}.\u0663", f"{ID}.{'9' * 5000}", f"{ID}3"):
        with pytest.raises(MissingKey):
            find_epoch(domains, label)


def test_labels_fit_names() -> None:
    label = DomainEpoch(ID, 999_999_999, SECRET).label
    assert TokenBlock(MODEL, label, MODEL).to_name(NET)
