"""The page's pure parts: names by their parts, packets by their elements, records by revision, who may ask."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.gateway.answers.book import MAX_BYTES, AnswerBook
from ndn_infer.gateway.answers.names import base_of, name_document
from ndn_infer.gateway.answers.origins import MEANINGS, origin_of
from ndn_infer.gateway.answers.record import MAX_KEPT_BYTES, MAX_PACKETS, MAX_ROWS, SeenAnswer
from ndn_infer.gateway.page.dissect import MAX_ELEMENTS, dissect
from ndn_infer.gateway.page.network_map import MapReading, map_document
from ndn_infer.gateway.page.origin import is_no_name, own_page
from ndn_infer.namespace import KINDS, classify
from ndn_infer.ndn.packet import encode_data
from ndn_infer.records import TokenEvent
from ndn_infer.transport.objects.ledger import CONTENT_STORE, NETWORK_CACHE, PRODUCER, RECOMPUTED, Came, Ledger, Seen

NET = ndn.from_uri("/ndn-infer/local")
DIGEST = "ab" * 32
CALL = f"/ndn-infer/local/model/{DIGEST}/generate/shared/{DIGEST}"
STREAM = f"/ndn-infer/local/model/{DIGEST}/result/generate/{DIGEST}/v=1795685416878244"


def seen(kind: str, uri: str, source: str = PRODUCER, wire: bytes = b"x", **more: Any) -> Seen:
    return Seen(kind, uri, source, None, more.pop("at", 10.0), Came(wire, more.pop("began", 9.0)), **more)


# ---------------------------------------------------------------- names


def test_every_kind_of_name_is_explained_part_by_part() -> None:
    for kind in KINDS:
        name = kind(*kind.example).to_name(NET)
        document = name_document(NET, ndn.to_uri(name + ndn.version(1) + ndn.segment(0)))
        assert "/" + "/".join(part["text"] for part in document) == ndn.to_uri(name + ndn.version(1) + ndn.segment(0))
        roles = [part["role"] for part in document]
        assert roles[:2] == ["network", "network"] and roles[-2:] == ["version", "segment"]
        for part, pattern in zip(document[2:], kind.pattern.split("/")[1:], strict=False):
            assert (part["role"] == "field") == pattern.startswith("<"), (kind, part)
            assert len(part["means"].split()) > 1 or part["means"], part
        assert document[-1]["kind"] == kind.title


def test_a_base_name_and_a_segment() -> None:
    result = ndn.from_uri(STREAM)
    base = ndn.prefix(result, -1)
    assert base_of(NET, "result", result + ndn.segment(7)) == (base, 7)
    metadata = base + ndn.from_uri("/32=metadata/v=1/seg=0")
    assert base_of(NET, "result", metadata) == (base, None), "metadata is no segment of the stream"
    assert name_document(NET, "no name") == [] and name_document(NET, "") == []


# ---------------------------------------------------------------- packets


@given(st.binary(max_size=600))
def test_any_bytes_have_elements_that_lie_in_each_other(wire: bytes) -> None:
    elements = dissect(wire)
    assert len(elements) <= MAX_ELEMENTS
    for one in elements:
        assert 0 <= one["offset"] <= one["value"] <= one["end"] <= len(wire)
    outer = [one for one in elements if one["depth"] == 0]
    at = 0
    for one in outer:
        assert one["offset"] == at
        at = one["end"]
    assert at == len(wire) or len(elements) == MAX_ELEMENTS


def test_a_data_packet_by_its_elements() -> None:
    wire = encode_data(ndn.from_uri("/a/v=1795685416878244"), b"hello", freshness_ms=1000, final_block=ndn.segment(3))
    read = {one["name"]: one["reads"] for one in dissect(wire)}
    assert read["GenericNameComponent"] == "a" and read["FreshnessPeriod"] == "1,000 ms"
    assert read["VersionNameComponent"].startswith("v=1795685416878244 (2026-11-26 09:30:16")
    assert read["SegmentNameComponent"] == "seg=3" and read["SignatureType"] == "DigestSha256"
    content = next(one for one in dissect(wire) if one["name"] == "Content")
    assert wire[content["value"] : content["end"]] == b"hello"


# ---------------------------------------------------------------- records


def test_a_ledger_without_a_witness_makes_nothing_of_what_was_refused() -> None:
    ledger = Ledger(NET)
    ledger.refused(ndn.from_uri(CALL), ValueError("x"))
    assert list(ledger.uses()) == []
    heard: list[Seen] = []
    ledger.witness = heard.append
    ledger.used(ndn.from_uri(CALL), CONTENT_STORE, None, Came(b"wire", 1.0))
    ledger.refused(ndn.from_uri(CALL), ValueError("bad"), Came(b"forged"))
    assert [(one.kind, one.source, one.refusal, one.how.wire) for one in heard] == [
        ("call", CONTENT_STORE, "", b"wire"), ("call", "", "bad", b"forged"),
    ]  # fmt: skip
    assert [use.uses for use in ledger.uses()] == [1], "what was refused is no use"


def test_segments_of_one_version_are_read_as_any_name() -> None:
    heard: list[Seen] = []
    ledger = Ledger(NET, witness=heard.append)
    others = (f"{CALL}/v=1/seg=1", "/elsewhere/v=2/seg=0", "/elsewhere/v=2/seg=1/more", "/elsewhere/v=2/32=seg", "/x")
    uris = [f"{STREAM}/seg={number}" for number in (0, 1, 255, 256, 70_000)]
    uris = [uris[0], *(uri for pair in zip(uris, others, strict=True) for uri in pair), *uris, *others]
    for uri in uris:
        ledger.used(ndn.from_uri(uri), PRODUCER, None)
    assert [one.uri for one in heard] == uris
    for one in heard:
        kind = classify(NET, ndn.from_uri(one.uri)).kind
        assert one.kind == (kind.title if kind is not None else "other")


def test_tokens_lead_to_the_packets_that_carried_them() -> None:
    record = SeenAnswer(NET, "a", "")
    for number in (0, 2, 1):  # packets come in any order, events in theirs
        record.seen(seen("result", f"{STREAM}/seg={number}", wire=b"p%d" % number))
    for text in (" one", " two", ""):
        record.took(0, STREAM, TokenEvent(ids=(5,) if text else (), text=text))
    tokens = record.since()["new_tokens"]
    assert [(token["text"], token["packet"]) for token in tokens] == [(" one", 0), (" two", 1)]
    found = record.packet(tokens[1]["row"], tokens[1]["packet"])
    assert found is not None and found.wire == b"p1"
    assert record.packet(99, 0) is None and record.packet(-1, 0) is None


def test_what_is_new_since_a_revision_adds_up_to_the_whole() -> None:
    record = SeenAnswer(NET, "a", "")
    whole: dict[int, dict[str, Any]] = {}
    tokens: list[Any] = []
    packets: dict[int, list[int]] = {}
    last = 0
    for number in range(40):
        record.seen(seen("result", f"{STREAM}/seg={number}"))
        record.took(0, STREAM, TokenEvent(ids=(number,), text=str(number)))
        if number % 3 == 0:
            record.seen(seen("call", CALL + f"/{number}", refusal="forged" if number % 2 else ""))
        if number % 7 == 0:
            news = record.since(last)
            last = news["revision"]
            tokens += news["new_tokens"]
            for row in news["rows"]:
                packets.setdefault(row["row"], []).extend(one["packet"] for one in row["new_packets"])
                whole[row["row"]] = row
    news = record.since(last)
    tokens += news["new_tokens"]
    for row in news["rows"]:
        packets.setdefault(row["row"], []).extend(one["packet"] for one in row["new_packets"])
        whole[row["row"]] = row
    expected = record.since()
    assert tokens == expected["new_tokens"]
    for row in expected["rows"]:
        assert packets[row["row"]] == [one["packet"] for one in row["new_packets"]]
        assert {**whole[row["row"]], "new_packets": 0} == {**row, "new_packets": 0}
    assert record.since(expected["revision"])["rows"] == []


def test_records_are_bounded() -> None:
    record = SeenAnswer(NET, "a", "")
    for number in range(MAX_PACKETS + 10):
        record.seen(seen("result", f"{STREAM}/seg={number}"))
    for number in range(MAX_ROWS + 10):
        record.seen(seen("call", f"/somewhere/{number}"))
    document = record.since()
    assert len(document["rows"]) == MAX_ROWS
    assert sum(len(row["new_packets"]) for row in document["rows"]) == MAX_PACKETS
    book = AnswerBook(NET, 3)
    for _ in range(5):
        made = book.open("", "/v1/chat/completions")
        for number in range(9):
            made.seen(seen("call", f"{CALL}/{number}", wire=os.urandom(1 << 20)))
        assert made.kept_bytes == MAX_KEPT_BYTES
        book.completed()
    assert len(list(book.of(""))) == 3
    book = AnswerBook(NET, 30)
    for _ in range(10):
        made = book.open("", "/v1/chat/completions")
        for number in range(4):
            made.seen(seen("call", f"{CALL}/{number}", wire=os.urandom(1 << 20)))
        book.completed()
    assert sum(record.kept_bytes for record in book.of("")) == MAX_BYTES, "the bytes are the bound"


async def test_answers_are_found_by_their_owner_only() -> None:
    book = AnswerBook(NET, 8)
    mine = book.open("me", "/v1/chat/completions", "page-1")
    assert book.find("me", "page-1") is mine and book.find("me", mine.id) is mine
    assert book.find("you", "page-1") is None and book.find("", mine.id) is None and book.find("me", "") is None
    assert await book.await_open("you", "page-1", 0.05) is None


def test_every_source_of_a_ledger_has_a_class_that_is_explained() -> None:
    for kind in ("call", "result", "catalogue record", "KV block"):
        for source in (PRODUCER, CONTENT_STORE, NETWORK_CACHE, RECOMPUTED, "its producer", "decode node's memory"):
            assert origin_of(kind, source) in MEANINGS
    assert origin_of("call", PRODUCER) == "computed" and origin_of("catalogue record", PRODUCER) == "producer"


# ---------------------------------------------------------------- map, who may ask


def test_rates_are_differences_and_unknown_where_counters_went_back() -> None:
    def reading(at: float, data: int, hits: int) -> MapReading:
        faces = [{"face_id": 7, "uri": "udp4://10.0.0.1:6363", "scope": 0, "in_data": data}]
        routes = [{"prefix": "/a", "face_id": 7, "cost": 10}]
        return MapReading(at, "unix:///x", {"version": "1"}, {"hits": hits, "misses": 0}, faces, routes)

    first = map_document(reading(10.0, 100, 5), None)
    assert first["faces"][0]["rates"]["in_data"] is None and first["faces"][0]["prefixes"] == ["/a"]
    second = map_document(reading(12.0, 150, 6), reading(10.0, 100, 5))
    assert second["faces"][0]["rates"]["in_data"] == 25.0 and second["store"]["rates"]["hits"] == 0.5
    again = map_document(reading(14.0, 3, 0), reading(12.0, 150, 6))
    assert again["faces"][0]["rates"]["in_data"] is None, "the forwarder was started again"


@pytest.mark.parametrize(
    ("host", "fine"),
    [
        ("127.0.0.1:8000", True), ("localhost", True), ("LOCALHOST:80", True), ("[::1]:8000", True), ("10.1.2.3", True),
        ("evil.example:8000", False), ("127.0.0.1.evil.example", False), ("localhost.evil.example:1", False),
        ("", False), ("::1", False), ("[127.0.0.1]", False), ("127.0.0.1@evil.example", False), ("0x7f.1", False),
    ],
)  # fmt: skip
def test_an_address_is_no_name(host: str, fine: bool) -> None:
    assert is_no_name(host) is fine
    assert own_page({"Host": host, "Origin": f"http://{host}"}, "http") is fine
    assert not own_page({"Host": host, "Origin": f"http://{host}"}, "https")
    assert not own_page({"Host": host, "Origin": "http://evil.example"}, "http")
