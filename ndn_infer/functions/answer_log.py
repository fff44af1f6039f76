"""Answers on their way into a prompt log, where the policy names the producers of answers as its writers.

Owns: what of a call and of its answer a record has: token ids. Must not know: how records
are sealed and sent, engines. What a cache answers no producer sees: a policy that wants every reader's answer names the
gateway.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from ndn_infer import ndn
from ndn_infer.functions.answer_stream import AnswerStream
from ndn_infer.functions.base import Job
from ndn_infer.functions.call_log import first_record
from ndn_infer.prompt_log.live.writer import LogWriter
from ndn_infer.prompt_log.said import ANSWERED, ERROR, GONE, STOPPED, PromptRecord
from ndn_infer.records import GenerateRequest
from ndn_infer.transport.calls.failures import code_of


class LoggedCall:
    """One call that is recorded."""

    def __init__(self, writer: LogWriter, asked: PromptRecord) -> None:
        self._writer = writer
        self._asked = asked

    async def record(self, answer: AnswerStream, work: Awaitable[None]) -> None:
        """Records the answer when this work, which makes it, has ended. Where that fails, the last event is told after
        it: the record says what that event will say."""
        without = STOPPED
        try:
            await work
        except Exception:
            without = ERROR
            raise
        finally:
            self._record(answer, without)

    def refused(self, code: str) -> None:
        """Nobody makes an answer, and this code is what the caller is told."""
        self._writer.answered(replace(self._asked, kind=ANSWERED, ids=(), finish=code))

    def _record(self, answer: AnswerStream, without: str) -> None:
        """`without`: why it ended, where it has not ended yet."""
        if answer.last is not None:
            finish = answer.last.finish
        else:
            finish = GONE if answer.ended else without
        name, ids = ndn.to_uri(answer.out.name), tuple(answer.ids)
        self._writer.answered(replace(self._asked, kind=ANSWERED, ids=ids, name=name, finish=finish, tokens=len(ids)))


def recorded(logged: LoggedCall | None, answer: AnswerStream, work: Awaitable[None]) -> Awaitable[None]:
    """`work`, and after it the record of its answer, if its call is recorded."""
    return work if logged is None else logged.record(answer, work)


@contextmanager
def admitting(logged: LoggedCall | None) -> Iterator[None]:
    """Around what may still refuse a call that is recorded: its code is then the answer's record."""
    try:
        yield
    except Exception as error:
        if logged is not None:
            logged.refused(code_of(error))
        raise


async def record_call(job: Job, request: GenerateRequest) -> LoggedCall | None:
    """Before anything is computed; None where no policy wants it. Raises LogAway."""
    writers = job.host.log_writers
    writer = writers.writer(job.domain.label) if writers is not None else None
    if writers is None or writer is None:
        return None
    asked = replace(first_record(job, writers), ids=request.prompt)
    await writer.asked(asked)
    return LoggedCall(writer, asked)
