"""Fetching KV blocks that others hold or are about to compute.

Owns: from manifests and claims to tensors: all at once, or as they appear; what a claim that cannot be
kept means for its holder. Must not know: how blocks are found, what they are for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

import torch

from ndn_infer import clock, ndn
from ndn_infer.errors import NdnInferError
from ndn_infer.kv.blocks import Blocks
from ndn_infer.kv.discovery import BlockDiscovery
from ndn_infer.kv.holders import identity_of
from ndn_infer.kv.host import KvHost
from ndn_infer.kv.prefix import BlockSource, FoundBlocks, Located, Origin
from ndn_infer.ndn.name import Name
from ndn_infer.transport.objects.fetched import Discovered
from ndn_infer.wire.manifest import ABSENT_FRESHNESS_MS

log = logging.getLogger(__name__)

GONE_S: Final = 0.6
"""Without a route to a producer that computes blocks: it has died. To wait longer costs more than to compute here."""


class BlockFetcher:
    def __init__(self, host: KvHost, blocks: Blocks, discovery: BlockDiscovery) -> None:
        self._host = host
        self._blocks = blocks
        self._discovery = discovery

    async def fetch(self, located: Located, first: int = 0) -> FoundBlocks:
        """The held blocks from number `first` on, fetched all at once, up to the first that could not be had."""
        into, sources = FoundBlocks([], []), located.sources[first:]
        began, cpu_s, round_trip_s = clock.monotonic(), time.thread_time(), self._host.fetcher.round_trip_s or 0.0
        got = await asyncio.gather(*(self.fetch_source(source) for source in sources))
        size = 0
        for source, item in zip(sources, got, strict=True):
            if item is None:
                break
            block, found = item
            into.take(block, self._blocks.uri(source.value), found)
            assert found.manifest is not None
            self._blocks.content_bytes = found.manifest.size
            size += found.manifest.size
        now = clock.monotonic()
        self._blocks.shared.estimates.fetched(size, now - began, round_trip_s, now, busy_s=time.thread_time() - cpu_s)
        return into

    async def manifest(self, source: BlockSource) -> tuple[Discovered | None, tuple[Name, ...]]:
        """The manifest of a block, and whom to ask for its segments."""
        if source.found is None and source.claims:
            identity, version = source.claims[0]
            return await self._discovery.claimed(source.value, identity, version), (identity,)
        return source.found, ()

    async def fetch_source(self, source: BlockSource) -> tuple[torch.Tensor, Discovered] | None:
        """One block, from whoever has it."""
        if source.found is not None:
            block = await self._fetch(source.value, source.found)
            if block is not None:
                return block, source.found
        for identity, version in source.claims:
            found = await self._discovery.claimed(source.value, identity, version)
            block = None if found is None else await self._fetch(source.value, found, (identity,))
            if found is not None and block is not None:
                self._discovery.holders.heard(identity)
                return block, found
            self._host.counters["kv_claims_false"] += 1
            if self._discovery.holders.lied(identity, clock.monotonic()):
                log.warning("%s does not hold a KV block that it listed", ndn.to_uri(identity))
        # A false claim may have ended the search before an honest answer came.
        found = await self._discovery.discover(source.value) if source.claims else None
        block = None if found is None else await self._fetch(source.value, found)
        return None if found is None or block is None else (block, found)

    async def _fetch(self, value: bytes, item: Discovered, hints: tuple[Name, ...] = ()) -> torch.Tensor | None:
        """The block of a discovered manifest; once more straight from its signer when the network leads elsewhere."""
        base = self._blocks.name(value)
        try:
            assert item.manifest is not None
            content = self._blocks.room(item.manifest.size)
            try:
                await self._host.fetcher.read_into(item, content, hints=hints)
            except NdnInferError:
                signer = item.signed_by.identity
                if hints or signer in self._blocks.shared.own:
                    raise
                await self._host.fetcher.read_into(item, content, hints=(signer,))
            block = self._blocks.decode(base, content)
        except NdnInferError as error:
            log.warning("KV block %s is computed instead: %s", value.hex()[:16], error)
            self._host.counters["kv_blocks_refused"] += 1
            return None
        self._blocks.keep(value, block, Origin(item.signed_by.identity, item))
        self._host.counters["kv_blocks_fetched"] += 1
        return block

    async def await_blocks(
        self, values: Sequence[bytes], hint: Name, deadline_s: float, arrived: Callable[[], None]
    ) -> FoundBlocks:
        """Blocks that the producer behind `hint`, an identity or a process of it, is computing, as they appear; the
        prefix of them that arrived. What it passes on bears the signature of whoever computed it, and that one has to
        be believed too. `arrived` is called for each."""

        deadline = clock.monotonic() + deadline_s
        producer = identity_of(self._host.net, hint)

        async def one(value: bytes) -> tuple[torch.Tensor, Discovered] | None:
            while True:
                left_s = deadline - clock.monotonic()
                try:
                    found = await self._host.fetcher.await_object(
                        self._blocks.name(value), hints=(hint,), deadline_s=left_s, no_route_s=GONE_S
                    )
                except NdnInferError:
                    return None
                if found.manifest is not None:
                    believed = self._blocks.believes(found.signed_by.identity)
                    block = await self._fetch(value, found, (hint,)) if believed else None
                    arrived()
                    return None if block is None else (block, found)
                # Only the producer we wait for can say that it will not come; a cache repeats what another holder said
                # to somebody else's question.
                theirs = found.signed_by.identity == producer and not found.arrival.from_content_store
                if theirs or left_s <= 0:
                    return None
                await asyncio.sleep(2 * ABSENT_FRESHNESS_MS / 1000)

        blocks = FoundBlocks([], [])
        for value, got in zip(values, await asyncio.gather(*(one(value) for value in values)), strict=True):
            if got is None:
                break
            blocks.take(got[0], self._blocks.uri(value), got[1])
        if blocks.tensors:
            self._discovery.holders.heard(producer)
        return blocks
