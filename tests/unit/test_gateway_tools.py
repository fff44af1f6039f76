"""Tools in chat completions: what is read, what is refused, how calls are told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ndn_infer.client.answer_parts import AnswerParts
from ndn_infer.gateway.forms.chat import ChatForm
from ndn_infer.gateway.forms.form import Head
from ndn_infer.gateway.growing import ChoiceEvent, GrowingChoice
from ndn_infer.gateway.refusal import Refusal
from ndn_infer.gateway.requests import ChatRequest, read_chat
from ndn_infer.gateway.sampling import ChoiceOptions
from ndn_infer.gateway.tools import held_to
from ndn_infer.records import Message, Sampling, TokenEvent
from ndn_infer.records.grammar import Grammar
from ndn_infer.records.tools import Tool, ToolCall
from tests.unit.test_gateway import documents

DEFAULTS = Sampling(max_tokens=99)
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Weather.", "parameters": CITY}}
ADD = {"type": "function", "function": {"name": "add"}}
ASKED = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": [WEATHER, ADD]}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bonn"}}\n</tool_call>'


def read(**more: Any) -> ChatRequest:
    return read_chat({**ASKED, **more}, DEFAULTS)


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named(name) for name in names]}}


BOTH = ("get_weather", "add")


@pytest.mark.parametrize(("choice", "names", "required"), [
    (None, BOTH, False), ("auto", BOTH, False), ("none", (), False), ("required", BOTH, True),
    (named("add"), ("add",), True), (allowed("auto", "add"), ("add",), False),
    (allowed("required", "add", "get_weather"), ("add", "get_weather"), True),
])  # fmt: skip
def test_what_may_and_what_must_be_called(choice: Any, names: tuple[str, ...], required: bool) -> None:
    chat = read(tool_choice=choice, parallel_tool_calls=False)
    assert (chat.tools.allowed, chat.tools.required, chat.tools.parallel) == (names, required, False)
    held = held_to(chat.tools, chat.asked).sampling.grammar
    if not names:
        assert held is None and not chat.tools.shown, "a model that must call nothing is told of nothing"
        return
    assert held is not None and {tool.name for tool in held.tools} == set(names)
    assert (held.kind, held.required, held.parallel) == ("tools", required, False)
    assert chat.tools.shown == (Tool("get_weather", "Weather.", json.dumps(CITY)), Tool("add")), "all of them"
    assert read().tools.parallel


def test_beside_a_response_format_an_answer_is_a_call_or_in_the_format() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    formed = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}

    def held(**more: Any) -> Grammar:
        chat = read(response_format=formed, **more)
        found = held_to(chat.tools, chat.asked).sampling.grammar
        assert found is not None
        return found

    both, alone = held(), held(tool_choice="none")
    assert (both.kind, alone.kind) == ("tools", "json_schema") and both.text == alone.text and both.tools
    assert held(tool_choice="required").text == "", "a call is not in the format"
    for other in ({"structured_outputs": {"regex": "a+"}}, {"structured_outputs": {"choice": ["a", "b"]}}):
        chat = read(**other)
        with pytest.raises(Refusal, match="may be held to JSON"):
            held_to(chat.tools, chat.asked)


def test_arguments_are_held_to_the_schema_as_far_as_it_goes() -> None:
    def held(schema: dict[str, Any], **more: Any) -> str:
        tool = {"type": "function", "function": {"name": "f", "parameters": schema, **more}}
        chat = read(tools=[tool])
        grammar = held_to(chat.tools, chat.asked).sampling.grammar
        assert grammar is not None
        [tool_held] = grammar.tools
        return tool_held.parameters

    closed = json.loads(held(CITY))
    assert closed == {**CITY, "additionalProperties": False}, "no property that nobody asked for"
    nested = {"properties": {"a": {"type": "array", "items": CITY}, "b": {"anyOf": [CITY, {"type": "null"}]}}}
    inner = json.loads(held(nested))["properties"]
    assert inner["a"]["items"] == inner["b"]["anyOf"][0] == closed
    for schema in ({"additionalProperties": True, **CITY}, {"allOf": [CITY], "properties": {}}, {"type": "object"}):
        assert json.loads(held(schema)) == {"type": "object", **schema}, "what it says itself stays"
    unenforced = {"type": "object", "properties": {"a": {"uniqueItems": True}}}
    assert held(unenforced) == "", "any object"
    with pytest.raises(Refusal, match="strict.*uniqueItems") as found:
        held(unenforced, strict=True)
    assert found.value.param == "tools"
    huge = {"type": "object", "properties": {f"a{number}": {"type": "string"} for number in range(1200)}}
    many = [{"type": "function", "function": {"name": f"f{at}", "parameters": huge}} for at in range(3)]
    chat = read(tools=many)
    grammar = held_to(chat.tools, chat.asked).sampling.grammar
    assert grammar is not None and [tool.parameters for tool in grammar.tools] == [""] * 3


@pytest.mark.parametrize(("more", "param"), [
    ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
    ({"tools": [WEATHER, WEATHER]}, "tools"), ({"tools": "x"}, "tools"), ({"tools": [ADD] * 129}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}]},
     "tools[0].function.parameters"),
    ({"tools": [{"type": "function", "function": {"name": "f", "no": 1}}]}, "tools[0].function.no"),
    ({"tool_choice": "always"}, "tool_choice"), ({"tool_choice": named("other")}, "tool_choice"),
    ({"tools": [], "tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "custom"}}, "tool_choice.type"),
    ({"tool_choice": allowed("none", "add")}, "tool_choice.allowed_tools.mode"),
    ({"tool_choice": allowed("auto", "other")}, "tool_choice.allowed_tools.tools"),
    ({"parallel_tool_calls": "yes"}, "parallel_tool_calls"), ({"functions": [{"name": "f"}]}, "functions"),
    ({"function_call": {"name": "f"}}, "function_call"),
    ({"messages": [{"role": "tool", "content": "7"}]}, "messages[0].tool_call_id"),
    ({"messages": [{"role": "user", "content": "x", "tool_calls": [{}]}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]},
     "messages[0].tool_calls[0].id"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "[]"}}]}]},
     "messages[0].tool_calls[0].function.arguments"),
])  # fmt: skip
def test_what_is_refused_is_named(more: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as found:
        read(**more)
    assert (found.value.status, found.value.param) == (400, param)


def test_what_a_front_end_notes_beside_a_message_changes_nothing() -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
    noted = {**message, "metadata": {"title": None}, "options": [{"value": "a"}]}
    assert read(messages=[noted]).messages == read(messages=[message]).messages


def test_calls_and_results_in_messages() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1,\n"b": 2}'}}
    said = [
        {"role": "user", "content": "1 + 2?"},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None, "annotations": []},
        {"role": "tool", "tool_call_id": "call_1", "name": "add", "content": [{"type": "text", "text": "3"}]},
    ]
    assert read(messages=said).messages == (
        Message("user", "1 + 2?"),
        Message("assistant", "", (ToolCall("add", '{"a": 1, "b": 2}', "call_1"),)),
        Message("tool", "3", tool_call_id="call_1"),
    )


def told(*events: TokenEvent) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The message and the deltas of an answer, each with its finish reason."""
    form = ChatForm(Head("1", 2, "m", "fp"), ChoiceOptions(DEFAULTS))
    choice, chunks = GrowingChoice(0, 4, AnswerParts(BOTH)), []
    for event in events:
        before = choice.text
        pieces = choice.take(event, stored=False)
        chunks += documents(form.growing(ChoiceEvent(choice, event, before, pieces)))
    whole = form.whole([choice])["choices"][0]
    deltas = [{**chunk["choices"][0]["delta"], "finish": chunk["choices"][0]["finish_reason"]} for chunk in chunks]
    return {**whole["message"], "finish": whole["finish_reason"]}, deltas


def test_a_call_is_told_by_its_name_and_then_in_pieces() -> None:
    text = f"Let me see.\n{CALL}\n{CALL}"
    message, deltas = told(*(TokenEvent((1,), piece) for piece in text), TokenEvent((2,), finish="stop"))
    calls = message["tool_calls"]
    assert message["content"] == "Let me see." and message["finish"] == "tool_calls"
    assert [call["function"] for call in calls] == [{"name": "get_weather", "arguments": '{"city": "Bonn"}'}] * 2
    assert len({call["id"] for call in calls}) == 2 and all(call["id"].startswith("call_") for call in calls)
    assert "".join(delta.get("content", "") for delta in deltas) == "Let me see."
    for index, call in enumerate(calls):
        mine = [one for delta in deltas for one in delta.get("tool_calls", ()) if one["index"] == index]
        assert mine[0] == {**call, "index": index, "function": {"name": "get_weather", "arguments": ""}}
        assert "".join(one["function"]["arguments"] for one in mine) == call["function"]["arguments"]
        assert len(mine) > 10 and all(set(one) == {"index", "function"} for one in mine[1:]), "said once"
    assert [delta["finish"] for delta in deltas][-2:] == [None, "tool_calls"]
    assert told(TokenEvent((1,), text, "stop"))[0] == message, "equal answers have equal identifiers"


def test_an_answer_without_calls_and_one_that_was_cut() -> None:
    message, deltas = told(TokenEvent((1,), "No <tool_call> here", "stop"))
    assert message["content"] == "No <tool_call> here" and "tool_calls" not in message and message["finish"] == "stop"
    message, _ = told(TokenEvent((1,), CALL.split(chr(34) + "}}")[0], "length"))
    assert message["finish"] == "length" and message["content"] is None
    assert message["tool_calls"][0]["function"]["arguments"] == '{"city": "Bonn'
    message, _ = told(TokenEvent((1,), CALL[:-12], "length"))
    assert message["finish"] == "length" and message["tool_calls"][0]["function"]["arguments"] == '{"city": "Bonn"}'
    message, _ = told(TokenEvent((1,), CALL[:20], "length"))
    assert message["content"] == CALL[:20] and "tool_calls" not in message
