"""Segments by number: Interests from templates are what the encoder makes, only signed-for bytes are taken."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.errors import BadPacket, DigestMismatch
from ndn_infer.ndn import lp, tlv
from ndn_infer.ndn.packet import content_span, decode_data, decode_interest, encode_data, encode_interest
from ndn_infer.wire import peek
from ndn_infer.wire.manifest import MANIFEST, SEGMENT_BYTES, Manifest
from ndn_infer.wire.peek import data_name, interest_name, segment_splits
from ndn_infer.wire.segments import InOrder, InterestTemplate, Segments, check_range, uniform_bytes

names = st.lists(st.binary(max_size=40), min_size=1, max_size=9).map(lambda parts: b"".join(map(ndn.generic, parts)))
numbers = st.sampled_from([0, 1, 252, 253, 254, 255, 256, 257, 65535, 65536, 2**32 - 1, 2**32]) | st.integers(0, 2**40)
PREFIX = ndn.from_uri("/a/b/v=7")


hints = st.lists(names, max_size=2).map(tuple)


@given(names, numbers, hints, st.sampled_from([4000, 1000, 77]), st.booleans())
def test_a_template_makes_what_the_encoder_makes(
    prefix: bytes, number: int, hints: tuple[bytes, ...], lifetime_ms: int, fresh: bool
) -> None:
    template = InterestTemplate(prefix, hints=hints, lifetime_ms=lifetime_ms, fresh=fresh)
    wire = template.make(number)
    nonce = decode_interest(wire).nonce
    assert nonce is not None
    name = prefix + ndn.segment(number)
    assert wire == encode_interest(name, nonce=nonce, hints=hints, lifetime_ms=lifetime_ms, must_be_fresh=fresh)[0]
    if len(name) < 253 and sum(map(len, hints)) < 200:
        assert peek.lifetime_ms(wire, interest_name(wire)) == lifetime_ms
    exact = decode_interest(template.exact(number, b"d" * 32))
    assert (exact.name, exact.hints) == (name + ndn.implicit_digest(b"d" * 32), hints)


@given(
    names, hints, st.sampled_from([0, 77, 4000, 70_000]), st.booleans(), st.sampled_from([None, 3]),
    st.sampled_from([None, b"x"]), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=2),
)  # fmt: skip
def test_a_quick_look_at_a_lifetime_says_what_the_decoder_says_or_nothing(
    name: bytes, hints: tuple[bytes, ...], lifetime_ms: int, flag: bool, hops: int | None, parameters: bytes | None,
    damage: list[tuple[int, int]],
) -> None:  # fmt: skip
    made, _ = encode_interest(
        name, nonce=b"abcd", can_be_prefix=flag, must_be_fresh=not flag, hints=hints, lifetime_ms=lifetime_ms,
        hop_limit=hops, parameters=parameters,
    )  # fmt: skip
    wire = bytearray(made)
    for at, value in damage:
        wire[at % len(wire)] = value
    seen = interest_name(bytes(wire))
    said = peek.lifetime_ms(bytes(wire), seen) if seen else None
    if said is not None:
        try:
            assert decode_interest(bytes(wire)).lifetime_ms == said and wire[0] == tlv.INTEREST
        except BadPacket:
            assert damage, "what the encoder makes is well formed"
    if (hops, parameters) != (None, None) and not damage:
        assert said is None


def test_nonces_differ_beyond_one_draw_of_them() -> None:
    template = InterestTemplate(PREFIX)
    wires = {template.make(5) for _ in range(3000)}
    assert len(wires) == 3000


def packets(count: int, seed: int = 1, last: int = 100) -> list[bytes]:
    rng = random.Random(seed)
    sizes = [SEGMENT_BYTES] * (count - 1) + [last]
    return [encode_data(PREFIX + ndn.segment(n), rng.randbytes(size)) for n, size in enumerate(sizes)]


def segments_of(wires: list[bytes], **options: object) -> Segments:
    digests = b"".join(hashlib.sha256(wire).digest() for wire in wires)
    options.setdefault("size", sum(len(decode_data(wire).content) for wire in wires))
    return Segments(PREFIX, len(wires), digests, **options)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(0, 9000), st.randoms())
def test_any_order_gives_the_content(count: int, last: int, rng: random.Random) -> None:
    wires = packets(count, last=min(last, SEGMENT_BYTES))
    segments = segments_of(wires)
    order, in_order, content = list(range(count)), InOrder(segments), b""
    rng.shuffle(order)
    for number in order:
        assert segments.accept(number, wires[number])
        assert not segments.accept(number, wires[number]), "a second copy is not wanted"
        content += b"".join(in_order.take())
    assert segments.complete
    assert content == b"".join(decode_data(wire).content for wire in wires)


def test_more_bytes_than_were_promised_are_not_kept() -> None:
    wires = packets(3, last=100)
    segments = segments_of(wires, size=SEGMENT_BYTES + 100)
    assert segments.accept(0, wires[0])
    with pytest.raises(BadPacket, match="more bytes"):
        segments.accept(1, wires[1])
    assert segments.accept(2, wires[2]) and segments.missing == {1}


@given(st.integers(0, 3), st.data())
def test_nothing_but_the_signed_bytes_is_taken(number: int, data: st.DataObject) -> None:
    wires = packets(4, last=300)
    wire = bytearray(wires[number])
    wire[data.draw(st.integers(0, len(wire) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    segments = segments_of(wires)
    for bad in (bytes(wire), wires[(number + 1) % 4], wires[number][:-1], b""):
        with pytest.raises(DigestMismatch):
            segments.accept(number, bad)
    assert segments.refused == 4 and number in segments.missing
    digest = hashlib.sha256(wires[number]).digest()
    assert decode_interest(segments.interest(number)).name.endswith(ndn.implicit_digest(digest)), "past the bad cache"
    assert segments.accept(number, wires[number])


def test_what_is_there_already_is_not_wanted() -> None:
    wires = packets(5)
    segments = segments_of(wires, have={1: b"one", 3: b"three"})
    assert segments.missing == {0, 2, 4}
    assert segments_of(wires, wanted=[2, 3]).missing == {2, 3}


@given(st.binary(max_size=9000), st.integers(0, 4000), st.booleans())
def test_the_content_is_found_without_decoding(content: bytes, freshness_ms: int, final: bool) -> None:
    content = content[:8500]
    wire = encode_data(PREFIX, content, freshness_ms=freshness_ms, final_block=ndn.segment(3) if final else None)
    start, end = content_span(wire)
    assert wire[start:end] == content


def test_ranges_and_sizes() -> None:
    assert check_range(10, 3, 100) == (3, 10)
    for start, length in ((11, 1), (-1, 1), (0, -1)):
        with pytest.raises(BadPacket):
            check_range(10, start, length)
    assert uniform_bytes(Manifest(PREFIX, 16_001, 3)) == SEGMENT_BYTES
    assert uniform_bytes(Manifest(PREFIX, 16_001, 4)) == 0, "a sealed stream"
    assert uniform_bytes(Manifest(PREFIX, 0, 1)) == SEGMENT_BYTES


# ---------------------------------------------------------------- quick looks agree with decoders


@given(names, st.binary(max_size=600), st.none() | numbers)
def test_names_are_those_that_decoders_find(name: bytes, content: bytes, number: int | None) -> None:
    full = name if number is None else name + ndn.segment(number)
    assert data_name(encode_data(full, content)) == full
    wire, _ = encode_interest(full, nonce=b"1234", can_be_prefix=True, hints=(name,))
    assert interest_name(wire) in (full, b"")
    if len(full) < 200:
        assert interest_name(wire) == full
    if number is not None:
        assert (name, number) in list(segment_splits(full))


@given(st.binary(max_size=300))
def test_quick_looks_at_noise_only_ever_refuse(noise: bytes) -> None:
    interest_name(noise)
    lp.peel(noise)
    lp.peel_interest(noise)
    lp.peel_interest(bytes([0x64, len(noise) & 255]) + noise)
    lp.peel_interest(tlv.encode_tlv(0x64, tlv.encode_tlv(0x50, noise)))
    list(segment_splits(noise))
    for look in (data_name, content_span):
        try:
            look(noise)
        except BadPacket:
            pass


@given(
    st.binary(max_size=900), st.none() | st.integers(0, 2**64 - 1), st.integers(0, 300),
    st.binary(max_size=4), st.booleans(),
)  # fmt: skip
def test_peeling_agrees_with_decoding(
    content: bytes, face_id: int | None, mark: int, token: bytes, no_cache: bool
) -> None:
    data = encode_data(PREFIX + MANIFEST, content)
    packet = lp.LpPacket(data, incoming_face_id=face_id, congestion_mark=mark, pit_token=token, no_cache=no_cache)
    wire = lp.encode_lp(packet)
    peeled = lp.peel(wire)
    if peeled is not None:
        assert peeled == (data, mark > 0, face_id)
        assert not token and not no_cache
    elif not token and not no_cache and len(content) > 300 and mark < 256:
        assert face_id is not None and face_id >= 2**32, "a common form was left to the slow way"


@given(
    names, st.none() | st.integers(0, 2**64 - 1), st.integers(0, 300), st.binary(max_size=4),
    st.none() | st.integers(1, 2**64 - 1),
)  # fmt: skip
def test_peeling_an_interest_agrees_with_decoding(
    name: bytes, face_id: int | None, mark: int, token: bytes, sequence: int | None
) -> None:
    interest, _ = encode_interest(name, nonce=b"1234", can_be_prefix=True)
    sent = None if sequence is None else sequence.to_bytes(8, "big")
    wire = lp.encode_lp(lp.LpPacket(interest, sent, incoming_face_id=face_id, congestion_mark=mark, pit_token=token))
    peeled = lp.peel_interest(wire)
    plain = not token and not mark and sent is None
    if peeled is not None:
        assert peeled == (interest, face_id) and plain
    elif plain and len(interest) > 20:
        assert face_id is not None and face_id >= 2**32, "a common form was left to the slow way"


@given(st.lists(st.integers(0, 600), min_size=1, max_size=40), st.lists(st.integers(1, 700), min_size=1))
def test_reading_into_the_shared_buffer_cuts_as_feeding_does(sizes: list[int], reads: list[int]) -> None:
    """Two framers in turn, as two connections of one process are read."""
    stream = b"".join(tlv.encode_tlv(6, bytes([size & 255]) * size) for size in sizes)
    other = tlv.encode_tlv(5, b"z" * 300) * 50
    one, two, at, where = tlv.Framer(), tlv.Framer(), 0, 0
    got: list[bytes] = []

    def give(source: bytes, start: int, most: int) -> tuple[bytes, int]:
        return source[start : start + most], min(start + most, len(source))

    turn = 0
    while at < len(stream):
        piece, at = give(stream, at, reads[turn % len(reads)])
        got += one.feed_from(lambda view, piece=piece: _into(view, piece)) or []  # type: ignore[misc]
        piece, where = give(other, where, 97)
        if piece:
            two.feed_from(lambda view, piece=piece: _into(view, piece))  # type: ignore[misc]
        turn += 1
    assert got == tlv.Framer().feed(stream)
    assert one.feed_from(lambda view: 0) is None


def _into(view: memoryview, piece: bytes) -> int:
    view[: len(piece)] = piece
    return len(piece)
