"""A repo: keeps objects of others by name, on command, and answers for them when their producers are gone.

Owns: what a command does, and which names are announced. Must not know: how objects are fetched (repo/insert.py), files
(the store does), who may command (the trust schema does), processes.

Packets are given out as their producers made them. A name that is not kept is refused with a Nack; a repo never calls
one absent, which only a producer may.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from ndn_infer import ndn, records
from ndn_infer.errors import (
    CallError,
    NetworkError,
    RegistrationRefused,
    TrustError,
)
from ndn_infer.namespace import operator_identity
from ndn_infer.ndn.lp import REASON_NO_ROUTE
from ndn_infer.ndn.name import Name
from ndn_infer.records import Record
from ndn_infer.repo.insert import Inserter
from ndn_infer.repo.parts import RepoParts
from ndn_infer.repo.pin_ledger import OPERATOR
from ndn_infer.repo.records import (
    COMMANDS,
    UNKNOWN,
    DeleteCommand,
    InsertCommand,
    ListCommand,
    RepoAnswer,
    RepoEntry,
    RepoStatus,
    UsageQuery,
)
from ndn_infer.security.askers import Askers
from ndn_infer.security.certificate import Certificate
from ndn_infer.security.validator import Validated
from ndn_infer.transport.calls.direct import REFUSED, Questions, Topic
from ndn_infer.transport.link.endpoint import ReceivedInterest
from ndn_infer.transport.objects.serve import Server, answering_again
from ndn_infer.wire.again import AGAIN

log = logging.getLogger(__name__)

LIST_BYTES: Final = 6000


class Repo:
    """`prefixes`: announce these, and keep nothing else; without any, every object is announced by its own name."""

    def __init__(self, parts: RepoParts, *, prefixes: tuple[Name, ...] = ()) -> None:
        self._parts = parts
        self._disk = parts.store.disk
        self._prefixes = prefixes
        self._hint = ndn.to_uri(parts.signer.identity)
        self._questions = Questions(parts.server, Askers(parts.validator))
        self._inserter = Inserter(
            parts, prefixes, entry=self._entry, stored=self._on_stored,
        )  # fmt: skip
        self._operator = operator_identity(parts.validator.net)
        self._announced: set[Name] = set()
        self._announced_keys: set[Name] = set()

    @property
    def questions(self) -> Questions:
        """Where other questions to this repo are answered."""
        return self._questions

    @property
    def server(self) -> Server:
        return self._parts.server

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Answer and announce what is kept, and take commands. The registrar has been started. Raises
        RegistrationRefused when not even our own identity may be announced."""
        identity = self._parts.signer.identity
        verbs: dict[str, Callable[[Any, str], Awaitable[RepoAnswer]]]
        verbs = {"insert": self._insert, "delete": self._delete, "list": self._list, "usage": self._usage}
        for verb, obey in verbs.items():
            self._questions.answer(self._topic(verb, obey), self._parts.signer)
        await self._parts.registrar.register(identity)
        self._parts.pins.retain(filter(self._disk.pinned, self._disk.bases()), self._size)
        for prefix in self._prefixes or tuple(self._disk.bases()):
            await self._announce(prefix)
        await self._announce_certificates()

    async def close(self) -> None:
        await self._questions.close()
        await self._inserter.close()
        await self._parts.validator.aclose()

    async def _on_stored(self, base: Name) -> None:
        await self._announce_certificates()
        if not self._prefixes:
            await self._announce(base)
        await self._withdraw_gone()

    async def _announce(self, prefix: Name) -> None:
        """A zero-trust forwarder may refuse; readers then need the hint that answers carry."""
        if prefix in self._announced:
            return
        self._announced.add(prefix)
        self._parts.endpoint.attach(prefix, answering_again(self._on_request))
        try:
            await self._parts.registrar.register(prefix)
        except RegistrationRefused as error:
            log.warning("%s; it is available with the forwarding hint %s", error, self._hint)

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

    def _on_request(self, request: ReceivedInterest, _: bytes) -> None:
        interest = request.interest
        wire = self._parts.store.find(interest.name, can_be_prefix=interest.can_be_prefix)
        if wire is not None:
            request.reply(wire)
        else:
            request.refuse(REASON_NO_ROUTE)

    # ------------------------------------------------------------ commands

    def _topic(self, verb: str, obey: Callable[[Any, str], Awaitable[RepoAnswer]]) -> Topic[Any]:
        async def handler(command: Record, signed: Validated | None) -> RepoAnswer:
            assert signed is not None
            log.info("%s of %s by %s", verb, command, ndn.to_uri(signed.identity))
            owner = OPERATOR if signed.identity == self._operator else ndn.to_uri(signed.identity)
            try:
                return await obey(command, owner)
            except TrustError as error:
                raise CallError(str(error), code=REFUSED) from error

        return Topic(verb, COMMANDS[verb], handler, signed=True)

    async def _insert(self, command: InsertCommand, owner: str) -> RepoAnswer:
        return await self._inserter.insert(owner, command)

    async def _delete(self, command: DeleteCommand, _: str) -> RepoAnswer:
        base, version = ndn.split_version(ndn.from_uri(command.name))
        held = self._disk.manifest(base)
        if held is not None and version is not None and held.name != base + ndn.version(version):
            raise CallError(f"{command.name} is not kept here, but {ndn.to_uri(held.name)}", code=UNKNOWN)
        if not await self._inserter.stop(base) and held is None:
            raise CallError(f"{command.name} is not kept here", code=UNKNOWN)
        self._parts.store.remove(base)
        self._parts.pins.unpin(base)
        await asyncio.wrap_future(self._disk.flush())
        await self._withdraw_gone()
        return RepoAnswer(state="deleted")

    async def _list(self, command: ListCommand, _: str) -> RepoAnswer:
        asked = ndn.from_uri(command.prefix)
        prefix, version = ndn.split_version(asked)
        after = ndn.from_uri(command.after) if command.after else b""
        entries: list[RepoEntry] = []
        size = 0
        for base in self._disk.bases():
            if base <= after or not base.startswith(prefix):
                continue
            entry = self._entry(base)
            if entry is None or (version is not None and ndn.from_uri(entry.name) != asked):
                continue
            size += len(records.encode(entry))
            if size > LIST_BYTES:
                return RepoAnswer(entries=tuple(entries), more=True)
            entries.append(entry)
        return RepoAnswer(entries=tuple(entries))

    async def _usage(self, _: UsageQuery, __: str) -> RepoAnswer:
        disk = self._disk
        bases = disk.bases()
        status = RepoStatus(
            objects=len(bases), used_bytes=disk.used_bytes, capacity_bytes=disk.capacity_bytes,
            pinned_objects=sum(map(disk.pinned, bases)), evicted=disk.evicted, damaged=disk.damaged,
            unwritten=disk.unwritten, working=self._inserter.running, read_only=disk.read_only,
        )  # fmt: skip
        return RepoAnswer(status=status)

    def _entry(self, base: Name) -> RepoEntry | None:
        manifest = self._disk.manifest(base)
        if manifest is None:
            return None
        return RepoEntry(ndn.to_uri(manifest.name), manifest.size, self._disk.pinned(base), self._hint)

    def _size(self, base: Name) -> int:
        manifest = self._disk.manifest(base)
        return manifest.size if manifest is not None else 0

    def status(self) -> dict[str, int]:
        """Counters for a status record."""
        disk = self._disk
        return {
            "repo_objects": len(disk), "repo_bytes": disk.used_bytes, "repo_evicted": disk.evicted,
            "repo_damaged": disk.damaged, "repo_unwritten": disk.unwritten,
        }  # fmt: skip


def _certificate_prefixes(certificates: Iterable[Certificate]) -> list[Name]:
    """Exactly these certificates, and questions for them past caches. Not all keys of their owners: a newer certificate
    is to be had from the owner, while he lives, and must not be looked for here. But for a key whose certificate was
    renewed: who has a packet that names the old one asks by the key's name."""
    found: dict[Name, None] = {}
    known: set[Name] = set()
    for certificate in certificates:
        found[certificate.name] = None
        found[ndn.prefix(certificate.name, -1) + AGAIN] = None
        if certificate.key_name in known:
            found[certificate.key_name] = None
        known.add(certificate.key_name)
    return list(found)
