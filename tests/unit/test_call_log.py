"""What the record of a call's end says of how it ended."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from ndn_infer.errors import CallError, NetworkError, PromptError, StorageError
from ndn_infer.functions.call_log import recorded_call
from ndn_infer.prompt_log.said import PromptRecord
from ndn_infer.records import Record, TokenizeRequest


class Writer:
    def __init__(self) -> None:
        self.ends: list[str] = []

    async def asked(self, record: PromptRecord) -> None:
        pass

    def answered(self, record: PromptRecord) -> None:
        self.ends.append(record.finish)


@pytest.mark.parametrize(
    ("error", "finish"),
    [
        (RuntimeError("a defect"), "internal"), (TimeoutError(), "internal"), (PromptError("no words"), "bad-request"),
        (CallError("slow", code="pattern"), "pattern"), (NetworkError("lost"), "unreachable"),
        (StorageError("full"), "no-room"), (asyncio.CancelledError(), "gone"),
    ],
)  # fmt: skip
async def test_an_end_has_its_code(error: BaseException, finish: str) -> None:
    async def work() -> Record:
        raise error

    writer = Writer()
    call = SimpleNamespace(function="tokenize", subject="ab" * 32)
    writers = SimpleNamespace(by="/by", writer=lambda domain, function: writer)
    job = SimpleNamespace(
        caller=b"", call=call, domain=SimpleNamespace(label="public"), host=SimpleNamespace(log_writers=writers)
    )
    with pytest.raises(type(error)):
        await recorded_call(job, TokenizeRequest(text="words"), work())  # type: ignore[arg-type]
    assert writer.ends == [finish]
