"""One thread for what takes long, one thing after another.

Owns: handing work from an event loop to the thread and the result back. Must not know: what is computed.

An executor does the same with a lock, a condition and two futures for each piece of work, where a step of a pipeline
has a thread's whole attention: this takes a queue and one future.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class ComputeThread:
    """Begins with the first work, and ends with `close` or the process."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = False

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work()`; raises what it raises. Work whose caller was cancelled before its turn is left, and
        callers whose turn does not come before `close` are cancelled."""
        if self._closing:
            raise RuntimeError(f"the thread {self._name} is closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._main, name=self._name, daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def in_thread() -> None:
            left = future.cancelled() or self._closing
            tell = future.cancel if left else _computed(work, future)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(tell)

        self._work.put(in_thread)
        return await future

    async def close(self) -> None:
        """After what is being computed."""
        self._closing = True
        if self._thread is not None:
            self._work.put(None)
            await asyncio.to_thread(self._thread.join)

    def _main(self) -> None:
        while (work := self._work.get()) is not None:
            work()


def _computed(work: Callable[[], T], future: asyncio.Future[T]) -> Callable[[], object]:
    """Computes; gives what tells the future of it, in its loop. Whatever is raised reaches the caller and does not end
    the thread; what a future cannot carry, or would end the loop, comes as a RuntimeError."""
    try:
        result = work()
    except BaseException as error:
        raised = error if isinstance(error, Exception) and not isinstance(error, StopIteration) else _carried(error)
        return lambda: None if future.done() else future.set_exception(raised)
    return lambda: None if future.done() else future.set_result(result)


def _carried(error: BaseException) -> RuntimeError:
    carried = RuntimeError(f"{type(error).__name__}: {error}")
    carried.__cause__ = error
    return carried
