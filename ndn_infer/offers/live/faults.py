"""Whom not to ask: producers with a proven fault, as this machine found out and as trusted auditors say.

Owns: asking trusted auditors, while calls are made. Must not know: how a fault is proven, where what is known is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Protocol

from ndn_infer import clock, ndn
from ndn_infer.errors import NdnInferError
from ndn_infer.ndn.name import Name
from ndn_infer.records.audit import VERDICTS, FoundFault, FoundFaults, VerdictQuery
from ndn_infer.together import together
from ndn_infer.transport.calls.direct import Direct, DirectAsk

log = logging.getLogger(__name__)

REFRESH_S: Final = 60.0
ASK_MS: Final = 1000


class Known(Protocol):
    """What this machine knows (node.faults.FaultFile)."""

    def why(self, identity: str) -> str:
        """Why this identity is left out now; "" where it is not."""
        ...

    def told(self, fault: FoundFault) -> None:
        """A trusted auditor says so."""
        ...


class Faults:
    """`auditors`: those whose word is taken. They are asked once in REFRESH_S, while calls are made, and no call waits
    for it. `close` ends it."""

    def __init__(self, known: Known, auditors: Sequence[Name] = ()) -> None:
        self._known, self._auditors = known, tuple(auditors)
        self._asked_at: float | None = None
        self._asking: asyncio.Task[None] | None = None

    def why(self, identity: Name) -> str:
        return self._known.why(ndn.to_uri(identity))

    def listen(self, direct: Direct) -> None:
        """A call is being made: ask again where that is due."""
        now = clock.monotonic()
        if not self._auditors or self._asking is not None:
            return
        if self._asked_at is None or now - self._asked_at >= REFRESH_S:
            self._asked_at = now
            self._asking = asyncio.get_running_loop().create_task(self.ask(direct))
            self._asking.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._asking = None

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def ask(self, direct: Direct) -> None:
        """Ask all of them now."""
        await together(self._ask(direct, auditor) for auditor in self._auditors)

    async def _ask(self, direct: Direct, auditor: Name) -> None:
        try:
            told = await direct.ask(DirectAsk(auditor, VERDICTS, VerdictQuery(), lifetime_ms=ASK_MS), FoundFaults)
        except NdnInferError as error:
            log.info("the auditor %s does not say whom it found at fault: %s", ndn.to_uri(auditor), error)
            return
        for fault in told.record.faults:
            self._known.told(fault)
