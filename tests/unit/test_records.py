"""Records: golden bytes of what names are made from, and a decoder that lets nothing through."""

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
from ndn_infer.records.bounds import AtMost, Between
from ndn_infer.records.forms import (
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
from tests.generate_docs import record_classes

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
        (
            PrefillRequest(blocks=("ab" * 32,), have=1),
            "82a6626c6f636b7391d940" + "6162" * 32 + "a46861766501", None,
        ),
        (GenerateRequest(prompt=(1, 2**32 - 1)), "81a670726f6d7074c40801000000ffffffff", None),
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
    answer = records.decode(Answer, records.encode(Answer(code="failed", error="\ud800" + "x" * 10_000)))
    assert answer.error == "?" + "x" * 511


def test_a_field_without_a_bound_is_a_defect_that_is_told_at_once() -> None:
    @dataclass(frozen=True, slots=True)
    class Loose(Record):
        text: str = ""

    with pytest.raises(TypeError, match=r"Loose\.text: .* needs a bound"):
        records.encode(Loose())


def test_a_record_takes_the_memory_of_what_it_holds() -> None:
    """16 MiB of empty lists and maps became 1.3 GB before anybody looked at what the type says."""

    @dataclass(frozen=True, slots=True)
    class Many(Record):
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
