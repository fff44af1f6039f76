"""Calls of any function on their way into a prompt log, where the policy has all producers write.

Owns: which calls these are, what their records have: request and answer as JSON, token ids apart. Must not know: what
any function does, how records are sealed and sent. Answers of models have records of their own (answer_log.py).
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Awaitable
from dataclasses import dataclass, fields, replace
from typing import Any, Final, TypeVar

from ndn_infer import ndn
from ndn_infer.functions.base import Job
from ndn_infer.prompt_log.live.writer import LogWriter
from ndn_infer.prompt_log.live.writers import LogWriters
from ndn_infer.prompt_log.said import ANSWERED, ASKED, PromptRecord
from ndn_infer.records import Record
from ndn_infer.records.bounds import MAX_IDS, MAX_TEXT
from ndn_infer.records.forms import RecordForm
from ndn_infer.transport.calls.failures import code_of
from ndn_infer.transport.objects.live_stream import LiveStream

T = TypeVar("T", Record, LiveStream, Record | LiveStream)

OWN: Final = frozenset({"generate"})
"""Functions that record their calls themselves."""
_SHOWN_BYTES: Final = 64
"""Longer bytes (tensors, policies) are told by length and digest: they are no text."""
_ID_FIELDS: Final = ("ids", "prompt")


def first_record(job: Job, writers: LogWriters) -> PromptRecord:
    """What is said of every call: who asks, who writes, of which model or service, in which domain."""
    user = ndn.to_uri(job.caller) if job.caller else "public"
    call = job.call
    return PromptRecord(
        ASKED, secrets.token_hex(8), 0, user[:256], writers.by, call.subject, job.domain.label, call.function
    )


@dataclass(frozen=True, slots=True)
class _RecordedCall:
    writer: LogWriter
    asked: PromptRecord

    def answered(self, finish: str, answer: object = None) -> None:
        said = replace(self.asked, kind=ANSWERED, text="", ids=(), finish=finish)
        if isinstance(answer, LiveStream):
            said = replace(said, name=ndn.to_uri(answer.name))
        elif isinstance(answer, Record):
            said = replace(said, **_content(answer))
        self.writer.answered(said)


async def recorded_call(job: Job, request: Record, work: Awaitable[T]) -> T:
    """The answer that `work` gives to this request, both recorded where a policy wants it: the request before any of
    the work is done, the answer when it is there. Raises LogAway, and what the work raises."""
    call: _RecordedCall | None = None
    try:
        call = await _asked(job, request)
        answer = await work
    except BaseException as error:
        if hasattr(work, "close"):
            work.close()  # a coroutine that was not begun is not waited for
        if call is not None:
            call.answered(code_of(error) if isinstance(error, Exception) else "gone")
        raise
    if call is not None:
        call.answered("stream" if isinstance(answer, LiveStream) else "done", answer)
    return answer


async def _asked(job: Job, request: Record) -> _RecordedCall | None:
    writers, function = job.host.log_writers, job.call.function
    if writers is None or function in OWN:
        return None
    writer = writers.writer(job.domain.label, function)
    if writer is None:
        return None
    asked = replace(first_record(job, writers), **_content(request))
    await writer.asked(asked)
    return _RecordedCall(writer, asked)


def _content(record: Record) -> dict[str, Any]:
    """What a record in the log has of this one: `text`, its fields that are not at their default as JSON, but for token
    ids, which are `ids`."""
    defaults = RecordForm.of(type(record)).defaults
    said = {item.name: getattr(record, item.name) for item in fields(record)}
    said = {name: value for name, value in said.items() if value != defaults[name]}
    found: dict[str, Any] = {}
    for name in _ID_FIELDS:
        value = said.get(name)
        if isinstance(value, tuple) and 0 < len(value) <= MAX_IDS and isinstance(value[0], int) and not found:
            found["ids"] = said.pop(name)
    text = json.dumps({name: _plain(value) for name, value in said.items()}, ensure_ascii=False)
    if len(text) > MAX_TEXT:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        mark = f" [cut; {len(text)} characters, sha256 {digest}]"
        text = text[: MAX_TEXT - len(mark)] + mark
    return found | {"text": text}


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        if len(value) <= _SHOWN_BYTES:
            return value.hex()
        return {"bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    return value
