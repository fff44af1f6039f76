"""Keys and signatures: ours verify with python-ndn and theirs with us; weak, foreign and damaged keys are refused."""

from __future__ import annotations

import asyncio
import base64

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, padding, rsa, x25519
from hypothesis import given
from hypothesis import strategies as st
from ndn.encoding import InterestParam, MetaInfo, make_data, make_interest, parse_data, parse_interest
from ndn.encoding import Name as StockName
from ndn.security import Ed25519Signer, Sha256WithEcdsaSigner, Sha256WithRsaSigner
from ndn.security.validator.known_key_validator import EccChecker, Ed25519Checker

from ndn_infer import ndn
from ndn_infer.errors import BadPacket, StorageError
from ndn_infer.ndn.packet import decode_data, decode_interest
from ndn_infer.security.crypto import ECDSA, ED25519, KEY_KINDS, PrivateKey, PublicKey
from tests.unit.trust_kit import NOW, Authority, Holder

NAME = ndn.from_uri("/net/object/v=1/seg=0")
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def spki(public: object) -> bytes:
    return public.public_bytes(  # type: ignore[attr-defined,no-any-return]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def pkcs8(key: PrivateKey) -> bytes:
    lines = key.to_pem().decode().splitlines()
    return base64.b64decode("".join(line for line in lines if "-----" not in line))


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_sign_and_verify(kind: str) -> None:
    key, other = PrivateKey.generate(kind), PrivateKey.generate(kind)
    public = PublicKey.from_spki(key.public_der)
    signature = key.sign(b"portion")
    assert public.verify(key.signature_type, b"portion", signature)
    assert not public.verify(key.signature_type, b"portioN", signature)
    assert not public.verify(key.signature_type, b"portion", b"")
    assert not public.verify(key.signature_type, b"portion", other.sign(b"portion"))
    for wrong_type in {0, 1, 2, 3, 4, 5, 200} - {key.signature_type}:
        assert not public.verify(wrong_type, b"portion", signature)


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_pem_round_trip(kind: str) -> None:
    key = PrivateKey.generate(kind)
    again = PrivateKey.from_pem(key.to_pem())
    assert again.public_der == key.public_der
    assert again.signature_type == key.signature_type
    assert "PRIVATE" not in repr(key)


def test_unknown_kind() -> None:
    with pytest.raises(ValueError, match="ecdsa or ed25519"):
        PrivateKey.generate("rsa")


@pytest.mark.parametrize(
    "der",
    [
        spki(rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()),
        spki(ec.generate_private_key(ec.SECP224R1()).public_key()),
        spki(ec.generate_private_key(ec.SECP256K1()).public_key()),
        spki(ed448.Ed448PrivateKey.generate().public_key()),
        spki(x25519.X25519PrivateKey.generate().public_key()),
        spki(dsa.generate_private_key(2048).public_key()),
        b"",
        b"\x30\x00",
        PrivateKey.generate().public_der[:-1],
        PrivateKey.generate().public_der[:-64] + b"\x01" * 64,  # a point off the curve
    ],
    ids=["rsa-1024", "p-224", "secp256k1", "ed448", "x25519", "dsa", "empty", "sequence", "short", "off-curve"],
)
def test_weak_foreign_and_damaged_keys(der: bytes) -> None:
    with pytest.raises(BadPacket):
        PublicKey.from_spki(der)


@given(st.binary(max_size=120))
def test_random_public_keys(der: bytes) -> None:
    with pytest.raises(BadPacket):
        PublicKey.from_spki(der)


SPKI = PrivateKey.generate().public_der


@given(st.integers(0, len(SPKI) - 1), st.integers(0, 255))
def test_mutated_public_keys(at: int, value: int) -> None:
    raw = bytearray(SPKI)
    raw[at] = value
    try:
        key = PublicKey.from_spki(bytes(raw))
    except BadPacket:
        return
    assert not key.verify(key.signature_type, b"portion", b"no signature")


def test_rsa_and_p384_are_verified() -> None:
    public = PublicKey.from_spki(spki(RSA_KEY.public_key()))
    signature = RSA_KEY.sign(b"portion", padding.PKCS1v15(), hashes.SHA256())
    assert public.verify(1, b"portion", signature)
    assert not public.verify(1, b"portion", signature[:-1])
    assert not public.verify(3, b"portion", signature)
    key = ec.generate_private_key(ec.SECP384R1())
    assert PublicKey.from_spki(spki(key.public_key())).verify(
        3, b"portion", key.sign(b"portion", ec.ECDSA(hashes.SHA256()))
    )


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        RSA_KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        RSA_KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"pw")
        ),
        ec.generate_private_key(ec.SECP384R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    ],
    ids=["empty", "damaged", "rsa", "encrypted", "p-384"],
)
def test_private_keys_that_cannot_be_used(pem: bytes) -> None:
    with pytest.raises(StorageError) as caught:
        PrivateKey.from_pem(pem)
    assert caught.value.hint


# ---------------------------------------------------------------- Signer


@pytest.fixture(params=KEY_KINDS)
def holder(request: pytest.FixtureRequest) -> Holder:
    authority = Authority(kind=request.param)
    return authority.issue("/home/n1/decode", authority.root)


def test_signed_data(holder: Holder) -> None:
    signer = holder.signer
    assert signer.info.key_locator == signer.certificate_name == holder.certificate.name
    assert signer.identity == holder.certificate.identity
    data = decode_data(
        signer.sign_data(NAME, b"content", freshness_ms=5, final_block=ndn.segment(0), content_type=3, time_ms=99)
    )
    assert (data.name, data.content, data.freshness_ms, data.content_type) == (NAME, b"content", 5, 3)
    assert data.final_block == ndn.segment(0)
    assert data.signature_info.time_ms == 99
    assert data.signature_info.key_locator == holder.certificate.name
    public = PublicKey.from_spki(holder.certificate.public_der)
    assert public.verify(data.signature_info.type, data.signed_portion, data.signature)
    assert decode_data(signer.sign_data(NAME, b"")).signature_info.time_ms is None
    with pytest.raises(BadPacket):
        signer.sign_data(NAME, bytes(8800))


def test_signed_interest(holder: Holder) -> None:
    wire, name = holder.signer.sign_interest(
        NAME, b"parameters", nonce=b"1234", signature_nonce=b"12345678", time_ms=int(NOW * 1000), hop_limit=3
    )
    interest = decode_interest(wire)
    assert interest.name == name and name.startswith(NAME)
    assert interest.parameters_digest_matches()
    info = interest.signature_info
    assert info is not None
    assert (info.nonce, info.time_ms, info.key_locator) == (b"12345678", int(NOW * 1000), holder.certificate.name)
    public = PublicKey.from_spki(holder.certificate.public_der)
    assert public.verify(info.type, interest.signed_portion, interest.signature)


# ---------------------------------------------------------------- python-ndn verifies ours, we verify theirs


@pytest.mark.parametrize(("kind", "checker"), [(ECDSA, EccChecker), (ED25519, Ed25519Checker)])
def test_python_ndn_verifies_ours(kind: str, checker: type[EccChecker]) -> None:
    authority = Authority(kind=kind)
    holder = authority.issue("/home/n1/decode", authority.root)
    validate = checker.from_key(
        StockName.from_bytes(ndn.encode_name(holder.certificate.key_name)), holder.certificate.public_der
    )
    wire = holder.signer.sign_data(NAME, b"content", freshness_ms=1)
    name, _, _, pointers = parse_data(wire)
    assert asyncio.run(validate(name, pointers))
    altered = wire.replace(b"content", b"contenT")
    name, _, _, pointers = parse_data(altered)
    assert not asyncio.run(validate(name, pointers))
    signed, _ = holder.signer.sign_interest(NAME, b"p", nonce=b"1234", signature_nonce=bytes(8), time_ms=1)
    name, _, _, pointers = parse_interest(signed)
    assert asyncio.run(validate(name, pointers))
    # A certificate, verified with python-ndn from the issuer's certificate.
    root = checker.from_cert(authority.root.certificate.wire)
    name, _, _, pointers = parse_data(holder.certificate.wire)
    assert asyncio.run(root(name, pointers))


def stock_signers() -> list[tuple[object, bytes]]:
    locator = StockName.from_str("/net/KEY/k/i/v=1")
    ecdsa, ed25519 = PrivateKey.generate(ECDSA), PrivateKey.generate(ED25519)
    rsa_der = RSA_KEY.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return [
        (Sha256WithEcdsaSigner(locator, pkcs8(ecdsa)), ecdsa.public_der),
        (Ed25519Signer(locator, pkcs8(ed25519)), ed25519.public_der),
        (Sha256WithRsaSigner(locator, rsa_der), spki(RSA_KEY.public_key())),
    ]


@pytest.mark.parametrize(("signer", "der"), stock_signers(), ids=["ecdsa", "ed25519", "rsa"])
def test_we_verify_python_ndns(signer: object, der: bytes) -> None:
    public = PublicKey.from_spki(der)
    data = decode_data(bytes(make_data("/net/x", MetaInfo(freshness_period=1), b"content", signer)))
    assert public.verify(data.signature_info.type, data.signed_portion, data.signature)
    assert not public.verify(data.signature_info.type, data.signed_portion + b"x", data.signature)
    wire = make_interest("/net/x", InterestParam(nonce=1), b"parameters", signer)
    interest = decode_interest(bytes(wire))
    assert interest.signature_info is not None
    assert public.verify(interest.signature_info.type, interest.signed_portion, interest.signature)
