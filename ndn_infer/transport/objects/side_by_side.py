"""Several objects at once, the beginnings of all before the rest of any.

Owns: the order in which their segments are asked for, and how far all of them are there. Must not know: what the bytes
mean, where buffers come from.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial

from ndn_infer.transport.objects.pull import PullLoop
from ndn_infer.wire.columns import Columns
from ndn_infer.wire.manifest import SEGMENT_BYTES
from ndn_infer.wire.segments import Segments


class SideBySide:
    """An iterator over how many bytes, verified, are there of every object, as that grows. It ends when every object is
    whole or given up: one that cannot be had holds up nobody. End it with `close`, whatever happened."""

    def __init__(self, loop: PullLoop, objects: Sequence[Segments]) -> None:
        self._loop = loop
        self._columns = Columns(objects)
        self._told = 0
        self._news = asyncio.Event()
        self._pulls = [loop.open(segments) for segments in objects]
        for at, pull in enumerate(self._pulls):
            pull.progress = partial(self._progress, at)
            pull.future.add_done_callback(lambda _: self._news.set())
        for at, numbers in self._columns.order():
            loop.extend(self._pulls[at], numbers)

    def _progress(self, at: int) -> None:
        if self._columns.moved(at):
            self._news.set()

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        while self._columns.full == self._told:
            if all(pull.future.done() for pull in self._pulls):
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        self._told = self._columns.full
        return self._told * SEGMENT_BYTES

    def whole(self) -> list[bool]:
        """Which objects are there whole."""
        return [pull.segments.complete for pull in self._pulls]

    def close(self) -> int:
        """Leave what is still on its way. Returns how many packets were refused."""
        for pull in self._pulls:
            self._loop.leave(pull)
        return sum(pull.segments.refused for pull in self._pulls)
