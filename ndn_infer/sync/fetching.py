"""Fetching what others published: the numbers that became known, verified, in order, each once.

Owns: which publications are asked for, how many at a time, how often, reassembly. Must not know: how numbers become
known, what publications mean. Nothing runs while nothing is missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import BadPacket, NdnInferError
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import SIGNATURE_DIGEST_SHA256, Data, digest_signer
from ndn_infer.security.validator import Validated, Validator
from ndn_infer.sync.core.packets import (
    SIGNATURE_NULL,
    Sealed,
    decapsulate,
    mapping_name,
    older_mapping_name,
    older_name,
    publication_name,
)
from ndn_infer.sync.core.state import Update
from ndn_infer.sync.core.vector import decode_mapping
from ndn_infer.transport.link.endpoint import Endpoint

log = logging.getLogger(__name__)

BACKOFF_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """`newest_only`: of numbers that became known together only the last; else the last `history` of them. A try waits
    `lifetime_ms`; between tries 0.2, 0.4, ... s pass. `topics`: only publications whose application name lies below
    one of these (asked for by mapping data first); empty: all. `older_names`: every other try of a member that did not
    answer is by the names of 2025-01-04 (NDNts)."""

    newest_only: bool = True
    history: int = 64
    attempts: int = 4
    lifetime_ms: int = 1000
    parallel: int = 16
    max_bytes: int = 1 << 20
    older_names: bool = False
    topics: tuple[Name, ...] = ()


@dataclass(frozen=True, slots=True)
class Publication:
    """What `publisher` published as number `sequence` since `boot`: `content` under the application's `name`.
    `validated` says who signed the outer packet; `inner` who signed the encapsulated one, None when it has only a
    digest and the outer signature speaks for it. `wire`: the outer packet, empty when it came in segments."""

    publisher: Name
    boot: int
    sequence: int
    name: Name
    content: bytes
    validated: Validated
    inner: Validated | None = None
    wire: bytes = b""


@dataclass(slots=True)
class _Wanted:
    boot: int
    next: int
    last: int
    hints: tuple[Name, ...]


@dataclass(slots=True)
class FetchCounts:
    fetched: int = 0
    failed: int = 0
    rejected: int = 0


class Fetching:
    """Of one group. `deliver` is called with each publication, `give_up` with one that could not be had."""

    def __init__(
        self,
        endpoint: Endpoint,
        validator: Validator,
        group: Name,
        options: FetchOptions,
        deliver: Callable[[Publication], None],
    ) -> None:
        self._endpoint = endpoint
        self._validator = validator
        self._group = group
        self._options = options
        self._deliver = deliver
        self._wanted: OrderedDict[Name, _Wanted] = OrderedDict()
        self._busy: set[Name] = set()
        self._done: dict[Name, tuple[int, int]] = {}
        self._older: set[Name] = set()
        """Members that answered to older names."""
        self._workers: set[asyncio.Task[None]] = set()
        self.give_up: Callable[[Name, int, int, str], None] = lambda publisher, boot, sequence, why: None
        self.counts = FetchCounts()

    def want(self, update: Update, hints: tuple[Name, ...] = ()) -> None:
        """New numbers of a member, perhaps reachable by forwarding hints."""
        key = (update.boot, update.high)
        if key <= self._done.get(update.name, (0, 0)):
            return
        wanted = self._wanted.get(update.name)
        if wanted is not None and wanted.boot > update.boot:
            return
        first = update.low if wanted is None or wanted.boot != update.boot else wanted.next
        most = 1 if self._options.newest_only else self._options.history
        self._wanted[update.name] = _Wanted(update.boot, max(first, update.high - most + 1), update.high, hints)
        if len(self._workers) < self._options.parallel:
            task = asyncio.get_running_loop().create_task(self._work())
            self._workers.add(task)
            task.add_done_callback(self._workers.discard)

    def forget(self, member: Name) -> None:
        self._wanted.pop(member, None)
        self._done.pop(member, None)
        self._older.discard(member)

    async def close(self) -> None:
        workers = tuple(self._workers)
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    # ------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            member = next((name for name in self._wanted if name not in self._busy), None)
            if member is None:
                return
            self._busy.add(member)
            try:
                await self._one(member, self._wanted.pop(member))
            finally:
                self._busy.discard(member)

    async def _one(self, member: Name, wanted: _Wanted) -> None:
        """All numbers wanted of one member, until newer ones replace them."""
        for sequence in range(wanted.next, wanted.last + 1):
            try:
                publication = await self._fetch(member, wanted, sequence)
            except NdnInferError as error:
                self.counts.failed += 1
                log.info("%s of %s was not to be had: %s", sequence, ndn.to_uri(member), error)
                self.give_up(member, wanted.boot, sequence, str(error))
                continue
            if (wanted.boot, sequence) <= self._done.get(member, (0, 0)):
                continue
            self._done[member] = (wanted.boot, sequence)
            if publication is not None:
                self.counts.fetched += 1
                self._hand_over(publication)

    def _hand_over(self, publication: Publication) -> None:
        """A fault of the application costs it this one publication and no others."""
        try:
            self._deliver(publication)
        except Exception:
            log.exception("%s of %s was not taken", publication.sequence, ndn.to_uri(publication.publisher))

    async def _fetch(self, member: Name, wanted: _Wanted, sequence: int) -> Publication | None:
        """None for a publication of another topic. Raises NdnInferError when all tries fail."""
        last: NdnInferError | None = None
        for attempt in range(self._options.attempts):
            if attempt:
                await asyncio.sleep(BACKOFF_S * (1 << (attempt - 1)))
                newer = self._wanted.get(member)
                if newer is not None and self._options.newest_only:
                    break  # nobody needs this one any more
            older = self._options.older_names and (bool(attempt % 2) is (member not in self._older))
            try:
                hints = () if attempt % 2 else wanted.hints  # who told of it may not have it, and the way may be open
                found = await self._try(member, replace(wanted, hints=hints), sequence, older=older)
                (self._older.add if older else self._older.discard)(member)
                return found
            except NdnInferError as error:
                last = error
        raise last or BadPacket("no attempt was made")

    async def _try(self, member: Name, wanted: _Wanted, sequence: int, *, older: bool) -> Publication | None:
        name = publication_name(member, self._group, wanted.boot, sequence)
        mapping = mapping_name(member, self._group, wanted.boot, sequence, sequence)
        if older:
            name = older_name(member, self._group, sequence)
            mapping = older_mapping_name(member, self._group, sequence, sequence)
        if self._options.topics and not await self._of_interest(member, wanted, sequence, mapping):
            return None
        outer, validated = await self._verified(name, wanted.hints, can_be_prefix=True)
        sealed = decapsulate(outer, name)
        inner = await self._inner(sealed)
        if sealed.last is None:
            return Publication(
                member, wanted.boot, sequence, sealed.name, sealed.content, validated, inner, outer.wire
            )  # fmt: skip
        if not outer.name.endswith(ndn.segment(0)):
            raise BadPacket(f"{ndn.to_uri(outer.name)} came in place of the first segment")
        content = await self._segments(name, wanted.hints, sealed, validated)
        return Publication(member, wanted.boot, sequence, sealed.name, content, validated, inner)

    async def _segments(self, name: Name, hints: tuple[Name, ...], first: Sealed, by: Validated) -> bytes:
        assert first.last is not None
        if (first.last + 1) * len(first.content) > self._options.max_bytes + len(first.content):
            raise BadPacket(f"{ndn.to_uri(name)} is larger than {self._options.max_bytes} bytes")
        pieces, size = [first.content], len(first.content)
        for number in range(1, first.last + 1):
            outer, validated = await self._verified(name + ndn.version(0) + ndn.segment(number), hints)
            sealed = decapsulate(outer, name)
            if sealed.name != first.name or sealed.last != first.last or validated.identity != by.identity:
                raise BadPacket(f"segments of {ndn.to_uri(name)} do not belong together")
            await self._inner(sealed)
            size += len(sealed.content)
            if size > self._options.max_bytes:
                raise BadPacket(f"{ndn.to_uri(name)} is larger than {self._options.max_bytes} bytes")
            pieces.append(sealed.content)
        return b"".join(pieces)

    async def _of_interest(self, member: Name, wanted: _Wanted, sequence: int, name: Name) -> bool:
        """Whether the application's name of this publication lies below a topic, by the publisher's mapping data."""
        data, _ = await self._verified(name, wanted.hints)
        owner, names = decode_mapping(data.content)
        if owner != member or sequence not in names:
            raise BadPacket(f"{ndn.to_uri(name)} does not map what was asked for")
        return any(names[sequence].startswith(topic) for topic in self._options.topics)

    async def _verified(
        self, name: Name, hints: tuple[Name, ...], *, can_be_prefix: bool = False
    ) -> tuple[Data, Validated]:  # fmt: skip
        data, _ = await self._endpoint.express(
            name, can_be_prefix=can_be_prefix, hints=hints, lifetime_ms=self._options.lifetime_ms
        )
        try:
            return data, await self._validator.validate(data)
        except NdnInferError:
            self.counts.rejected += 1
            raise

    async def _inner(self, sealed: Sealed) -> Validated | None:
        """Who signed the encapsulated packet; None when it leaves that to the outer one. Raises BadPacket for a digest
        that does not match."""
        inner = sealed.inner
        if inner.signature_info.type == SIGNATURE_NULL:
            return None
        if inner.signature_info.type != SIGNATURE_DIGEST_SHA256:
            return await self._validator.validate(inner)
        if digest_signer(inner.signed_portion) != inner.signature:
            raise BadPacket(f"the digest of {ndn.to_uri(inner.name)} does not match")
        return None
