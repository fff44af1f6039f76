"""Inserting into a repo: an object is fetched as anybody would fetch it, and its packets are kept as they are.

Owns: what is being fetched for whom, how much of that at a time, who hears how it went, who may pin how much. Must not
know: Interests and answers (repo.py), files.

Its metadata packet is validated by the trust schema, every other packet against the manifest in it, the whole against
its name where that holds a digest. Whoever asks later verifies the producer's signature, not ours.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from ndn_infer import clock, ndn
from ndn_infer.errors import CallError, FetchIncomplete, NetworkError, StoreFull, Timeout
from ndn_infer.ndn.name import Name
from ndn_infer.repo.parts import RepoParts
from ndn_infer.repo.records import UNKNOWN, InsertCommand, RepoAnswer, RepoEntry
from ndn_infer.transport.objects.fair_room import FairRoom
from ndn_infer.transport.objects.fetched import Discovered
from ndn_infer.wire.manifest import MAX_OBJECT_BYTES, Manifest, ObjectPackets

PATIENCE_S: Final = 0.5
"""How long a command waits for its answer before it is told that the work goes on."""

ROOM_BYTES: Final = 2 * MAX_OBJECT_BYTES
"""Objects in memory at a time, on their way to the disk."""

MAX_RUNNING: Final = 64
"""Inserts of one role at a time."""

OUTCOMES: Final = 256
OUTCOME_AGE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Work:
    """`owner`: the identity (URI) that commands, pin_ledger.OPERATOR for the operator."""

    owner: str
    command: InsertCommand


class Inserter:
    """`prefixes` as in Repo. `entry` describes what is kept under a base name, `stored` is awaited when something new
    is."""

    def __init__(
        self, parts: RepoParts, prefixes: tuple[Name, ...], *, entry: Callable[[Name], RepoEntry | None],
        stored: Callable[[Name], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._fetcher = parts.fetcher
        self._disk = parts.store.disk
        self._shelf = parts.shelf
        self._validator = parts.validator
        self._pins = parts.pins
        self._prefixes = prefixes
        self._entry = entry
        self._stored = stored
        self._room = FairRoom(ROOM_BYTES)
        self._running: dict[_Work, asyncio.Task[RepoAnswer]] = {}
        self._progress: dict[_Work, tuple[int, int]] = {}
        self._outcomes: OrderedDict[_Work, tuple[float, RepoAnswer | CallError]] = OrderedDict()

    @property
    def running(self) -> int:
        return len(self._running)

    async def close(self) -> None:
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def insert(self, owner: str, command: InsertCommand) -> RepoAnswer:
        """One fetch for equal commands of an owner; who waits longer than PATIENCE_S is told so, and asks again."""
        work = _Work(owner, command)
        found = self._outcomes.pop(work, None)
        if found is not None and clock.monotonic() - found[0] < OUTCOME_AGE_S:
            if isinstance(found[1], CallError):
                raise found[1]
            return found[1]
        task = self._running.get(work)
        if task is None:
            if sum(other.owner == owner for other in self._running) >= MAX_RUNNING:
                raise CallError(f"{MAX_RUNNING} objects wait to be fetched for you; try again later", code="busy")
            task = self._running[work] = asyncio.get_running_loop().create_task(self._keep(work))
        done, _ = await asyncio.wait({task}, timeout=PATIENCE_S)
        if done:
            self._forget(work, task)
            if task.cancelled():
                raise CallError(f"{command.name} was deleted while it was fetched", code="deleted")
            return task.result()
        task.add_done_callback(lambda task: self._remember(work, task))
        there, total = self._progress.get(work, (0, 0))
        return RepoAnswer(state="working", done=there, total=total)

    async def stop(self, base: Name) -> bool:
        """Whether it was being inserted. What is being written now is there afterwards, or not at all."""
        stopped = [
            task for work, task in self._running.items()
            if ndn.split_version(ndn.from_uri(work.command.name))[0] == base
        ]  # fmt: skip
        for task in stopped:
            task.cancel()
        if stopped:
            await asyncio.wait(stopped)
            await asyncio.wrap_future(self._disk.flush())
        return bool(stopped)

    # ------------------------------------------------------------ who is told

    def _forget(self, work: _Work, task: asyncio.Task[RepoAnswer]) -> None:
        if self._running.get(work) is task:
            del self._running[work]
            self._progress.pop(work, None)

    def _remember(self, work: _Work, task: asyncio.Task[RepoAnswer]) -> None:
        """Whoever was told that the work goes on will ask how it went."""
        self._forget(work, task)
        error = None if task.cancelled() else task.exception()
        outcome: RepoAnswer | CallError
        if task.cancelled():
            outcome = CallError(f"{work.command.name} was deleted while it was fetched", code="deleted")
        elif isinstance(error, CallError):
            outcome = error
        elif error is not None:
            outcome = CallError(f"{type(error).__name__}: {error}")
        else:
            outcome = task.result()
        self._outcomes[work] = (clock.monotonic(), outcome)
        while len(self._outcomes) > OUTCOMES:
            self._outcomes.popitem(last=False)

    # ------------------------------------------------------------ the work

    async def _keep(self, work: _Work) -> RepoAnswer:
        command = work.command
        name, version = ndn.split_version(ndn.from_uri(command.name))
        hints = tuple(map(ndn.from_uri, command.hints))
        if not name or (self._prefixes and not name.startswith(self._prefixes)):
            below = ", ".join(map(ndn.to_uri, self._prefixes))
            raise CallError(f"this repo keeps objects below {below or '/<name>'}, not {command.name}", code="not-kept")
        held = self._disk.manifest(name)
        found = await self._look(name, version, hints, held)
        if found is None or not _is_newer(found, held):
            await self._pin(name, work)
        else:
            await self._fetch_newest(found, (name, version), hints, work)
        entry = self._entry(name)
        if entry is None:
            raise CallError(f"{command.name} could not be kept: the store is full or cannot be written", code="full")
        await self._stored(name)
        return RepoAnswer(state="stored", entries=(entry,))

    async def _fetch_newest(
        self, found: Discovered, wanted: tuple[Name, int | None], hints: tuple[Name, ...], work: _Work
    ) -> None:  # fmt: skip
        """When the segments cannot be had, what was found may be an old version that a cache on the way still knows."""
        try:
            await self._fetch_and_store(found, hints, work)
        except FetchIncomplete:
            if wanted[1] is not None:
                raise
            newer = await self._fetcher.discover(wanted[0], hints=hints, past_caches=True)
            if newer.manifest is None or not _is_newer(newer, found.manifest):
                raise
            await self._fetch_and_store(newer, hints, work)

    async def _look(
        self, name: Name, version: int | None, hints: tuple[Name, ...], held: Manifest | None
    ) -> Discovered | None:
        """What its producer has; None when that is not to be had, but what is wanted is kept already."""
        wanted = held is not None and (version is None or held.name == name + ndn.version(version))
        if wanted and version is not None:
            return None
        newer = held is not None and version is None  # caches on the way may still know the one that is kept
        try:
            found = await self._fetcher.discover(name, hints=hints, version=version, past_caches=newer)
        except NetworkError as error:
            if wanted:
                return None
            raise CallError(f"{ndn.to_uri(name)} is not available: {error}", code="unreachable") from error
        if found.manifest is None and not wanted:
            raise CallError(f"there is no object {ndn.to_uri(name)}: its producer says so", code=UNKNOWN)
        if found.manifest is not None and version is not None and found.manifest.name != name + ndn.version(version):
            raise CallError(f"version {version} of {ndn.to_uri(name)} is not available", code=UNKNOWN)
        return found if found.manifest is not None else None

    async def _fetch_and_store(self, found: Discovered, hints: tuple[Name, ...], work: _Work) -> None:
        manifest = found.manifest
        assert manifest is not None
        if manifest.size > self._disk.capacity_bytes:
            raise CallError(f"it has {manifest.size} bytes, this store {self._disk.capacity_bytes}", code="full")
        base = ndn.prefix(manifest.name, -1)
        pin = work.command.pin or self._disk.pinned(base)
        if pin:
            self._pins.check(work.owner, base, manifest.size)

        def progress(done: int, total: int) -> None:
            self._progress[work] = (done, total)

        progress(0, manifest.segments)
        async with self._room.hold(work.owner, manifest.size):
            try:
                packets = await self._fetcher.packets(found, most=manifest.size, hints=hints, progress=progress)
            except Timeout as error:
                raise CallError(f"{work.command.name} comes too slowly", code="unreachable") from error
            await self._shelf.keep_chain(found.data, self._validator)
            await self._put(packets, work, pin=pin)

    async def _pin(self, base: Name, work: _Work) -> None:
        """It is kept already. An object is pinned by storing it again as pinned."""
        manifest = self._disk.manifest(base)
        if not work.command.pin or self._disk.pinned(base) or manifest is None:
            return
        self._pins.check(work.owner, base, manifest.size)
        async with self._room.hold(work.owner, manifest.size):
            packets = self._disk.get(base)
            if packets is not None:
                await self._put(packets, work, pin=True)

    async def _put(self, packets: ObjectPackets, work: _Work, *, pin: bool) -> None:
        """Done when it is on disk; the loop goes on meanwhile."""
        if pin:  # again: others of this owner may have come first
            self._pins.check(work.owner, packets.base, packets.manifest.size)
        try:
            await asyncio.wrap_future(self._disk.put(packets, pinned=pin) or self._disk.flush())
        except StoreFull as error:
            raise CallError(str(error), code="full") from error
        if pin:
            self._pins.pin(work.owner, packets.base, packets.manifest.size)


def _is_newer(found: Discovered, held: Manifest | None) -> bool:
    """Not what is kept already, and not older: a cache on the way may have answered."""
    return held is None or found.manifest is None or found.manifest.version > held.version
