"""Who gets a command through to a running forwarder: by options alone, or by an authority that verifies its signature.

Owns: which commands need proof, how many wait for it at one time. Must not know: keys, certificates, what commands do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from ndn_infer.config import ForwarderConfig
from ndn_infer.errors import NdnInferError
from ndn_infer.forwarder.management.access import CommandClaim, Verdict, anybody_local

log = logging.getLogger(__name__)

MAX_UNDECIDED: Final = 256
"""Commands whose signers are being looked up; more are refused."""
ROUTES: Final = ("rib", "fib")
"""Modules whose commands say where names lead."""

CommandCheck = Callable[[CommandClaim], Awaitable[None]]
"""Returns if the command may be given; raises NdnInferError, whose text the sender is told, if not."""


class CommandDoor:
    """Its `authorise` is an Authority (management/access.py). `options` are those of now; `settle` is called after each
    verdict that came later. `check` may be set at any time."""

    def __init__(self, options: Callable[[], ForwarderConfig], settle: Callable[[], object]) -> None:
        self.check: CommandCheck | None = None
        self._options = options
        self._settle = settle
        self._undecided: set[asyncio.Task[None]] = set()

    def authorise(self, claim: CommandClaim, verdict: Verdict) -> None:
        if claim.local and (claim.own_face or self._needs_no_proof(claim)):
            verdict(None)
        elif not claim.local and self._options().remote_commands == "off":
            anybody_local(claim, verdict)
        elif self.check is None:
            verdict("this forwarder wants signed commands")
        elif len(self._undecided) >= MAX_UNDECIDED:
            verdict("too many commands wait for the certificates of their signers; try again")
        else:
            task = asyncio.get_running_loop().create_task(self._ask_authority(self.check, claim, verdict))
            self._undecided.add(task)
            task.add_done_callback(self._undecided.discard)

    def _needs_no_proof(self, claim: CommandClaim) -> bool:
        """Zero-trust registration wants proof from everybody who says where names lead. A port of this machine is open
        to web pages and to every user of it: what comes there proves nothing."""
        options = self._options()
        if options.registration == "own-identity" and claim.module in ROUTES:
            return False
        return options.local_commands == "any" and (claim.private or options.loopback_commands == "any")

    async def _ask_authority(self, check: CommandCheck, claim: CommandClaim, verdict: Verdict) -> None:
        try:
            await check(claim)
        except NdnInferError as error:
            log.info("command %s %s refused: %s", claim.module, claim.verb, error)
            verdict(str(error))
        else:
            verdict(None)
        asyncio.get_running_loop().call_soon(self._settle)

    async def close(self) -> None:
        tasks = list(self._undecided)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
