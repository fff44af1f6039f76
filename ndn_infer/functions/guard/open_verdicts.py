"""Verdict streams in the making: one task for each, which reads an answer as any reader and ends with its stream.

Owns: those tasks, their pauses where nobody reads, how many there are. Must not know: rules, policies.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from ndn_infer import clock
from ndn_infer.errors import Busy
from ndn_infer.transport.objects.live_stream import LiveStream
from ndn_infer.wire.readership import Readers

log = logging.getLogger(__name__)

LEAST_S: Final = 0.05


class OpenVerdicts:
    """At most `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: dict[LiveStream, tuple[asyncio.Task[None], asyncio.Task[None]]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def admit(self) -> None:
        """Raises Busy."""
        if len(self._open) >= self._limit:
            raise Busy(f"{len(self._open)} answers are being judged here; try again later")

    def start(self, stream: LiveStream, make: Callable[[asyncio.Event], Awaitable[None]]) -> None:
        """`make` judges until the stream has ended; it waits for its argument before it reads on."""
        read = asyncio.Event()
        read.set()
        loop = asyncio.get_running_loop()
        work = loop.create_task(self._make(stream, read, make))
        self._open[stream] = work, loop.create_task(self._watch(stream, read, work))

    async def close(self) -> None:
        tasks = [task for pair in self._open.values() for task in pair]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _make(
        self, stream: LiveStream, read: asyncio.Event, make: Callable[[asyncio.Event], Awaitable[None]]
    ) -> None:
        try:
            await make(read)
        except Exception:
            log.exception("judging an answer failed")
        finally:
            stream.abandon()
            self._open.pop(stream)[1].cancel()

    @staticmethod
    async def _watch(stream: LiveStream, read: asyncio.Event, work: asyncio.Task[None]) -> None:
        """Reads no further than somebody reads the verdicts: so nobody decodes for a guard alone."""
        while True:
            now = clock.monotonic()
            match stream.readers.look(now):
                case Readers.PRESENT:
                    read.set()
                case Readers.AWAY:
                    read.clear()
                case Readers.GONE:
                    work.cancel()
                    return
            await asyncio.sleep(max(LEAST_S, min(0.5, stream.readers.next_change(now) - now)))
