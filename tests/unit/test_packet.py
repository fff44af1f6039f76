"""Interest and Data at byte level: golden bytes, near misses, what is covered by a signature (Packet Format 0.3)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.ndn import packet, tlv

A = ndn.from_uri("/A")
NONCE = b"\x0a\x04abcd"


def test_golden_bytes() -> None:
    """Written out by hand from the specification."""
    interest, _ = packet.encode_interest(
        A, nonce=b"abcd", can_be_prefix=True, must_be_fresh=True, hints=(ndn.from_uri("/H"),), lifetime_ms=300,
        hop_limit=7,
    )  # fmt: skip
    assert interest.hex() == "051d0703080141210012001e0507030801480a04616263640c02012c220107"
    data = packet.encode_data(A, b"hi", freshness_ms=10, final_block=ndn.segment(0), content_type=2)
    portion = "0703080141140b18010219010a1a033201001502686916031b0100"
    assert data.hex() == "063d" + portion + "1720" + hashlib.sha256(bytes.fromhex(portion)).hexdigest()


def test_default_lifetime_is_left_out_and_default_fields_too() -> None:
    assert packet.encode_interest(A, nonce=b"abcd")[0].hex() == "050b07030801410a0461626364"
    assert packet.encode_data(A, b"")[2:].startswith(ndn.encode_name(A) + b"\x15\x00\x16")


def interest_of(*fields: bytes) -> bytes:
    return tlv.encode_tlv(5, ndn.encode_name(A) + b"".join(fields))


@pytest.mark.parametrize(
    "wire",
    [
        b"", b"\x05\x00", interest_of(b"\x0a\x03abc"), interest_of(b"\x0a\x05abcde"), interest_of(NONCE, NONCE),
        interest_of(NONCE, b"\x21\x00"), interest_of(b"\x12\x00\x21\x00"), interest_of(NONCE, b"\x22\x02\0\1"),
        interest_of(NONCE, b"\x22\x00"), interest_of(NONCE, b"\x0c\x03\0\0\1"), interest_of(NONCE, b"\x0b\x00"),
        interest_of(NONCE, b"\xfd\x01\x01\x00"), interest_of(NONCE) + b"\0", interest_of(NONCE)[:-1],
        tlv.encode_tlv(5, b"\x07\x00" + NONCE), tlv.encode_tlv(5, NONCE), tlv.encode_tlv(6, ndn.encode_name(A) + NONCE),
        interest_of(b"\x1e\x02\x07\x05" + NONCE), interest_of(NONCE, b"\x2c\x03\x1b\x01\x00", b"\x2e\x01x"),
        interest_of(NONCE, b"\x24\x00", b"\x2c\x03\x1b\x01\x00"), interest_of(NONCE, b"\x24\x00", b"\x2c\x00\x2e\x01x"),
    ],
    ids=range(21),
)  # fmt: skip
def test_near_misses_of_interests(wire: bytes) -> None:
    with pytest.raises(BadPacket):
        packet.decode_interest(wire)


def test_non_critical_elements_are_ignored_wherever_they_stand() -> None:
    unknown = b"\xfd\x01\x00\x01x"
    found = packet.decode_interest(interest_of(unknown, b"\x21\x00", unknown, NONCE, unknown))
    assert found.can_be_prefix and found.nonce == b"abcd"


def data_of(*fields: bytes) -> bytes:
    return tlv.encode_tlv(6, ndn.encode_name(A) + b"".join(fields))


INFO, SIGNATURE = b"\x16\x03\x1b\x01\x00", b"\x17\x01x"


@pytest.mark.parametrize(
    "wire",
    [
        data_of(), data_of(INFO), data_of(SIGNATURE), data_of(SIGNATURE, INFO), data_of(INFO, SIGNATURE, b"\x15\x00"),
        data_of(b"\x16\x00", SIGNATURE), data_of(INFO, INFO, SIGNATURE), data_of(b"\x15\x00\x14\x00", INFO, SIGNATURE),
        data_of(b"\x14\x05\x19\x03\0\0\1", INFO, SIGNATURE), data_of(b"\x14\x02\x1a\x00", INFO, SIGNATURE),
        data_of(b"\x14\x08\x1a\x06\x08\x01a\x08\x01b", INFO, SIGNATURE), data_of(b"\x0b\x00", INFO, SIGNATURE),
        data_of(b"\x14\x02\x1f\x00", INFO, SIGNATURE), data_of(INFO, SIGNATURE) + b"x", data_of(INFO, SIGNATURE)[:-1],
        data_of(b"\x16\x07\x1b\x01\x00\x1c\x02\x07\x09", SIGNATURE), tlv.encode_tlv(6, b"\x07\x00" + INFO + SIGNATURE),
    ],
    ids=range(17),
)  # fmt: skip
def test_near_misses_of_data(wire: bytes) -> None:
    with pytest.raises(BadPacket):
        packet.decode_data(wire)


def test_a_key_digest_names_no_key() -> None:
    wire = data_of(b"\x16\x09\x1b\x01\x03\x1c\x04\x1d\x02ab", SIGNATURE)
    assert packet.decode_data(wire).signature_info == packet.SignatureInfo(3, None, raw=wire[9:18])


@given(st.binary(max_size=50), st.integers(0, 10**6), st.data())
def test_the_signed_portion_is_name_to_signature_info(content: bytes, freshness: int, drawn: st.DataObject) -> None:
    """Any byte of it that changes spoils the digest signature; it leaves out the outer header and the signature."""
    wire = packet.encode_data(A, content, freshness_ms=freshness)
    data = packet.decode_data(wire)
    assert wire == tlv.encode_tlv(6, data.signed_portion + tlv.encode_tlv(0x17, data.signature))
    at = wire.index(data.signed_portion) + drawn.draw(st.integers(0, len(data.signed_portion) - 1))
    changed = wire[:at] + bytes((wire[at] ^ 1,)) + wire[at + 1 :]
    try:
        other = packet.decode_data(changed)
    except BadPacket:
        return
    assert packet.digest_signer(other.signed_portion) != other.signature


def test_a_signed_interest_covers_name_and_parameters_but_not_their_digest() -> None:
    """Packet Format 0.3, section 5.4: name without ParametersSha256Digest, parameters, InterestSignatureInfo."""
    info = packet.SignatureInfo(0, None, nonce=b"12345678", time_ms=5, sequence=6)
    wire, name = packet.encode_interest(A, nonce=b"abcd", parameters=b"p", info=info, signer=packet.digest_signer)
    found = packet.decode_interest(wire)
    tail = tlv.encode_tlv(0x24, b"p") + packet.encode_signature_info(info, for_interest=True)
    assert found.signed_portion == A + tail and found.signature == hashlib.sha256(A + tail).digest()
    assert found.name == name and found.parameters_digest_matches() and found.signature_info is not None
    assert (found.signature_info.nonce, found.signature_info.time_ms) == (b"12345678", 5)
    assert found.signature_info.sequence == 6


def test_parameters_of_another_interest_are_noticed() -> None:
    wire, _ = packet.encode_interest(A, nonce=b"abcd", parameters=b"one")
    assert packet.decode_interest(wire).parameters_digest_matches()
    assert not packet.decode_interest(wire.replace(b"one", b"two")).parameters_digest_matches()
    assert not packet.decode_interest(interest_of(NONCE)).parameters_digest_matches()


@pytest.mark.parametrize("size", [8700, 8800, 9000, 70_000])
def test_packets_stay_within_8800_bytes(size: int) -> None:
    if size <= 8700:
        assert len(packet.encode_data(A, bytes(size))) <= 8800
        return
    with pytest.raises(BadPacket, match="8800"):
        packet.encode_data(A, bytes(size))
    with pytest.raises(BadPacket, match="8800"):
        packet.encode_interest(A, nonce=b"abcd", parameters=bytes(size))


@settings(max_examples=300)
@given(st.sampled_from([5, 6]), st.binary(max_size=120))
def test_bytes_inside_a_sound_frame_decode_or_are_refused(kind: int, inside: bytes) -> None:
    for body in (inside, ndn.encode_name(A) + inside, ndn.encode_name(A) + inside + INFO + SIGNATURE):
        wire = tlv.encode_tlv(kind, body)
        try:
            found = packet.decode_interest(wire) if kind == 5 else packet.decode_data(wire)
        except BadPacket:
            continue
        assert found.name
