"""Work that several wait for is done once.

Owns: who waits for what; the end of work that nobody waits for any more. Must not know: what the work is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """In one event loop."""

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V]] = {}
        self._waiting: dict[K, int] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    async def run(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        """What `work` gives: this one, or the one that runs for this key already. Raises what it raises."""
        if key not in self._tasks:
            self._tasks[key] = asyncio.get_running_loop().create_task(_awaited(work))
        task = self._tasks[key]
        self._waiting[key] = self._waiting.get(key, 0) + 1
        try:
            return await asyncio.shield(task)
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key], self._tasks[key]
                if not task.done():
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)


async def _awaited(work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()
