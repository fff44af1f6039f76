"""Spans of a trace: what took how long, and whose child it is.

Owns: ids of traces and spans, the current span of a task, the bound of what waits to be sent. Pure but for `clock` and
random ids. Must not know: how spans are sent (sender.py), what is measured. Without a Tracer there is no span, and
`current` is None everywhere.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from ndn_infer import clock

TRACE_BYTES: Final = 16
SPAN_BYTES: Final = 8
MAX_WAITING: Final = 2048
"""Ended spans that wait to be sent; the oldest are dropped."""
MAX_LINKS: Final = 8
Value = str | int | float | bool
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class SpanKind(IntEnum):
    """As OTLP numbers them."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


@dataclass(frozen=True, slots=True)
class SpanContext:
    """Which trace, and which span in it; neither is all zeros."""

    trace_id: bytes
    span_id: bytes

    def __post_init__(self) -> None:
        if len(self.trace_id) != TRACE_BYTES or len(self.span_id) != SPAN_BYTES:
            raise ValueError("a trace id has 16 bytes, a span id 8")
        if not any(self.trace_id) or not any(self.span_id):
            raise ValueError("ids of traces and spans are not zero")


@dataclass(slots=True, eq=False)
class Span:
    """Use `set`, `event`, `link` until it has ended, once. Times are microseconds of the Unix epoch."""

    tracer: Tracer
    name: str
    kind: SpanKind
    context: SpanContext
    parent: SpanContext | None
    began_us: int
    ended_us: int = 0
    error: str = ""
    attributes: dict[str, Value | tuple[str, ...]] = field(default_factory=dict)
    events: list[tuple[int, str]] = field(default_factory=list)
    links: list[SpanContext] = field(default_factory=list)
    kept: bool = False
    """Somebody else is going to end it."""

    def child(self, name: str, kind: SpanKind = SpanKind.INTERNAL) -> Span:
        return self.tracer.start(name, kind, self.context)

    def event(self, name: str) -> None:
        """It happens now."""
        self.events.append((clock.wall_us(), name))

    def link(self, other: SpanContext) -> None:
        """Another span that has to do with it, perhaps of another trace."""
        if len(self.links) < MAX_LINKS:
            self.links.append(other)

    def end(self, error: str = "") -> None:
        """Now; an error is told in a few words, without what callers wrote."""
        if not self.ended_us:
            self.ended_us, self.error = max(clock.wall_us(), self.began_us), error
            self.tracer.ended(self)


class Tracer:
    """Of one process. `service` names it to whoever looks at traces, `share` of the traces that begin here are kept."""

    def __init__(self, service: str, share: float = 1.0) -> None:
        self.service = service
        self.waiting: deque[Span] = deque(maxlen=MAX_WAITING)
        self.dropped = 0
        self.on_ended: Callable[[], None] = _nothing
        self._share = share

    def start(self, name: str, kind: SpanKind, parent: SpanContext | None = None) -> Span:
        trace_id = parent.trace_id if parent is not None else _random(TRACE_BYTES)
        context = SpanContext(trace_id, _random(SPAN_BYTES))
        return Span(self, name, kind, context, parent, clock.wall_us())

    def begins(self) -> bool:
        """Whether a trace that nobody began elsewhere is one of the share."""
        return self._share >= 1 or random.random() < self._share

    def ended(self, span: Span) -> None:
        self.dropped += len(self.waiting) == MAX_WAITING
        self.waiting.append(span)
        self.on_ended()


_CURRENT: ContextVar[Span | None] = ContextVar("the span of this task", default=None)


def current() -> Span | None:
    """What is going on in this task, as far as it is traced; tasks begin with that of whoever made them."""
    return _CURRENT.get()


def annotate(name: str, value: Value | tuple[str, ...]) -> None:
    """An attribute of the current span, if there is one."""
    span = _CURRENT.get()
    if span is not None:
        span.attributes[name] = value


def add_up(name: str, value: int) -> None:
    """The same, added to what the attribute was."""
    span = _CURRENT.get()
    before = span.attributes.get(name, 0) if span is not None else 0
    annotate(name, value + (before if isinstance(before, int) else 0))


def within(span: Span | None) -> AbstractContextManager[None]:
    """The block is the span, in this task and those that it makes; an exception that leaves it is its error. Not for
    the body of an asynchronous generator, which runs in the tasks of others."""
    return _NOTHING if span is None and _CURRENT.get() is None else _within(span)  # mostly nothing is traced


_NOTHING: Final = nullcontext()


@contextmanager
def _within(span: Span | None) -> Iterator[None]:
    token = _CURRENT.set(span)
    try:
        with ending(span):
            yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def ending(span: Span | None) -> Iterator[None]:
    """The span ends with the block, which may be in an asynchronous generator; who leaves it early makes no error."""
    try:
        yield
    except (GeneratorExit, asyncio.CancelledError):
        _end(span, "")
        raise
    except BaseException as error:
        _end(span, type(error).__name__)
        raise
    _end(span, "")


def _end(span: Span | None, error: str) -> None:
    if span is not None and not span.kept:
        span.end(error)


def parse_traceparent(text: str) -> tuple[SpanContext, bool] | None:
    """(whose child, whether its trace is kept) of a W3C `traceparent` header; None for what is none."""
    found = _TRACEPARENT.fullmatch(text.strip())
    if found is None or (text.startswith("00") and found[4]):
        return None
    try:
        return SpanContext(bytes.fromhex(found[1]), bytes.fromhex(found[2])), bool(int(found[3], 16) & 1)
    except ValueError:
        return None


def _random(size: int) -> bytes:
    while not any(drawn := os.urandom(size)):
        pass
    return drawn


def _nothing() -> None:
    pass
