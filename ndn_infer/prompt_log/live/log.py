"""A prompt log: takes sealed entries from its site's writers, one batch at a time, and destroys keys when told to.

Owns: what a command does, batches, what was appended twice. Must not know: what records say (they are sealed), where
packets come from, who may command (the trust schema).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Final

from ndn_infer import clock, ndn, records
from ndn_infer.errors import BadRecord, Busy, CallError, FetchIncomplete, StoreFull
from ndn_infer.prompt_log.entries import Erasure, LeafEntry, SealedEntry
from ndn_infer.prompt_log.live.book import LogBook
from ndn_infer.prompt_log.live.users import UserKeys
from ndn_infer.prompt_log.said import AppendCommand, Appended, EraseCommand, ErasedUser, UserKey, UserQuestion
from ndn_infer.security.crypto import Signer
from ndn_infer.security.validator import Validated
from ndn_infer.transport.calls.direct import Questions, Topic
from ndn_infer.transport.objects.fetch import Fetcher

log = logging.getLogger(__name__)

UNKNOWN_KEY: Final = "unknown-user-key"
"""Code: the entry is encrypted to a key that this log never had."""
MAX_WAITING: Final = 1024
MAX_BATCH: Final = 256
REMEMBERED: Final = 8192
"""Leaves of which a repeated command is known."""
MAX_ENTRY_BYTES: Final = (4 << 20) + 4096


@dataclass(slots=True, eq=False)
class _Appending:
    entry: LeafEntry
    done: asyncio.Future[int]


@dataclass(slots=True)
class PromptLog:
    """`fetcher` brings entries that are too large for a command."""

    book: LogBook
    users: UserKeys
    fetcher: Fetcher
    counters: Counter[str] = field(default_factory=Counter)
    _waiting: list[_Appending] = field(default_factory=list)
    _known: OrderedDict[bytes, int] = field(default_factory=OrderedDict)
    _coming: dict[bytes, asyncio.Future[int]] = field(default_factory=dict)
    _writing: asyncio.Task[None] | None = None
    broken: str = ""
    """Why it takes nothing more, once something could not be written: what is in memory is then ahead of the disk."""

    def __post_init__(self) -> None:
        """Says of erasures what a crash left unsaid; twice, where it came before the last step. Raises StorageError."""
        if unsaid := self.users.unsaid():
            said = [LeafEntry(erased=records.decode(Erasure, content)) for content in unsaid.values()]
            self.book.add(said)[1].result()
            for key in unsaid:
                self.users.said(key)

    def answer(self, questions: Questions, signer: Signer) -> None:
        """Take commands from now on."""
        for topic in (
            Topic("append", AppendCommand, self._append, signed=True),
            Topic("user", UserQuestion, self._user, signed=True),
            Topic("erase", EraseCommand, self._erase, signed=True),
        ):
            questions.answer(topic, signer)

    async def close(self) -> None:
        """Write what was taken."""
        while self._writing is not None:
            await asyncio.wait([self._writing])

    def status(self) -> dict[str, int]:
        """Counters for a status record."""
        return {"log_records": self.book.tree.size, **{key: self.counters[key] for key in sorted(self.counters)}}

    # ------------------------------------------------------------ commands

    async def _user(self, question: UserQuestion, _: Validated | None) -> UserKey:
        return UserKey(self.users.public(question.user))

    async def _append(self, command: AppendCommand, signed: Validated | None) -> Appended:
        assert signed is not None
        entry = records.decode(SealedEntry, await self._content(command))
        live = self.users.live(entry.user)
        if not live and not self.users.erased(entry.user):
            raise CallError("the entry is encrypted to a key that is not of this log", code=UNKNOWN_KEY)
        index = await self.add(LeafEntry(sealed=entry))
        self.counters["log_appended"] += 1
        return Appended(index, self.book.tree.size, erased=not self.users.live(entry.user))

    async def _content(self, command: AppendCommand) -> bytes:
        if command.entry:
            return command.entry
        if not command.source:
            raise BadRecord("an append command without an entry")
        hints = tuple(map(ndn.from_uri, command.hints))
        base, _ = ndn.split_version(ndn.from_uri(command.source))
        found = await self.fetcher.discover(base, hints=hints)
        if found.manifest is None:
            raise FetchIncomplete(f"there is no {command.source}")
        return (await self.fetcher.collect(found, most=MAX_ENTRY_BYTES, hints=hints)).content

    async def _erase(self, command: EraseCommand, signed: Validated | None) -> ErasedUser:
        assert signed is not None
        self._check_room()  # before the key is gone: after that there is no way back
        by, now = ndn.to_uri(signed.identity), clock.wall_us()
        key = await asyncio.to_thread(self.users.erase, command.user, lambda key: records.encode(Erasure(key, now, by)))
        if not key:
            return ErasedUser()
        log.info("the key %s was destroyed, at the command of %s", key.hex(), by)
        self.counters["log_erased"] += 1
        index = await self.add(LeafEntry(erased=Erasure(key, now, by)), bounded=False)
        await asyncio.to_thread(self.users.said, key)
        return ErasedUser(key, index)

    # ------------------------------------------------------------ batches

    async def add(self, entry: LeafEntry, *, bounded: bool = True) -> int:
        """The index of an entry, when it is on disk; one that was added before has the index that it had. `bounded`:
        False for what has to be said however many wait. Raises Busy, StoreFull, BadRecord."""
        self._check_sound()
        leaf = entry.leaf()
        if (known := self._known.get(leaf)) is not None:
            return known
        coming = self._coming.get(leaf)
        if coming is None:
            if bounded:
                self._check_room()
            coming = self._coming[leaf] = asyncio.get_running_loop().create_future()
            self._waiting.append(_Appending(entry, coming))
            if self._writing is None:
                self._writing = asyncio.get_running_loop().create_task(self._write())
        return await asyncio.shield(coming)

    def _check_room(self) -> None:
        """Raises Busy, StoreFull."""
        self._check_sound()
        if len(self._waiting) >= MAX_WAITING:
            raise Busy("the log writes as fast as it can; try again later")

    def _check_sound(self) -> None:
        """Raises StoreFull."""
        if self.broken:
            raise StoreFull(self.broken, hint="make room, then start the log again: it goes on where its disk ends")

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                await self._write_batch(batch)
        finally:
            self._writing = None

    async def _write_batch(self, batch: list[_Appending]) -> None:
        """Nothing after what failed: a later checkpoint would be over leaves that are not on disk."""
        first, error = 0, None
        try:
            self._check_sound()
            first, durable = self.book.add([one.entry for one in batch])
            await asyncio.wrap_future(durable)
        except Exception as failed:
            error = failed
            if not self.broken:
                self.broken = f"the log cannot be written: {failed}"
                log.error("%s", self.broken)
        for number, one in enumerate(batch):
            leaf = one.entry.leaf()
            self._coming.pop(leaf, None)
            if one.done.done():
                continue
            if error is not None:
                one.done.set_exception(error)
                one.done.exception()  # nobody may wait any more
                continue
            self._known[leaf] = first + number
            one.done.set_result(first + number)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
