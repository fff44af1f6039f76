"""TLV numbers, headers and framing at their edges (NDN Packet Format 0.3, section 1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.errors import BadPacket
from ndn_infer.ndn import tlv


@pytest.mark.parametrize(
    ("number", "wire"),
    [
        (0, "00"), (252, "fc"), (253, "fd00fd"), (0xFFFF, "fdffff"), (0x10000, "fe00010000"),
        (0xFFFFFFFF, "feffffffff"), (1 << 32, "ff0000000100000000"), (2**64 - 1, "ff" + "ff" * 8),
    ],
)  # fmt: skip
def test_numbers_at_the_borders_of_their_sizes(number: int, wire: str) -> None:
    assert tlv.encode_number(number).hex() == wire
    assert tlv.read_number(bytes.fromhex(wire), 0, len(wire) // 2) == (number, len(wire) // 2)


@pytest.mark.parametrize(
    ("number", "wire"), [(0, "00"), (255, "ff"), (256, "0100"), (65536, "00010000"), (1 << 32, "0000000100000000")]
)
def test_nonneg_integers_at_the_borders_of_their_sizes(number: int, wire: str) -> None:
    assert tlv.encode_nonneg(number).hex() == wire


@pytest.mark.parametrize("size", [0, 3, 5, 6, 7, 9])
def test_nonneg_integers_have_no_other_size(size: int) -> None:
    with pytest.raises(BadPacket):
        tlv.decode_nonneg(bytes(size))


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_a_nonneg_integer_may_be_longer_than_it_must(size: int) -> None:
    """Only types and lengths must be shortest; NonNegativeInteger says nothing of the kind (section 1.4)."""
    assert tlv.decode_nonneg((7).to_bytes(size, "big")) == 7


@pytest.mark.parametrize(
    "wire", ["0000", "000141", "fd000041", "0801", "08fd0001", "08ff7fffffffffffffff", "08", "fd", "fd00fd", ""]
)
def test_headers_that_are_none(wire: str) -> None:
    with pytest.raises(BadPacket):
        tlv.read_header(bytes.fromhex(wire), 0, len(wire) // 2)


@given(st.integers(1, 2**64 - 1), st.binary(max_size=300), st.binary(max_size=9))
def test_elements_round_trip_and_what_follows_is_left_alone(kind: int, value: bytes, rest: bytes) -> None:
    wire = tlv.encode_tlv(kind, value)
    found, start, end = tlv.read_header(wire + rest, 0, len(wire + rest))
    assert (found, (wire + rest)[start:end], end) == (kind, value, len(wire))
    for short in range(len(wire)):
        with pytest.raises(BadPacket):
            tlv.read_header(wire, 0, short)


@given(st.lists(st.tuples(st.integers(1, 70_000), st.binary(max_size=20)), max_size=8))
def test_iterate_visits_each_element_once(elements: list[tuple[int, bytes]]) -> None:
    wire = b"".join(tlv.encode_tlv(*element) for element in elements)
    assert [(kind, wire[start:end]) for kind, start, end in tlv.iterate(wire)] == elements
    assert [(kind, wire[start:end]) for kind, start, end in tlv.iterate(memoryview(wire))] == elements


@pytest.mark.parametrize(
    ("kind", "critical"), [(0, True), (1, True), (30, True), (31, True), (32, False), (33, True), (256, False)]
)
def test_which_types_are_critical(kind: int, critical: bool) -> None:
    assert tlv.is_critical(kind) is critical


@pytest.mark.parametrize("limit", [10, 100])
def test_the_framer_holds_no_more_than_its_limit(limit: int) -> None:
    fits, framer = tlv.encode_tlv(6, bytes(limit - 2)), tlv.Framer(limit)
    assert framer.feed(fits) == [fits] and framer.fault is None
    assert framer.feed(tlv.encode_tlv(6, bytes(limit - 1))[:2]) == [] and framer.fault is not None


@given(st.binary(max_size=400), st.integers(1, 50))
def test_the_framer_gives_back_or_refuses_whatever_comes(garbage: bytes, cut: int) -> None:
    framer, whole = tlv.Framer(200), b""
    for start in range(0, len(garbage), cut):
        for element in framer.feed(garbage[start : start + cut]):
            assert tlv.read_header(element, 0, len(element))[2] == len(element)
            whole += element
        if framer.fault is not None:
            break
    assert garbage.startswith(whole)
    assert framer.fault is not None or len(garbage) - len(whole) <= 200


@pytest.mark.parametrize(
    "foreign", [b"GET / HTTP/1.1\r\n", b"\x64" + b"\xff" * 9, b"\x16\x03\x01", b"\0\1", b"\x06\xfd\0\1"]
)
@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_packets_before_the_first_foreign_byte_come_out_and_nothing_after_it(foreign: bytes, cut: int) -> None:
    packets = [tlv.encode_tlv(kind, bytes(30)) for kind in (tlv.INTEREST, tlv.DATA, tlv.LP_PACKET)]
    stream, framer, found = b"".join(packets) + foreign + packets[0], tlv.Framer(), list[bytes]()
    for start in range(0, len(stream), cut):
        found += framer.feed(stream[start : start + cut])
        if framer.fault is not None:
            break
    assert found == packets and framer.fault is not None
    with pytest.raises(BadPacket):
        framer.feed(packets[0])
