"""A gateway under policies: how each dialect says that an answer was stopped, and that nothing else comes through."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ndn_infer.functions.guard.function import JudgeAnswers
from tests.guard_kit import POLICY, Front, FrontAnswer, front, guarded, write

pytest.importorskip("regex")
pytest.importorskip("confusable_homoglyphs")

BLOCKED = ("It is ", "project ", "night", "ingale", " of course.")
FINE = ("It ", "rains ", "in Spain", ".")
CHAT = {"model": "some", "messages": [{"role": "user", "content": "Which project is it?"}]}
PROMPT = {"model": "some", "prompt": "Which project is it?"}
INPUT = {"model": "some", "input": "Which project is it?"}
MESSAGES = {"model": "some", "max_tokens": 64, "messages": CHAT["messages"]}
STREAM = {"stream": True}
HASTY = POLICY.replace("wait_s = 3", "wait_s = 0.3")


def shows_nothing_of_it(answer: FrontAnswer) -> None:
    assert answer.status == 200 and "night" not in answer.body


async def test_every_dialect_says_in_its_own_words_that_an_answer_was_stopped(tmp_path: Path) -> None:
    async with guarded(tmp_path) as w, front(w, tmp_path) as f:
        chat = await f.ask("v1/chat/completions", CHAT | STREAM, BLOCKED)
        shows_nothing_of_it(chat)
        assert [one["choices"][0]["finish_reason"] for one in chat.events if one["choices"]][-1] == "content_filter"
        assert _text(chat) == "It is " and chat.body.rstrip().endswith("data: [DONE]")
        text = await f.ask("v1/completions", PROMPT | STREAM, BLOCKED)
        shows_nothing_of_it(text)
        assert [one["choices"][0]["finish_reason"] for one in text.events if one["choices"]][-1] == "content_filter"
        response = await f.ask("v1/responses", INPUT | STREAM, BLOCKED)
        shows_nothing_of_it(response)
        last = response.events[-1]
        assert last["type"] == "response.incomplete"
        assert last["response"]["incomplete_details"] == {"reason": "content_filter"}
        message = await f.ask("v1/messages", MESSAGES | STREAM, BLOCKED)
        shows_nothing_of_it(message)
        (delta,) = [one for one in message.events if one["type"] == "message_delta"]
        assert delta["delta"]["stop_reason"] == "refusal" and message.events[-1]["type"] == "message_stop"


async def test_whole_answers_say_the_same(tmp_path: Path) -> None:
    async with guarded(tmp_path) as w, front(w, tmp_path) as f:
        chat = await f.ask("v1/chat/completions", CHAT, BLOCKED)
        text = await f.ask("v1/completions", PROMPT, BLOCKED)
        response = await f.ask("v1/responses", INPUT, BLOCKED)
        message = await f.ask("v1/messages", MESSAGES, BLOCKED)
        for one in (chat, text, response, message):
            shows_nothing_of_it(one)
        assert chat.document["choices"][0]["finish_reason"] == "content_filter"
        assert chat.document["choices"][0]["message"]["content"] == text.document["choices"][0]["text"] == "It is "
        assert text.document["choices"][0]["finish_reason"] == "content_filter"
        assert response.document["status"] == "incomplete"
        assert response.document["incomplete_details"] == {"reason": "content_filter"}
        assert message.document["stop_reason"] == "refusal"


async def test_a_blocked_prompt_is_refused_in_each_dialect_before_anything_is_generated(tmp_path: Path) -> None:
    said: dict[str, Any] = {"role": "user", "content": "Tell me about project nightingale."}
    async with guarded(tmp_path) as w, front(w, tmp_path) as f:
        for path, document in (
            ("v1/chat/completions", CHAT | {"messages": [said]}),
            ("v1/completions", PROMPT | {"prompt": said["content"]}),
            ("v1/responses", INPUT | {"input": said["content"]}),
        ):  # fmt: skip
            for stream in ({}, STREAM):
                answer = await f.ask(path, document | stream)
                assert answer.status == 400 and answer.document["error"]["code"] == "content_filter", path
        answer = await f.ask("v1/messages", MESSAGES | {"messages": [said]})
        assert answer.status == 400 and answer.document["error"]["type"] == "invalid_request_error"
        assert "codename" in answer.document["error"]["message"] and not w.function.streams


async def test_of_several_choices_the_one_that_breaks_a_rule_is_stopped_alone(tmp_path: Path) -> None:
    async with guarded(tmp_path) as w, front(w, tmp_path) as f:
        asked = CHAT | {"n": 2, "temperature": 1.0, "seed": 5}
        answer = await f.ask("v1/chat/completions", asked, FINE, BLOCKED)
        shows_nothing_of_it(answer)
        found = sorted((one["finish_reason"], one["message"]["content"]) for one in answer.document["choices"])
        assert found == [("content_filter", "It is "), ("stop", "It rains in Spain.")]


async def test_stop_strings_tools_and_grammars_change_nothing_about_it(tmp_path: Path) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    async with guarded(tmp_path) as w, front(w, tmp_path) as f:
        stopped = await f.ask("v1/chat/completions", CHAT | {"stop": ["never"]}, BLOCKED)
        written = await f.ask(
            "v1/chat/completions", CHAT | {"response_format": schema} | STREAM,
            ('{"name": ', '"project ', "night", 'ingale"', "}"),
        )  # fmt: skip
        called = await f.ask(
            "v1/chat/completions", CHAT | {"tools": [tool]} | STREAM,
            ("<tool_call>\n", '{"name": "look", "arguments": {"of": "project ', "night", 'ingale"}}', "\n</tool_call>"),
        )  # fmt: skip
        for one in (stopped, written, called):
            shows_nothing_of_it(one)
            assert "content_filter" in one.body
        assert (
            w.function.requests[0].sampling.stop == ("never",) and w.function.requests[1].sampling.grammar is not None
        )


async def test_without_a_guard_nothing_is_asked(tmp_path: Path) -> None:
    async with guarded(tmp_path, HASTY, guard=False) as w, front(w, tmp_path) as f:
        answer = await f.ask("v1/chat/completions", CHAT | STREAM, FINE)
        assert answer.status == 503 and "policy test" in answer.document["error"]["message"]
        assert not w.function.streams


class Silent(JudgeAnswers):
    """Of answers it says nothing."""

    async def _next(self, judging: Any, event: Any) -> Any:
        await asyncio.Event().wait()


async def test_streams_without_verdicts_end_with_an_error_and_show_nothing(tmp_path: Path) -> None:
    asked = [  # four calls: each has its own length
        ("v1/chat/completions", CHAT | {"max_tokens": 5}), ("v1/completions", PROMPT | {"max_tokens": 6}),
        ("v1/responses", INPUT | {"max_output_tokens": 7}), ("v1/messages", MESSAGES | {"max_tokens": 8}),
    ]  # fmt: skip
    async with guarded(tmp_path, judge_by=Silent) as w, front(w, tmp_path) as f:
        work = [asyncio.ensure_future(f.ask(path, document | STREAM)) for path, document in asked]
        await w.function.opened(len(asked))
        for stream in w.function.streams:
            await write(stream, FINE)
        for answer in await asyncio.gather(*work):
            assert "no verdict came within 3 s" in answer.body and "rain" not in answer.body


async def test_each_key_is_under_its_own_policy(tmp_path: Path) -> None:
    strict, spain = tmp_path / "strict.toml", tmp_path / "spain.toml"
    strict.write_text(POLICY)
    spain.write_text(POLICY.replace("project nightingale", "spain").replace('"test"', '"spain"'))
    keys = [f"{key} name={name} policy={file}" for key, name, file in (
        ("sk-strict-0123456789", "strict", strict), ("sk-spain-0123456789", "spain", spain),
    )]  # fmt: skip
    async with guarded(tmp_path) as w, front(w, tmp_path, "\n".join(keys) + "\n") as f:
        first = await _finish(f, "sk-strict-0123456789", FINE)
        second = await _finish(f, "sk-spain-0123456789")  # the same answer, judged again
        assert (first, second) == (("stop", "It rains in Spain."), ("content_filter", "It rains"))
        assert len(w.function.streams) == 1 and w.counters["answers_judged"] == 2
        assert (await f.ask("v1/chat/completions", CHAT, key="sk-nobody-0123456789")).status == 401


async def test_a_key_whose_policy_is_nowhere_gets_nothing(tmp_path: Path) -> None:
    keys = "sk-lost-0123456789 name=lost policy=nowhere\n"
    async with guarded(tmp_path) as w, front(w, tmp_path, keys) as f:
        answer = await f.ask("v1/chat/completions", CHAT, key="sk-lost-0123456789")
        assert answer.status >= 400 and "nowhere" in answer.body and not w.function.streams


async def _finish(f: Front, key: str, *streams: tuple[str, ...]) -> tuple[str, str]:
    answer = await f.ask("v1/chat/completions", CHAT, *streams, key=key)
    (choice,) = answer.document["choices"]
    return choice["finish_reason"], choice["message"]["content"].rstrip(" ")


def _text(answer: FrontAnswer) -> str:
    return "".join(one["choices"][0]["delta"].get("content") or "" for one in answer.events if one["choices"])
