"""Names and their URIs: what round-trips, what is refused (NDN Packet Format 0.3, section 2; Naming Conventions)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.errors import BadName, BadPacket
from ndn_infer.ndn import tlv

any_component = st.one_of(
    st.tuples(st.sampled_from([1, 2]), st.binary(min_size=32, max_size=32)),
    st.tuples(st.integers(3, 0xFFFF), st.binary(max_size=40)),
    st.tuples(st.sampled_from([50, 52, 54, 56, 58]), st.binary(max_size=9)),
    st.tuples(st.just(8), st.sampled_from([b"", b".", b"..", b"...", b"a=b", b"%41", b"8=x", b"seg=1", b"\xc3\xa9"])),
).map(lambda pair: tlv.encode_tlv(*pair))


@given(st.lists(any_component, max_size=6).map(b"".join))
def test_every_well_formed_name_survives_its_uri(name: bytes) -> None:
    """Also components of any type, numbers in a longer form than needed, and text that looks like an escape."""
    assert ndn.from_uri(ndn.to_uri(name)) == name
    assert (
        ndn.decode_name(ndn.encode_name(name), len(ndn.encode_name(name)) - len(name), len(ndn.encode_name(name)))
        == name
    )


@pytest.mark.parametrize(
    ("uri", "canonical"),
    [
        ("ndn:/a/b", "/a/b"), ("/a/b/", "/a/b"), ("/", "/"), ("/...", "/..."), ("/....", "/...."),
        ("/%61%2f", "/a%2F"), ("/8=a", "/a"), ("/50=%07", "/seg=7"), ("/54=%00%07", "/54=%00%07"),
        ("/seg=7", "/seg=7"), ("/v=65536/seg=0", "/v=65536/seg=0"), ("/32=metadata", "/32=metadata"),
        ("/params-sha256=" + "AB" * 32, "/params-sha256=" + "ab" * 32), ("/a=b", "/a%3Db"), ("/é", "/%C3%A9"),
    ],
)  # fmt: skip
def test_uris_and_their_canonical_form(uri: str, canonical: str) -> None:
    assert ndn.to_uri(ndn.from_uri(uri)) == canonical


@pytest.mark.parametrize(
    "uri",
    [
        "", "a/b", "/a//b", "/.", "/..", "/a/%2E", "/seg=", "/seg=+1", "/seg= 1", "/seg=1_0", "/v=\u0661", "/v=-1",
        "/seg=18446744073709551616", "/0=a", "/65536=a", "/1=short", "/2=short", "/sha256digest=0011",
        "/params-sha256=zz", "/\ud800",
    ],
)  # fmt: skip
def test_texts_that_are_no_names(uri: str) -> None:
    with pytest.raises(BadName):
        ndn.from_uri(uri)


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_bad_name(text: str) -> None:
    try:
        name = ndn.from_uri("/" + text)
    except BadName:
        return
    assert ndn.from_uri(ndn.to_uri(name)) == name


@given(st.binary(max_size=60))
def test_any_bytes_are_components_or_bad_packet(raw: bytes) -> None:
    try:
        name = ndn.decode_name(raw, 0, len(raw))
    except BadPacket:
        return
    assert b"".join(ndn.components(name)) == raw
    ndn.to_uri(name)


@pytest.mark.parametrize("raw", ["0000", "08000000", "0801", "0103616263", "0200", "fe0001000000", "fd0100"])
def test_bytes_that_are_no_name(raw: str) -> None:
    """Type 0, cut short, digests of another size, types beyond 65,535."""
    with pytest.raises(BadPacket):
        wire = bytes.fromhex(raw)
        ndn.decode_name(wire, 0, len(wire))


@given(st.lists(any_component, max_size=6))
def test_prefixes_are_prefixes_of_bytes(parts: list[bytes]) -> None:
    name = b"".join(parts)
    ends = ndn.prefix_ends(name)
    assert [name[:end] for end in ends] == [b"".join(parts[:count]) for count in range(len(parts) + 1)]
    assert all(ndn.prefix(name, count) == name[: ends[count]] for count in range(len(parts) + 1))
    if parts:
        assert ndn.prefix(name, -1) == name[: ends[-2]]


@pytest.mark.parametrize(
    ("component", "kind"), [(ndn.segment(3), ndn.VERSION), (ndn.generic("3"), ndn.SEGMENT), (b"\x32\x03abc", 50)]
)
def test_numbers_of_other_components_are_refused(component: bytes, kind: int) -> None:
    with pytest.raises(BadPacket):
        ndn.component_number(component, kind)


def test_numbers_of_components() -> None:
    for make, kind in (
        (ndn.segment, ndn.SEGMENT), (ndn.version, ndn.VERSION), (ndn.timestamp, ndn.TIMESTAMP),
    ):  # fmt: skip
        for number in (0, 255, 256, 2**32, 2**64 - 1):
            assert ndn.component_number(make(number), kind) == number


@given(st.lists(st.binary(max_size=40), max_size=4), st.binary(min_size=32, max_size=32))
def test_a_digest_at_the_end_is_the_last_component(parts: list[bytes], digest: bytes) -> None:
    name = b"".join(map(ndn.generic, parts))
    assert ndn.ends_in_digest(name + ndn.implicit_digest(digest))
    assert not ndn.ends_in_digest(name)
    assert not ndn.ends_in_digest(name + ndn.generic(b"x" + ndn.implicit_digest(digest)))
    assert not ndn.ends_in_digest(name + ndn.parameters_digest(digest))
