"""Recording: the work of a task, and of the tasks that it starts, is told to one record.

Owns: which record that is (a context variable: tasks inherit it). Must not know: requests, who looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ndn_infer.client import Answer
from ndn_infer.gateway.answers.record import SeenAnswer
from ndn_infer.records import TokenEvent
from ndn_infer.transport.objects.ledger import Seen

_CURRENT: ContextVar[SeenAnswer | None] = ContextVar("answer-record", default=None)


@contextmanager
def recording_to(record: SeenAnswer) -> Iterator[None]:
    token = _CURRENT.set(record)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def witness() -> Callable[[Seen], None] | None:
    """For the ledgers of what this task asks; None when nobody records."""
    record = _CURRENT.get()
    return None if record is None else record.seen


def failed(status: int) -> None:
    """What this task answers ends with an error, which would have had this status before the first byte."""
    record = _CURRENT.get()
    if record is not None:
        record.failed_with = status


def took(choice: int, answer: Answer, event: TokenEvent) -> None:
    """An event of an answer was read by this task."""
    record = _CURRENT.get()
    if record is not None and answer.stream_name:
        record.took(choice, answer.stream_name, event)
