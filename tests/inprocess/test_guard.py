"""Answers under a policy over a real forwarder core: the product's guard, and a producer in the test's hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ndn_infer import records
from ndn_infer.client import Answer, Client, Conversation
from ndn_infer.errors import Blocked, Unjudged
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.guard.function import JudgeAnswers, ScreenTexts
from ndn_infer.functions.guard.policies import ReadyPolicies
from ndn_infer.namespace import Machine
from ndn_infer.records import Message, ModelRecord, Sampling, TokenEvent, TokenizeRequest, Tokens
from tests.harness import NET, Node, keychain_in
from tests.inprocess.test_streams import CONFIG, SUBJECT, Open

pytest.importorskip("regex")
pytest.importorskip("confusable_homoglyphs")

MODEL = ModelRecord("some", SUBJECT[1], "causal-lm", "LlamaForCausalLM", 512, 49_152)
POLICY = """
name = "test"
hold_back = 4
wait_s = 3
[[rules]]
id = "codename"
kind = "phrases"
phrases = ["project nightingale"]
[[rules]]
id = "personal"
kind = "personal"
action = "redact"
"""


class Ids(Open):
    function, role, request_type = "tokenize", "tokenize", TokenizeRequest

    async def run(self, request: Any, job: Any) -> Any:
        return Tokens(tuple(range(len(request.messages[-1].content))))


@dataclass
class GuardedWorld:
    conversation: Conversation
    client: Client
    function: Open
    guard: Any
    counters: Any

    def answer(self) -> Answer:
        return self.conversation.generate(MODEL, (1, 2, 3), Sampling(max_tokens=64))


@asynccontextmanager
async def guarded(folder: Path, policy: str = POLICY, *, guard: bool = True) -> AsyncIterator[GuardedWorld]:
    keychain = keychain_in(folder / "keys", "decode", "tokenize", "guard", "user")
    network, function = MemoryNetwork(), Open()
    producer, judge = [await Node(network, keychain, CONFIG, asks_as="guard").open() for _ in range(2)]
    reader = await Node(network, keychain, CONFIG, commands_as=Machine("home", "n1").to_name(NET)).open()
    offered = [await producer.produce(function, Ids())]
    if guard:
        policies = ReadyPolicies()
        offered.append(await judge.produce(JudgeAnswers(policies), ScreenTexts(policies)))
    file = folder / "policy.toml"
    file.write_text(policy)
    async with Client(reader.joined) as client:
        await client.demand(str(file))
        yield GuardedWorld(client.conversation(), client, function, offered[-1], getattr(judge, "counters", {}))
    for one in reversed(offered):
        await one.close()
    for node in (reader, judge, producer):
        await node.close()
    network.close()


async def told(w: GuardedWorld, texts: Sequence[str], answer: Answer) -> list[str]:
    """Write these events, the last one with the end; what is shown, event by event."""
    reading = asyncio.ensure_future(read(answer))
    stream = await w.function.opened(len(w.function.streams) + 1)
    for number, text in enumerate(texts, 1):
        last = number == len(texts)
        stream.append(records.encode(TokenEvent((number,), text, "stop" if last else "")), final=last)
        await asyncio.sleep(0.005)
    return await reading


async def read(answer: Answer) -> list[str]:
    shown = []
    async for event in answer:
        shown.append(event.text)
    return shown


async def test_what_breaks_no_rule_is_shown_whole(tmp_path: Path) -> None:
    async with guarded(tmp_path) as w:
        answer = w.answer()
        assert "".join(await told(w, ["It ", "rains in ", "Spain", "."], answer)) == "It rains in Spain."
        assert answer.finish == "stop" and answer.ids == [1, 2, 3, 4] and answer.stopped is None


async def test_a_phrase_split_over_events_is_never_shown(tmp_path: Path) -> None:
    async with guarded(tmp_path) as w:
        answer = w.answer()
        shown = "".join(await told(w, ["Ask about ", "pro", "je", "ct nigh", "tin", "gale", " now."], answer))
        assert shown == "Ask about " and answer.finish == "content_filter"
        assert answer.stopped is not None and answer.stopped.rules == ("codename",)


async def test_spans_are_redacted(tmp_path: Path) -> None:
    async with guarded(tmp_path) as w:
        events = ["Write to ", "jo.doe@", "exam", "ple.com", " please, as soon as you can."]
        shown = "".join(await told(w, events, w.answer()))
        assert shown == "Write to [email] please, as soon as you can."


async def test_without_a_guard_nothing_is_shown(tmp_path: Path) -> None:
    async with guarded(tmp_path, guard=False) as w:
        answer = w.answer()
        with pytest.raises(Unjudged):
            await told(w, ["It ", "rains."], answer)
        assert answer.text == "" and answer.ids == []


async def test_a_prompt_is_judged_before_anything_is_computed(tmp_path: Path) -> None:
    async with guarded(tmp_path) as w:
        with pytest.raises(Blocked, match="codename"):
            await w.conversation.tokenize(MODEL, [Message("user", "Tell me about Pr0ject N1ghtingale")])
        sent = await w.conversation.tokenize(MODEL, [Message("user", "I am jo@example.com")])
        assert len(sent) == len("I am [email]")


async def test_another_policy_judges_the_same_answer_without_computing_it_again(tmp_path: Path) -> None:
    async with guarded(tmp_path) as w:
        assert "".join(await told(w, ["It ", "rains in ", "Spain", "."], w.answer())) == "It rains in Spain."
        stricter = tmp_path / "other.toml"
        stricter.write_text(POLICY.replace("project nightingale", "spain"))
        w.conversation.policy = await w.client.policy_of(str(stricter))
        again = w.answer()
        assert "".join(await read(again)) == "It rains in " and again.finish == "content_filter"
        assert len(w.function.streams) == 1 and w.counters["answers_judged"] == 2
