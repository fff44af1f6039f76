"""Answers under a policy over a real forwarder core: the product's guard, and a producer in the test's hand."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ndn_infer import ndn, records
from ndn_infer.errors import Blocked, CallError, Unjudged
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.functions.guard.function import JudgeAnswers
from ndn_infer.functions.guard.open_verdicts import OpenVerdicts
from ndn_infer.functions.guard.policies import ReadyPolicies
from ndn_infer.gateway.forms.chat import ChatForm
from ndn_infer.gateway.forms.form import Head
from ndn_infer.gateway.refusal import refusal_of
from ndn_infer.gateway.sampling import ChoiceOptions
from ndn_infer.gateway.service import Prepared
from ndn_infer.gateway.streaming import answer_whole
from ndn_infer.library.overflow import PromptRoom, _Fitting
from ndn_infer.records import (
    Message,
    Sampling,
    TokenEvent,
    TokenLogprobs,
)
from ndn_infer.records.chat import SUMMARY
from ndn_infer.records.classify import ClassifyRequest, ScoreRow, Scores
from ndn_infer.records.embed import EmbedRequest, TensorRecord
from ndn_infer.records.tools import Tool, ToolCall
from ndn_infer.tensors import RawTensor, encode_tensor
from tests.guard_kit import MODEL, POLICY, guarded, read, told
from tests.inprocess.test_streams import breaks, until

pytest.importorskip("regex")
pytest.importorskip("confusable_homoglyphs")


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


async def test_an_answer_that_is_stopped_is_read_no_further_by_reader_or_guard(tmp_path: Path) -> None:
    async with guarded(tmp_path) as w:
        answer = w.answer()
        reading = asyncio.ensure_future(read(answer))
        stream = await w.function.opened()
        for number, text in enumerate(("We mean ", "project ", "nightingale"), 1):
            stream.append(records.encode(TokenEvent((number,), text)))
        await reading
        assert answer.finish == "content_filter"
        heard: list[bytes] = []
        w.producer.link.tamper_down = lambda wire: heard.append(wire) or wire
        for number in range(4, 12):
            stream.append(records.encode(TokenEvent((number,), "more ")))
        fine = w.answer((9,))
        assert "".join(await told(w, ["It ", "rains."], fine)) == "It rains."  # they would have asked meanwhile
        asked = b"".join(heard)
        assert ndn.from_uri(fine.stream_name) in asked and ndn.from_uri(answer.stream_name) not in asked


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


async def test_tools_and_calls_of_them_are_judged_with_the_prompt(tmp_path: Path) -> None:
    question = Message("user", "What is the weather?")
    async with guarded(tmp_path) as w:
        fine = Tool("weather", "Weather of a place", '{"type": "object"}')
        assert await w.conversation.tokenize(MODEL, [question], [fine])
        for tool in (
            Tool("project_nightingale"), Tool("f", "of project nightingale"),
            Tool("f", "", '{"project": "nightingale"}'),
        ):  # fmt: skip
            with pytest.raises(Blocked):
                await w.conversation.tokenize(MODEL, [question], [tool])
        for call, words in (
            (ToolCall("f", '{"of": "project nightingale"}'), "codename"),
            (ToolCall("f", '{"to": "jo@example.com"}'), "cannot be asked in part"),
        ):
            with pytest.raises(Blocked, match=words):
                await w.conversation.tokenize(MODEL, [question, Message("assistant", "", (call,)), question])


async def test_another_policy_judges_the_same_answer_without_computing_it_again(tmp_path: Path) -> None:
    async with guarded(tmp_path) as w:
        assert "".join(await told(w, ["It ", "rains in ", "Spain", "."], w.answer())) == "It rains in Spain."
        stricter = tmp_path / "other.toml"
        stricter.write_text(POLICY.replace("project nightingale", "spain"))
        w.conversation.policy = await w.client.policy_of(str(stricter))
        again = w.answer()
        assert "".join(await read(again)) == "It rains in " and again.finish == "content_filter"
        assert len(w.function.streams) == 1 and w.counters["answers_judged"] == 2


async def test_the_gateway_ends_a_blocked_answer_as_openai_does(tmp_path: Path) -> None:
    async with guarded(tmp_path) as w:
        options = ChoiceOptions(Sampling(max_tokens=64))
        answer = w.answer()
        prepared = Prepared(ChatForm(Head("00" * 16, 1, "some", "fp"), options), options, [answer], lambda tokens: None)
        whole = asyncio.ensure_future(answer_whole(prepared))
        stream = await w.function.opened()
        for number, text in enumerate(["It is ", "project ", "nightingale", "."], 1):
            stream.append(records.encode(TokenEvent((number,), text, "stop" if number == 4 else "")), final=number == 4)
        (choice,) = (await whole)["choices"]
        assert choice["finish_reason"] == "content_filter" and choice["message"]["content"] == "It is "
        assert refusal_of(Blocked("blocked")).status == 400 and refusal_of(Unjudged("no guard")).status == 503


async def test_a_guard_that_dies_leaves_the_beginning_and_says_so(tmp_path: Path) -> None:
    async with guarded(tmp_path) as w:
        answer = w.answer()
        reading = asyncio.ensure_future(read(answer))
        stream = await w.function.opened()
        stream.append(records.encode(TokenEvent((1,), "It rains in the hills, ")))
        await until(lambda: bool(answer.ids))
        await w.guard.close()
        stream.append(records.encode(TokenEvent((2,), "not here.", "stop")), final=True)
        with pytest.raises(Unjudged):
            await reading
        assert answer.text == "It rains in the hills, "


class Sentiment(NamedFunction[ClassifyRequest]):
    """A classifier of one's own: how much of a text is "bad"."""

    function = role = "classify"
    request_type = ClassifyRequest
    subject = ("model", "ab" * 32)

    async def run(self, request: ClassifyRequest, job: Job) -> Scores:
        return Scores(("good", "bad"), tuple(ScoreRow((1 - bad, bad)) for bad in map(_bad, request.texts)))


def _bad(text: str) -> float:
    return min(1.0, text.count("bad") / 2)


async def test_a_classifier_of_the_network_gates_the_generator(tmp_path: Path) -> None:
    policy = (
        POLICY + f'[[rules]]\nid = "mood"\nkind = "classifier"\nmodel = "{"ab" * 32}"\nlabels = ["bad"]\nabove = 0.9\n'
    )
    async with guarded(tmp_path, policy, Sentiment()) as w:
        fine = ["It ", "is ", "a ", "good ", "day", "."]
        assert "".join(await told(w, fine, w.answer())) == "".join(fine)
        answer = w.conversation.generate(MODEL, (4, 5), Sampling(max_tokens=64))
        shown = "".join(await told(w, ["a, ", "b, ", "c, ", "d, ", "bad, ", "bad, ", "news ", "today."], answer))
        assert shown == "a, b, c, d, " and answer.stopped is not None and answer.stopped.rules == ("mood",)


async def test_of_an_event_that_ends_in_an_error_only_the_error_is_shown(tmp_path: Path) -> None:
    async with guarded(tmp_path) as w:
        answer = w.answer()
        reading = asyncio.ensure_future(read(answer))
        stream = await w.function.opened()
        stream.append(records.encode(TokenEvent((1,), "It rains in the hills, ")))
        await until(lambda: bool(answer.ids))
        told = (TokenLogprobs(-0.5, text=b"project nightingale"),)
        failed = TokenEvent(
            (2,), "project nightingale", "error", "no memory", logprobs=told, prompt=told, code="failed",
            stopped_by="project nightingale",
        )  # fmt: skip
        stream.append(records.encode(failed), failed=True)
        with pytest.raises(CallError, match="no memory"):
            await reading
        assert answer.text == "It rains in the hills, " and answer.ids == [1] and answer.scored == 0
        assert answer.last == TokenEvent((), finish="error", error="no memory", code="failed")


class Late(JudgeAnswers):
    """Says nothing before `may`."""

    def __init__(self, policies: ReadyPolicies) -> None:
        super().__init__(policies)
        self.may, self.asked = asyncio.Event(), 0

    async def run(self, request: Any, job: Any) -> Any:
        self.asked += 1
        return await super().run(request, job)

    async def _next(self, judging: Any, event: TokenEvent) -> Any:
        await self.may.wait()
        return await super()._next(judging, event)


async def test_verdicts_on_a_stream_that_was_given_up_are_not_those_on_the_next(tmp_path: Path) -> None:
    made = list[Late]()

    def judge_by(policies: ReadyPolicies) -> Late:
        made.append(Late(policies))
        return made[0]

    async with guarded(tmp_path, judge_by=judge_by) as w:
        (late,) = made
        answer = w.answer()
        reading = asyncio.ensure_future(read(answer))
        first = await w.function.opened()
        await until(lambda: late.asked == 1)
        first.append(breaks("busy"), failed=True)  # another is asked before a token came
        stream = await w.function.opened(2)
        stream.append(records.encode(TokenEvent((1,), "It rains in the hills, ")))
        await until(lambda: late.asked == 2 and w.counters["answers_judged"] == 2)
        late.may.set()
        await until(lambda: bool(answer.ids) or reading.done())
        stream.append(records.encode(TokenEvent((2,), "not here.", "stop")), final=True)
        assert "".join(await reading) == "It rains in the hills, not here."


async def test_a_summary_that_a_policy_stopped_is_none(tmp_path: Path) -> None:
    async with guarded(tmp_path) as w:
        said = [Message("user", "Which project is it?"), Message("assistant", "I cannot say.")]
        fitting = _Fitting(w.conversation, MODEL, said, PromptRoom(SUMMARY, 64))
        making = asyncio.ensure_future(fitting._summary(2, "", said))
        stream = await w.function.opened()
        for number, text in enumerate(["They spoke of ", "project ", "nightingale", "."], 1):
            stream.append(records.encode(TokenEvent((number,), text, "stop" if number == 4 else "")), final=number == 4)
        with pytest.raises(Blocked, match="summary") as stopped:
            await making
        assert stopped.value.rules == ("codename",)


class Boats(NamedFunction[EmbedRequest]):
    """An embedder of one's own, which reads `reads` characters: how much of a text is about boats."""

    function = role = "embed"
    request_type = EmbedRequest
    subject = ("model", "ef" * 32)

    def __init__(self, reads: int) -> None:
        self.reads = reads

    async def run(self, request: EmbedRequest, job: Job) -> TensorRecord:
        about = np.array(["boat" in text[: self.reads] for text in request.texts])
        vectors = np.stack([about, ~about], axis=1).astype("<f4")
        cut = sum(len(text) > self.reads for text in request.texts)
        return TensorRecord(encode_tensor(RawTensor("f32", vectors.shape, vectors.tobytes())), 0, cut)


TOPIC = """
name = "topic"
[[rules]]
id = "boats"
kind = "topics"
examples = ["boats"]
embedder = "{embedder}"
deny = {deny}
"""
OTHER, ABOUT = "The rain falls on hills. " * 120, "A boat and another boat. " * 120


@pytest.mark.parametrize("reads", [600, 250, 70])
async def test_a_topic_is_looked_for_in_all_of_a_text(tmp_path: Path, reads: int) -> None:
    async with guarded(tmp_path, TOPIC.format(embedder="ef" * 32, deny="true"), Boats(reads)) as w:
        assert await w.conversation.tokenize(MODEL, [Message("user", OTHER)])
        for text in (f"{OTHER}A boat!", f"{OTHER}A boat!{OTHER}"):
            with pytest.raises(Blocked, match="boats"):
                await w.conversation.tokenize(MODEL, [Message("user", text)])


async def test_all_of_a_text_is_about_what_is_allowed(tmp_path: Path) -> None:
    async with guarded(tmp_path, TOPIC.format(embedder="ef" * 32, deny="false"), Boats(600)) as w:
        assert await w.conversation.tokenize(MODEL, [Message("user", ABOUT)])
        with pytest.raises(Blocked, match="boats"):
            await w.conversation.tokenize(MODEL, [Message("user", ABOUT + OTHER)])


async def test_a_topic_that_an_embedder_cannot_read_is_not_judged(tmp_path: Path) -> None:
    async with guarded(tmp_path, TOPIC.format(embedder="ef" * 32, deny="true"), Boats(20)) as w:
        with pytest.raises(Unjudged):
            await w.conversation.tokenize(MODEL, [Message("user", OTHER)])


class Slow(ReadyPolicies):
    """A policy is ready once two ask for it."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.asked = asyncio.Event(), 0

    async def rules(self, digest: str, given: bytes, where: str, job: Any) -> Any:
        self.asked += 1
        if self.asked > 1:
            self.both.set()
        await self.both.wait()
        return await super().rules(digest, given, where, job)


class One(JudgeAnswers):
    """Judges one answer at a time."""

    def __init__(self) -> None:
        super().__init__(Slow())
        self.over = 0

    async def start(self, host: Any, signer: Any) -> None:
        await super().start(host, signer)
        self._open = OpenVerdicts(1)

    async def run(self, request: Any, job: Any) -> Any:
        try:
            return await super().run(request, job)
        finally:
            self.over += 1


async def test_a_guard_at_its_bound_judges_no_more_whenever_they_ask(tmp_path: Path) -> None:
    one = One()
    async with guarded(tmp_path, judge_by=lambda policies: one) as w:
        answers = [w.client.conversation().generate(MODEL, (number,), Sampling(8)) for number in range(2)]
        reading = [asyncio.ensure_future(read(answer)) for answer in answers]
        await until(lambda: one.over >= 2)
        assert one.in_work() == 1 and w.counters["answers_judged"] == 1
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
