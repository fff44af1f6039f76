"""TLV, names, packets, link headers: round trips, hostile input, agreement with python-ndn."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ndn.encoding import InterestParam, make_interest, parse_data, parse_interest
from ndn.encoding import Name as PythonNdnName

from ndn_infer import lp, packet, tlv
from ndn_infer import name as ndn
from ndn_infer.errors import BadName, BadPacket

components = st.one_of(
    st.binary(max_size=40).map(ndn.generic),
    st.integers(0, 2**64 - 1).map(ndn.segment),
    st.integers(0, 2**64 - 1).map(ndn.version),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=8).map(ndn.keyword),
    st.binary(min_size=32, max_size=32).map(ndn.parameters_digest),
)
names = st.lists(components, min_size=1, max_size=8).map(b"".join)


@given(st.integers(0, 2**64 - 1))
def test_numbers_round_trip_in_shortest_form(number: int) -> None:
    wire = tlv.encode_number(number)
    assert tlv.read_number(wire, 0, len(wire)) == (number, len(wire))
    nonneg = tlv.encode_nonneg(number)
    assert tlv.decode_nonneg(nonneg) == number and len(nonneg) in (1, 2, 4, 8)


@pytest.mark.parametrize(
    "wire", [b"", b"\xfd\x00", b"\xfd\x00\x05", b"\xfe\x00\x00\xff\xff", b"\xff" + b"\0" * 4 + b"\xff" * 4]
)
def test_numbers_cut_short_or_too_long(wire: bytes) -> None:
    with pytest.raises(BadPacket):
        tlv.read_number(wire, 0, len(wire))


@given(st.lists(st.binary(max_size=600), max_size=12), st.lists(st.integers(1, 700), min_size=1, max_size=30))
def test_framer_gives_back_what_was_sent_however_it_is_cut(values: list[bytes], cuts: list[int]) -> None:
    sent = [tlv.encode_tlv(6, value) for value in values]
    stream, framer, received = b"".join(sent), tlv.Framer(), []
    while stream:
        cut = cuts[len(received) % len(cuts)]
        received += framer.feed(stream[:cut])
        stream = stream[cut:]
    assert received == sent


@pytest.mark.parametrize("start", [b"\x06\xfe\x00\x10\x00\x00", b"\x00\x05aaaaa", b"\xfd\x00\x05\x00"])
def test_framer_refuses_what_cannot_be_a_packet(start: bytes) -> None:
    with pytest.raises(BadPacket):
        tlv.Framer().feed(start)


@given(names)
def test_uris_round_trip(name: bytes) -> None:
    assert ndn.from_uri(ndn.to_uri(name)) == name
    assert b"".join(ndn.components(name)) == name


@given(names)
def test_names_agree_with_python_ndn(name: bytes) -> None:
    assert [bytes(part) for part in PythonNdnName.from_bytes(ndn.encode_name(name))] == ndn.components(name)


@pytest.mark.parametrize(
    "uri", ["a", "/v=x", "/seg=-1", "/0=a", "/70000=a", "/..", "/sha256digest=00", "/v=18446744073709551616"]
)
def test_bad_uris(uri: str) -> None:
    with pytest.raises(BadName):
        ndn.from_uri(uri)


@given(names, st.binary(max_size=4000), st.integers(0, 10**7), st.none() | components)
def test_data_round_trip_and_python_ndn_agrees(
    name: bytes, content: bytes, freshness: int, final: bytes | None
) -> None:
    wire = packet.encode_data(name, content, freshness_ms=freshness, final_block=final)
    data = packet.decode_data(wire)
    assert (data.name, data.content, data.freshness_ms, data.final_block) == (name, content, freshness, final)
    assert packet.digest_signer(data.signed_portion) == data.signature
    theirs, meta, their_content, _ = parse_data(wire)
    assert bytes(their_content or b"") == content and (meta.freshness_period or 0) == freshness


@given(
    names.filter(lambda name: all(part[0] != ndn.PARAMETERS_DIGEST for part in ndn.components(name))),
    st.booleans(), st.booleans(), st.integers(1, 10**6), st.none() | st.integers(0, 255),
    st.none() | st.binary(max_size=2000), st.lists(names, max_size=2),
)  # fmt: skip
def test_interest_round_trip_and_python_ndn_agrees(
    name: bytes, prefix: bool, fresh: bool, lifetime: int, hop: int | None, parameters: bytes | None, hints: list[bytes]
) -> None:
    wire, full = packet.encode_interest(
        name, nonce=b"\1\2\3\4", can_be_prefix=prefix, must_be_fresh=fresh, lifetime_ms=lifetime, hop_limit=hop,
        parameters=parameters, hints=tuple(hints),
    )  # fmt: skip
    interest = packet.decode_interest(wire)
    assert interest.name == full and interest.can_be_prefix is prefix and interest.must_be_fresh is fresh
    assert (interest.lifetime_ms, interest.hop_limit, interest.hints) == (lifetime, hop, tuple(hints))
    assert interest.parameters == parameters
    assert parameters is None or interest.parameters_digest_matches()
    theirs, param, _, _ = parse_interest(wire)
    assert [bytes(part) for part in theirs] == ndn.components(full) and param.lifetime == lifetime


def test_python_ndn_interest_is_ours() -> None:
    wire = make_interest("/a/b", InterestParam(nonce=7, lifetime=500, must_be_fresh=True), b"hello")
    interest = packet.decode_interest(bytes(wire))
    assert interest.must_be_fresh and interest.parameters == b"hello" and interest.parameters_digest_matches()


def test_equal_parameters_make_equal_names() -> None:
    """Unsigned calls aggregate: the nonce differs, the name does not."""
    one = packet.encode_interest(ndn.from_uri("/a"), nonce=b"aaaa", parameters=b"x")
    two = packet.encode_interest(ndn.from_uri("/a"), nonce=b"bbbb", parameters=b"x")
    assert one[1] == two[1] and one[0] != two[0]


@given(
    st.binary(min_size=2, max_size=200).map(lambda b: tlv.encode_tlv(5, b)), st.binary(max_size=32),
    st.none() | st.sampled_from([0, 50, 100, 150]), st.none() | st.integers(0, 2**32), st.booleans(), st.integers(0, 9),
)  # fmt: skip
def test_link_packets_round_trip(
    fragment: bytes, token: bytes, nack: int | None, face: int | None, no_cache: bool, mark: int
) -> None:
    sent = lp.LpPacket(
        fragment, pit_token=token, nack_reason=nack, incoming_face_id=face, no_cache=no_cache, congestion_mark=mark
    )
    assert lp.decode_lp(lp.encode_lp(sent)) == sent


def test_unknown_link_fields() -> None:
    ignorable = tlv.encode_tlv(0x64, tlv.encode_tlv(852, b"x") + tlv.encode_tlv(0x50, b"\x05\x00"))
    assert lp.decode_lp(ignorable).fragment == b"\x05\x00"
    for number in (853, 960, 0x60):
        with pytest.raises(BadPacket):
            lp.decode_lp(tlv.encode_tlv(0x64, tlv.encode_tlv(number, b"x")))


SEEDS = [
    packet.encode_interest(ndn.from_uri("/a/b"), nonce=b"abcd", parameters=b"hello", hints=(ndn.from_uri("/h"),))[0],
    packet.encode_data(ndn.from_uri("/a/b/v=1/seg=0"), b"content", freshness_ms=10, final_block=ndn.segment(3)),
    lp.encode_lp(lp.LpPacket(b"\x05\x03\x07\x01a", pit_token=b"12", nack_reason=150)),
]


@settings(max_examples=400)
@given(st.sampled_from(SEEDS), st.data())
def test_mutated_packets_raise_nothing_but_bad_packet(seed: bytes, data: st.DataObject) -> None:
    wire = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(wire) - 1))
        wire[at] = data.draw(st.integers(0, 255))
    cut = bytes(wire[: data.draw(st.integers(0, len(wire)))])
    for decode in (packet.decode_data, packet.decode_interest, lp.decode_lp):
        try:
            decode(cut)
        except BadPacket:
            continue
