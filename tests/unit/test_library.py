"""The library without a network: the plain form's thread, answers that no model gives, parameters."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any, Literal, cast

import pytest

from ndn_infer.client import Answer
from ndn_infer.client.answer_parts import AnswerParts
from ndn_infer.config import Config
from ndn_infer.errors import UsageError
from ndn_infer.library.blocking import LoopThread
from ndn_infer.library.chat import Chat, ChatParts, ChatReply, ChatTurn
from ndn_infer.library.parameters import checked, sampling_of
from ndn_infer.library.tools import MadeCall, made_calls, tool_of, use_of
from ndn_infer.records import Message, ModelRecord, Sampling
from ndn_infer.records.chat import ChatMessage
from ndn_infer.records.tools import Tool, ToolCall, object_of


class Unasked:
    """A question that is answered without a model."""

    def __init__(self) -> None:
        model = ModelRecord("m", "d", "causal-lm", "llama", 2048, 49152)
        self.answer = Answer(cast(Any, None), model, (), Sampling(), text="Not there.", finish="not-in-documents")
        self.ends = 0

    async def begin(self) -> Answer:
        return self.answer

    def ended(self) -> None:
        self.ends += 1

    @property
    def calls(self) -> tuple[MadeCall, ...]:
        return ()


async def test_an_answer_without_a_model_is_read_like_others() -> None:
    question = Unasked()
    reply = ChatReply(question)
    assert [piece async for piece in reply] == ["Not there."] and question.ends == 1
    assert await reply.read() == "Not there." and reply.finish == "not-in-documents"


def test_an_interrupt_ends_the_work_that_is_waited_for() -> None:
    thread, ended, given_up = LoopThread(), threading.Event(), threading.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
            given_up.set()
        finally:
            await asyncio.sleep(0.01)  # an end that takes its time is waited for
            ended.set()

    interrupt = threading.Timer(0.2, signal.pthread_kill, [threading.get_ident(), signal.SIGINT])  # as a terminal's
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
    try:
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            thread.run(work)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.is_set() and not given_up.is_set()
    assert thread.run(lambda: asyncio.sleep(0, "still there")) == "still there"
    thread.close()
    with pytest.raises(UsageError, match="closed"):
        thread.run(lambda: asyncio.sleep(0))


def test_an_error_of_the_work_is_the_callers() -> None:
    thread = LoopThread()

    async def work() -> None:
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        thread.run(work)
    thread.close()


def test_parameters() -> None:
    config = Config()
    assert sampling_of(config, {}) == Sampling(config.ask.max_tokens)
    assert sampling_of(config, {"stop": "x", "top_k": -1, "top_p": 0}).stop == ("x",)
    assert sampling_of(config, {"temperature": 1}).seed != sampling_of(config, {"temperature": 1}).seed
    assert sampling_of(config, {"temperature": 1, "seed": 3}).seed == 3
    with pytest.raises(UsageError, match="max_tokens must be 0 to"):
        checked(sampling_of(config, {"max_tokens": -1}))


def weather(city: str, days: int | None = None, unit: Literal["C", "F"] = "C", wind: bool = False) -> str:
    """The weather.

    In a city."""
    return f"{city} {days} {unit} {wind}"


def test_a_python_function_is_a_tool() -> None:
    tool = tool_of(weather)
    assert (tool.name, tool.description) == ("weather", "The weather.\n\nIn a city.")
    assert object_of(tool.parameters) == {
        "type": "object", "required": ["city"], "properties": {
            "city": {"type": "string"}, "days": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "unit": {"enum": ["C", "F"]}, "wind": {"type": "boolean"},
        },
    }  # fmt: skip

    def numbers(them: list[float]) -> None: ...
    def untyped(it) -> None: ...  # type: ignore[no-untyped-def]
    def many(*them: int) -> None: ...
    def odd(it: dict[str, int]) -> None: ...

    assert object_of(tool_of(numbers).parameters)["properties"]["them"] == {
        "type": "array",
        "items": {"type": "number"},
    }
    for function, words in ((untyped, r"untyped\(it\)"), (many, "by name"), (odd, r"odd\(it\)")):
        with pytest.raises(UsageError, match=words):
            tool_of(function)


def test_what_may_be_called() -> None:
    add = Tool("add")
    use = use_of([weather, add], "auto", parallel=False)
    assert use.allowed == ("weather", "add") and not use.required
    assert use_of([weather, add], "add", parallel=True).allowed == ("add",)
    assert use_of([weather, add], "required", parallel=True).required
    assert use_of([add], "none", parallel=True).shown == () and use_of([], "auto", parallel=True).grammar() is None
    for tools, choice in (([add], "other"), ([], "required"), ([Tool("f", parameters="[]")], "auto")):
        with pytest.raises(UsageError):
            use_of(tools, choice, parallel=True)


def test_results_are_of_the_calls_that_were_asked_for() -> None:
    asked = Message("assistant", "", (ToolCall("add", "{}", "a"), ToolCall("add", "{}", "b")))
    chat = Chat(ChatParts(cast(Any, None), Config(), "m"), [Message("user", "x"), asked])
    for results in ({}, {"a": 1}, {"a": 1, "b": 2, "c": 3}):
        with pytest.raises(UsageError, match="a, b"):
            chat.returned(results)
    turn = chat.returned({"b": [1, "\u00fc"], "a": "text"}).question
    assert isinstance(turn, ChatTurn)
    assert turn.messages == (
        Message("tool", "text", tool_call_id="a"),
        Message("tool", '[1, "\u00fc"]', tool_call_id="b"),
    )
    with pytest.raises(UsageError, match="none"):
        Chat(ChatParts(cast(Any, None), Config(), "m")).returned({"a": 1})


def test_complete_calls_are_python_values() -> None:
    said = AnswerParts(["add"])
    said.take('<tool_call>\n{"name": "add", "arguments": {"a": [1]}}\n</tool_call>\n', last=False)
    said.take('<tool_call>\n{"name": "add", "arguments": {"a', last=True)
    assert made_calls(said.calls, 4) == (MadeCall("call_4_0", "add", {"a": [1]}),)


def test_a_saved_conversation_has_its_calls() -> None:
    made = (ToolCall("add", '{"a": 1}', "call_1"),)
    for message in (Message("user", "x"), Message("assistant", "", made), Message("tool", "3", tool_call_id="call_1")):
        assert ChatMessage.of(message).message() == message
