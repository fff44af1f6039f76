"""Writing to a log: a call is recorded before it is worked on, its answer when it ends.

Owns: sealing, the order of what waits, what a log that is away means for calls. Must not know: which calls there are,
where they came from.

Answers are never held back: their records wait in the spool until the log has them. With `refuse` a call needs the
log's word first, and none is taken while records of answers wait; with `spool` both wait, and calls are refused when
the spool is full. Nothing runs while nothing waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Final

from ndn_infer import clock, ndn, records
from ndn_infer.errors import CallError, NdnInferError
from ndn_infer.prompt_log.entries import seal
from ndn_infer.prompt_log.live.client import LogClient
from ndn_infer.prompt_log.live.log import UNKNOWN_KEY
from ndn_infer.prompt_log.live.spool import Spool
from ndn_infer.prompt_log.policy import LogPolicy
from ndn_infer.prompt_log.said import PromptRecord
from ndn_infer.records.codes import BAD_REQUEST, UNREACHABLE

log = logging.getLogger(__name__)

KEYS: Final = 4096
"""Public keys of users that are remembered."""
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 30.0


class LogAway(CallError):
    """The policy wants a call recorded, and the log does not have it."""

    default_hint = "start the log ('ndn-infer log serve'), or change recording.policies"

    def __init__(self, why: str) -> None:
        super().__init__(f"this call cannot be recorded, as its policy wants: {why}", code=UNREACHABLE)


@dataclass(slots=True, eq=False)
class LogWriter:
    """For one policy. `spool` and `wait_s` as the options say."""

    policy: LogPolicy
    client: LogClient
    spool: Spool
    wait_s: float
    lost: int = 0
    """Records that no log will have: the spool was full, or could not be written; or the log refused them for good."""
    _keys: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    _away: str = ""
    _sending: asyncio.Task[None] | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def asked(self, record: PromptRecord) -> None:
        """Returns when work may begin. Raises LogAway."""
        try:
            async with asyncio.timeout(self.wait_s):
                await self._asked(record)
        except TimeoutError:
            raise LogAway(f"{ndn.to_uri(self.policy.log)} does not answer") from None
        except LogAway:
            raise
        except NdnInferError as error:
            raise LogAway(str(error)) from error

    def answered(self, record: PromptRecord) -> None:
        """Does not wait, and raises nothing."""
        task = asyncio.get_running_loop().create_task(self._answered(record))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """What waits goes on waiting, on disk, for the next process."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

    # ------------------------------------------------------------ both kinds

    async def _asked(self, record: PromptRecord) -> None:
        if self.policy.refuse:
            if len(self.spool):
                self._deliver()
                raise LogAway(f"{len(self.spool)} records of earlier answers wait for it ({self._away or 'sending'})")
            for _ in range(2):  # a key that was erased a moment ago, or that the log never had, is replaced once
                if await self._recorded(record):
                    return
                self._keys.pop(record.user, None)
            raise LogAway(f"{ndn.to_uri(self.policy.log)} does not keep the keys that it gives")
        entry = await self._sealed(record)
        await asyncio.to_thread(self.spool.put, entry)
        self._deliver()

    async def _recorded(self, record: PromptRecord) -> bool:
        """Whether it is in the log and its user's key still is, too."""
        try:
            return not (await self.client.append(await self._sealed(record))).erased
        except CallError as error:
            if error.code != UNKNOWN_KEY:
                raise
            return False

    async def _answered(self, record: PromptRecord) -> None:
        try:
            await asyncio.to_thread(self.spool.put, await self._sealed(record))
        except (NdnInferError, OSError) as error:
            self.lost += 1
            log.error("the record of an answer is lost: %s", error)
        else:
            self._deliver()

    async def _sealed(self, record: PromptRecord) -> bytes:
        key = self._keys.get(record.user)
        if key is None:
            key = self._keys[record.user] = await self.client.user_key(record.user)
            while len(self._keys) > KEYS:
                self._keys.popitem(last=False)
        stamped = record if record.time_us else replace(record, time_us=clock.wall_us())
        return records.encode(seal(records.encode(stamped), key))

    # ------------------------------------------------------------ what waits

    def go_on(self) -> None:
        """Send what an earlier process left."""
        if len(self.spool):
            self._deliver()

    def _deliver(self) -> None:
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        pause = FIRST_PAUSE_S
        try:
            while True:
                try:
                    if not await self._send_first():
                        return
                except (NdnInferError, OSError) as error:
                    self._note(str(error))
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_S)
                else:
                    pause, self._away = FIRST_PAUSE_S, ""
        finally:
            self._sending = None

    async def _send_first(self) -> bool:
        """The oldest waits no more; False where nothing does. Raises NdnInferError where it still does."""
        entry = await asyncio.to_thread(self.spool.first)
        if entry is None:
            return False
        try:
            done = await self.client.append(entry)
        except CallError as error:
            if error.code not in (UNKNOWN_KEY, BAD_REQUEST):
                raise
            await self._set_aside(str(error))
        else:
            if done.erased:
                self._keys.clear()
            await asyncio.to_thread(self.spool.done)
        return True

    async def _set_aside(self, why: str) -> None:
        """What the log refuses whenever it is asked: nothing behind it waits for it."""
        aside = await asyncio.to_thread(self.spool.set_aside)
        self.lost += 1
        self._keys.clear()
        log.error("a record is not in the log, which refuses it: %s (%s)", why, aside or "not kept")

    def _note(self, why: str) -> None:
        if not self._away:
            log.warning("%d records wait for %s: %s", len(self.spool), ndn.to_uri(self.policy.log), why)
        self._away = why
