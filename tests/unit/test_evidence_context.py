"""Context records: what they hold comes back, and nothing else is read; spans of passages in a prompt."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.client.passages import Cited, passage_places, rag_prompt
from ndn_infer.errors import BadPacket, BadRecord
from ndn_infer.evidence import statement
from ndn_infer.evidence.bundle import BundleNote, EvidenceBundle, read_bundle
from ndn_infer.evidence.context import MODEL, TOKENIZE, Context, PassageUse
from ndn_infer.evidence.spans import covers, spans_in
from ndn_infer.evidence.statement import Resource
from ndn_infer.ndn.packet import SignatureInfo, digest_signer, encode_data
from ndn_infer.records import Message, PassageRecord, TokenizeRequest
from ndn_infer.records.tools import Tool, ToolCall
from ndn_infer.security.validator import Validated

_TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
_CALLS = st.builds(ToolCall, st.text("ab", min_size=1, max_size=3), st.just('{"a": 1}'), st.text("c", max_size=2))
_MESSAGES = st.builds(
    Message, st.sampled_from(["system", "user", "assistant", "tool"]), _TEXT, st.tuples() | st.tuples(_CALLS), _TEXT
)
_TOOLS = st.builds(Tool, st.text("t", min_size=1, max_size=3), _TEXT, st.just(""))
_ASKED = st.builds(
    TokenizeRequest, st.lists(_MESSAGES, max_size=3).map(tuple), _TEXT, st.sampled_from(["", "2026-11-26"]),
    st.booleans(), st.booleans(), st.lists(_TOOLS, max_size=2).map(tuple),
)  # fmt: skip
_USES = st.builds(
    PassageUse, st.just("/n/corpus/c/passage/p"), st.just("ab" * 32), st.integers(0, 3), st.just((1, 5)),
    st.just((2, 9)),
) | st.builds(
    PassageUse, st.just("/n/corpus/c/passage/p"), st.just("ab" * 32), st.integers(0, 3), st.just((1, 5)),
    st.none(), st.just("nowhere"),
)  # fmt: skip


def _context(asked: TokenizeRequest, uses: tuple[PassageUse, ...] = (), chain: int = 2) -> Context:
    return Context(
        "aa" * 32, (Resource("/n/model/m/result/generate/r/request", "cd" * 32, "request"),), "m", asked,
        Resource("/n/t", "ef" * 32, TOKENIZE), Resource("/n/m", name=MODEL), 40, 16, ("00" * 32,) * chain, uses,
    )  # fmt: skip


@settings(max_examples=60)
@given(_ASKED, st.lists(_USES, max_size=3).map(tuple))
def test_what_a_context_says_comes_back(asked: TokenizeRequest, uses: tuple[PassageUse, ...]) -> None:
    context = _context(asked, uses)
    assert Context.of(statement.decode(statement.encode(context.statement()))) == context


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in steps:
        found += _places(inner, (*path, key))
    return found


_WRONG: tuple[Any, ...] = (None, -1, 1 << 70, 0.5, "x" * 2000, [], {}, [[]], {"a": 1}, True)


@settings(max_examples=300)
@given(st.data())
def test_anything_else_is_refused_in_words(data: st.DataObject) -> None:
    """A value anywhere in the predicate is another one, is gone, or one too many is there."""
    asked = TokenizeRequest((Message("user", "hi", (ToolCall("a"),), "x"),), tools=(Tool("t"),))
    said = _context(asked, (PassageUse("/p", "ab" * 32, 0, (1, 5), (2, 9)),)).statement()
    predicate = copy.deepcopy(dict(said.predicate))
    *path, last = data.draw(st.sampled_from(_places(predicate)))
    at: Any = predicate
    for step in path:
        at = at[step]
    how = data.draw(st.sampled_from(("wrong", "gone", "more")))
    if how == "gone":
        del at[last]
    elif how == "more" and isinstance(at, dict):
        at["more"] = 1
    else:
        at[last] = data.draw(st.sampled_from(_WRONG))
    try:
        found = Context.of(statement.Statement(said.subject, said.predicate_type, predicate))
    except BadRecord:
        return
    assert found.statement().predicate == predicate


# ------------------------------------------------------------ spans


def _cut(text: str, sizes: list[int]) -> list[bytes]:
    raw, pieces, at = text.encode(), [], 0
    for size in sizes:
        pieces.append(raw[at : at + size])
        at += size
    return [*(piece for piece in pieces if piece), raw[at:]] if raw[at:] else [piece for piece in pieces if piece]


@settings(max_examples=200)
@given(
    st.text("ab \nä[1]", min_size=1, max_size=30), st.lists(st.integers(1, 5), max_size=40), st.text("xy", max_size=9)
)
def test_a_span_is_the_fewest_ids_that_hold_a_passage(part: str, sizes: list[int], before: str) -> None:
    message = f"Answer: {part} Question?"
    pieces = _cut(f"<|user|>{before}{message}<|end|>", sizes)
    first = message.index(part)
    (span,) = spans_in(pieces, message, [(first, first + len(part))])
    assert not isinstance(span, str)
    held = b"".join(pieces[span[0] : span[1]])
    assert part.encode() in held and (covers(pieces, span, part) or not part.strip())
    assert part.encode() not in b"".join(pieces[span[0] + 1 : span[1]]) or part.encode() in held[len(pieces[span[0]]) :]
    offset = sum(map(len, pieces[: span[0]]))
    whole = b"".join(pieces)
    start = whole.index(message.encode()) + len(message[:first].encode())
    assert offset <= start < offset + len(pieces[span[0]])
    assert sum(map(len, pieces[: span[1]])) >= start + len(part.encode()) > sum(map(len, pieces[: span[1] - 1]))


@pytest.mark.parametrize(
    ("text", "why"), [("<u>other<e>", "nowhere"), ("<u>hello there<e><u>hello there<e>", "more than once")]
)
def test_where_a_span_cannot_be_established_it_says_so(text: str, why: str) -> None:
    (said,) = spans_in(_cut(text, [3] * 30), "hello there", [(0, 5)])
    assert isinstance(said, str) and why in said


def test_templates_may_trim_a_message() -> None:
    (span,) = spans_in(_cut("<u>hello there<e>", [3, 5, 1, 5, 3]), "  hello there\n", [(2, 7)])
    assert span == (1, 2)


def test_passages_know_their_places_in_the_message() -> None:
    nobody = Validated(b"", b"", "")
    cited = [
        Cited(f"/p/{at}", 0.5, PassageRecord("s", "t", text, at), nobody)
        for at, text in enumerate(("one", "zwei ä\ndrei"))
    ]
    message = rag_prompt("one?", cited)
    assert [message[first:end] for first, end in passage_places(cited)] == ["> one", "> zwei ä\n> drei"]


# ------------------------------------------------------------ bundles


@settings(max_examples=150)
@given(st.binary(max_size=400))
def test_a_file_of_anything_is_no_bundle_or_a_damaged_one(raw: bytes) -> None:
    bundle = EvidenceBundle(BundleNote("/n/v=1"))
    bundle.add(encode_data(b"\x08\x01a", b"x", info=SignatureInfo(0), signer=digest_signer))
    with pytest.raises(BadPacket):
        read_bundle(raw)
    found = read_bundle(bundle.encode() + raw)
    assert found.note == bundle.note and (bool(found.unreadable) or not raw or len(found.packets) >= 1)
    assert read_bundle(bundle.encode()) == bundle
