"""What a prompt log says of an answer: why it ended, in every case, and all tokens that were made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from ndn_infer import ndn
from ndn_infer.errors import Busy, ModelError
from ndn_infer.functions.answer_log import LoggedCall, admitting, recorded
from ndn_infer.functions.answer_stream import AnswerStream
from ndn_infer.functions.open_answers import OpenAnswers
from ndn_infer.prompt_log.said import ANSWERED, ASKED, PromptRecord
from tests.unit.test_answer_stream import Reader, answer, ids, push, stream

SAID = PromptRecord(ASKED, "call", 0, "public", "/net/home/n1/decode", "m", "public", "generate")


@dataclass
class Log:
    """What a writer is given."""

    records: list[PromptRecord] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def answered(self, record: PromptRecord) -> None:
        self.records.append(record)
        self.told.set()


async def over(make: Callable[[AnswerStream, OpenAnswers], Awaitable[None]]) -> tuple[PromptRecord, AnswerStream]:
    """The record of an answer that `make` makes."""
    log, made, answers = Log(), answer(stream()), OpenAnswers(4)
    logged = LoggedCall(log, SAID)  # type: ignore[arg-type]
    answers.start(made, lambda: recorded(logged, made, make(made, answers)))
    await made.wait_ended()
    await log.told.wait()
    [record] = log.records
    assert record.kind == ANSWERED and record.name == ndn.to_uri(made.out.name)
    assert (record.ids, record.tokens) == (tuple(made.ids), len(made.ids))
    return record, made


async def test_an_answer_that_is_whole_says_so() -> None:
    async def make(made: AnswerStream, _: OpenAnswers) -> None:
        push(made, ids("hey"), "stop")

    record, _ = await over(make)
    assert (record.finish, record.tokens) == ("stop", 3)


@pytest.mark.parametrize("error", [ModelError("no memory"), ValueError("a defect")])
async def test_one_that_failed_says_what_its_last_event_says(error: Exception) -> None:
    async def make(made: AnswerStream, _: OpenAnswers) -> None:
        made.push(ids("h")[0], -0.5, ())
        raise error

    record, made = await over(make)
    assert (record.finish, record.tokens) == ("error", 1)
    assert Reader(made.out).read()[-1].finish == record.finish


async def test_one_that_nobody_reads_is_gone_with_all_its_tokens() -> None:
    async def make(made: AnswerStream, _: OpenAnswers) -> None:
        push(made, ids("hey"), "")
        made.leave()
        await asyncio.Event().wait()

    record, _ = await over(make)
    assert (record.finish, record.tokens) == ("gone", 3)


async def test_one_whose_producer_stops_is_not_called_left_by_its_readers() -> None:
    stopping: list[asyncio.Task[None]] = []

    async def make(made: AnswerStream, answers: OpenAnswers) -> None:
        push(made, ids("hey"), "")
        stopping.append(asyncio.ensure_future(answers.close()))
        await asyncio.Event().wait()

    record, _ = await over(make)
    await stopping[0]
    assert (record.finish, record.tokens) == ("stopped", 3)


async def test_a_call_that_is_refused_after_it_was_recorded_has_its_code() -> None:
    log, answers = Log(), OpenAnswers(0)
    logged = LoggedCall(log, SAID)  # type: ignore[arg-type]
    with pytest.raises(Busy), admitting(logged):
        answers.admit()
    [record] = log.records
    assert (record.kind, record.finish, record.ids, record.call) == (ANSWERED, "busy", (), SAID.call)
    with admitting(logged):
        pass
    assert len(log.records) == 1
