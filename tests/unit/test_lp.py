"""NDNLPv2 headers: golden bytes, every field, near misses (NDNLPv2 revision 4)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.errors import BadPacket
from ndn_infer.ndn import lp, tlv

BARE = b"\x05\x03\x07\x01a"
numbers = st.integers(0, 2**64 - 1)


def test_golden_bytes() -> None:
    sent = lp.LpPacket(BARE, pit_token=b"\1\2", nack_reason=150, congestion_mark=1)
    assert lp.encode_lp(sent).hex() == (
        "6419" "62020102" "fd032005fd0321" "0196" "fd0340" "0101" "5005" + BARE.hex()
    )  # fmt: skip
    assert lp.encode_lp(lp.LpPacket()).hex() == "6400"


@given(
    st.builds(
        lp.LpPacket, st.just(BARE) | st.binary(max_size=99), st.none() | st.binary(min_size=8, max_size=8),
        st.integers(0, 6), st.integers(7, 400), st.binary(max_size=32), st.none() | st.sampled_from([0, 50, 100, 150]),
        st.none() | numbers,
        st.none() | numbers, st.booleans(), numbers,
        st.lists(st.binary(min_size=8, max_size=8), max_size=3).map(tuple),
        st.none() | st.binary(min_size=8, max_size=8), st.booleans(), st.none() | st.binary(max_size=20),
    )
)  # fmt: skip
def test_every_field_round_trips(sent: lp.LpPacket) -> None:
    wire = lp.encode_lp(sent)
    assert lp.decode_lp(wire) == sent
    kinds = [kind for kind, _, _ in tlv.iterate(wire, tlv.read_header(wire, 0, len(wire))[1])]
    order = [kind for kind in kinds if kind != lp.FRAGMENT]
    assert order == sorted(order) and (lp.FRAGMENT not in kinds or kinds[-1] == lp.FRAGMENT)


@pytest.mark.parametrize("bare", [BARE, b"\x06\x03\x07\x01a"])
def test_a_bare_packet_is_a_link_packet_without_headers(bare: bytes) -> None:
    assert lp.decode_lp(bare) == lp.LpPacket(bare)


def framed(kind: int, value: bytes) -> bytes:
    return tlv.encode_tlv(0x64, tlv.encode_tlv(kind, value) + tlv.encode_tlv(0x50, BARE))


@pytest.mark.parametrize(
    "wire",
    [
        b"", b"\x64", b"\x07\x00", b"\x64\x01\x50", framed(0x51, bytes(7)), framed(0x51, bytes(9)),
        framed(0x52, b"\x01"), framed(0x53, b"\x00"), framed(0x53, b""), framed(0x62, b""), framed(0x62, bytes(33)),
        framed(0x0320, b"\xfd\x03\x21\x03abc"), framed(0x0320, b"\xfd\x03\x21"), framed(0x032C, bytes(3)),
        framed(0x0330, b""), framed(0x0334, b""), framed(0x0334, b"\xfd\x03\x35\x00"), framed(0x0340, bytes(5)),
        framed(0x0348, bytes(4)), framed(0x0344, bytes(7)), framed(0x0344, b""),
        framed(0x54, b""), framed(799, b""), framed(801, b""), framed(802, b""),
        framed(803, b""), framed(960, b""), framed(1000, b""), framed(0x50, BARE) + b"\0",
    ],
    ids=range(29),
)  # fmt: skip
def test_near_misses(wire: bytes) -> None:
    with pytest.raises(BadPacket):
        lp.decode_lp(wire)


@pytest.mark.parametrize("kind", [804, 808, 900, 956])
def test_ignorable_fields_are_ignored(kind: int) -> None:
    assert lp.decode_lp(framed(kind, b"whatever")).fragment == BARE


def test_a_nack_without_a_reason_is_a_nack() -> None:
    assert lp.decode_lp(framed(0x0320, b"")).nack_reason == lp.REASON_NONE
    assert lp.decode_lp(framed(0x0320, b"\xfd\x03\x24\x00")).nack_reason == lp.REASON_NONE
    assert lp.decode_lp(framed(0x0334, b"\xfd\x03\x35\x01\x02")).no_cache is False


@settings(max_examples=400)
@given(st.binary(max_size=80), st.lists(st.tuples(st.integers(0, 1000), st.binary(max_size=12)), max_size=4))
def test_hostile_bytes_decode_or_are_refused(raw: bytes, fields: list[tuple[int, bytes]]) -> None:
    inside = b"".join(tlv.encode_tlv(*field) for field in fields)
    for wire in (raw, tlv.encode_tlv(0x64, raw), tlv.encode_tlv(0x64, inside + tlv.encode_tlv(0x50, raw))):
        try:
            found = lp.decode_lp(wire)
        except BadPacket:
            continue
        assert 0 <= found.frag_index < found.frag_count
