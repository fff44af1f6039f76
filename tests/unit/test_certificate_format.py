"""Certificates: built, read back, read by python-ndn, read from python-ndn, and hostile bytes."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ndn.app_support import security_v2
from ndn.encoding import Name as StockName
from ndn.security import Sha256WithEcdsaSigner

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.ndn.packet import SignatureInfo, encode_data
from ndn_infer.security import certificate as certs
from ndn_infer.security.certificate import Certificate
from ndn_infer.security.crypto import KEY_KINDS, PrivateKey, PublicKey

IDENTITY = ndn.from_uri("/ndn-infer/local/home/n1/decode")
ISSUER = ndn.from_uri("/ndn-infer/local/KEY/r/self/v=1")
KEY = PrivateKey.generate()
START, END = 1_700_000_000, 1_800_000_000


def make(
    *, key: PrivateKey = KEY, start: int = START, end: int = END, name: bytes = b"", locator: bytes = ISSUER
) -> Certificate:
    own = certs.certificate_name(certs.key_name(IDENTITY, ndn.generic("k1")), "root", 7)
    return certs.build(
        name or own,
        key.public_der,
        info=SignatureInfo(key.signature_type, locator),
        sign=key.sign,
        validity=(start, end),
    )


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_what_was_built_is_read_back(kind: str) -> None:
    key = PrivateKey.generate(kind)
    made = make(key=key)
    again = certs.parse(made.wire)
    assert again == made
    assert ndn.to_uri(again.name) == "/ndn-infer/local/home/n1/decode/KEY/k1/root/v=7"
    assert ndn.to_uri(again.key_name) == "/ndn-infer/local/home/n1/decode/KEY/k1"
    assert again.identity == IDENTITY
    assert again.public_der == key.public_der
    assert (again.not_before, again.not_after) == (START, END)
    assert again.issuer_locator == ISSUER
    assert again.data.freshness_ms == 3_600_000
    assert not again.self_signed
    assert certs.version_of(again) == 7
    assert PublicKey.from_spki(again.public_der).verify(
        again.data.signature_info.type, again.data.signed_portion, again.data.signature
    )


def test_validity_ends_are_inclusive() -> None:
    made = make()
    assert [made.valid_at(at) for at in (START - 1, START, END, END + 0.5)] == [False, True, True, False]


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_python_ndn_reads_ours(kind: str) -> None:
    made = make(key=PrivateKey.generate(kind), start=0, end=253_402_300_799)
    theirs = security_v2.parse_certificate(made.wire)
    assert StockName.to_str(theirs.name) == "/ndn-infer/local/home/n1/decode/KEY/k1/root/v=7"
    assert bytes(theirs.content) == made.public_der
    assert theirs.meta_info.content_type == 2
    assert theirs.meta_info.freshness_period == 3_600_000
    period = theirs.signature_info.validity_period
    assert bytes(period.not_before) == b"19700101T000000"
    assert bytes(period.not_after) == b"99991231T235959"
    assert StockName.to_str(theirs.signature_info.key_locator.name) == "/ndn-infer/local/KEY/r/self/v=1"


def test_we_read_python_ndns() -> None:
    signer = Sha256WithEcdsaSigner(StockName.from_str("/net/KEY/k/self/v=1"), _pkcs8())
    start = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    name, wire = security_v2.derive_cert("/net/home/n1/KEY/k2", "root", KEY.public_der, signer, start, 3600)
    read = certs.parse(bytes(wire))
    assert ndn.to_uri(read.name) == StockName.to_str(name)
    assert read.not_before == int(start.timestamp())
    assert read.not_after == read.not_before + 3600
    assert read.public_der == KEY.public_der
    data = read.data
    assert PublicKey.from_spki(KEY.public_der).verify(data.signature_info.type, data.signed_portion, data.signature)


def _pkcs8() -> bytes:
    """The test's private key as python-ndn wants it: DER."""
    lines = KEY.to_pem().decode().splitlines()
    return base64.b64decode("".join(line for line in lines if "-----" not in line))


# ---------------------------------------------------------------- text


def test_text_form_is_that_of_ndnsec() -> None:
    made = make()
    text = certs.to_text(made)
    lines = text.splitlines()
    assert text.endswith("\n")
    assert all(len(line) == 64 for line in lines[:-1]) and 0 < len(lines[-1]) <= 64
    assert base64.b64decode(text) == made.wire
    assert certs.from_text(text) == made
    assert certs.from_text(text.replace("\n", "\r\n")) == made


@pytest.mark.parametrize("text", ["", "====", "not base64!", "é", "BgA="])
def test_text_that_holds_no_certificate(text: str) -> None:
    with pytest.raises(BadPacket):
        certs.from_text(text)


@given(st.text(max_size=80))
def test_any_text_is_a_certificate_or_bad(text: str) -> None:
    with pytest.raises(BadPacket):
        certs.from_text(text)


# ---------------------------------------------------------------- refused


def data_like(name: str, content: bytes, **options: int) -> bytes:
    info = SignatureInfo(KEY.signature_type, ISSUER)
    return encode_data(ndn.from_uri(name), content, info=info, signer=KEY.sign, **options)


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (data_like("/a/KEY/k/i/v=1", KEY.public_der), "ContentType"),
        (data_like("/a/KEY/k/i/v=1", KEY.public_der, content_type=2), "ValidityPeriod"),
        (data_like("/a/KEY/k/i/1", KEY.public_der, content_type=2), "not the name of a certificate"),
        (data_like("/a/k/i/v=1", KEY.public_der, content_type=2), "not the name of a certificate"),
        (data_like("/a/KEY/k/i/v=1", b"", content_type=2), "without a public key"),
        (encode_data(ndn.from_uri("/a/KEY/k/i/v=1"), b"x", content_type=2), "key locator"),
        (data_like("/a/KEY/k/i/54=%01%02%03", KEY.public_der, content_type=2), "1, 2, 4 or 8 bytes"),
        (b"", "cut short"),
        (b"\x05\x00", "expected one packet"),
    ],
)
def test_what_is_no_certificate(wire: bytes, why: str) -> None:
    with pytest.raises(BadPacket, match=why):
        certs.parse(wire)


def patched(old: bytes, new: bytes) -> bytes:
    """A certificate with some bytes of its validity replaced by as many others."""
    wire = make().wire
    assert wire.count(old) == 1 and len(old) == len(new)
    return wire.replace(old, new)


@pytest.mark.parametrize(
    "time",
    [b"20231114 221320", b"20231314T221320", b"20231114T241320", b"2023-1-14221320", b"00000000T000000", b"\xff" * 15],
)
def test_times_that_are_none(time: bytes) -> None:
    with pytest.raises(BadPacket):
        certs.parse(patched(b"20231114T221320", time))


def test_an_end_before_the_start() -> None:
    with pytest.raises(BadPacket, match="ends before it starts"):
        certs.parse(patched(b"20231114T221320", b"20991114T221320"))
    with pytest.raises(ValueError):
        make(start=END, end=START)
    with pytest.raises(ValueError):
        make(start=-1)


def test_building_under_a_name_of_no_certificate() -> None:
    with pytest.raises(BadPacket):
        make(name=ndn.from_uri("/a/b"))


# ---------------------------------------------------------------- hostile bytes

WIRE = make().wire


@given(st.binary(max_size=300))
def test_random_bytes(raw: bytes) -> None:
    with pytest.raises(BadPacket):
        certs.parse(raw)


@given(st.lists(st.tuples(st.integers(0, len(WIRE) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_mutated_certificates(changes: list[tuple[int, int]]) -> None:
    """They parse or are bad packets; what parses has all its parts."""
    raw = bytearray(WIRE)
    for at, value in changes:
        raw[at] = value
    try:
        read = certs.parse(bytes(raw))
    except BadPacket:
        return
    assert read.key_name.startswith(read.identity) and read.name.startswith(read.key_name)
    assert read.not_before <= read.not_after
    assert certs.version_of(read) >= 0
    assert certs.from_text(certs.to_text(read)) == read


def test_cut_short_anywhere() -> None:
    for length in range(len(WIRE)):
        with pytest.raises(BadPacket):
            certs.parse(WIRE[:length])


@given(st.lists(st.sampled_from([ndn.generic("KEY"), ndn.generic("a"), ndn.version(1), ndn.segment(1)]), max_size=7))
def test_locators_taken_apart(parts: list[bytes]) -> None:
    locator = b"".join(parts)
    located = certs.split_locator(locator)
    if located is not None:
        assert locator.startswith(located.key_name)
        assert located.key_name.startswith(located.identity + ndn.generic("KEY"))
        assert len(ndn.components(located.key_name)) == len(ndn.components(located.identity)) + 2
        assert located.is_certificate == (locator != located.key_name)
