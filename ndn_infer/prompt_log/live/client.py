"""Commands to a log: a user's public key, an entry to append, a user to erase.

Owns: how they are given, and entries that are too large for an Interest. Must not know: when, records in clear.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from ndn_infer.errors import BadRecord, Nacked
from ndn_infer.ndn.lp import REASON_CONGESTION
from ndn_infer.ndn.name import Name
from ndn_infer.prompt_log.live.users import user_of
from ndn_infer.prompt_log.said import (
    INLINE_BYTES,
    AppendCommand,
    Appended,
    EraseCommand,
    ErasedUser,
    UserKey,
    UserQuestion,
)
from ndn_infer.records import R, Record
from ndn_infer.security.crypto import Signer
from ndn_infer.transport.calls.direct import Direct, DirectAsk
from ndn_infer.transport.calls.inputs import Inputs

LIFETIME_MS: Final = 2000
ATTEMPTS: Final = 2
PAUSES_S: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Between tries, where the log has as many commands in work as it takes."""


@dataclass(frozen=True, slots=True)
class LogClient:
    """Of the log with this identity; commands are signed by `signer`."""

    direct: Direct
    log: Name
    signer: Signer
    inputs: Inputs | None = None

    async def user_key(self, user: str) -> bytes:
        """The public key to encrypt records about this user to. Raises CallError, Timeout, Nacked, a TrustError."""
        return (await self._ask("user", UserQuestion(user_of(self.log, user)), UserKey)).public

    async def append(self, entry: bytes) -> Appended:
        """Where the log put an encoded SealedEntry: it is on disk. The same entry again has the same place. Raises as
        `user_key`."""
        if len(entry) <= INLINE_BYTES:
            return await self._ask("append", AppendCommand(entry), Appended)
        if self.inputs is None:
            raise BadRecord("this entry is too large for a command")
        there = await self.inputs.publish(entry)
        return await self._ask("append", AppendCommand(source=there.source, hints=(there.hint,)), Appended)

    async def erase(self, user: str) -> ErasedUser:
        """Raises as `user_key`."""
        return await self._ask("erase", EraseCommand(user_of(self.log, user)), ErasedUser)

    async def _ask(self, topic: str, request: Record, reply: type[R]) -> R:
        asked = DirectAsk(self.log, topic, request, self.signer, LIFETIME_MS, ATTEMPTS)
        for pause in PAUSES_S:
            try:
                return (await self.direct.ask(asked, reply)).record
            except Nacked as error:
                if error.reason != REASON_CONGESTION:
                    raise
            await asyncio.sleep(pause)
        return (await self.direct.ask(asked, reply)).record
