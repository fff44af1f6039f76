"""The end of a request from outside: its time is over, the network is gone, the gateway stops.

Owns: that whoever answers learns why it was cancelled, and may still say so. Must not know: what is answered. A client
that leaves cancels the same task without a reason: nobody is there to be told.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from ndn_infer.gateway.refusal import Refusal


class Interruption:
    """Of one request, made in the task that answers it."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._reason: Refusal | None = None
        self._told = False

    def end(self, reason: Refusal) -> None:
        """Cancel the request, once."""
        if self._reason is None and self._task is not None:
            self._reason = reason
            self._task.cancel()

    def taken(self) -> Refusal | None:
        """In the task, at a CancelledError: the reason, when it is ours and was not taken before; the task goes on
        then, and is to end soon. None: the client left, or somebody else ends this."""
        if self._reason is None or self._told or self._task is None:
            return None
        self._told = True
        return self._reason if self._task.uncancel() == 0 else None


INTERRUPTION: Final = web.RequestKey("interruption", Interruption)


def taken_from(request: web.Request) -> Refusal | None:
    """As Interruption.taken; None for a request that nobody may interrupt."""
    interruption = request.get(INTERRUPTION)
    return None if interruption is None else interruption.taken()
