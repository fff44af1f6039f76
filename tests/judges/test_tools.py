"""Tools through OpenAI's own client, whole and as a stream, with the small model: what must be called is called."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, Field

from tests.load.required_calls import TOOLS, ask

pytestmark = pytest.mark.model

MODEL = "smollm2-135m-instruct"
WEATHER = TOOLS[0]
ASKED: Any = [{"role": "user", "content": "What is the weather in Paris for the next 3 days?"}]


@pytest.fixture(scope="module")
def client(base: str) -> OpenAI:
    return OpenAI(base_url=base, api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def called(client: OpenAI) -> ChatCompletion:
    return client.chat.completions.create(model=MODEL, messages=ASKED, tools=TOOLS, tool_choice=named("get_weather"))


def named(name: str) -> Any:
    return {"type": "function", "function": {"name": name}}


def test_a_named_function_is_called_and_its_result_is_read(client: OpenAI, called: ChatCompletion) -> None:
    [choice] = called.choices
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    [call] = choice.message.tool_calls or []
    assert call.type == "function" and call.function.name == "get_weather" and call.id.startswith("call_")
    assert isinstance(json.loads(call.function.arguments)["days"], int)
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": '{"celsius": 7, "sky": "rain"}'}
    again = client.chat.completions.create(
        model=MODEL, messages=[*ASKED, choice.message, result], tools=TOOLS, tool_choice="none", max_tokens=30
    )
    assert again.choices[0].message.content and not again.choices[0].message.tool_calls
    assert called.usage is not None and again.usage is not None


def test_a_stream_tells_the_same_call_in_pieces(client: OpenAI, called: ChatCompletion) -> None:
    ask: Any = {"model": MODEL, "messages": ASKED, "tools": TOOLS, "tool_choice": named("get_weather")}
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**ask, stream=True)]
    deltas = [call for chunk in chunks for call in chunk.delta.tool_calls or []]
    first, *rest = deltas
    assert chunks[0].delta.role == "assistant" and first.index == 0 and first.type == "function"
    assert first.function is not None and first.function.name == "get_weather" and not first.function.arguments
    assert all(one.id is None and one.function is not None and one.function.name is None for one in rest)
    told = "".join(one.function.arguments or "" for one in rest if one.function)
    [call] = called.choices[0].message.tool_calls or []
    assert call.type == "function" and told == call.function.arguments and len(rest) > 2
    assert chunks[-1].finish_reason == "tool_calls"
    with client.chat.completions.stream(**ask) as stream:  # the client puts the answer together itself
        [again] = stream.get_final_completion().choices[0].message.tool_calls or []
    assert again.function.arguments == told


class Forecast(BaseModel):
    """The weather of the next days."""

    city: str = Field(max_length=30)
    unit: Literal["celsius", "fahrenheit"]
    days: int = Field(ge=1, le=7)


def test_arguments_are_what_a_model_class_says(client: OpenAI) -> None:
    tool = openai.pydantic_function_tool(Forecast)
    answer = client.chat.completions.parse(model=MODEL, messages=ASKED, tools=[tool], tool_choice="required")
    for call in answer.choices[0].message.tool_calls or []:
        assert isinstance(call.function.parsed_arguments, Forecast)
    assert answer.choices[0].finish_reason == "tool_calls"


def test_a_tool_need_not_be_called(client: OpenAI) -> None:
    """What is not `required` is the model's choice: text, or calls that obey."""
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Say hello."}], tools=[WEATHER], max_tokens=40
    )
    [choice] = answer.choices
    assert choice.message.content or choice.message.tool_calls
    cut = client.chat.completions.create(
        model=MODEL, messages=ASKED, tools=[WEATHER], tool_choice="required", max_tokens=18
    )
    assert cut.choices[0].finish_reason == "length"


@pytest.mark.parametrize("number", range(5))
def test_what_is_required_is_called(client: OpenAI, number: int) -> None:
    """100 of them: python -m tests.load.required_calls."""
    assert ask(client, number) == "held"


def test_what_cannot_be_enforced_is_refused_where_it_is_strict(client: OpenAI) -> None:
    def tool(strict: bool) -> Any:
        schema = {"type": "object", "properties": {"tags": {"type": "array", "uniqueItems": True, "maxItems": 2}}}
        return {"type": "function", "function": {"name": "tag", "parameters": schema, "strict": strict}}

    with pytest.raises(openai.BadRequestError, match="uniqueItems") as found:
        client.chat.completions.create(model=MODEL, messages=ASKED, tools=[tool(True)])
    assert found.value.param == "tools"
    loose = client.chat.completions.create(
        model=MODEL, messages=ASKED, tools=[tool(False)], tool_choice="required", max_tokens=60
    )
    assert loose.choices[0].message.tool_calls
