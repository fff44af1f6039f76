"""An answer that broke off, where producers of another engine class are found before one of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ndn_infer.client import answer as answers
from ndn_infer.client.answer import Answer
from ndn_infer.client.engine_choice import EngineChoice
from ndn_infer.config import Config
from ndn_infer.engine_class import WRONG_ENGINE
from ndn_infer.errors import BadRecord, CallError
from ndn_infer.records import ModelRecord, Sampling, TokenEvent
from ndn_infer.transport.calls.caller import ResultLost

OFFERED = "bf16.bf16.llama-torch-3.grouped.neon.raw"
REFUSAL = CallError("another engine", code=WRONG_ENGINE, offered=OFFERED)


def answer_by(
    *streams: tuple[int, Exception | None], may_come: bool = True, at: tuple[bytes, ...] = ()
) -> tuple[Answer, list[tuple[int, ...]]]:
    """Each stream gives so many tokens, then ends so; the prompts that were asked. `may_come`: another producer of its
    class may be there."""
    asked: list[tuple[int, ...]] = []

    async def stream(ask: Any, *given: Any, **more: Any) -> AsyncGenerator[tuple[TokenEvent, Any]]:
        tokens, end = streams[len(asked)]
        asked.append(ask.request.prompt)
        by = SimpleNamespace(answer=SimpleNamespace(result=""), signed_by=SimpleNamespace(identity=b""))
        for number in range(tokens):
            last = end is None and number == tokens - 1
            yield TokenEvent((len(ask.request.prompt),), "x", finish="length" if last else ""), by
        if end is not None:
            raise end

    engines = EngineChoice(Config(), may_come=lambda model, engine, lost: may_come)
    conversation = SimpleNamespace(
        engines=engines, caller=SimpleNamespace(stream=stream), turn=((), ()), domain="public", evidence=False,
        meters=None, receipts=None, ledger=None,
    )  # fmt: skip
    model = ModelRecord("m", "d" * 64, "causal-lm", "llama", 2048, 49152)
    return Answer(cast(Any, conversation), model, (1, 2), Sampling(6), at=at), asked


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "OVERLOOKED_S", (1e-4,) * 3)


async def test_one_of_its_class_is_looked_for_again() -> None:
    answer, asked = answer_by((2, ResultLost("gone")), (0, REFUSAL), (0, REFUSAL), (4, None))
    events = [event async for event in answer]
    assert len(events) == 6 and answer.ids == [2, 2, 4, 4, 4, 4] and answer.continued == 1
    assert asked == [(1, 2)] + [(1, 2, 2, 2)] * 3


async def test_and_not_for_ever_and_each_time_that_it_breaks_off() -> None:
    answer, asked = answer_by(
        (1, ResultLost("gone")), (0, REFUSAL), (1, ResultLost("gone")), *[(0, REFUSAL)] * 4
    )  # fmt: skip
    with pytest.raises(CallError):
        async for _ in answer:
            pass
    assert len(asked) == 7 and len(answer.ids) == 2


@pytest.mark.parametrize(("may_come", "at"), [(False, ()), (True, (b"n",))])
async def test_where_none_may_come_the_refusal_ends_it_at_once(may_come: bool, at: tuple[bytes, ...]) -> None:
    answer, asked = answer_by((2, ResultLost("gone")), (0, REFUSAL), may_come=may_come, at=at)
    with pytest.raises(CallError):
        async for _ in answer:
            pass
    assert len(asked) == 2 and answer.ids == [2, 2]


async def test_one_that_has_not_begun_asks_for_the_class_that_is_offered() -> None:
    answer, asked = answer_by((0, REFUSAL), (2, None))
    assert len([event async for event in answer]) == 2 and len(asked) == 2
    assert answer.conversation.engines.of("d" * 64) == OFFERED


async def test_more_tokens_than_were_asked_for_end_it() -> None:
    answer, _ = answer_by((7, None))
    with pytest.raises(BadRecord, match="more tokens than the 6"):
        async for _event in answer:
            pass
    assert answer.failed and len(answer.ids) == 6


async def test_who_leaves_an_answer_has_not_failed() -> None:
    answer, _ = answer_by((6, None))
    async with answer:
        async for _event in answer:
            break
    assert not answer.failed and not answer.finish
