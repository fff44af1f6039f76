"""One block from where it is said to be: by its manifest, or by the claims of holders.

Owns: the order in which those are tried, what a claim that cannot be kept means for its holder. Must not know: how
blocks are found, what a block is (space.py).
"""

from __future__ import annotations

import logging
from typing import Generic

from ndn_infer import ndn
from ndn_infer.errors import NdnInferError
from ndn_infer.kv.discovery import BlockDiscovery
from ndn_infer.kv.host import KvHost
from ndn_infer.kv.prefix import BlockSource, Origin
from ndn_infer.kv.space import B, BlockSpace
from ndn_infer.ndn.name import Name
from ndn_infer.transport.objects.fetched import Discovered

log = logging.getLogger(__name__)


class SourceFetcher(Generic[B]):
    """Fetches blocks of `blocks`, one by one."""

    def __init__(self, host: KvHost, blocks: BlockSpace[B], discovery: BlockDiscovery) -> None:
        self._host = host
        self._blocks = blocks
        self._discovery = discovery

    async def manifest(self, source: BlockSource) -> tuple[Discovered | None, tuple[Name, ...]]:
        """The manifest of a block, and whom to ask for its segments."""
        if source.found is None and source.claims:
            identity, version = source.claims[0]
            try:
                return await self._discovery.claimed(source.value, identity, version)
            except NdnInferError:
                return None, ()
        return source.found, ()

    async def fetch_source(self, source: BlockSource) -> tuple[B, Discovered] | None:
        """One block, from whoever has it."""
        if source.found is not None:
            block = await self.fetch_found(source.value, source.found)
            if block is not None:
                return block, source.found
        for identity, version in source.claims:
            try:
                found, hints = await self._discovery.claimed(source.value, identity, version)
                block = await self._read(source.value, found, hints)
            except NdnInferError as error:
                self._host.counters["kv_claims_false"] += 1
                if self._discovery.not_kept(identity, error):
                    log.warning("%s does not hold a KV block that it listed: %s", ndn.to_uri(identity), error)
            else:
                self._discovery.holders.heard(identity)
                return block, found
        # A false claim may have ended the search before an honest answer came.
        other = await self._discovery.discover(source.value) if source.claims else None
        had = None if other is None else await self.fetch_found(source.value, other)
        return None if other is None or had is None else (had, other)

    async def fetch_found(self, value: bytes, item: Discovered, hints: tuple[Name, ...] = ()) -> B | None:
        """The block of a discovered manifest, or None; once more straight from its signer when the network leads
        elsewhere."""
        try:
            return await self._read(value, item, hints)
        except NdnInferError:
            return None

    async def _read(self, value: bytes, item: Discovered, hints: tuple[Name, ...]) -> B:
        """As fetch_found. Raises what the last try ended with."""
        base = self._blocks.name(value)
        try:
            assert item.manifest is not None
            content = self._blocks.room(item.manifest.size)
            try:
                await self._host.fetcher.read_into(item, content, hints=hints)
            except NdnInferError:
                signer = item.signed_by.identity
                if hints or signer in self._blocks.own:
                    raise
                await self._host.fetcher.read_into(item, content, hints=(signer,))
            block = self._blocks.decode(base, content)
        except NdnInferError as error:
            log.warning("KV block %s is computed instead: %s", value.hex()[:16], error)
            self._host.counters["kv_blocks_refused"] += 1
            raise
        self._blocks.keep(value, block, Origin(item.signed_by.identity, item))
        self._host.counters["kv_blocks_fetched"] += 1
        return block
