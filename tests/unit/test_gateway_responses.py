"""/v1/responses: what is read, what is refused, and documents and events held to the Open Responses specification."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import llm_comply
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_comply.schema import SpecLoader

from ndn_infer import records
from ndn_infer.client.answer_parts import AnswerParts
from ndn_infer.gateway.forms.form import Head, ServerEvent
from ndn_infer.gateway.forms.responses import ResponsesForm
from ndn_infer.gateway.growing import ChoiceEvent, GrowingChoice
from ndn_infer.gateway.refusal import Refusal
from ndn_infer.gateway.responses import ResponsesRequest, read_responses
from ndn_infer.gateway.tools import ToolUse
from ndn_infer.records import Message, Sampling, TokenEvent, TokenizeRequest, TokenLogprobs, grammar
from ndn_infer.records.tools import ToolCall

pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")

DEFAULTS = Sampling(max_tokens=99)
BASE = {"model": "m", "input": "hi"}
HEAD = Head("ab", 7, "m", "fp_1")
SPEC = SpecLoader(str(Path(llm_comply.__file__).parent / "specs" / "openresponses.json"))
TOLD = TokenLogprobs(-0.5, ((3, -0.5), (4, -1.5)), b" \xc3", (b" \xc3", b" b"))


def read(body: dict[str, Any]) -> ResponsesRequest:
    return read_responses({**BASE, **body}, DEFAULTS)


def form(body: dict[str, Any]) -> ResponsesForm:
    asked = read(body)
    return ResponsesForm(HEAD, said=asked.said, alternatives=asked.chat.asked.alternatives, now=lambda: 9.5)


def answered(*events: TokenEvent, tools: Collection[str] = ()) -> tuple[GrowingChoice, list[ChoiceEvent]]:
    choice, told = GrowingChoice(0, 4, AnswerParts(tools)), []
    for event in events:
        before = choice.text
        pieces = choice.take(event, stored=False)
        told.append(ChoiceEvent(choice, event, before, pieces))
    return choice, told


def stream(made: ResponsesForm, choice: GrowingChoice, told: Sequence[ChoiceEvent]) -> list[dict[str, Any]]:
    """All events, each as the specification has it, counted, and named as it says itself."""
    events: list[ServerEvent] = [*made.opening([choice])]
    for one in told:
        events += made.growing(one)
    return checked([*events, *made.closing([choice])])


def checked(events: Iterable[ServerEvent]) -> list[dict[str, Any]]:
    documents = []
    for number, event in enumerate(events):
        document: Any = event.data
        assert document["type"] == event.name and document["sequence_number"] == number
        assert SPEC.validate_sse_event(event.name, document) == []
        documents.append(document)
    return documents


def kinds(events: Iterable[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


# ---------------------------------------------------------------- answers


def test_a_whole_response_is_as_the_specification_has_it() -> None:
    choice, _ = answered(TokenEvent((3,), "Hel"), TokenEvent((5,), "lo", "stop"))
    made = form({"instructions": "be brief", "metadata": {"a": "b"}, "user": "me"}).whole([choice])
    assert SPEC.validate(made, "ResponseResource") == []
    assert (made["id"], made["status"], made["completed_at"]) == ("resp_ab", "completed", 9)
    (item,) = made["output"]
    assert item["content"] == [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}]
    assert made["usage"] == {
        "input_tokens": 4, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 6,
    }  # fmt: skip
    assert (made["instructions"], made["metadata"], made["user"], made["store"]) == (
        "be brief",
        {"a": "b"},
        "me",
        False,
    )


def test_a_stream_tells_its_items_in_order_and_ends_with_the_same_response() -> None:
    events = [TokenEvent((3,), "Hel"), TokenEvent((4,)), TokenEvent((5,), "lo", "stop")]
    choice, told = answered(*events)
    documents = stream(form({}), choice, told)
    assert kinds(documents) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert documents[-1]["response"] == form({}).whole([choice])
    assert documents[2]["item"]["content"] == [] and documents[0]["response"]["output"] == []
    assert documents[6]["text"] == "Hello"


def test_an_answer_that_was_cut_is_incomplete() -> None:
    choice, told = answered(TokenEvent((3,), "Hel", "length"))
    last = stream(form({"max_output_tokens": 1}), choice, told)[-1]
    assert last["type"] == "response.incomplete" and last["response"]["max_output_tokens"] == 1
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["response"]["output"][0]["status"] == "incomplete" and last["response"]["completed_at"] is None


def test_an_empty_answer_is_an_empty_message() -> None:
    choice, told = answered(TokenEvent((3,), "", "stop"))
    last = stream(form({}), choice, told)[-1]["response"]
    assert [item["content"][0]["text"] for item in last["output"]] == [""]


def test_log_probabilities() -> None:
    choice, told = answered(TokenEvent((3,), " a", logprobs=(TOLD,)), TokenEvent((4,), "b", "stop", logprobs=(TOLD,)))
    body = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
    documents = stream(form(body), choice, told)
    deltas = [one["logprobs"] for one in documents if one["type"] == "response.output_text.delta"]
    part = documents[-1]["response"]["output"][0]["content"][0]
    assert deltas[0] + deltas[1] == part["logprobs"] and len(part["logprobs"][0]["top_logprobs"]) == 1
    assert form(body).whole([choice])["output"][0]["content"][0] == part


F = {"type": "function", "name": "f", "description": "does f", "parameters": {"type": "object"}, "strict": True}


def test_calls_are_items_with_events_of_their_own() -> None:
    texts = ["I see.\n<tool_call>", '\n{"name": "f", "arguments": {"x"', ": 1}}\n</tool_call>", "\n<tool_call>\n",
             '{"name": "f", "arguments": {}}\n</tool_call>']  # fmt: skip
    choice, told = answered(*[TokenEvent((3,), text) for text in texts], TokenEvent((9,), "", "stop"), tools={"f"})
    made = form({"tools": [F]})
    documents = stream(made, choice, told)
    call = ["output_item.added", *["function_call_arguments.delta"] * 2, "function_call_arguments.done",
            "output_item.done"]  # fmt: skip
    assert kinds(documents)[:-1] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.done",
        "content_part.done", "output_item.done", *call, *call[:1], *call[2:],
    ]  # fmt: skip
    last = documents[-1]["response"]
    assert [item["type"] for item in last["output"]] == ["message", "function_call", "function_call"]
    assert [item.get("arguments") for item in last["output"]] == [None, '{"x": 1}', "{}"]
    assert last["output"][1]["call_id"] != last["output"][2]["call_id"] and last["tools"] == [F]
    whole = form({"tools": [F]}).whole([choice])
    assert whole == last and SPEC.validate(whole, "ResponseResource") == []


def test_a_call_that_was_cut_is_incomplete() -> None:
    choice, told = answered(TokenEvent((3,), '<tool_call>\n{"name": "f", "arguments": {"x', "length"), tools={"f"})
    last = stream(form({"tools": [F]}), choice, told)[-1]["response"]
    assert last["status"] == last["output"][0]["status"] == "incomplete"
    assert last == form({"tools": [F]}).whole([choice])


def test_an_error_in_a_stream_is_an_event_and_ends_the_response() -> None:
    made = form({})
    choice = GrowingChoice(0, 4)
    documents = checked([*made.opening([choice]), *made.failing(Refusal(504, "too slow", code="timeout"))])
    assert kinds(documents) == ["created", "in_progress", "error", "failed"]
    assert documents[-1]["response"]["error"] == {"code": "timeout", "message": "too slow"}
    assert [event.data for event in made.ending()] == ["[DONE]"]


# ---------------------------------------------------------------- requests


def test_items_become_messages() -> None:
    asked = read({
        "instructions": "be brief", "temperature": 0.5, "top_logprobs": 2, "stream": True, "store": False, "seed": 3,
        "include": ["reasoning.encrypted_content"], "reasoning": {"effort": None, "summary": "auto"},
        "text": {"format": {"type": "text"}, "verbosity": "medium"}, "truncation": "auto", "max_output_tokens": 16,
        "input": [
            {"role": "developer", "content": "in French"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"},
                                                            {"type": "input_text", "text": "b"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "phase": "commentary",
             "content": [{"type": "output_text", "text": "c", "annotations": [], "logprobs": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{\"x\": 1}",
             "status": "completed"},
            {"type": "function_call", "call_id": "call_2", "name": "g", "arguments": ""},
            {"type": "function_call_output", "call_id": "call_1", "output": "42"},
            {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "43"}]},
        ],
    })  # fmt: skip
    calls = (ToolCall("f", '{"x": 1}', "call_1"), ToolCall("g", "{}", "call_2"))
    assert asked.chat.messages == (
        Message("system", "be brief"), Message("system", "in French"), Message("user", "a\nb"),
        Message("assistant", "c", calls), Message("tool", "42", (), "call_1"), Message("tool", "43", (), "call_2"),
    )  # fmt: skip
    options = asked.chat.asked
    assert options.sampling == Sampling(16, 0.5, seed=3, logprobs=2) and options.stream and options.alternatives == 2


def test_a_format_is_a_grammar() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    asked = read({"text": {"format": {"type": "json_schema", "name": "n", "schema": schema}}})
    assert asked.chat.asked.sampling.grammar == grammar.of_json_schema({**schema, "additionalProperties": False})
    said = asked.said["text"]["format"]
    assert said == {"type": "json_schema", "name": "n", "description": None, "schema": schema, "strict": True}
    assert read({"text": {"format": {"type": "text"}}}).chat.asked.sampling.grammar is None


def test_tools_and_which_are_chosen() -> None:
    tools = [F, {"type": "web_search"}, {"type": "function", "name": "g"}]
    asked = read({"tools": tools, "parallel_tool_calls": False})
    assert asked.chat.tools.allowed == ("f", "g") and not asked.chat.tools.parallel
    assert [tool["name"] for tool in asked.said["tools"]] == ["f", "g"], "what is passed over is not told as taken"
    chosen = read({"tools": tools, "tool_choice": {"type": "function", "name": "g"}})
    assert (chosen.chat.tools.allowed, chosen.chat.tools.required) == (("g",), True)
    assert chosen.said["tool_choice"] == {"type": "function", "name": "g"}
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}
    assert read({"tools": tools, "tool_choice": allowed}).chat.tools.allowed == ("f",)
    assert read({"tools": tools, "tool_choice": "none"}).chat.tools.shown == ()
    assert read({"tools": [{"type": "web_search"}]}).chat.tools == ToolUse()


@pytest.mark.parametrize(("body", "param"), [
    ({"tools": [{}]}, "tools[0].type"), ({"tools": [{"type": "function"}]}, "tools[0].name"),
    ({"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}, "tool_choice.type"),
    ({"tool_choice": "required"}, "tool_choice"), ({"tools": [F], "tool_choice": "f"}, "tool_choice"),
    ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
    ({"previous_response_id": "resp_1"}, "previous_response_id"), ({"conversation": "c"}, "conversation"),
    ({"store": True}, "store"), ({"background": True}, "background"), ({"n": 2}, "n"),
    ({"max_tokens": 3}, "max_tokens"),
    ({"reasoning": {"effort": "high"}}, "reasoning.effort"), ({"text": {"verbosity": "high"}}, "text.verbosity"),
    ({"include": ["file_search_call.results"]}, "include"), ({"truncation": "middle"}, "truncation"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
    ({"stream_options": {"include_usage": True}}, "stream_options.include_usage"), ({"input": None}, "input"),
    ({"input": []}, "input"), ({"input": [7]}, "input[0]"), ({"input": [{"id": "msg_1"}]}, "input[0].role"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"), ({"metadata": {"a": 1}}, "metadata"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]},
     "input[0].content[0].type"),
    ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"), ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"input": [{"type": "function_call", "call_id": "", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
    ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"), ({"model": 3}, "model"),
])  # fmt: skip
def test_what_is_refused_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as found:
        read(body)
    assert (found.value.status, found.value.param) == (400, param)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from(["user", "message", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_ITEMS = st.lists(
    st.fixed_dictionaries({}, optional={
        "type": st.sampled_from(["message", "function_call", "function_call_output", "reasoning"]) | _JSON,
        "role": st.sampled_from(["user", "assistant"]), "content": _JSON, "call_id": _JSON, "name": _JSON,
        "arguments": _JSON, "output": _JSON, "summary": _JSON,
    }), max_size=3,
)  # fmt: skip


_NAMES = ["text", "include", "reasoning", "metadata", "instructions", "seed", "top_logprobs", "stream_options"]


@given(st.dictionaries(st.sampled_from(_NAMES), _JSON, max_size=3), _ITEMS | _JSON)
def test_any_body_is_a_request_that_can_be_sent_or_a_refusal_that_can_be_told(body: dict[str, Any], items: Any) -> None:
    try:
        asked = read({**body, "input": items})
        records.encode(TokenizeRequest(messages=asked.chat.messages))
        json.dumps(asked.said)
    except Refusal as refusal:
        assert refusal.status == 400 and refusal.message
        json.dumps(refusal.document).encode()
