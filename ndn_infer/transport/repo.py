"""A repo: keeps objects of others by name, on command, and answers for them when their producers are gone.

Owns: what a command does, fetching (once for equal commands), which names are announced. Must not know: files (the
store does), who may command (the trust schema does), processes.

An object is fetched as anybody would fetch it: its metadata packet is validated by the trust schema, every other packet
against the manifest in it. The packets are kept as they are, so whoever asks later verifies the producer's signature,
not ours. What the repo has not got it refuses; it never calls a name absent, which only a producer may.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from ndn_infer import name as ndn
from ndn_infer import records
from ndn_infer.errors import (
    BadName,
    BadPacket,
    BadRecord,
    CallError,
    FetchIncomplete,
    NdnInferError,
    NetworkError,
    RegistrationRefused,
    StoreFull,
    TrustError,
)
from ndn_infer.lp import REASON_CONGESTION, REASON_NO_ROUTE
from ndn_infer.name import Name
from ndn_infer.packet import Interest
from ndn_infer.security.certificate import Certificate
from ndn_infer.security.crypto import Signer
from ndn_infer.security.validator import Validator
from ndn_infer.transport.certificate_shelf import CertificateShelf
from ndn_infer.transport.endpoint import Endpoint, Request
from ndn_infer.transport.fetch import Fetcher
from ndn_infer.transport.fetched import Discovered
from ndn_infer.transport.registration import Registrar
from ndn_infer.transport.repo_records import (
    COMMANDS,
    UNKNOWN,
    DeleteCommand,
    InsertCommand,
    ListCommand,
    RepoAnswer,
    RepoEntry,
    RepoStatus,
    StatusCommand,
)
from ndn_infer.transport.serve import Server, answering_again
from ndn_infer.transport.tiered_store import TieredStore
from ndn_infer.wire.again import AGAIN
from ndn_infer.wire.manifest import Manifest, ObjectPackets

log = logging.getLogger(__name__)

PATIENCE_S: Final = 0.5
"""How long a command waits for its answer before it is told that the work goes on."""

FRESHNESS_MS: Final = 10
MAX_COMMANDS: Final = 64
MAX_RUNNING: Final = 256
MAX_FETCHES: Final = 2
"""Objects in memory at a time, on their way to the disk."""

OUTCOMES: Final = 256
OUTCOME_AGE_S: Final = 60.0
LIST_BYTES: Final = 6000


@dataclass(frozen=True, slots=True)
class RepoParts:
    """What a repo works with. `store` is what `server` answers from."""

    endpoint: Endpoint
    server: Server
    store: TieredStore
    fetcher: Fetcher
    validator: Validator
    registrar: Registrar
    shelf: CertificateShelf
    signer: Signer


class Repo:
    """`prefixes`: announce these, and keep nothing else; without any, every object is announced by its own name."""

    def __init__(self, parts: RepoParts, *, prefixes: tuple[Name, ...] = ()) -> None:
        self._parts = parts
        self._disk = parts.store.disk
        self._prefixes = prefixes
        self._hint = ndn.to_uri(parts.signer.identity)
        self._room = asyncio.Semaphore(MAX_FETCHES)
        self._commands: set[asyncio.Task[None]] = set()
        self._running: dict[InsertCommand, asyncio.Task[RepoAnswer]] = {}
        self._progress: dict[InsertCommand, tuple[int, int]] = {}
        self._outcomes: OrderedDict[InsertCommand, tuple[float, RepoAnswer]] = OrderedDict()
        self._announced: set[Name] = set()
        self._announced_keys: set[Name] = set()
        self._verbs: dict[str, Callable[[Any], Awaitable[RepoAnswer]]] = {
            "insert": self._insert,
            "delete": self._delete,
            "list": self._list,
            "status": self._status,
        }

    @property
    def server(self) -> Server:
        return self._parts.server

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Answer and announce what is kept, and take commands. The registrar has been started. Raises
        RegistrationRefused when not even our own identity may be announced."""
        identity = self._parts.signer.identity
        self._parts.server.answer(identity + ndn.generic("command"), self._on_command)
        await self._parts.registrar.register(identity)
        for prefix in self._prefixes or tuple(self._disk.bases()):
            await self._announce(prefix)
        await self._announce_certificates()

    async def close(self) -> None:
        tasks = [*self._commands, *self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._parts.validator.aclose()

    async def _announce(self, prefix: Name) -> None:
        """A zero-trust forwarder may refuse; readers then need the hint that answers carry."""
        if prefix in self._announced:
            return
        self._announced.add(prefix)
        self._parts.endpoint.attach(prefix, answering_again(self._on_request))
        try:
            await self._parts.registrar.register(prefix)
        except RegistrationRefused as error:
            log.warning("%s; it can be had with the forwarding hint %s", error, self._hint)

    async def _announce_certificates(self) -> None:
        shelf = self._parts.shelf
        for name in _certificate_prefixes(shelf.certificates):
            if name not in self._announced_keys and not name.startswith(self._parts.registrar.prefixes):
                self._announced_keys.add(name)
                self._parts.server.answer_certificates(name, lambda: shelf.certificates)
                try:
                    await self._parts.registrar.register(name)
                except RegistrationRefused as error:
                    log.warning("%s; readers need these certificates from elsewhere", error)

    async def _withdraw_gone(self) -> None:
        """Objects that were evicted or deleted are no longer announced."""
        if self._prefixes:
            return
        for base in self._announced - set(self._disk.bases()):
            self._announced.discard(base)
            self._parts.endpoint.detach(base)
            try:
                await self._parts.registrar.unregister(base)
            except NetworkError as error:
                log.debug("could not withdraw %s: %s", ndn.to_uri(base), error)

    # ------------------------------------------------------------ answering for objects

    def _on_request(self, request: Request, _: bytes) -> None:
        interest = request.interest
        wire = self._parts.store.find(interest.name, can_be_prefix=interest.can_be_prefix)
        if wire is not None:
            request.reply(wire)
        else:
            request.refuse(REASON_NO_ROUTE)

    # ------------------------------------------------------------ commands

    def _on_command(self, request: Request) -> None:
        if len(self._commands) >= MAX_COMMANDS:
            request.refuse(REASON_CONGESTION)
            return
        task = asyncio.get_running_loop().create_task(self._answer(request))
        self._commands.add(task)
        task.add_done_callback(self._commands.discard)

    async def _answer(self, request: Request) -> None:
        try:
            answer = await self._obey(request.interest)
        except CallError as error:
            answer = RepoAnswer(error.code, str(error))
        except TrustError as error:
            log.warning("refused: %s", error)
            answer = RepoAnswer("refused", str(error))
        except (BadRecord, BadName, BadPacket) as error:
            answer = RepoAnswer("bad-request", str(error))
        except NdnInferError as error:
            answer = RepoAnswer("failed", f"{error.kind}: {error}")
        except Exception as error:  # a defect must reach its caller as an answer, and the operator as a traceback
            log.exception("a command failed")
            answer = RepoAnswer("internal", f"{type(error).__name__} in the repo")
        wire = self._parts.signer.sign_data(
            request.interest.name, records.encode(answer), freshness_ms=FRESHNESS_MS
        )  # fmt: skip
        request.reply(wire)

    async def _obey(self, interest: Interest) -> RepoAnswer:
        signed = await self._parts.validator.validate_interest(interest)
        parts = ndn.components(interest.name[len(self._parts.signer.identity) :])
        verb = ndn.component_value(parts[1]).decode("ascii", "replace") if len(parts) == 3 else ""
        if verb not in self._verbs or interest.parameters is None:
            raise BadRecord("a command is <repo>/command/<insert, delete, list or status> with its parameters")
        command = records.decode(COMMANDS[verb], interest.parameters)
        log.info("%s of %s by %s", verb, command, ndn.to_uri(signed.identity))
        return await self._verbs[verb](command)

    async def _delete(self, command: DeleteCommand) -> RepoAnswer:
        base = ndn.from_uri(command.name)
        if not await self._stop_inserting(base) and base not in self._disk:
            raise CallError(f"{command.name} is not kept here", code=UNKNOWN)
        self._parts.store.remove(base)
        await asyncio.wrap_future(self._disk.flush())
        await self._withdraw_gone()
        return RepoAnswer(state="deleted")

    async def _stop_inserting(self, base: Name) -> bool:
        """Whether it was being inserted. What is being written now is there afterwards, or not at all."""
        stopped = [
            task for command, task in self._running.items() if _split_version(ndn.from_uri(command.name))[0] == base
        ]
        for task in stopped:
            task.cancel()
        if stopped:
            await asyncio.wait(stopped)
            await asyncio.wrap_future(self._disk.flush())
        return bool(stopped)

    async def _list(self, command: ListCommand) -> RepoAnswer:
        prefix = ndn.from_uri(command.prefix)
        after = ndn.from_uri(command.after) if command.after else b""
        entries: list[RepoEntry] = []
        size = 0
        for base in self._disk.bases():
            if base <= after or not base.startswith(prefix):
                continue
            entry = self._entry(base)
            if entry is None:
                continue
            size += len(records.encode(entry))
            if size > LIST_BYTES:
                return RepoAnswer(entries=tuple(entries), more=True)
            entries.append(entry)
        return RepoAnswer(entries=tuple(entries))

    async def _status(self, _: StatusCommand) -> RepoAnswer:
        disk = self._disk
        bases = disk.bases()
        status = RepoStatus(
            objects=len(bases), used_bytes=disk.used_bytes, capacity_bytes=disk.capacity_bytes,
            pinned_objects=sum(map(disk.pinned, bases)), evicted=disk.evicted, damaged=disk.damaged,
            unwritten=disk.unwritten, working=len(self._running), read_only=disk.read_only,
        )  # fmt: skip
        return RepoAnswer(status=status)

    def _entry(self, base: Name) -> RepoEntry | None:
        manifest = self._disk.manifest(base)
        if manifest is None:
            return None
        return RepoEntry(ndn.to_uri(manifest.name), manifest.size, self._disk.pinned(base), self._hint)

    def status(self) -> dict[str, int]:
        """Counters for a status record."""
        disk = self._disk
        return {
            "repo_objects": len(disk), "repo_bytes": disk.used_bytes, "repo_evicted": disk.evicted,
            "repo_damaged": disk.damaged, "repo_unwritten": disk.unwritten,
        }  # fmt: skip

    # ------------------------------------------------------------ inserting

    async def _insert(self, command: InsertCommand) -> RepoAnswer:
        """One fetch for equal commands; who waits longer than PATIENCE_S is told so, and asks again."""
        found = self._outcomes.pop(command, None)
        if found is not None and time.monotonic() - found[0] < OUTCOME_AGE_S:
            return found[1]
        task = self._running.get(command)
        if task is None:
            if len(self._running) >= MAX_RUNNING:
                raise CallError(f"{MAX_RUNNING} objects wait to be fetched; try again later", code="busy")
            task = self._running[command] = asyncio.get_running_loop().create_task(self._keep(command))
        done, _ = await asyncio.wait({task}, timeout=PATIENCE_S)
        if done:
            self._forget_running(command, task)
            if task.cancelled():
                raise CallError(f"{command.name} was deleted while it was fetched", code="deleted")
            return task.result()
        task.add_done_callback(lambda task: self._remember(command, task))
        there, total = self._progress.get(command, (0, 0))
        return RepoAnswer(state="working", done=there, total=total)

    def _forget_running(self, command: InsertCommand, task: asyncio.Task[RepoAnswer]) -> None:
        if self._running.get(command) is task:
            del self._running[command]
            self._progress.pop(command, None)

    def _remember(self, command: InsertCommand, task: asyncio.Task[RepoAnswer]) -> None:
        """Whoever was told that the work goes on will ask how it went."""
        self._forget_running(command, task)
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            answer = RepoAnswer("deleted", f"{command.name} was deleted while it was fetched")
        elif isinstance(error, CallError):
            answer = RepoAnswer(error.code, str(error))
        elif error is not None:
            answer = RepoAnswer("failed", f"{type(error).__name__}: {error}")
        else:
            answer = task.result()
        self._outcomes[command] = (time.monotonic(), answer)
        while len(self._outcomes) > OUTCOMES:
            self._outcomes.popitem(last=False)

    async def _keep(self, command: InsertCommand) -> RepoAnswer:
        name, version = _split_version(ndn.from_uri(command.name))
        hints = tuple(map(ndn.from_uri, command.hints))
        if not name or (self._prefixes and not name.startswith(self._prefixes)):
            below = ", ".join(map(ndn.to_uri, self._prefixes))
            raise CallError(f"this repo keeps objects below {below or '/<name>'}, not {command.name}", code="not-kept")
        async with self._room:
            held = self._disk.manifest(name)
            found = await self._look(name, version, hints, held)
            if found is None or not self._is_newer(found, held):
                await self._pin(name, command)
            else:
                await self._fetch_newest(found, (name, version), hints, command)
        entry = self._entry(name)
        if entry is None:
            raise CallError(f"{command.name} could not be kept: the store is full or cannot be written", code="full")
        await self._announce_certificates()
        if not self._prefixes:
            await self._announce(name)
        await self._withdraw_gone()
        return RepoAnswer(state="stored", entries=(entry,))

    async def _fetch_newest(
        self, found: Discovered, wanted: tuple[Name, int | None], hints: tuple[Name, ...], command: InsertCommand
    ) -> None:  # fmt: skip
        """When the segments cannot be had, what was found may be an old version that a cache on the way still knows."""
        try:
            await self._fetch_and_store(found, hints, command)
        except FetchIncomplete:
            if wanted[1] is not None:
                raise
            newer = await self._parts.fetcher.discover(wanted[0], hints=hints, past_caches=True)
            if newer.manifest is None or not self._is_newer(newer, found.manifest):
                raise
            await self._fetch_and_store(newer, hints, command)

    async def _look(
        self, name: Name, version: int | None, hints: tuple[Name, ...], held: Manifest | None
    ) -> Discovered | None:
        """What its producer has; None when that is not to be had, but what is wanted is kept already."""
        wanted = held is not None and (version is None or held.name == name + ndn.version(version))
        if wanted and version is not None:
            return None
        newer = held is not None and version is None  # caches on the way may still know the one that is kept
        try:
            found = await self._parts.fetcher.discover(name, hints=hints, version=version, past_caches=newer)
        except NetworkError as error:
            if wanted:
                return None
            raise CallError(f"{ndn.to_uri(name)} cannot be had: {error}", code="unreachable") from error
        if found.manifest is None and not wanted:
            raise CallError(f"there is no object {ndn.to_uri(name)}: its producer says so", code=UNKNOWN)
        if found.manifest is not None and version is not None and found.manifest.name != name + ndn.version(version):
            raise CallError(f"version {version} of {ndn.to_uri(name)} cannot be had", code=UNKNOWN)
        return found if found.manifest is not None else None

    @staticmethod
    def _is_newer(found: Discovered, held: Manifest | None) -> bool:
        """Not what is kept already, and not older: a cache on the way may have answered."""
        if held is None or found.manifest is None:
            return True
        return _version_of(found.manifest.name) > _version_of(held.name)

    async def _fetch_and_store(self, found: Discovered, hints: tuple[Name, ...], command: InsertCommand) -> None:
        manifest, parts = found.manifest, self._parts
        assert manifest is not None
        if manifest.size > self._disk.capacity_bytes:
            raise CallError(f"it has {manifest.size} bytes, this store {self._disk.capacity_bytes}", code="full")

        def progress(done: int, total: int) -> None:
            self._progress[command] = (done, total)

        progress(0, manifest.segments)
        packets = await parts.fetcher.packets(found, hints=hints, progress=progress)
        await parts.shelf.keep_chain(found.data, parts.validator)
        await self._put(packets, pin=command.pin or self._disk.pinned(packets.base))

    async def _pin(self, base: Name, command: InsertCommand) -> None:
        """It is kept already. An object is pinned by storing it again as pinned."""
        if not command.pin or self._disk.pinned(base):
            return
        packets = self._disk.get(base)
        if packets is not None:
            await self._put(packets, pin=True)

    async def _put(self, packets: ObjectPackets, *, pin: bool) -> None:
        """Done when it is on disk; the loop goes on meanwhile."""
        try:
            await asyncio.wrap_future(self._disk.put(packets, pinned=pin) or self._disk.flush())
        except StoreFull as error:
            raise CallError(str(error), code="full") from error


def _certificate_prefixes(certificates: Iterable[Certificate]) -> list[Name]:
    """Exactly these certificates, and questions for them past caches. Not all keys of their owners: a newer certificate
    is to be had from the owner, while he lives, and must not be looked for here."""
    found: dict[Name, None] = {}
    for certificate in certificates:
        found[certificate.name] = None
        found[ndn.prefix(certificate.name, -1) + AGAIN] = None
    return list(found)


def _split_version(name: Name) -> tuple[Name, int | None]:
    """(base name, version or None)."""
    parts = ndn.components(name)
    if parts and ndn.component_type(parts[-1]) == ndn.VERSION:
        return name[: -len(parts[-1])], ndn.component_number(parts[-1], ndn.VERSION)
    return name, None


def _version_of(versioned: Name) -> int:
    return ndn.component_number(ndn.components(versioned)[-1], ndn.VERSION)
