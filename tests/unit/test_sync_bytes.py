"""Packets of State Vector Sync as bytes: what comes back as it went in, and what is refused."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.ndn.packet import DIGEST_INFO, decode_data, decode_interest, digest_signer
from ndn_infer.ndn.tlv import encode_tlv
from ndn_infer.sync.core import packets
from ndn_infer.sync.core.state import FUTURE_S, StateMessage
from ndn_infer.sync.core.summary import ALL_BUCKETS, Summary, decode_summary, encode_summary
from ndn_infer.sync.core.vector import Entry, decode_mapping, decode_vector, encode_mapping, encode_vector
from tests.unit.sync_kit import EPOCH, GROUP, core, entries, name, state


def test_golden_bytes_of_a_vector() -> None:
    """Section 3 by hand: 201 { 202 { Name, 210 { 212 boot, 214 seq }, ... }, ... }, names in canonical order."""
    wire = encode_vector([Entry(name("b"), 7, 1), Entry(name("a"), EPOCH, 300), Entry(name("a"), 5, 2)])
    assert wire.hex() == (
        "c936"
        "ca1f" "0709" "08046e6f6465" "080161" "d206d40105d60102" "d20ad4046553f100d602012c"
        "ca13" "0709" "08046e6f6465" "080162" "d206d40107d60101"
    )  # fmt: skip
    assert decode_vector(wire) == [
        Entry(name("a"), 5, 2),
        Entry(name("a"), EPOCH, 300),
        Entry(name("b"), 7, 1),
    ]


def test_canonical_order_is_that_of_ndn() -> None:
    """Shorter components first, whatever their bytes; a prefix before what goes on."""
    names = [ndn.from_uri(uri) for uri in ("/a", "/a/b", "/b", "/aa", "/" + "z" * 300, "/32=a")]
    assert [entry.name for entry in decode_vector(encode_vector(Entry(one, 1, 1) for one in reversed(names)))] == names


@given(entries)
def test_vectors_round_trip(found: list[Entry]) -> None:
    assert decode_vector(encode_vector(found)) == sorted(found)


@settings(max_examples=300)
@given(entries, st.randoms(use_true_random=False), st.integers(1, 6))
def test_damaged_vectors_are_read_or_refused(found: list[Entry], rng: random.Random, times: int) -> None:
    """Only BadPacket comes out, and what decodes is a vector."""
    wire = bytearray(encode_vector(found))
    for _ in range(times):
        at = rng.randrange(len(wire) + 1)
        match rng.randrange(3):
            case 0:
                wire[at:at] = bytes([rng.randrange(256)])
            case 1:
                del wire[at : at + rng.randrange(1, 4)]
            case _:
                wire[at : at + 1] = bytes([rng.choice((0, 1, 7, 201, 202, 210, 212, 214, 253, 255))])
    try:
        decoded = decode_vector(bytes(wire))
    except BadPacket:
        return
    names = [entry.name for entry in decoded]
    assert names == sorted(names) and all(entry.sequence and len(entry.name) <= 512 for entry in decoded)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_with_one_error(wire: bytes) -> None:
    for decode in (decode_vector, decode_mapping, decode_summary, packets.parse_asked):
        try:
            decode(wire)
        except BadPacket:
            pass
    try:
        packets.vector_data(GROUP, wire)
    except BadPacket:
        pass


@pytest.mark.parametrize(
    "content",
    [
        b"",
        encode_tlv(200, b""),
        encode_vector([]) + b"\xcb\x00",  # something critical after it
        encode_tlv(201, encode_tlv(204, b"")),
        encode_tlv(201, encode_tlv(202, encode_tlv(7, b""))),  # no name
        encode_tlv(201, encode_tlv(202, encode_tlv(7, ndn.generic("x" * 600)))),
        encode_tlv(201, b"".join(encode_tlv(202, encode_tlv(7, ndn.generic(one))) for one in "ba")),  # order
        encode_tlv(201, encode_tlv(202, encode_tlv(7, ndn.generic("a"))) * 2),  # twice
        encode_vector([Entry(b"\x08\x01a", 7, 0)]),  # number 0
        encode_vector([Entry(b"\x08\x01a", EPOCH + FUTURE_S + 1, 1)]),
        bytes(9000),
    ],
)
def test_vectors_that_are_refused_change_nothing(content: bytes) -> None:
    member = core("a")
    with pytest.raises(BadPacket):
        member.take(0.0, content)
    assert not state(member)


def test_a_vector_of_a_million_entries_costs_nothing() -> None:
    """It is refused for its length before it is read."""
    with pytest.raises(BadPacket, match="a state vector of"):
        decode_vector(bytes(20_000_000))


def test_blocks_after_the_vector_are_skipped() -> None:
    found = [Entry(name("a"), 7, 3)]
    assert decode_vector(encode_vector(found) + encode_mapping(name("a"), [(3, name("x"))]) + b"\xf0\x00") == found
    with pytest.raises(BadPacket):
        decode_vector(encode_vector(found) + b"\x09\x00")


def test_mapping_data_round_trips() -> None:
    """Publication layer, "Name Mapping"; what follows a name in an entry is skipped."""
    wire = encode_mapping(name("a"), [(1, name("x")), (70_000, name("y"))])
    assert decode_mapping(wire) == (name("a"), {1: name("x"), 70_000: name("y")})
    timed = encode_tlv(206, b"\xcc\x01\x05" + ndn.encode_name(name("z")) + ndn.timestamp(9))
    assert decode_mapping(encode_tlv(205, ndn.encode_name(name("a")) + timed)) == (name("a"), {5: name("z")})


@given(st.integers(0, ALL_BUCKETS), st.lists(st.integers(0, 2**32 - 1), min_size=64, max_size=64))
def test_summaries_travel_in_the_metainfo(covered: int, digests: list[int]) -> None:
    summary = Summary(covered, tuple(digests))
    assert len(encode_summary(summary)) == 268
    wire = packets.sign_message(GROUP + ndn.version(3), StateMessage(encode_vector([]), summary), Digest(), 500)
    data = decode_data(wire)
    assert packets.summary_of(data) == summary and data.freshness_ms == 500
    assert digest_signer(data.signed_portion) == data.signature


class Digest:
    info = DIGEST_INFO
    sign = staticmethod(digest_signer)


def test_a_sync_interest_has_the_names_of_the_specification() -> None:
    message = StateMessage(encode_vector([Entry(name("a"), 7, 1)]), None)
    vector = packets.sign_message(packets.vector_name(GROUP), message, Digest())
    interest = decode_interest(packets.sync_interest(GROUP, vector))
    assert ndn.to_uri(ndn.prefix(interest.name, 2)) == "/g/v=3" and interest.parameters_digest_matches()
    assert interest.lifetime_ms == 1000
    data = packets.vector_data(GROUP, interest.parameters)
    assert data.content == message.content and packets.summary_of(data) is None
    with pytest.raises(BadPacket, match="another group"):
        packets.vector_data(ndn.from_uri("/h"), interest.parameters)
    assert (
        ndn.to_uri(packets.mapping_name(name("a"), GROUP, 1784322744, 2, 7))
        == "/node/a/g/t=1784322744/MAPPING/seq=2/seq=7"
    )
    assert ndn.to_uri(packets.publication_name(name("a"), GROUP, 1784322744, 7)) == "/node/a/g/t=1784322744/seq=7"


@given(st.binary(max_size=20_000), st.booleans())
def test_publications_come_out_as_they_went_in(content: bytes, signed: bool) -> None:
    outer, inner = packets.publication_name(name("a"), GROUP, 7, 1), name("data")
    made = [
        decode_data(wire) for wire in packets.encapsulate(outer, inner, content, Digest(), Digest() if signed else None)
    ]
    found = [packets.decapsulate(data, outer) for data in made]
    assert b"".join(one.content for one in found) == content and {one.name for one in found} == {inner}
    if len(made) > 1:
        assert [ndn.to_uri(data.name) for data in made] == [
            ndn.to_uri(outer) + f"/v=0/seg={number}" for number in range(len(made))
        ]
        assert {one.last for one in found} == {len(made) - 1}
    else:
        assert made[0].name == outer and made[0].final_block is None and made[0].content_type == 6


@pytest.mark.parametrize(
    ("uri", "asked"),
    [
        ("/t=7/seq=3", packets.SyncQuery(7, 3)),
        ("/t=7/seq=3/v=0/seg=2", packets.SyncQuery(7, 3, segment=2)),
        ("/t=7/MAPPING/seq=2/seq=7", packets.SyncQuery(7, 2, high=7)),
        ("/32=state/%00%00%00%00%00%00%00%05", packets.SyncQuery(buckets=5)),
        ("/", None),
        ("/t=7", None),
        ("/t=7/seq=3/v=1/seg=2", None),
        ("/%07/seq=3", None),
        ("/77/x/y", None),
        ("/%07", packets.SyncQuery(sequence=7, older=True)),
        ("/%01%02/v=0/seg=1", packets.SyncQuery(sequence=258, segment=1, older=True)),
        ("/MAPPING/%01/%02", packets.SyncQuery(sequence=1, high=2, older=True)),
        ("/32=state/5", None),
    ],
)
def test_names_that_are_answered(uri: str, asked: packets.SyncQuery | None) -> None:
    assert packets.parse_asked(ndn.from_uri(uri)) == asked
