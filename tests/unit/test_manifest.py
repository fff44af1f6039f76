"""Objects as packets: sizes at their borders, the second level, what a metadata packet may not say."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.errors import BadPacket, DigestMismatch
from ndn_infer.ndn import packet, tlv
from ndn_infer.wire import manifest as objects
from ndn_infer.wire.manifest import (
    DIGESTS_PER_SEGMENT,
    DIRECT_DIGESTS,
    INLINE_BYTES,
    SEGMENT_BYTES,
    Manifest,
    build_object,
    decode_manifest,
    encode_manifest,
)
from ndn_infer.wire.segment_packets import segment_packets

BASE = ndn.from_uri("/net/object")
VERSIONED = BASE + ndn.version(9)
METADATA = BASE + ndn.METADATA + ndn.version(9) + ndn.segment(0)


@pytest.mark.parametrize(
    "size",
    [
        0, 1, INLINE_BYTES, INLINE_BYTES + 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1,
        DIRECT_DIGESTS * SEGMENT_BYTES, DIRECT_DIGESTS * SEGMENT_BYTES + 1,
        (DIGESTS_PER_SEGMENT + 1) * SEGMENT_BYTES,
    ],
)  # fmt: skip
def test_sizes_at_their_borders(size: int) -> None:
    content = random.Random(size).randbytes(size)
    built = build_object(BASE, 9, content, packet.encode_data)
    found = decode_manifest(packet.decode_data(built.metadata))
    assert (found.name, found.size, found.segments) == (VERSIONED, size, max(1, -(-size // SEGMENT_BYTES)))
    assert built.metadata_name == METADATA and (found.inline is None) is (size > INLINE_BYTES)
    assert all(len(wire) <= tlv.MAX_PACKET_BYTES for wire in (built.metadata, *built.packets.values()))
    if found.segments > DIRECT_DIGESTS:
        digests = b""
        for number in range(len(found.manifest_digests) // 32):
            found.check_manifest_segment(number, built.packets[found.manifest_name(number)])
            digests += packet.decode_data(built.packets[found.manifest_name(number)]).content
        found = found.with_digests(digests)
    joined = b""
    for number in range(found.segments):
        wire = built.packets[found.segment_name(number)]
        found.check_segment(number, wire)
        joined += packet.decode_data(wire).content
    assert joined == content
    assert built.wire_bytes == len(built.metadata) + sum(map(len, built.packets.values()))


def test_too_large_an_object_is_refused_before_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "MAX_OBJECT_BYTES", 10_000)
    with pytest.raises(BadPacket, match="split it"):
        build_object(BASE, 1, bytes(10_001), packet.encode_data)


def test_golden_fields_of_a_metadata_packet() -> None:
    """Name, FinalBlockId, Size, then ours: stock readers stop at what they do not know."""
    found = Manifest(VERSIONED, 3, 1, bytes(range(32)), inline=b"abc")
    assert encode_manifest(found).hex() == (
        "0710" + BASE.hex() + "360109" + "1a03320100" + "fdf5000103" + "fdf52403616263"
        + "fdf52020" + bytes(range(32)).hex()
    )  # fmt: skip
    assert all(not tlv.is_critical(kind) for kind in (0xF500, 0xF520, 0xF522, 0xF524))


def decode(*fields: bytes, name: ndn.Name = METADATA) -> Manifest:
    return decode_manifest(packet.decode_data(packet.encode_data(name, b"".join(fields))))


NAME, FINAL, SIZE = ndn.encode_name(VERSIONED), b"\x1a\x03\x32\x01\x00", b"\xfd\xf5\x00\x01\x05"
DIGESTS = b"\xfd\xf5\x20\x20" + bytes(32)


def test_unknown_fields_of_a_metadata_packet_are_ignored() -> None:
    assert decode(NAME, FINAL, SIZE, b"\xfd\xf6\x00\x01x", DIGESTS).size == 5


@pytest.mark.parametrize(
    "fields",
    [
        (), (FINAL, SIZE, DIGESTS), (NAME, SIZE, DIGESTS), (NAME, FINAL, DIGESTS), (NAME, FINAL, SIZE),
        (NAME, b"\x1a\x00", SIZE, DIGESTS), (NAME, b"\x1a\x03\x36\x01\x00", SIZE, DIGESTS),
        (NAME, b"\x1a\x0a\x32\x08" + b"\xff" * 8, SIZE, DIGESTS), (NAME, b"\x1a\x04\x32\x02\x01\x00", SIZE, DIGESTS),
        (NAME, FINAL, b"\xfd\xf5\x00\x03\0\0\1", DIGESTS), (NAME, FINAL, b"\xfd\xf5\x00\x02\xff\xff", DIGESTS),
        (NAME, FINAL, SIZE, b"\xfd\xf5\x20\x1f" + bytes(31)), (NAME, FINAL, SIZE, b"\xfd\xf5\x20\x40" + bytes(64)),
        (NAME, FINAL, SIZE, DIGESTS, b"\xfd\xf5\x24\x01x"), (NAME, FINAL, SIZE, DIGESTS[:-1]),
        (ndn.encode_name(BASE), FINAL, SIZE, DIGESTS), (ndn.encode_name(BASE + ndn.segment(1)), FINAL, SIZE, DIGESTS),
        (ndn.encode_name(ndn.from_uri("/net/other/v=9")), FINAL, SIZE, DIGESTS),
        (b"\x07\x01\x08", FINAL, SIZE, DIGESTS),
        (ndn.encode_name(VERSIONED + ndn.version(9)), FINAL, SIZE, DIGESTS),
    ],
    ids=range(20),
)  # fmt: skip
def test_metadata_that_contradicts_itself(fields: tuple[bytes, ...]) -> None:
    with pytest.raises(BadPacket):
        decode(*fields)


@pytest.mark.parametrize("uri", ["/net/object/v=9/seg=0", "/net/object/32=other/v=9/seg=0", "/v=9/seg=0", "/x"])
def test_metadata_under_another_name_is_none(uri: str) -> None:
    with pytest.raises(BadPacket):
        decode(NAME, FINAL, SIZE, DIGESTS, name=ndn.from_uri(uri))


@settings(max_examples=300)
@given(st.binary(max_size=80), st.data())
def test_hostile_metadata_decodes_consistently_or_is_refused(garbage: bytes, data: st.DataObject) -> None:
    content = bytearray(NAME + FINAL + SIZE + DIGESTS + garbage)
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(content))
    except BadPacket:
        return
    assert found.name.startswith(BASE) and found.size <= found.segments * SEGMENT_BYTES
    assert len(found.digests) == 32 * found.segments or found.manifest_digests


def test_digests_are_of_whole_packets_and_in_order() -> None:
    built = build_object(BASE, 9, bytes(3 * SEGMENT_BYTES), packet.encode_data)
    wires = [built.packets[built.manifest.segment_name(number)] for number in range(3)]
    assert built.manifest.digests == b"".join(hashlib.sha256(wire).digest() for wire in wires)
    for number, wire in ((1, wires[2]), (3, wires[0]), (0, b"")):
        with pytest.raises(DigestMismatch):
            built.manifest.check_segment(number, wire)
    with pytest.raises(DigestMismatch):
        built.manifest.check_manifest_segment(0, wires[0])
    with pytest.raises(BadPacket):
        built.manifest.with_digests(bytes(64))


@given(
    st.binary(max_size=3000),
    st.integers(1, 300),
    st.sampled_from([0, 1, 3_600_000]),
    st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=3),
)
def test_segments_are_the_packets_that_encoding_each_alone_gives(
    content: bytes, segment_bytes: int, freshness_ms: int, parts: list[bytes]
) -> None:
    name = b"".join(ndn.generic(part) for part in parts) + ndn.version(5)
    pieces = [content[at : at + segment_bytes] for at in range(0, max(len(content), 1), segment_bytes)]
    final = ndn.segment(len(pieces) - 1)
    found = list(segment_packets(name, memoryview(content), segment_bytes, freshness_ms=freshness_ms))
    assert len(found) == len(pieces)
    for number, (segment, wire, digest) in enumerate(found):
        assert segment == name + ndn.segment(number)
        alone = packet.encode_data(segment, pieces[number], freshness_ms=freshness_ms, final_block=final)
        assert wire == alone and digest == hashlib.sha256(alone).digest()


def test_segments_too_large_for_a_packet_are_refused() -> None:
    with pytest.raises(BadPacket, match="exceeds 8800"):
        list(segment_packets(VERSIONED, bytes(9000), 8790, freshness_ms=0))
