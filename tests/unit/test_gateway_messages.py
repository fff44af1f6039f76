"""/v1/messages: what is read, what is refused, and documents and events held to Anthropic's specification."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import llm_comply
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_comply.schema import SpecLoader

from ndn_infer import records
from ndn_infer.client.answer_parts import AnswerParts
from ndn_infer.gateway.anthropic import read_anthropic, read_count
from ndn_infer.gateway.forms.form import Head, ServerEvent
from ndn_infer.gateway.forms.messages import MessagesForm, error_document
from ndn_infer.gateway.growing import ChoiceEvent, GrowingChoice
from ndn_infer.gateway.refusal import Refusal
from ndn_infer.gateway.requests import ChatRequest
from ndn_infer.gateway.tools import ToolUse
from ndn_infer.records import KvSources, Message, Sampling, TokenEvent, TokenizeRequest, grammar
from ndn_infer.records.tools import Tool, ToolCall

pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")

DEFAULTS = Sampling(max_tokens=99)
BASE: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
HEAD = Head("ab", 7, "m", "fp_1")
SPEC = SpecLoader(str(Path(llm_comply.__file__).parent / "specs" / "anthropic.json"))
_EVENTS = {
    "message_start": "MessageStartEvent", "content_block_start": "ContentBlockStartEvent",
    "content_block_delta": "ContentBlockDeltaEvent", "content_block_stop": "ContentBlockStopEvent",
    "message_delta": "MessageDeltaEvent", "message_stop": "MessageStopEvent",
}  # fmt: skip


def read(body: dict[str, Any]) -> ChatRequest:
    return read_anthropic({**BASE, **body}, DEFAULTS)


def stream(*events: TokenEvent, tools: Collection[str] = ()) -> tuple[GrowingChoice, list[Any]]:
    """The choice at its end, and all events, each as the specification has it and named as it says itself."""
    form, choice = MessagesForm(HEAD), GrowingChoice(0, 8, AnswerParts(tools))
    told: list[ServerEvent] = [*form.opening([choice])]
    for event in events:
        before = choice.text
        pieces = choice.take(event, stored=False)
        told += form.growing(ChoiceEvent(choice, event, before, pieces))
    return choice, checked([*told, *form.closing([choice]), *form.ending()])


def checked(events: Iterable[ServerEvent]) -> list[Any]:
    documents: list[Any] = [event.data for event in events]
    for event, document in zip(events, documents, strict=True):
        assert event.name == document["type"] and SPEC.validate(document, _EVENTS[event.name]) == []
    return documents


# ---------------------------------------------------------------- answers


def test_a_message_whole_and_as_a_stream() -> None:
    sources = KvSources(local=1, prefilled=1)
    choice, events = stream(TokenEvent((3,), "Hel"), TokenEvent((4,)), TokenEvent((5,), "lo", "stop", kv=sources))
    whole = MessagesForm(HEAD).whole([choice])
    assert SPEC.validate(whole, "Message") == []
    assert whole["content"] == [{"type": "text", "text": "Hello", "citations": None}]
    assert (whole["id"], whole["stop_reason"]) == ("msg_ab", "end_turn")
    used = whole["usage"]
    assert (used["input_tokens"], used["cache_read_input_tokens"], used["output_tokens"]) == (4, 4, 3)
    assert [event["type"] for event in events] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    assert events[0]["message"]["usage"]["input_tokens"] == 8 and events[0]["message"]["stop_reason"] is None
    assert "".join(event["delta"]["text"] for event in events[2:4]) == "Hello"
    assert events[-2]["delta"]["stop_reason"] == "end_turn"
    assert events[-2]["usage"].items() <= used.items()


def test_an_answer_that_a_stop_sequence_ended_says_which() -> None:
    choice, events = stream(TokenEvent((3,), "Hel", "stop", stopped_by="lo"))
    whole = MessagesForm(HEAD).whole([choice])
    assert SPEC.validate(whole, "Message") == []
    for told in (whole, events[-2]["delta"]):
        assert (told["stop_reason"], told["stop_sequence"]) == ("stop_sequence", "lo")


def test_an_answer_that_was_cut_and_one_without_text() -> None:
    choice, events = stream(TokenEvent((3,), "a", "length"))
    assert MessagesForm(HEAD).whole([choice])["stop_reason"] == events[-2]["delta"]["stop_reason"] == "max_tokens"
    choice, events = stream(TokenEvent((3,), "", "stop"))
    assert [event["type"] for event in events[1:3]] == ["content_block_start", "content_block_stop"]
    assert [block["text"] for block in MessagesForm(HEAD).whole([choice])["content"]] == [""]


CALLS = [
    "Let me ", "see.\n<tool_", 'call>\n{"name": "f", "arguments": {"x"', ': 1}}\n</tool_call>\n<tool_call>\n',
    '{"name": "g", "arguments": {}}\n</tool_call>',
]  # fmt: skip


def test_calls_are_blocks() -> None:
    parts = [TokenEvent((3,), text) for text in CALLS]
    choice, events = stream(*parts, TokenEvent((9,), "", "stop"), tools={"f", "g"})
    whole = MessagesForm(HEAD).whole([choice])
    assert SPEC.validate(whole, "Message") == []
    assert [block["type"] for block in whole["content"]] == ["text", "tool_use", "tool_use"]
    assert [block["input"] for block in whole["content"][1:]] == [{"x": 1}, {}]
    assert whole["stop_reason"] == events[-2]["delta"]["stop_reason"] == "tool_use"
    begun = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert [(one.get("id"), one.get("name")) for one in begun] == [
        (one.get("id"), one.get("name")) for one in whole["content"]
    ]
    deltas = [event for event in events if event["type"] == "content_block_delta"]
    told = "".join(event["delta"]["partial_json"] for event in deltas if event["index"] == 1)
    assert told == '{"x": 1}' and "".join(one["delta"].get("text", "") for one in deltas) == "Let me see."
    stops = [event["index"] for event in events if event["type"] == "content_block_stop"]
    assert stops == [0, 1, 2]


def test_a_call_that_was_cut_is_no_tool_use_to_answer() -> None:
    choice, events = stream(
        TokenEvent((3,), '<tool_call>\n{"name": "f", "arguments": {"x": [1,', "length"), tools={"f"}
    )
    whole = MessagesForm(HEAD).whole([choice])
    assert whole["stop_reason"] == "max_tokens" and whole["content"][0]["input"] == {}
    assert [event["type"] for event in events[-3:]] == ["content_block_stop", "message_delta", "message_stop"]


def test_errors_and_signs_of_life() -> None:
    form = MessagesForm(HEAD)
    for status, kind in ((400, "invalid_request_error"), (429, "rate_limit_error"), (503, "overloaded_error"),
                         (504, "timeout_error"), (502, "api_error"), (415, "invalid_request_error")):  # fmt: skip
        document = error_document(Refusal(status, "so it is"))
        assert document["error"] == {"type": kind, "message": "so it is"}
        assert SPEC.validate(document, "ErrorResponse") == []
    (event,) = form.failing(Refusal(504, "too slow"))
    assert event.name == "error" and event.data == error_document(Refusal(504, "too slow"))
    assert form.keep_alive().encode() == b'event: ping\ndata: {"type": "ping"}\n\n'


# ---------------------------------------------------------------- requests


def test_blocks_become_messages() -> None:
    cut = {"cache_control": {"type": "ephemeral"}}
    asked = read({
        "system": [{"type": "text", "text": "be brief", **cut}, {"type": "text", "text": "and kind"}], "stream": True,
        "temperature": 0.5, "top_p": 0.9, "top_k": 5, "stop_sequences": ["END"], "metadata": {"user_id": "me"},
        "thinking": {"type": "disabled"}, "service_tier": "auto", "seed": 4,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a", **cut}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "c"},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"x": [1, "é"]}},
            ]},
            {"role": "user", "content": [
                {"type": "text", "text": "d"},
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "42"}]},
                {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": True, "content": "no such thing"},
            ]},
        ],
    })  # fmt: skip
    assert asked.messages == (
        Message("system", "be brief\nand kind"), Message("user", "a\nb"),
        Message("assistant", "c", (ToolCall("f", '{"x": [1, "é"]}', "toolu_1"),)),
        Message("tool", "42", (), "toolu_1"), Message("tool", "Error: no such thing", (), "toolu_2"),
        Message("user", "d"),
    )  # fmt: skip
    assert asked.asked.sampling == Sampling(9, 0.5, 0.9, 5, 4, ("END",)) and asked.asked.stream


def test_a_format_is_a_grammar() -> None:
    wanted = {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}}
    asked = read({"output_config": {"format": wanted}})
    assert asked.asked.sampling.grammar == grammar.of_json_schema(wanted["schema"])


def test_tools_and_which_are_chosen() -> None:
    tools = [
        {"name": "f", "description": "does f", "input_schema": {"type": "object"}, "cache_control": None},
        {"type": "custom", "name": "g", "input_schema": {"type": "object", "properties": {"x": {"type": "string"}}}},
    ]
    use = read({"tools": tools}).tools
    assert use.tools == (Tool("f", "does f", '{"type": "object"}'), use.tools[1]) and use.allowed == ("f", "g")
    assert use.parallel and not use.required
    one = read({"tools": tools, "tool_choice": {"type": "tool", "name": "g", "disable_parallel_tool_use": True}}).tools
    assert (one.allowed, one.required, one.parallel) == (("g",), True, False)
    assert read({"tools": tools, "tool_choice": {"type": "any"}}).tools.required
    assert read({"tools": tools, "tool_choice": {"type": "none"}}).tools.shown == ()
    assert read({"tools": []}).tools == ToolUse()


@pytest.mark.parametrize(("body", "param"), [
    ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"), ({"tools": [{}]}, "tools[0].name"),
    ({"tool_choice": {"type": "any"}}, "tool_choice"), ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
    ({"tools": [{"name": "f"}], "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice"),
    ({"max_tokens": None}, "max_tokens"), ({"max_tokens": 0}, "max_tokens"),
    ({"stop_sequences": [""]}, "stop_sequences"), ({"stop": "x"}, "stop"), ({"n": 1}, "n"),
    ({"messages": []}, "messages"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.type"), ({"container": "c"}, "container"),
    ({"mcp_servers": [{}]}, "mcp_servers"), ({"system": 3}, "system"), ({"top_k": -2}, "top_k"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "robot", "content": "a"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "messages[0].content[0].tool_use_id"),
    ({"metadata": {"other": 1}}, "metadata.other"), ({"output_config": {"effort": "low"}}, "output_config.effort"),
])  # fmt: skip
def test_what_is_refused_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as found:
        read(body)
    assert (found.value.status, found.value.param) == (400, param)


def test_a_request_to_count_has_no_max_tokens() -> None:
    body = {name: value for name, value in BASE.items() if name != "max_tokens"}
    assert read_count(body, DEFAULTS).messages == (Message("user", "hi"),)
    with pytest.raises(Refusal):
        read_count(BASE, DEFAULTS)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from(["user", "text", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_BLOCK = st.fixed_dictionaries({}, optional={
    "type": st.sampled_from(["text", "tool_use", "tool_result", "thinking"]) | _JSON, "text": _JSON, "id": _JSON,
    "name": _JSON, "input": _JSON, "tool_use_id": _JSON, "content": _JSON,
})  # fmt: skip
_MESSAGE = st.fixed_dictionaries(
    {}, optional={"role": st.sampled_from(["user", "assistant", "system"]), "content": _JSON | st.lists(_BLOCK)}
)
_NAMES = ["system", "thinking", "metadata", "stop_sequences", "seed", "stream", "cache_control", "output_config"]


@given(st.dictionaries(st.sampled_from(_NAMES), _JSON, max_size=3), st.lists(_MESSAGE, max_size=3) | _JSON)
def test_any_body_is_a_request_that_can_be_sent_or_a_refusal_that_can_be_told(body: dict[str, Any], said: Any) -> None:
    try:
        asked = read({**body, "messages": said})
        records.encode(TokenizeRequest(messages=asked.messages))
    except Refusal as refusal:
        assert refusal.status == 400 and refusal.message
        json.dumps(error_document(refusal)).encode()
