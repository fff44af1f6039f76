"""Virtual time: an event loop in which nothing takes time but waiting for it, and processes that can be killed.

Owns: the loop whose time jumps to the next timer when nothing is ready, the clock that everything else reads
(ndn_infer/clock.py), and what belongs to which process. Must not know: networks.

Same work, same seed, same order of everything: there are no threads (`asyncio.to_thread` computes at once), no files to
wait for, and the clock of the machine is not read. A process is whatever runs in its context: tasks and timers that are
made there are in it too. One that is killed stops between two steps, as after kill -9: no `finally` of its runs, no
packet of its leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import selectors
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, Final, TypeVar

from ndn_infer import clock

T = TypeVar("T")

EPOCH_US: Final = 1_900_000_000_000_000
"""The wall clock's first value: certificates of a virtual network are made then."""
START_S: Final = 1000.0
PATIENCE_S: Final = 10.0
"""Of the loop's end, in virtual seconds."""


class Process:
    """What is killed together. `run` and `spawn` enter it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self.context: Context = contextvars.copy_context()
        self.context.run(_process.set, self)

    def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call it here and now, as this process."""
        return self.context.copy().run(call, *arguments)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return asyncio.get_running_loop().create_task(work, context=self.context.copy())

    def kill(self) -> None:
        """Nothing of it happens any more."""
        self.alive = False
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.graves.extend(task for task in self.tasks if not task.done())


_process: ContextVar[Process | None] = ContextVar("process", default=None)


def _dead(context: Context) -> bool:
    process = context.get(_process)
    return process is not None and not process.alive


class _Clock(selectors.SelectSelector):
    """Nothing here waits for files: instead of sleeping, time jumps."""

    def __init__(self, epoch_us: int) -> None:
        super().__init__()
        self.now = START_S
        self._epoch_us = epoch_us
        self._last_us = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everybody waits and nothing will ever happen")
        self.now += max(0.0, timeout)
        return []

    def monotonic(self) -> float:
        return self.now

    def wall_us(self) -> int:
        """Later with every look: two versions that are made at the same moment differ."""
        self._last_us = max(self._last_us + 1, self._epoch_us + round((self.now - START_S) * 1e6))
        return self._last_us


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, epoch_us: int = EPOCH_US) -> None:
        self.clock = _Clock(epoch_us)
        super().__init__(self.clock)
        self.crashes: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.crashes.append(context))
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]
        self.graves: list[asyncio.Task[Any]] = []
        """Tasks of processes that were killed. They are kept until the end: what is forgotten is closed, and would run
        its `finally`."""

    def time(self) -> float:
        return self.clock.now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:  # fmt: skip
        context = contextvars.copy_context() if context is None else context
        return super().call_soon(_run, context, callback, args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        context = contextvars.copy_context() if context is None else context
        return super().call_at(when, _run, context, callback, args, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """At once: a thread's work takes no virtual time."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    @staticmethod
    def _make_task(
        loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], **options: Any
    ) -> asyncio.Task[T]:  # fmt: skip
        """Tasks of the dead are never finished; that is no news."""
        task = asyncio.Task(work, loop=loop, **options)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        context = options.get("context")
        process = _process.get() if context is None else context.get(_process)
        if process is not None:
            process.tasks.add(task)
        return task

    def wind_up(self) -> None:
        """At the end: cancel what still runs, as asyncio.run does, and close what the dead left open."""
        dead = set(self.graves)
        living = [task for task in asyncio.all_tasks(self) if task not in dead]
        for task in living:
            task.cancel()
        if living:
            self.run_until_complete(asyncio.wait(living, timeout=PATIENCE_S))
        for task in self.graves:
            with contextlib.suppress(Exception):  # it awaits something in a `finally`, or wants this loop
                task.get_coro().close()
        self.graves.clear()


def _run(context: Context, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
    if not _dead(context):
        callback(*args)


def run_virtual(work: Callable[[], Awaitable[T]], *, epoch_us: int = EPOCH_US) -> T:
    """The result of `work()` in a loop of its own; the clock of this process is that loop's meanwhile, and its wall
    clock begins with `epoch_us`. What a callback raises, and nobody awaits, is raised here."""
    loop = VirtualLoop(epoch_us)

    async def whole() -> T:
        return await work()

    try:
        with clock.reading(loop.clock):
            result = loop.run_until_complete(whole())
    finally:
        loop.wind_up()
        loop.close()
    if loop.crashes:
        first = loop.crashes[0]
        raise AssertionError(f"{len(loop.crashes)} callbacks failed: {first}") from first.get("exception")
    return result
