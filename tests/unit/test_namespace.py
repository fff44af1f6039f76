"""Every kind of name: round trips over generated values, names of one kind only, near misses."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ndn_infer import namespace, ndn
from ndn_infer.errors import BadName
from ndn_infer.namespace import KINDS, Call, CallClass, Kind, Result, Role, TokenBlock, classify
from ndn_infer.ndn import tlv

NET = ndn.from_uri("/ndn-infer/local")
DIGEST = "0123456789abcdef" * 4
WORDS = ["model", "corpus", "service", "catalog", "operator", "KEY", "tokens", "kv", "passage", "result", "shared",
         "private", "status", "input", "domain", "key", "encryption", "public", "act", "v=1",
         "32=metadata", "evidence", "record", "request"]  # fmt: skip

labels = st.sampled_from(WORDS) | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)
digests = st.sampled_from([DIGEST, "ab" * 32]) | st.binary(min_size=32, max_size=32).map(bytes.hex)
VALUES: dict[str, Any] = {
    **dict.fromkeys(("model", "corpus", "chain", "request", "passage", "content"), digests),
    "layers": st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda pair: "{}-{}".format(*sorted(pair))),
    "call_class": st.sampled_from(list(CallClass)),
    "subject_kind": st.sampled_from(["model", "corpus", "service"]),
    "subject": digests | labels,
    "epoch": st.integers(1, 999_999_999).map(str),
}


def kinds_of(draw: Any) -> Kind | None:
    cls = draw(st.sampled_from(KINDS))
    values = {item.name: draw(VALUES.get(item.name, labels)) for item in fields(cls)}
    try:
        return cls(**values)
    except BadName:  # a reserved word where it may not stand
        return None


@given(st.data())
def test_every_kind_round_trips_and_no_name_is_of_two(data: st.DataObject) -> None:
    """Values are drawn from the very words that other kinds have in their patterns."""
    value = kinds_of(data.draw)
    assume(value is not None)
    assert value is not None
    name = value.to_name(NET)
    assert [found for kind in KINDS if (found := kind.parse(NET, name)) is not None] == [value]
    assert classify(NET, name).kind == value
    tail = ndn.METADATA + ndn.version(1) + ndn.segment(0)
    explained = classify(NET, name + tail)
    assert explained.kind == value and len(explained.rest) == 3
    assert ndn.from_uri(ndn.to_uri(name)) == name


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.title)
def test_one_component_off_is_another_name(kind: type[Kind]) -> None:
    name = kind(*kind.example).to_name(NET)
    parts = ndn.components(name[len(NET) :])
    for at, part in enumerate(parts):
        others = [ndn.generic(""), ndn.keyword("x"), ndn.segment(1), ndn.generic(b"\xff"), ndn.generic("KEY")]
        others += [ndn.generic(ndn.component_value(part) + b"\0"), ndn.generic("x" * 65), tlv.encode_tlv(9, b"home")]
        for other in others:
            assert kind.parse(NET, NET + b"".join([*parts[:at], other, *parts[at + 1 :]])) is None
        assert kind.parse(NET, NET + b"".join(parts[:at] + parts[at + 1 :])) is None
        assert kind.parse(NET, NET + b"".join([*parts[:at], part, *parts[at:]])) is None
    assert kind.parse(NET + ndn.generic("deeper"), name) is None
    assert kind.parse(NET[: -len(ndn.components(NET)[-1])], name) is None


@pytest.mark.parametrize("word", sorted(namespace.RESERVED_FUNCTIONS))
def test_no_function_is_called_like_something_else(word: str) -> None:
    """/model/M/tokens/shared/D would be a call of 'tokens' and a token block of the domain 'shared'."""
    for make in (
        lambda: Call("model", DIGEST, word, "shared", DIGEST), lambda: Result("model", DIGEST, word, DIGEST),
    ):  # fmt: skip
        with pytest.raises(BadName, match="function"):
            make()
    name = TokenBlock(DIGEST, "shared", DIGEST).to_name(NET)
    assert Call.parse(NET, name) is None and classify(NET, name).kind == TokenBlock(DIGEST, "shared", DIGEST)


def test_the_result_of_a_call_has_its_own_name() -> None:
    call = Call("service", "clock", "now", "private", DIGEST)
    assert call.result() == Result("service", "clock", "now", DIGEST)
    assert Call.parse(NET, call.result().to_name(NET)) is None


@pytest.mark.parametrize("uri", ["/home/n1/decode/KEY/%01/op/v=1", "/home/n1/KEY/%01/self/v=2", "/home/n1/rag/KEY/x"])
def test_keys_belong_to_the_identity_above_them(uri: str) -> None:
    explained = classify(NET, NET + ndn.from_uri(uri))
    assert explained.kind is not None and "key" in explained.rest[0]


@pytest.mark.parametrize(
    "uri", ["", "/x", "/model/abc", "/home/n1/decode/ask/status/more", "/home/n1/decode/50=x/y/z/w"]
)
def test_names_of_no_kind(uri: str) -> None:
    assert classify(NET, NET + ndn.from_uri(uri or "/")).kind is None
    assert classify(NET, ndn.from_uri("/elsewhere/home/n1")).kind is None


@given(st.lists(labels.map(ndn.generic) | st.binary(max_size=8).map(ndn.generic) | st.just(ndn.segment(3)), max_size=9))
def test_classify_and_parse_never_raise(parts: list[bytes]) -> None:
    name = NET + b"".join(parts)
    found = [kind for kind in KINDS if kind.parse(NET, name) is not None]
    assert len(found) <= 1
    explained = classify(NET, name)
    assert not found or isinstance(explained.kind, found[0])


def test_prefixes_are_prefixes_of_their_names() -> None:
    call = Call("model", DIGEST, "tokenize", "shared", DIGEST)
    assert call.to_name(NET).startswith(namespace.function_prefix(NET, "model", DIGEST, "tokenize"))
    assert call.result().to_name(NET).startswith(namespace.results_prefix(NET, "model", DIGEST, "tokenize"))
    assert TokenBlock(DIGEST, "public", DIGEST).to_name(NET).startswith(namespace.blocks_prefix(NET, DIGEST, "tokens"))
    assert Role.parse_prefix(NET, Role("home", "n1", "rag").to_name(NET) + ndn.generic("x")) == (
        Role("home", "n1", "rag"), [ndn.generic("x")],
    )  # fmt: skip
