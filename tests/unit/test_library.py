"""The library without a network: the plain form's thread, answers that no model gives, parameters."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any, cast

import pytest

from ndn_infer.client import Answer
from ndn_infer.config import Config
from ndn_infer.errors import UsageError
from ndn_infer.library.blocking import LoopThread
from ndn_infer.library.chat import ChatReply
from ndn_infer.library.parameters import checked, sampling_of
from ndn_infer.records import ModelRecord, Sampling


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
