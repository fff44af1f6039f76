"""Conversations by name: saved as signed objects below the user's own identity, loaded on any machine of the network.

Owns: what is in such an object, who keeps it, reading it back. Must not know: terminals, how a conversation goes on.

What is saved is there for good where a repo keeps it. Where none does, it is kept on this machine's disk, and is in the
network while a process of this user that went on with it runs. In a tenant domain the content is sealed; the name, and
that there is something, everybody can see.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ndn_infer import ndn, records
from ndn_infer.client import Client
from ndn_infer.errors import (
    BadName,
    BadRecord,
    FetchIncomplete,
    Nacked,
    NdnInferError,
    NetworkError,
    StorageError,
    UsageError,
)
from ndn_infer.library.kept_chats import KeptChats
from ndn_infer.namespace import REPO, Role, SavedChat
from ndn_infer.ndn.name import METADATA, Name
from ndn_infer.node.keys import USER, role_identity
from ndn_infer.node.node import Node
from ndn_infer.records import Message
from ndn_infer.records.chat import MAX_CHAT_BYTES, MAX_MESSAGES, ChatRecord
from ndn_infer.repo.records import RepoClient
from ndn_infer.security.domain_store import DomainStore
from ndn_infer.security.domains import PUBLIC, Domain, find_epoch, most_sealed
from ndn_infer.transport.objects.fetched import Discovered
from ndn_infer.wire.manifest import ObjectPackets, build_object

log = logging.getLogger(__name__)

FRESHNESS_MS: Final = 1000
"""How long a cache may go on giving an older state of a conversation."""
MOST_BYTES: Final = most_sealed(MAX_CHAT_BYTES)
"""Of an object, sealed."""
REPO_WAIT_S: Final = 30.0
OLDER_EPOCHS: Final = 4
"""In how many epochs of a domain a conversation is looked for that is named by its label alone."""


@dataclass(frozen=True, slots=True)
class SavedAs:
    """`name`: the object's versioned name (URI). `kept`: whether a repo keeps it; else `why` not, and `file` has it, or
    is None where even that failed: then it is there as long as this process."""

    name: str
    kept: bool
    why: str = ""
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class LoadedChat:
    """A saved conversation: its versioned `name`, who saved it (URI), what it holds, and the label of the domain that
    it is to go on in."""

    name: str
    signer: str
    record: ChatRecord
    domain: str

    @property
    def messages(self) -> tuple[Message, ...]:
        return tuple(one.message() for one in self.record.messages)


@dataclass(frozen=True, slots=True)
class SavedChats:
    """The conversations of this machine's user, and those of others."""

    node: Node
    client: Client

    async def save(self, label: str, record: ChatRecord, *, domain: str, repo: str = "") -> SavedAs:
        """Publish a conversation as `label` in the domain of this label, and have the repo of this machine, or `repo`
        (an identity's URI), keep it, or a file where none does: it is written before the repo is asked, so that whoever
        does not wait for the repo has it. Saved again it is a new version. Raises BadName, UsageError for one that is
        too long, MissingKey, RegistrationRefused."""
        base, keeper = self.base(label, domain), self._repo(repo)
        content = self._domain(domain).seal(base, _encoded(record))
        there = await self.client.publish(base, content, freshness_ms=FRESHNESS_MS)
        name, hint = ndn.from_uri(there.source), ndn.from_uri(there.hint)
        file, unwritten = await self._to_disk(base, name, content)
        try:
            entry = await keeper.insert(name, hints=(hint,), pin=True, deadline_s=REPO_WAIT_S)
        except NdnInferError as error:
            log.info("no repo keeps %s: %s", there.source, error)
            return SavedAs(there.source, False, "; ".join(filter(None, (str(error), unwritten))), file)
        await asyncio.to_thread(self._files.drop, base, ndn.last_version(name))
        return SavedAs(entry.name, True)

    async def load(self, label: str, *, domain: str = PUBLIC.label) -> LoadedChat:
        """A conversation by its label (this machine's user saved it, in `domain`) or by its whole name. Raises BadName,
        FetchIncomplete when there is none, a NetworkError, a TrustError, BadRecord, MissingKey for a domain whose key
        is not here, StorageError for a file here that cannot be read."""
        if label.startswith("/"):
            return await self._load(_base_of(self.node.net, label))
        missing: NetworkError | None = None
        for epoch in self._epochs(domain):
            try:
                return await self._load(self.base(label, epoch))
            except NetworkError as error:
                missing = error
        raise FetchIncomplete(f"there is no saved conversation {label!r}: {missing}", hint=_WHERE) from missing

    async def newest(self, label: str, domain: str) -> str:
        """The versioned name of what is saved as `label` now; "" where there is nothing. Raises BadName, and a
        TrustError, a NetworkError, StorageError where that cannot be said."""
        base = self.base(label, domain)
        own = await self._own(base)
        known = [own.manifest] if own is not None else []
        try:
            found = await self.node.fetcher.discover(base, past_caches=True)
            known += [found.manifest] if found.manifest is not None else []
        except Nacked:
            pass
        return ndn.to_uri(max(known, key=lambda one: one.version).name) if known else ""

    def label_of(self, name: str) -> str:
        """The label of a conversation that is given by label or whole name. Raises BadName."""
        if not name.startswith("/"):
            return name
        kind = SavedChat.parse(self.node.net, _base_of(self.node.net, name))
        assert kind is not None
        return kind.chat

    # ------------------------------------------------------------ names and keys

    def base(self, label: str, domain: str) -> Name:
        """The base name of what is saved as `label` here. Raises BadName."""
        user = Role.parse(self.node.net, role_identity(self.node.config, USER))
        assert user is not None
        try:
            return SavedChat(user.site, user.node, user.role, domain, label).to_name(self.node.net)
        except BadName as error:
            raise BadName(
                f"{label!r} names no conversation: {error}", hint="letters, digits, '.', '_' and '-', 64 at most"
            ) from error

    def _domain(self, label: str) -> Domain:
        if label == PUBLIC.label:
            return PUBLIC
        return find_epoch(DomainStore(self.node.config.keys_dir).tenants(), label)

    def _epochs(self, label: str) -> list[str]:
        """The label itself, then those of the epochs before it."""
        if label == PUBLIC.label:
            return [label]
        ident, _, _ = label.rpartition(".")
        tenants = DomainStore(self.node.config.keys_dir).tenants()
        return [
            epoch.label
            for tenant in tenants if tenant.domain == ident
            for epoch in tenant.epochs[: -OLDER_EPOCHS - 1 : -1]
        ]  # fmt: skip

    # ------------------------------------------------------------ objects

    @property
    def _files(self) -> KeptChats:
        return KeptChats.of(self.node.config, MOST_BYTES)

    async def _to_disk(self, base: Name, name: Name, content: bytes) -> tuple[Path | None, str]:
        """Where it is now, or why it is not."""
        try:
            return await asyncio.to_thread(self._files.keep, base, ndn.last_version(name), content), ""
        except (StorageError, UsageError) as error:
            return None, str(error)

    async def _own(self, base: Name) -> ObjectPackets | None:
        """What this user has published under this name: here, or in a process before or beside this one, where that is
        newer: then it is published again as it was. A forwarder does not bring our own Interests back to us."""
        own = self.client.own(base)
        if not base.startswith(role_identity(self.node.config, USER)):
            return own
        kept = await asyncio.to_thread(self._files.find, base)
        if kept is None or (own is not None and own.manifest.version >= kept[0]):
            return own
        packets = build_object(base, *kept, self.node.signer_as(USER).sign_data, freshness_ms=FRESHNESS_MS)
        await self.client.serve(base, packets)
        return packets

    def _repo(self, repo: str) -> RepoClient:
        """Raises BadName, MissingKey."""
        node = self.node
        identity = ndn.from_uri(repo) if repo else role_identity(node.config, REPO)
        return RepoClient(node.endpoint, node.validator, node.net, identity, node.signer_as(USER))

    async def _load(self, base: Name) -> LoadedChat:
        """The newest version, of those in the network and the one that this process has published."""
        own = await self._own(base)
        found: Discovered | None = None
        try:
            found = await self.node.fetcher.discover(base)
        except NetworkError:
            if own is None:
                raise
        manifest = found.manifest if found is not None else None
        if own is not None and (manifest is None or manifest.version <= own.manifest.version):
            return self._read(base, own.manifest.name, own.content(), self.node.signer_as(USER).identity)
        if found is None or manifest is None:
            raise FetchIncomplete(f"there is no {ndn.to_uri(base)}", hint=_WHERE)
        fetched = await self.node.fetcher.collect(found, most=MOST_BYTES)
        return self._read(base, fetched.name, fetched.content, fetched.signed_by.identity)

    def _read(self, base: Name, name: Name, content: bytes, signer: Name) -> LoadedChat:
        kind = SavedChat.parse(self.node.net, base)
        assert kind is not None
        record = records.decode(ChatRecord, self._domain(kind.domain).open(base, content))
        newest = self._epochs(kind.domain)[0]
        return LoadedChat(ndn.to_uri(name), ndn.to_uri(signer), record, newest)


_WHERE: Final = (
    "it is on the machine that saved it, or for all where a repo keeps it ('ndn-infer repo serve'); of another "
    "machine's user give the whole name"
)


def _encoded(record: ChatRecord) -> bytes:
    """Raises UsageError."""
    count = len(record.messages)
    if not count:
        raise UsageError("nothing was said yet", hint="save it after the first answer")
    if count > MAX_MESSAGES:
        raise UsageError(f"the conversation has {count} messages; {MAX_MESSAGES} can be saved")
    try:
        return records.encode(record)
    except BadRecord as error:
        raise UsageError(f"the conversation is too long to be saved: {error}") from error


def _base_of(net: Name, uri: str) -> Name:
    """Raises BadName for a name of anything else."""
    base, _ = ndn.split_version(ndn.from_uri(uri))
    base = base.removesuffix(METADATA)
    if SavedChat.parse(net, base) is None:
        raise BadName(
            f"{uri} names no conversation of this network", hint="a name as '/save' prints it: <user>/chat/..."
        )
    return base
