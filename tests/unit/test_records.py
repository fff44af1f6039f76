"""Records: golden bytes of what names are made from, and a decoder that lets nothing through."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer import records
from ndn_infer.errors import BadRecord
from ndn_infer.records import (
    Answer,
    EmbedRequest,
    Envelope,
    GenerateRequest,
    LookupRequest,
    Message,
    PrefillRequest,
    Record,
    Sampling,
    TokenBias,
    TokenizeRequest,
)

ALL = sorted(
    (cls for cls in vars(records).values() if isinstance(cls, type) and issubclass(cls, Record) and cls is not Record),
    key=lambda cls: cls.__name__,
)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type, read from its annotation."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if arguments[1:] == (Ellipsis,):
            return st.lists(values(arguments[0]), max_size=3).map(tuple)
        return st.tuples(*map(values, arguments))
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*(st.none() if part is type(None) else values(part) for part in arguments))
    if isinstance(kind, type) and issubclass(kind, Record):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{item.name: values(hints[item.name]) for item in dataclasses.fields(kind)})
    return {
        int: st.integers(-(2**63), 2**64 - 1), str: st.text(max_size=9), bytes: st.binary(max_size=9),
        float: st.floats(allow_nan=False), bool: st.booleans(),
    }[kind]  # fmt: skip


@settings(max_examples=25)
@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
@given(data=st.data())
def test_every_record_round_trips_canonically(cls: type[Record], data: st.DataObject) -> None:
    record = data.draw(values(cls))
    wire = records.encode(record)
    assert records.decode(cls, wire) == record
    assert records.encode(records.decode(cls, wire)) == wire
    assert records.decode(cls, memoryview(wire)) == record
    plain = msgpack.unpackb(wire)
    assert list(plain) == sorted(plain)


@pytest.mark.parametrize(
    ("record", "wire", "digest"),
    [
        (TokenizeRequest(text="hi"), "81a474657874a26869", None),
        (
            TokenizeRequest(messages=(Message("user", "hi"),)),
            "81a86d657373616765739182a7636f6e74656e74a26869a4726f6c65a475736572", None,
        ),
        (EmbedRequest(texts=("a",)), "81a5746578747391a161", None),
        (LookupRequest("q", limit=5), "81a57175657279a171", None),
        (PrefillRequest(blocks=("ab",), have=1), "82a6626c6f636b7391a26162a46861766501", None),
        (GenerateRequest(prompt=(1, 2)), "81a670726f6d7074920102", None),
        (
            Sampling(min_p=1, logit_bias=(TokenBias(5, 1),), logprobs=2),
            "83aa6c6f6769745f626961739182a462696173cb3ff0000000000000a2696405"
            "a86c6f6770726f627302a56d696e5f70cb3ff0000000000000", None,
        ),
        (Envelope(b"\x80", salt=3), "82a772657175657374c40180a473616c7403", None),
        (Answer(), "80", "76be8b528d0075f7aae98d6fa57a6d3c83ae480a8469e668d7b0af968995ac71"),
    ],
)  # fmt: skip
def test_golden_bytes(record: Record, wire: str, digest: str | None) -> None:
    """Test vectors: requests of today must have these names tomorrow, and in other implementations."""
    assert records.encode(record).hex() == wire
    if digest is not None:
        assert records.request_digest(record) == digest


def test_an_int_for_a_float_makes_the_same_name() -> None:
    assert records.request_digest(GenerateRequest(Sampling(temperature=1))) == records.request_digest(
        GenerateRequest(Sampling(temperature=1.0))
    )
    assert records.encode(Sampling(temperature=0)) == records.encode(Sampling()) == b"\x80"


@pytest.mark.parametrize(
    ("cls", "plain"),
    [
        (Message, {"role": "user"}), (Message, {"role": b"user", "content": ""}), (Message, []), (Message, None),
        (Message, {"role": "user", "content": "", "extra": 0}), (Message, {b"role": "user", "content": ""}),
        (Sampling, {"max_tokens": 1.0}), (Sampling, {"max_tokens": True}), (Sampling, {"temperature": "0"}),
        (Sampling, {"ignore_eos": 1}), (Sampling, {"stop": "x"}), (Sampling, {"stop": [1]}),
        (GenerateRequest, {"sampling": []}), (GenerateRequest, {"sampling": None}),
        (GenerateRequest, {"prompt": [1.5]}), (GenerateRequest, {"prompt": [None]}),
        (GenerateRequest, {"prompt": {"0": 1}}),
        (TokenizeRequest, {"messages": [["user", "x"]]}), (records.TokenEvent, {"ids": [1], "kv": 3}),
    ],
)  # fmt: skip
def test_near_misses_name_the_field(cls: type[Record], plain: Any) -> None:
    with pytest.raises(BadRecord, match=cls.__name__):
        records.decode(cls, msgpack.packb(plain))


def test_too_large_and_too_deep() -> None:
    with pytest.raises(BadRecord, match="exceeds"):
        records.decode(Message, bytes(records.MAX_RECORD_BYTES + 1))
    for bomb in (b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc9"):
        with pytest.raises(BadRecord):
            records.decode(Message, bomb)


@settings(max_examples=300)
@given(st.sampled_from(ALL), st.data())
def test_damaged_records_raise_nothing_but_bad_record(cls: type[Record], data: st.DataObject) -> None:
    wire = bytearray(records.encode(data.draw(values(cls))))
    for _ in range(data.draw(st.integers(0, 4))):
        if wire:
            wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(wire[: data.draw(st.integers(0, len(wire)))])
    for candidate in (damaged, data.draw(st.binary(max_size=40))):
        try:
            records.decode(cls, candidate)
        except BadRecord:
            continue
