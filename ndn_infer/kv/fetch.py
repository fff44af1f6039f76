"""Fetching KV blocks that others hold or are about to compute.

Owns: many blocks at once, or as they appear. Must not know: how blocks are found, how one is had (source.py), what they
are for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

import torch

from ndn_infer import clock
from ndn_infer.errors import NdnInferError
from ndn_infer.kv.blocks import Blocks
from ndn_infer.kv.discovery import BlockDiscovery
from ndn_infer.kv.holders import identity_of
from ndn_infer.kv.host import KvHost
from ndn_infer.kv.prefix import FoundBlocks, Located
from ndn_infer.kv.source import SourceFetcher
from ndn_infer.ndn.name import Name
from ndn_infer.together import together
from ndn_infer.transport.objects.fetched import Discovered
from ndn_infer.wire.manifest import ABSENT_FRESHNESS_MS

GONE_S: Final = 0.6
"""Without a route to a producer that computes blocks: it has died. To wait longer costs more than to compute here."""


class BlockFetcher(SourceFetcher[torch.Tensor]):
    def __init__(self, host: KvHost, blocks: Blocks, discovery: BlockDiscovery) -> None:
        super().__init__(host, blocks, discovery)
        self._tensors = blocks

    async def fetch(self, located: Located, first: int = 0) -> FoundBlocks:
        """The held blocks from number `first` on, fetched all at once, up to the first that could not be had."""
        into, sources = FoundBlocks([], []), located.sources[first:]
        began, cpu_s, round_trip_s = clock.monotonic(), time.thread_time(), self._host.fetcher.round_trip_s or 0.0
        got = await together(self.fetch_source(source) for source in sources)
        size = 0
        for source, item in zip(sources, got, strict=True):
            if item is None:
                break
            block, found = item
            into.take(block, self._tensors.uri(source.value), found)
            assert found.manifest is not None
            self._tensors.content_bytes = found.manifest.size
            size += found.manifest.size
        now = clock.monotonic()
        self._tensors.shared.estimates.fetched(size, now - began, round_trip_s, now, busy_s=time.thread_time() - cpu_s)
        return into

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
                    block = await self.fetch_found(value, found, (hint,)) if believed else None
                    arrived()
                    return None if block is None else (block, found)
                # Only the producer we wait for can say that it will not come; a cache repeats what another holder said
                # to somebody else's question.
                theirs = found.signed_by.identity == producer and not found.arrival.from_content_store
                if theirs or left_s <= 0:
                    return None
                await asyncio.sleep(2 * ABSENT_FRESHNESS_MS / 1000)

        blocks = FoundBlocks([], [])
        for value, got in zip(values, await together(map(one, values)), strict=True):
            if got is None:
                break
            blocks.take(got[0], self._tensors.uri(value), got[1])
        if blocks.tensors:
            self._discovery.holders.heard(producer)
        return blocks
