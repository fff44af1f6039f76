"""Records: one encoding each, and a decoder that lets nothing through but what the types say."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from typing import Annotated, Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer import records
from ndn_infer.errors import BadRecord
from ndn_infer.kv.holders import MAX_HOLDS, Holdings
from ndn_infer.records import (
    CallAnswer,
    Envelope,
    GenerateRequest,
    LookupRequest,
    Message,
    Record,
    Reply,
    Request,
    Sampling,
    TokenBias,
    TokenizeRequest,
)
from ndn_infer.records.bounds import AtMost, Between
from ndn_infer.records.embed import EmbedRequest
from ndn_infer.records.forms import (
    NEWER_BYTES,
    FixedForm,
    FloatForm,
    Form,
    HexForm,
    IntForm,
    LengthForm,
    ListForm,
    OptionalForm,
    PackedForm,
    RecordForm,
    WordForm,
)
from ndn_infer.records.prefill import PrefillRequest
from tests.generate_docs import record_classes
from tests.unit.golden_examples import EXAMPLES

ALL = record_classes()


def values(form: Form) -> st.SearchStrategy[Any]:
    """Values of a form within its bounds, the bounds themselves included; long ones are short here."""
    match form:
        case RecordForm():
            return st.builds(form.kind, **{name: values(inner) for name, inner in form.forms.items()})
        case OptionalForm():
            return st.none() | values(form.inner)
        case FixedForm():
            return st.tuples(*map(values, form.elements))
        case ListForm():
            return st.lists(values(form.element), min_size=form.bound.least, max_size=form.bound.least + 3).map(tuple)
        case PackedForm():
            return st.lists(st.integers(0, 2**32 - 1), max_size=min(form.bound.most, 9)).map(tuple)
        case FloatForm():
            return st.floats(form.bound.low, form.bound.high)
        case IntForm():
            return st.integers(int(form.bound.low), int(form.bound.high))
        case WordForm():
            return st.sampled_from(form.bound.words)
        case HexForm():
            return st.binary(min_size=form.size // 2, max_size=form.size // 2).map(bytes.hex)
        case LengthForm():
            make = st.text if form.kind is str else st.binary
            return make(min_size=form.bound.least, max_size=min(form.bound.most, form.bound.least + 9))
    assert form.kind is bool
    return st.booleans()


def values_of(cls: type[Record]) -> st.SearchStrategy[Any]:
    return values(RecordForm.of(cls))


@settings(max_examples=25)
@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
@given(data=st.data())
def test_every_record_round_trips_canonically(cls: type[Record], data: st.DataObject) -> None:
    record = data.draw(values_of(cls))
    wire = records.encode(record)
    assert records.decode(cls, wire) == record
    assert records.encode(records.decode(cls, wire)) == wire
    assert records.decode(cls, memoryview(wire)) == record
    plain = msgpack.unpackb(wire)
    assert list(plain) == sorted(plain)


def test_an_int_for_a_float_makes_the_same_name() -> None:
    assert records.encode(GenerateRequest(Sampling(temperature=1))) == records.encode(
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


# ------------------------------------------------------------ newer senders

UNKNOWN = {"zz_new": {"tool": ["get", {"x": 1.5}, b"\0", None]}, "a_new": msgpack.ExtType(7, b"x"), "new": "word"}


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_replies_of_newer_senders_are_read_and_newer_requests_are_rejected(cls: type[Record]) -> None:
    record = EXAMPLES[cls.__name__]
    plain = msgpack.unpackb(records.encode(record), use_list=True)
    newer = msgpack.packb(dict(sorted({**plain, **UNKNOWN}.items())))
    if issubclass(cls, Reply):
        assert records.decode(cls, newer) == record
    else:
        with pytest.raises(BadRecord, match="unknown fields: a_new|exceeds"):
            records.decode(cls, newer)


def test_a_record_in_a_reply_may_be_newer_too() -> None:
    wire = msgpack.packb({"hits": [{"name": "/a", "score": 1.0, "snippet": ["x"] * 9}], "took_ms": 3})
    assert records.decode(records.Hits, wire) == records.Hits((records.Hit("/a", 1.0),))


def test_newer_fields_have_room_and_no_more() -> None:
    full = Holdings(bytes(8 * MAX_HOLDS))
    wire = msgpack.packb({"note": b"x" * (NEWER_BYTES - 20), "versions": full.versions})
    assert records.decode(Holdings, wire) == full
    with pytest.raises(BadRecord, match="exceeds"):
        records.decode(Holdings, msgpack.packb({"note": b"x" * NEWER_BYTES, "versions": full.versions}))


def test_unknown_fields_are_skipped_without_building_them() -> None:
    @dataclass(frozen=True, slots=True)
    class Open(Reply):
        number: Annotated[int, Between(0, 1)] = 0
        filler: Annotated[bytes, AtMost(2 << 20)] = b""

    size = 1 << 20
    head = b"\x82\xa3new\xdd" + size.to_bytes(4, "big")
    for item in (b"\x80", b"\x90", b"\xc3"):
        wire = head + item * size + b"\xa6number\x01"
        tracemalloc.start()
        assert records.decode(Open, wire) == Open(1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 * size  # lists of them took 64 times their bytes
    for bomb in (
        b"\x81\xa3new" + b"\x91" * size, b"\x81\xa3new\xdd\xff\xff\xff\xff\x01", b"\x81\x05\x01",
        b"\x81\x91\xa1x\x01", b"\x81\xa3new",
    ):  # fmt: skip
        with pytest.raises(BadRecord):
            records.decode(Open, bomb)


def test_a_record_is_a_request_or_a_reply_with_all_in_it() -> None:
    @dataclass(frozen=True, slots=True)
    class Neither(Record):
        number: Annotated[int, Between(0, 1)] = 0

    @dataclass(frozen=True, slots=True)
    class Mixed(Request):
        answers: Annotated[tuple[CallAnswer, ...], AtMost(2)] = ()

    with pytest.raises(TypeError, match="neither a Request nor a Reply"):
        records.encode(Neither())
    with pytest.raises(TypeError, match="Mixed is a Request, and"):
        records.encode(Mixed())


def test_too_large_and_too_deep() -> None:
    for cls in ALL:
        with pytest.raises(BadRecord, match="exceeds"):
            records.decode(cls, bytes(records.most_bytes(cls) + 1))
    for bomb in (b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc9"):
        with pytest.raises(BadRecord):
            records.decode(Message, bomb)


# ------------------------------------------------------------ bounds


@pytest.mark.parametrize(
    "record",
    [
        Sampling(top_k=-2), Sampling(temperature=100.1), Sampling(temperature=float("nan")), Sampling(max_tokens=-1),
        Sampling(stop=("",)), Sampling(stop=("x" * 257,)), Sampling(stop=("x",) * 17), Sampling(seed=1 << 64),
        Sampling(logit_bias=(TokenBias(0, 101),)), Sampling(logit_bias=(TokenBias(0, 1),) * 1025),
        Sampling(logprobs=21),
        Sampling(temperature=10**400), Sampling(top_p=1.01), Sampling(min_p=-1), GenerateRequest(prompt=(1 << 32,)),
        GenerateRequest(prompt=(-1,)), GenerateRequest(prompt=(1,) * (1 << 18) + (1,)), GenerateRequest(prompt=(1.5,)),
        LookupRequest("q", limit=0), LookupRequest("q", limit=51), LookupRequest("q" * 16_385),
        Message("system prompt", "x"), Message("user", "\ud800"), EmbedRequest(texts=("x",) * 257),
        EmbedRequest(ids=(1,) * 4097), PrefillRequest(blocks=("AB" * 32,)), PrefillRequest(blocks=("ab" * 31,)),
        Envelope(bytes(8801)), Envelope(sources=("/x",) * 9), TokenizeRequest(text="\u20ac" * (1 << 20)),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_out_of_bounds_is_neither_built_nor_read(record: Record) -> None:
    with pytest.raises(BadRecord, match=r"\w+"):
        records.encode(record)
    plain = {
        name: getattr(record, name) for name in RecordForm.of(type(record)).forms if getattr(record, name) is not None
    }
    for name, value in plain.items():
        if isinstance(value, tuple) and value and isinstance(value[0], int) and 0 <= value[0] < 1 << 32:
            plain[name] = b"".join(item.to_bytes(4, "little") for item in value)
        elif isinstance(value, tuple) and value and isinstance(value[0], TokenBias):
            plain[name] = [{"id": item.id, "bias": item.bias} for item in value]
        elif isinstance(value, Sampling):
            plain[name] = {}
    try:
        wire = msgpack.packb(plain)
    except (OverflowError, UnicodeEncodeError):
        return  # no bytes say so
    with pytest.raises(BadRecord):
        records.decode(type(record), wire)


def test_words_for_people_are_cut_and_not_refused() -> None:
    answer = records.decode(CallAnswer, records.encode(CallAnswer(code="failed", error="\ud800" + "x" * 10_000)))
    assert answer.error == "?" + "x" * 511


def test_a_field_without_a_bound_is_a_defect_that_is_told_at_once() -> None:
    @dataclass(frozen=True, slots=True)
    class Loose(Request):
        text: str = ""

    with pytest.raises(TypeError, match=r"Loose\.text: .* needs a bound"):
        records.encode(Loose())


def test_a_record_takes_the_memory_of_what_it_holds() -> None:
    """16 MiB of empty lists and maps became 1.3 GB before anybody looked at what the type says."""

    @dataclass(frozen=True, slots=True)
    class Many(Request):
        messages: Annotated[tuple[Message, ...], AtMost(1 << 20)] = ()
        number: Annotated[int, Between(0, 1)] = 0

    fine = msgpack.packb({"messages": [{"role": "user", "content": "x"}] * 1000})
    assert len(records.decode(Many, fine).messages) == 1000
    size = 1 << 20
    head = b"\x81\xa8messages\xdd" + size.to_bytes(4, "big")
    for wire in (head + b"\x80" * size, head + b"\x90" * size, b"\x81\xa6number" + head[10:] + b"\x90" * size):
        tracemalloc.start()
        with pytest.raises(BadRecord):
            records.decode(Many, wire)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * size  # msgpack's own copy, in a buffer that doubles


def test_no_field_stands_twice_and_nothing_follows() -> None:
    with pytest.raises(BadRecord, match="twice"):
        records.decode(Message, b"\x83\xa4role\xa4user\xa4role\xa4tool\xa7content\xa1x")
    with pytest.raises(BadRecord, match="follow"):
        records.decode(Message, records.encode(Message("user", "x")) + b"\xc0")


@settings(max_examples=300)
@given(st.sampled_from(ALL), st.data())
def test_damaged_records_raise_nothing_but_bad_record(cls: type[Record], data: st.DataObject) -> None:
    wire = bytearray(records.encode(data.draw(values_of(cls))))
    for _ in range(data.draw(st.integers(0, 4))):
        if wire:
            wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(wire[: data.draw(st.integers(0, len(wire)))])
    for candidate in (damaged, data.draw(st.binary(max_size=40))):
        try:
            records.decode(cls, candidate)
        except BadRecord:
            continue
