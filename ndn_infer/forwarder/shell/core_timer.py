"""The timer of a forwarder core, which has no clock of its own.

Owns: one timer of the event loop, for whatever runs out first in the core. Must not know: what runs out, sockets.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import Final

from ndn_infer.forwarder.core.pipeline import Forwarder

_NEVER: Final = float("inf")


class CoreTimer:
    """`arm` whenever the core was given something; its work is done in the context in which the timer was made."""

    def __init__(self, core: Forwarder) -> None:
        self._core = core
        self._context = contextvars.copy_context()
        self._handle: asyncio.TimerHandle | None = None
        self._at = _NEVER

    def arm(self) -> None:
        """A later deadline leaves the timer alone: waking early costs nothing."""
        wake = self._core.next_wake()
        if wake is None or wake >= self._at:
            return
        if self._handle is not None:
            self._handle.cancel()
        self._at = wake
        self._handle = asyncio.get_running_loop().call_at(wake, self._run_out, context=self._context)

    def cancel(self) -> None:
        """Nothing runs out any more, until it is armed again."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._at = None, _NEVER

    def _run_out(self) -> None:
        self._handle, self._at = None, _NEVER
        self._core.tick(asyncio.get_running_loop().time())
        self.arm()
