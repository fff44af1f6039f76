"""When nobody who is known may be asked: those who were lost or silent are asked for their offers again.

Owns: how often that happens, how long a call waits for it. Must not know: how an offer is asked for (offers.py), who
can answer which call.

A book knows as lost whoever did not answer, and looks for offers leave alone for up to half a minute whoever was
silent. A producer whose link was cut is back as soon as the link is, and nobody says so: when the last one that a call
could go to is lost, that one is the next.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ndn_infer import clock
from ndn_infer.ndn.name import Name

WAIT_S: Final = 0.5
"""A call waits so long at most."""
AGAIN_S: Final = 1.0
"""Nobody is asked again sooner."""


class Seeking:
    """Of one application. `pull` asks for one offer and never raises for what the network does."""

    def __init__(self, pull: Callable[[Name], Awaitable[object]]) -> None:
        self._pull = pull
        self._asking: set[asyncio.Task[None]] = set()
        """The newest of them, and those before it that are about to end."""
        self._asked_at: float | None = None
        self._told = asyncio.Event()

    async def seek(self, lost: Sequence[Name], found: Callable[[], bool]) -> None:
        """Ask all of `lost` at once, unless that was done a moment ago. Waits until `found`, or all have answered."""
        now = clock.monotonic()
        if lost and (self._asked_at is None or now - self._asked_at >= AGAIN_S):
            self._asked_at = now  # nothing is awaited before: of calls at the same time one asks
            self._begin(lost)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                while self._asking and not found():
                    self._told.clear()
                    await self._told.wait()

    async def close(self) -> None:
        asking = [*self._asking]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def _begin(self, lost: Sequence[Name]) -> None:
        for before in self._asking:
            before.cancel()
        asking = asyncio.get_running_loop().create_task(self._ask(lost))
        self._asking.add(asking)
        asking.add_done_callback(self._ended)

    def _ended(self, asking: asyncio.Task[None]) -> None:
        self._asking.discard(asking)
        self._told.set()

    async def _ask(self, lost: Sequence[Name]) -> None:
        async with asyncio.TaskGroup() as asking:
            for name in lost:
                asking.create_task(self._ask_one(name))

    async def _ask_one(self, name: Name) -> None:
        await self._pull(name)
        self._told.set()
