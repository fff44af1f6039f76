"""The makers' own clients on the forms of the API: openai's responses, anthropic's messages."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

pytestmark = pytest.mark.model

MODEL = "smollm2-135m-instruct"
PARIS = "What is the capital of France?"
WEATHER: Any = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}


@pytest.fixture(scope="module")
def responses(base: str) -> Any:
    return openai.OpenAI(base_url=base, api_key="none", max_retries=0).responses


@pytest.fixture(scope="module")
def messages(base: str) -> Any:
    client = anthropic.Anthropic(base_url=base.removesuffix("/v1"), api_key="none", max_retries=0)
    return client.messages


def test_a_response_whole_and_as_a_stream(responses: Any) -> None:
    ask: Any = {"model": MODEL, "input": PARIS, "instructions": "Answer in one sentence.", "metadata": {"a": "b"}}
    whole = responses.create(**ask)
    assert "Paris" in whole.output_text and whole.status == "completed" and whole.metadata == {"a": "b"}
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
    events = list(responses.create(**ask, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    told = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert told == whole.output_text == events[-1].response.output_text
    with responses.stream(**ask) as stream:  # the client puts the response together itself, and is strict
        assert stream.get_final_response().output_text == told


def test_a_conversation_is_sent_again(responses: Any) -> None:
    first = responses.create(model=MODEL, input=PARIS)
    items: Any = [{"role": "user", "content": PARIS}, *first.output, {"role": "user", "content": "And of Italy?"}]
    assert responses.create(model=MODEL, input=items).output_text
    with pytest.raises(openai.BadRequestError) as found:
        responses.create(model=MODEL, input=PARIS, previous_response_id=first.id)
    assert found.value.param == "previous_response_id"
    cut = responses.create(model=MODEL, input=PARIS, max_output_tokens=2)
    assert cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens"


def test_a_function_is_called_and_its_result_is_read(responses: Any) -> None:
    tool: Any = {"type": "function", "name": "get_weather", "parameters": WEATHER, "description": "The weather."}
    ask: Any = {"model": MODEL, "tools": [tool], "tool_choice": "required", "input": "How is the weather in Paris?"}
    ask["parallel_tool_calls"] = False
    whole = responses.create(**ask)
    (call,) = whole.output
    assert call.type == "function_call" and set(json.loads(call.arguments)) == {"city"}
    with responses.stream(**ask) as stream:
        (same,) = stream.get_final_response().output
    assert (same.name, same.arguments) == (call.name, call.arguments) == ("get_weather", call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    items: Any = [{"role": "user", "content": ask["input"]}, call, result]
    assert responses.create(model=MODEL, tools=[tool], tool_choice="none", input=items).output_text


def test_a_tool_is_used_and_its_result_is_read(messages: Any) -> None:
    question = {"role": "user", "content": "How is the weather in Paris?"}
    ask: Any = {"model": MODEL, "max_tokens": 60, "tools": [{"name": "get_weather", "input_schema": WEATHER}]}
    one = {"disable_parallel_tool_use": True}
    whole = messages.create(**ask, messages=[question], tool_choice={"type": "any", **one})
    (block,) = whole.content
    assert whole.stop_reason == "tool_use" and block.name == "get_weather" and set(block.input) == {"city"}
    with messages.stream(
        **ask, messages=[question], tool_choice={"type": "tool", "name": "get_weather", **one}
    ) as stream:
        last = stream.get_final_message()
    assert last.stop_reason == "tool_use" and last.content[0].input == block.input
    result: Any = {"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}
    turns: Any = [question, {"role": "assistant", "content": whole.content}, {"role": "user", "content": [result]}]
    assert messages.create(**ask, messages=turns, tool_choice={"type": "none"}).content[0].text


def test_a_message_whole_and_as_a_stream(messages: Any) -> None:
    ask: Any = {"model": MODEL, "max_tokens": 60, "messages": [{"role": "user", "content": PARIS}]}
    whole = messages.create(**ask)
    assert "Paris" in whole.content[0].text and whole.stop_reason == "end_turn"
    counted = messages.count_tokens(model=MODEL, messages=ask["messages"]).input_tokens
    assert whole.usage.input_tokens + whole.usage.cache_read_input_tokens == counted
    with messages.stream(**ask) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text
        last = stream.get_final_message()
    assert last.content[0].text == whole.content[0].text and last.usage.output_tokens == whole.usage.output_tokens
    assert messages.create(**{**ask, "max_tokens": 2}).stop_reason == "max_tokens"
    stopped = messages.create(**ask, stop_sequences=["Par", "nowhere"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "Par")
    assert "Par" not in stopped.content[0].text


def test_errors_of_messages(messages: Any) -> None:
    ask: Any = {"max_tokens": 5, "messages": [{"role": "user", "content": PARIS}]}
    with pytest.raises(anthropic.NotFoundError, match="no model called 'nobody'") as found:
        messages.create(model="nobody", **ask)
    assert found.value.type == "not_found_error"
    image: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    with pytest.raises(anthropic.BadRequestError, match="only text is"):
        messages.create(model=MODEL, max_tokens=5, messages=[{"role": "user", "content": [image]}])
    with pytest.raises(anthropic.BadRequestError, match="takes 8192"):
        messages.create(model=MODEL, max_tokens=5, messages=[{"role": "user", "content": "word " * 9000}])
