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
        self._asking: dict[Name, asyncio.Task[None]] = {}
        self._asked_at: dict[Name, float] = {}
        """Those of the last AGAIN_S."""
        self._told = asyncio.Event()

    async def seek(self, lost: Sequence[Name], found: Callable[[], bool]) -> None:
        """Ask all of `lost` at once, those left out that were asked a moment ago. Waits until `found`, or all of them
        have answered."""
        now = clock.monotonic()
        self._asked_at = {name: at for name, at in self._asked_at.items() if now - at < AGAIN_S}
        for name in lost:
            if name not in self._asked_at and name not in self._asking:
                self._asked_at[name] = now
                self._begin(name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                while any(name in self._asking for name in lost) and not found():
                    self._told.clear()
                    await self._told.wait()

    async def close(self) -> None:
        asking = [*self._asking.values()]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def _begin(self, name: Name) -> None:
        async def ask() -> None:
            await self._pull(name)

        def ended(asking: asyncio.Task[None]) -> None:
            del self._asking[name]
            self._told.set()

        self._asking[name] = asyncio.get_running_loop().create_task(ask())
        self._asking[name].add_done_callback(ended)
