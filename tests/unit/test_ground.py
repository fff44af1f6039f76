"""Records, tensors, chains, namespace, configuration: canonical forms, test vectors, hostile input."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import chain, config, records, tensors
from ndn_infer import name as ndn
from ndn_infer.errors import BadName, BadRecord, ConfigError
from ndn_infer.namespace import KINDS, Call, KvBlock, Node, Result, Role, TokenBlock, classify
from ndn_infer.records import GenerateRequest, Message, Record, Sampling, TokenEvent, TokenizeRequest

NET = ndn.from_uri("/ndn-infer/local")
DIGEST = "0123456789abcdef" * 4


# ---------------------------------------------------------------- records


def test_canonical_bytes_of_a_request_never_change() -> None:
    """A test vector: other nodes, other years, the same name."""
    request = GenerateRequest(Sampling(max_tokens=8, temperature=1), prompt=(1, 300, 70000))
    assert records.encode(request).hex() == (
        "82a670726f6d7074930"
        "1cd012cce00011170a873616d706c696e6782aa6d61785f746f6b656e7308ab74656d70657261747572"
        "65cb3ff0000000000000"
    )
    assert records.request_digest(request) == hashlib.sha256(records.encode(request)).hexdigest()
    same = GenerateRequest(Sampling(max_tokens=8, temperature=1.0), prompt=(1, 300, 70000))
    assert records.encode(same) == records.encode(request)


@pytest.mark.parametrize(
    "record",
    [
        TokenizeRequest(messages=(Message("user", "héllo 😀"),)),
        TokenEvent((1, 2), "x", kv=records.KvSources(named=3), kv_names=("/a",)),
        TokenEvent(()),
        records.Answer(value=b"\0\xff", wait_ms=3),
    ],
)
def test_records_round_trip(record: Record) -> None:
    assert records.decode(type(record), records.encode(record)) == record


@pytest.mark.parametrize(
    "wire",
    [
        b"", b"\xc1", b"\x80" + b"x", msgpack.packb([1]), msgpack.packb({"ids": [1], "unknown": 2}),
        msgpack.packb({"ids": ["a"]}), msgpack.packb({"ids": [True]}), msgpack.packb({}), msgpack.packb({1: 2}),
        msgpack.packb({"ids": [1], "kv": {"named": "x"}}), b"\x81\xa3ids" + b"\x91" * 2000 + b"\xc0",
        msgpack.packb({"ids": msgpack.ExtType(1, b"x")}),
    ],
)  # fmt: skip
def test_what_is_no_token_event_is_refused(wire: bytes) -> None:
    with pytest.raises(BadRecord):
        records.decode(TokenEvent, wire)


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_bad_record(wire: bytes) -> None:
    for cls in (TokenEvent, TokenizeRequest, records.Answer, records.ProducerStatus):
        try:
            records.decode(cls, wire)
        except BadRecord:
            continue


# ---------------------------------------------------------------- tensors and chains


@given(st.sampled_from(sorted(tensors.ITEM_BYTES)), st.lists(st.integers(0, 5), max_size=4), st.randoms())
def test_tensors_round_trip(dtype: str, shape: list[int], random: object) -> None:
    import math

    payload = bytes(math.prod(shape) * tensors.ITEM_BYTES[dtype])
    tensor = tensors.RawTensor(dtype, tuple(shape), payload)
    back = tensors.decode_tensor(tensors.encode_tensor(tensor))
    assert (back.dtype, back.shape, bytes(back.payload)) == (dtype, tuple(shape), payload)


@given(st.binary(max_size=64))
def test_random_bytes_are_no_tensor(wire: bytes) -> None:
    for candidate in (wire, b"NDT1" + wire):
        try:
            tensors.decode_tensor(candidate)
        except BadRecord:
            continue


def test_tensor_of_a_lying_size() -> None:
    good = tensors.encode_tensor(tensors.RawTensor("f32", (2, 2), bytes(16)))
    for bad in (good[:-1], good + b"\0", good[:8] + b"\xff\xff\xff\xff" + good[12:]):
        with pytest.raises(BadRecord):
            tensors.decode_tensor(bad)


def test_chain_vectors() -> None:
    """Derivation spelled out once more, and fixed values: nodes of all versions must agree."""
    start = hashlib.sha256(b"ndn-infer chain v1\x00" + b"4").digest()
    first = hashlib.sha256(start + b"".join(i.to_bytes(4, "little") for i in (1, 2, 3, 4))).digest()
    second = hashlib.sha256(first + b"".join(i.to_bytes(4, "little") for i in (5, 6, 7, 49151))).digest()
    assert chain.chain([1, 2, 3, 4, 5, 6, 7, 49151, 9], 4) == [first, second]
    assert chain.chain([1, 2, 3], 4) == []


@given(st.lists(st.integers(0, 60000), min_size=8, max_size=40), st.integers(0, 7))
def test_chain_commits_to_everything_before(ids: list[int], change: int) -> None:
    other = list(ids)
    other[change] += 1
    one, two = chain.chain(ids, 4), chain.chain(other, 4)
    assert all(a != b for a, b in zip(one[change // 4 :], two[change // 4 :], strict=True))
    assert one[: change // 4] == two[: change // 4]
    assert set(one).isdisjoint(chain.chain(ids, 2))


# ---------------------------------------------------------------- namespace


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.title)
def test_kinds_round_trip_and_are_recognised(kind: type) -> None:
    value = kind(*kind.example)
    name = value.to_name(NET)
    assert kind.parse(NET, name) == value
    assert kind.parse(NET, name + ndn.generic("x")) is None
    assert kind.parse(NET, name[: -len(ndn.components(name)[-1])]) is None
    assert kind.parse(ndn.from_uri("/other"), name) is None
    assert classify(NET, name + ndn.METADATA + ndn.version(1) + ndn.segment(0)).kind == value


def test_no_name_is_of_two_kinds() -> None:
    """Over all examples; nodes and roles are told from the rest by reserved words."""
    for kind in KINDS:
        name = kind(*kind.example).to_name(NET)
        matching = [other for other in KINDS if other.parse(NET, name) is not None]
        matching = [other for other in matching if not (other is Call and kind is Result)]
        assert matching == [kind], (kind.title, [other.title for other in matching])


@pytest.mark.parametrize(
    "build",
    [
        lambda: KvBlock("xyz", "public", "bf16", DIGEST, "0-29"),
        lambda: KvBlock(DIGEST, "public", "bf16", DIGEST, "29-0"),
        lambda: KvBlock(DIGEST, "public", "bf16", DIGEST, "00-1"),
        lambda: TokenBlock(DIGEST.upper(), "public", DIGEST),
        lambda: Call("model", DIGEST, "tokenize", "both", DIGEST),
        lambda: Call("planet", DIGEST, "tokenize", "shared", DIGEST),
        lambda: Node("model", "n1"),
        lambda: Role("home", "n1", "KEY"),
        lambda: Role("home", "a/b", "decode"),
        lambda: Role("home", "", "decode"),
    ],
)
def test_values_outside_the_grammar(build: object) -> None:
    with pytest.raises(BadName):
        build()  # type: ignore[operator]


@given(st.binary(max_size=120))
def test_classify_never_raises_on_well_formed_names(raw: bytes) -> None:
    name = NET + b"".join(ndn.generic(bytes([b])) for b in raw[:10])
    classify(NET, name)


# ---------------------------------------------------------------- configuration


def test_defaults_file_environment_flags_in_that_order(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[fetch]\nlifetime_ms = 1\nwindow_limit = 2\ndeadline_s = 3\n")
    environment = {"NDN_INFER_FETCH_WINDOW_LIMIT": "5", "NDN_INFER_FETCH_DEADLINE_S": "6", "HOME": "/"}
    effective = config.load(file=file, environment=environment, flags=["fetch.deadline_s=9.5"])
    assert (effective.fetch.lifetime_ms, effective.fetch.window_limit, effective.fetch.deadline_s) == (1, 5, 9.5)
    origins = [effective.origins[f"fetch.{key}"].split()[0] for key in ("lifetime_ms", "window_limit", "deadline_s")]
    assert origins == ["file", "environment", "flag"]
    assert effective.origins["ask.model"] == "default"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[fetch]\nlifetime = 1\n", "lifetime_ms"), ("[fetsh]\n", None), ("lifetime_ms = 1\n", "outside"),
        ("[fetch]\nlifetime_ms = '1'\n", "int"), ("[fetch]\nlifetime_ms = -1\n", "negative"),
        ("[fetch]\nlifetime_ms = true\n", "int"), ("[fetsh]\nx = 1\n", "fetch"),
    ],
)  # fmt: skip
def test_wrong_files_name_the_key(tmp_path: Path, text: str, words: str | None) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    if words is None:
        config.load(file=file)  # an empty unknown table holds nothing that could be without effect
        return
    with pytest.raises(ConfigError, match=words):
        config.load(file=file)


def test_every_option_has_help_and_a_value() -> None:
    rows = list(config.options())
    assert len(rows) > 40 and all(help_text for *_, help_text in rows)


@dataclass(frozen=True, slots=True)
class _Grown(Record):
    """A record that got a field with a default since."""

    text: str
    added: int = 7


def test_a_new_field_with_a_default_keeps_old_digests() -> None:
    assert records.encode(_Grown("x")) == msgpack.packb({"text": "x"})
