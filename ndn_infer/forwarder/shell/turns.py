"""Turns of the event loop: when what was produced in one leaves.

Owns: the faces that have something to write, and the end of a turn. What all sockets of a turn brought leaves together,
in one system call a face. The loop says nothing of the ends of turns, so that is at the beginning of the next one, and
a look at all sockets comes first; a TurnLoop tells which socket is the last of a turn, and after that one nothing need
wait. Must not know: packets, what is written.
"""

from __future__ import annotations

import asyncio
import logging
import selectors
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class _Selector(selectors.EpollSelector):
    """Knows the last of what it found. `last` is None when it found nothing."""

    last: object = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(timeout)
        self.last = found[-1][0].fileobj if found else None
        return found


class TurnLoop(asyncio.SelectorEventLoop):
    """Python's own event loop, which handles what its selector found in this order."""

    def __init__(self) -> None:
        self._turns = _Selector()
        super().__init__(self._turns)

    def is_last(self, source: object) -> bool:
        """Whether after this socket, which is being handled now, no other one follows in this turn."""
        return source is not None and source is self._turns.last


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """As asyncio.run, in a TurnLoop."""
    with asyncio.Runner(loop_factory=TurnLoop) as runner:
        return runner.run(main)


class Writer(Protocol):
    def flush(self) -> None: ...


class Output:
    """Who has something to write. `add` each once until it is flushed."""

    def __init__(self) -> None:
        self._due: list[Writer] = []
        self._held = False
        self._scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None  # asking for it is a system call each time

    def add(self, writer: Writer) -> None:
        self._due.append(writer)
        if not (self._held or self._scheduled):
            self._schedule()

    def hold(self) -> None:
        """What a socket brought is being handled; `release` comes next."""
        self._held = True

    def release(self, source: object) -> None:
        """What `source` brought has been handled."""
        self._held = False
        if self._due and not self._scheduled:
            loop = self._loop or self._running()
            if isinstance(loop, TurnLoop) and loop.is_last(source):
                self._flush()
            else:
                self._schedule()

    def _schedule(self) -> None:
        self._scheduled = True
        (self._loop or self._running()).call_soon(self._next_turn)

    def _running(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        return self._loop

    def _next_turn(self) -> None:
        self._scheduled = False
        self._flush()

    def _flush(self) -> None:
        due, self._due = self._due, []
        for writer in due:
            try:
                writer.flush()
            except Exception:  # a defect of one face: the others write all the same
                log.exception("a face could not write")
