"""Reading a log by name: its newest checkpoint, the tiles that a proof needs, entries, receipts.

Owns: fetching them, verified, and no more of them than a proof needs. Must not know: who watches, keys of users.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from ndn_infer import ndn, records
from ndn_infer.errors import BadRecord, FetchIncomplete
from ndn_infer.namespace import WitnessedLog
from ndn_infer.ndn.name import Name
from ndn_infer.prompt_log import merkle
from ndn_infer.prompt_log.checkpoint import Checkpoint, Witnessed
from ndn_infer.prompt_log.entries import LeafEntry
from ndn_infer.prompt_log.live.book import Names
from ndn_infer.prompt_log.live.log import MAX_ENTRY_BYTES
from ndn_infer.prompt_log.merkle import ReadNode
from ndn_infer.prompt_log.receipt import InclusionProof, receipt_of
from ndn_infer.prompt_log.tiles import TILE_BYTES, WIDTH, Place, hashes_in, node_in, place_of
from ndn_infer.security.crypto import PublicKey
from ndn_infer.security.validator import Validator
from ndn_infer.transport.objects.fetch import Fetcher

T = TypeVar("T")
MOST_TILES: Final = 1024
"""Of one proof."""
SMALL_BYTES: Final = 16_384


class _Missing(Exception):
    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.place = place


@dataclass(slots=True)
class LogReader:
    """Of the log with this identity, by a fetcher whose packets `validator` judges. `hints`: where it can be reached
    without a route."""

    names: Names
    fetcher: Fetcher
    validator: Validator
    hints: tuple[Name, ...] = ()
    _full: dict[Place, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, net: Name, log: Name, fetcher: Fetcher, validator: Validator) -> LogReader:
        """Raises BadRecord for an identity that is no log's."""
        return cls(Names.of(net, log), fetcher, validator, (log,))

    async def checkpoint(self) -> tuple[Checkpoint, bytes]:
        """The newest one, and the public key (SPKI) that signed it. Past caches: who watches a log wants what the log
        says now. Raises FetchIncomplete where the log is empty, a NetworkError, a TrustError, BadRecord."""
        found = await self.fetcher.discover(self.names.checkpoint, hints=self.hints, past_caches=True)
        if found.manifest is None:
            raise FetchIncomplete(f"{ndn.to_uri(self.names.log)} has no records yet")
        fetched = await self.fetcher.collect(found, most=SMALL_BYTES, hints=self.hints)
        certificate = self.validator.certified(fetched.signed_by.key_name)
        if certificate is None:
            raise BadRecord("the certificate of the log's key is gone")
        checkpoint = records.decode(Checkpoint, fetched.content)
        judge(checkpoint, self.names.log, certificate.public_der)
        return checkpoint, certificate.public_der

    async def public(self, key_id: bytes) -> bytes:
        """The public key (SPKI) with this SHA-256, with which the log signs. Raises BadRecord for another one, and as
        `checkpoint`."""
        _, public = await self.checkpoint()
        if hashlib.sha256(public).digest() != key_id:
            raise BadRecord("signed with another key than the log's newest checkpoint")
        return public

    async def with_tiles(self, size: int, compute: Callable[[ReadNode], T]) -> T:
        """What `compute` makes of the nodes of the tree of `size` leaves; tiles are fetched as it asks for them. Raises
        as `tile`."""
        tiles: dict[Place, bytes] = {}

        def read(level: int, index: int) -> bytes:
            place = place_of(level, index)
            tile = tiles.get(place) or self._full.get(place)
            if tile is None:
                raise _Missing(place)
            return node_in(tile, level, index)

        for _ in range(MOST_TILES):
            try:
                return compute(read)
            except _Missing as missing:
                tile = tiles[missing.place] = await self.tile(missing.place, size)
                if len(tile) == TILE_BYTES:
                    self._full[missing.place] = tile
        raise BadRecord(f"a proof that needs more than {MOST_TILES} tiles")

    async def tile(self, place: Place, size: int) -> bytes:
        """One of a tree of `size` leaves. What caches have of a tile that still grows may end too early: it is asked
        for past them. Raises FetchIncomplete where there is none, a NetworkError, a TrustError, BadRecord."""
        base = self.names.tile(*place)
        if hashes_in(size, place) == WIDTH:
            tile = await self._small(base, TILE_BYTES)
            if len(tile) == TILE_BYTES:
                return tile
        return await self._small(base, TILE_BYTES, past_caches=True)

    async def entry(self, index: int) -> LeafEntry:
        """As `tile`."""
        found = await self.fetcher.discover(self.names.entry(index), hints=self.hints)
        if found.manifest is None:
            raise FetchIncomplete(f"{ndn.to_uri(self.names.log)} has no entry {index}")
        fetched = await self.fetcher.collect(found, most=MAX_ENTRY_BYTES, hints=self.hints)
        return records.decode(LeafEntry, fetched.content)

    async def root(self, size: int) -> bytes:
        """Over the first leaves, as the log's tiles have it now."""
        return await self.with_tiles(size, lambda read: merkle.root(size, read))

    async def proved(self, index: int, checkpoint: Checkpoint) -> tuple[LeafEntry, bytes]:
        """An entry and its receipt. Raises BadRecord for one that is not in this checkpoint's tree."""
        entry = await self.entry(index)
        path = await self.with_tiles(checkpoint.size, lambda read: merkle.inclusion(index, checkpoint.size, read))
        leaf = merkle.leaf_hash(entry.leaf())
        if not merkle.verify_inclusion(leaf, index, checkpoint.size, path, checkpoint.root):
            raise BadRecord(
                f"entry {index} is not what the tree says", hint="the log shows another record than it took"
            )
        proof = InclusionProof(checkpoint.size, index, tuple(path))
        return entry, receipt_of(checkpoint.signed(), checkpoint.signature, proof)

    async def witnessed(self, witness: Name) -> Witnessed | None:
        """What a witness says of this log; None where it has not seen it. Raises as `tile`."""
        theirs = Names.of(self.names.net, witness)
        base = WitnessedLog(theirs.site, theirs.node, log_digest(self.names.log)).to_name(self.names.net)
        found = await self.fetcher.discover(base, past_caches=True)
        if found.manifest is None:
            return None
        return records.decode(Witnessed, (await self.fetcher.collect(found, most=SMALL_BYTES)).content)

    async def _small(self, base: Name, most: int, *, past_caches: bool = False) -> bytes:
        found = await self.fetcher.discover(base, hints=self.hints, past_caches=past_caches)
        if found.manifest is None:
            raise FetchIncomplete(f"there is no {ndn.to_uri(base)}")
        return (await self.fetcher.collect(found, most=most, hints=self.hints)).content


def judge(checkpoint: Checkpoint, log: Name, public_der: bytes) -> None:
    """Raises BadRecord for one that is not this log's, by this key."""
    if checkpoint.key_id != hashlib.sha256(public_der).digest():
        raise BadRecord("the checkpoint is signed with another key than its packet")
    checkpoint.verify(log, PublicKey.from_spki(public_der))


def log_digest(log: Name) -> str:
    """Of a log's identity, in names of what witnesses say of it."""
    return hashlib.sha256(log).hexdigest()
