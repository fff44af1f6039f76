"""The hermes form: whatever an answer says, and however it is cut, text and calls are the same and nothing is lost."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ndn_infer.hermes import (
    MAX_BLANKS,
    MAX_HEAD,
    ArgumentsPiece,
    CallBegun,
    CallEnded,
    HermesParser,
    Piece,
    TextPiece,
    call_text,
)

NAMES = ("add", "get_weather")
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


def parsed(*parts: str) -> list[Piece]:
    parser = HermesParser(NAMES)
    pieces = [piece for part in parts for piece in parser.push(part)]
    return pieces + parser.finish()


def joined(pieces: list[Piece]) -> list[Any]:
    """Texts, and calls as [name, arguments, complete]."""
    told: list[Any] = []
    for piece in pieces:
        match piece:
            case TextPiece(text) if told and isinstance(told[-1], str):
                told[-1] += text
            case TextPiece(text):
                told.append(text)
            case CallBegun(index, name):
                assert index == sum(isinstance(one, list) for one in told)
                told.append([name, "", False])
            case ArgumentsPiece(index, text):
                assert isinstance(told[-1], list) and not told[-1][2]
                told[-1][1] += text
            case CallEnded(index):
                told[-1][2] = True
    return told


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from([CALL, "}", '"', "\\", "]}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
_ARGUMENTS = st.dictionaries(st.text(max_size=4), _JSON, max_size=3).map(lambda value: json.dumps(value))
_CALL = st.builds(call_text, st.sampled_from([json.dumps(name) for name in (*NAMES, "unknown")]), _ARGUMENTS)
_PARTS = st.lists(
    st.sampled_from(
        ["<tool_call>", "</tool_call>", "\n", " ", "{", "}", '"name"', ": ", '"add"', ", ", '"arguments"', "<", "tool",
         "x", "<tool_call>\n{", '"', "\\", " " * MAX_BLANKS, "n" * MAX_HEAD, '<tool_call>{"name":"add","arguments":{'],
    )
    | _CALL,
    max_size=12,
).map("".join)  # fmt: skip


@given(_PARTS, st.lists(st.integers(0, 400), max_size=12))
@example(" " * (MAX_BLANKS + 4) + CALL, [MAX_BLANKS, MAX_BLANKS + 1, MAX_BLANKS + 2])
def test_any_cut_gives_the_same(text: str, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    parts = [text[start:end] for start, end in zip(places, places[1:], strict=False)]
    whole = joined(parsed(text))
    assert joined(parsed(*parts)) == whole
    assert joined(parsed(*text)) == whole


def frame_of(told: list[Any]) -> str:
    """A regular expression of all answers that say this: its texts and arguments, and around each call its frame."""
    parts = []
    for one in told:
        if isinstance(one, str):
            parts.append(re.escape(one))
            continue
        name, arguments, complete = one
        head = rf'\s*<tool_call>\s*\{{\s*"name"\s*:\s*"{name}"\s*,\s*"arguments"\s*:\s*'
        parts.append(head + re.escape(arguments) + (r"(?:\s*\}\s*</tool_call>)?" if complete else "$"))
    head = r"\s*[<tool_call>]*\s*\{?\s*[\"name]*\s*:?\s*[\"adget_weather]*\s*,?\s*[\"arguments]*\s*:?\s*"
    tail = r"\s*\}?\s*[</tool_call>]*"
    return "".join(parts) + (f"(?:{tail}|{head})" if told and not isinstance(told[-1], str) else "")


@given(_PARTS)
def test_nothing_is_lost_but_what_frames_a_call(text: str) -> None:
    told = joined(parsed(text))
    assert re.fullmatch(frame_of(told), text)
    assert any(isinstance(one, list) for one in told) or told == ([text] if text else [])


@given(
    st.lists(st.text(max_size=8).filter(lambda text: "<" not in text) | st.tuples(st.sampled_from(NAMES), _ARGUMENTS))
)
def test_what_was_written_is_read(said: list[Any]) -> None:
    text = "\n".join(one if isinstance(one, str) else call_text(json.dumps(one[0]), one[1]) for one in said)
    calls = [[name, arguments, True] for name, arguments in (one for one in said if not isinstance(one, str))]
    assert [one for one in joined(parsed(text)) if isinstance(one, list)] == calls


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>",
        "<tool_call> is how one writes a call",
        '<tool_call>\n{"name": "unknown", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"arguments": {}, "name": "add"}\n</tool_call>',
        '<tool_call>\n{"name": "a\\u0064d", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "add", "arguments": "{}"}\n</tool_call>',
        '<tool_call>\n{"name": "add", "arguments": ',
        '<tool_call>{"name": "' + "a" * 600,
        "</tool_call>",
        " \n ",
        "a < b",
    ],
)
def test_what_only_looks_like_a_call_is_text(text: str) -> None:
    assert joined(parsed(text)) == [text]


def test_text_and_calls_in_turn() -> None:
    assert joined(parsed(f"Let me see.\n{CALL}\n{CALL}\n")) == ["Let me see.", *[["add", '{"a": 1}', True]] * 2]
    assert joined(parsed(f"<tool_call>{CALL} done")) == ["<tool_call>", ["add", '{"a": 1}', True], " done"]
    assert joined(parsed(f"{CALL}}}")) == [["add", '{"a": 1}', True], "}"]
    for end in ("\n", "\n<tool_", '\n<tool_call>\n{"name": "ad', '<tool_call>{"name": "add", "arguments": '):
        assert joined(parsed(CALL + end)) == [["add", '{"a": 1}', True]], "nothing of the next call is there"
        assert joined(parsed(f"{CALL} and{end}")) == [["add", '{"a": 1}', True], f" and{end}"]


def test_a_call_that_breaks_off_keeps_what_came() -> None:
    for size in range(len(CALL)):
        told = joined(parsed("Well.\n" + CALL[:size]))
        if size <= CALL.index('{"a"'):
            assert told == ["Well.\n" + CALL[:size]]
        else:
            whole = CALL[CALL.index('{"a"') : CALL.index("}\n")]
            assert told == ["Well.", ["add", CALL[CALL.index('{"a"') : size][: len(whole)], size >= CALL.index("}\n")]]


def test_a_call_is_told_as_it_grows() -> None:
    parser, seen = HermesParser(NAMES), []
    for character in CALL:
        seen += parser.push(character)
    assert seen[0] == CallBegun(0, "add") and seen[-1] == CallEnded(0)
    assert [piece.text for piece in seen[1:-1] if isinstance(piece, ArgumentsPiece)] == list('{"a": 1}')
