"""Commands to a repo and its answers, and how a client gives them.

Owns: the records that commands and answers carry, and the client's side: what is asked again, and when. Must not know:
how a repo stores anything (repo.py).

A command is a signed question to the repo (transport/calls/direct.py), whose topic is the verb. Inserting may take
longer than an Interest lives: then the answer says "working", and the same command, given again, asks how it went.
Commands may be repeated without harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, Final

from ndn_infer import clock, ndn
from ndn_infer.errors import BadName, CallError, Timeout
from ndn_infer.namespace import REPO, Role
from ndn_infer.ndn.name import Name
from ndn_infer.records import Record, Reply, Request
from ndn_infer.records.bounds import AtMost, Label, Size, Uri, Uris
from ndn_infer.security.crypto import Signer
from ndn_infer.security.validator import Validator
from ndn_infer.transport.calls.direct import Direct, DirectAsk
from ndn_infer.transport.link.endpoint import Endpoint

LIFETIME_MS: Final = 4000
ATTEMPTS: Final = 3
WORKING_PAUSE_S: Final = 0.2
UNKNOWN: Final = "no-such-object"


@dataclass(frozen=True, slots=True)
class InsertCommand(Request):
    """Fetch and keep the object `name` (a base name, or a versioned one), reached by `hints`; pinned objects are never
    evicted, and are durable when the answer comes."""

    name: Uri
    hints: Uris = ()
    pin: bool = False


@dataclass(frozen=True, slots=True)
class DeleteCommand(Request):
    """Forget the object with the base name `name`, pinned or not."""

    name: Uri


@dataclass(frozen=True, slots=True)
class ListCommand(Request):
    """Which objects below `prefix` are kept, in the order of their names' bytes, those after the base name `after`."""

    prefix: Uri = "/"
    after: Uri = ""


@dataclass(frozen=True, slots=True)
class UsageQuery(Request):
    """How much is kept."""


@dataclass(frozen=True, slots=True)
class RepoEntry(Reply):
    """One object. `name` is its versioned name; `hint` where it can be had without a route to its name."""

    name: Uri
    size: Size
    pinned: bool = False
    hint: Uri = ""


@dataclass(frozen=True, slots=True)
class RepoStatus(Reply):
    objects: Size
    used_bytes: Size
    capacity_bytes: Size
    pinned_objects: Size = 0
    evicted: Size = 0
    damaged: Size = 0
    unwritten: Size = 0
    working: Size = 0
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class RepoAnswer(Reply):
    """What was done, or is being done. `state` is stored, working or deleted; `done` of `total` segments are there
    while it is working (0 of 0 before the object was found)."""

    state: Label = ""
    entries: Annotated[tuple[RepoEntry, ...], AtMost(1024)] = ()
    more: bool = False
    done: Size = 0
    total: Size = 0
    status: RepoStatus | None = None


COMMANDS: Final[dict[str, type[Record]]] = {
    "insert": InsertCommand,
    "delete": DeleteCommand,
    "list": ListCommand,
    "usage": UsageQuery,
}
"""What each topic of a repo takes."""


class RepoClient:
    """Gives commands to the repo `repo` (its identity), signed by `signer`. What the signer may do is up to the trust
    schema."""

    def __init__(self, endpoint: Endpoint, validator: Validator, net: Name, repo: Name, signer: Signer) -> None:
        found = Role.parse(net, repo)
        if found is None or found.role != REPO:
            raise BadName(
                f"{ndn.to_uri(repo)} is not a repo of this network, which is named <net>/<site>/<node>/{REPO}"
            )
        self._direct = Direct(endpoint, validator)
        self._repo = repo
        self._signer = signer

    async def insert(
        self, name: Name, *, hints: tuple[Name, ...] = (), pin: bool = False, deadline_s: float = 600.0,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> RepoEntry:  # fmt: skip
        """Have an object kept; returns when it is. `progress` is told (segments there, in all) now and
        then. Raises CallError with the repo's reason, Timeout, Nacked, a
        TrustError."""
        command = InsertCommand(ndn.to_uri(name), tuple(map(ndn.to_uri, hints)), pin)
        give_up_at = clock.monotonic() + deadline_s
        while True:
            answer = await self._give("insert", command)
            if answer.state == "stored" and answer.entries:
                return answer.entries[0]
            progress(answer.done, answer.total)
            if clock.monotonic() > give_up_at:
                raise Timeout(f"the repo still fetches {ndn.to_uri(name)} after {deadline_s:g} s")
            await asyncio.sleep(WORKING_PAUSE_S)

    async def delete(self, name: Name) -> None:
        """Have an object forgotten. Raises as `insert`; CallError with code "no-such-object" when it was not kept."""
        await self._give("delete", DeleteCommand(ndn.to_uri(name)))

    async def list(self, prefix: Name = b"") -> AsyncIterator[RepoEntry]:
        """Every object kept below `prefix`."""
        after, more = "", True
        while more:
            answer = await self._give("list", ListCommand(ndn.to_uri(prefix), after))
            for entry in answer.entries:
                yield entry
                after = ndn.to_uri(ndn.prefix(ndn.from_uri(entry.name), -1))
            more = answer.more and bool(answer.entries)

    async def status(self) -> RepoStatus:
        answer = await self._give("usage", UsageQuery())
        if answer.status is None:
            raise CallError("the repo's answer holds no status")
        return answer.status

    async def _give(self, verb: str, command: Record) -> RepoAnswer:
        question = DirectAsk(self._repo, verb, command, self._signer, LIFETIME_MS, ATTEMPTS)
        return (await self._direct.ask(question, RepoAnswer)).record
