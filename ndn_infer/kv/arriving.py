"""Held blocks of a prompt on their way into memory that an engine reads meanwhile, layer after layer.

Owns: how far all of them are there, and what replaces a block that did not come. Must not know: engines, names of
packets, when this is better than waiting for whole blocks (plan.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Sequence

import torch

from ndn_infer import clock
from ndn_infer.errors import BadRecord
from ndn_infer.kv.blocks import Blocks
from ndn_infer.kv.codec import ArrivingBlock, block_bytes
from ndn_infer.kv.fetch import BlockFetcher
from ndn_infer.kv.host import KvHost
from ndn_infer.kv.prefix import BlockSource, FoundBlocks, Located, Origin
from ndn_infer.ndn.name import Name
from ndn_infer.together import together
from ndn_infer.transport.objects.fetched import Discovered

log = logging.getLogger(__name__)

Known = tuple[Discovered | None, tuple[Name, ...]]
"""A block's manifest, and whom to ask for its segments."""


class ArrivingBlocks:
    """Not for sealed blocks: they open as a whole. Nothing is asked for before `layers` is iterated."""

    def __init__(self, host: KvHost, blocks: Blocks, fetcher: BlockFetcher, located: Located) -> None:
        self.found = FoundBlocks([], [])
        """Complete when `layers` has ended."""
        self.seconds = 0.0
        """From its beginning to its end."""
        self._host = host
        self._blocks = blocks
        self._fetcher = fetcher
        self._sources = located.sources
        self._arriving = [ArrivingBlock(blocks.format) for _ in located.sources]
        self._bad: set[int] = set()

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The memory that is written to."""
        return [block.block for block in self._arriving]

    async def layers(self) -> AsyncGenerator[int, None]:
        """How many layers are there of all blocks, as that grows; the last one excepted, which is there when this has
        ended with as many blocks `found` as were held. Raises as Fetcher.side_by_side."""
        began, cpu_s, round_trip_s = clock.monotonic(), time.thread_time(), self._host.fetcher.round_trip_s or 0.0
        last, whole = self._blocks.format.layout.layers - 1, [False] * len(self._sources)
        known = await together(map(self._manifest, self._sources))
        pairs = zip(known, self._arriving, strict=True)
        parts = [(item, hints, block.content) for (item, hints), block in pairs if item]
        if len(parts) == len(self._sources):  # else no layer is ever there of all
            async with self._host.fetcher.side_by_side(parts) as reading:
                async for count in reading:
                    there = [self._advance(number, count) for number in range(len(parts))]
                    if not self._bad:
                        yield min(*there, last)
                whole = reading.whole()
        await self._take(known, whole)
        now, size = clock.monotonic(), len(self.found.tensors) * self._blocks.content_bytes
        self.seconds, estimates = now - began, self._blocks.shared.estimates
        estimates.fetched(size, self.seconds, round_trip_s, now, busy_s=time.thread_time() - cpu_s)

    async def _manifest(self, source: BlockSource) -> Known:
        """Nothing for a block that does not fit our memory."""
        found, hints = await self._fetcher.manifest(source)
        if found is None or not found.in_place or found.manifest is None:
            return None, ()
        return (found, hints) if found.manifest.size == block_bytes(self._blocks.format) else (None, ())

    async def _take(self, known: Sequence[Known], whole: Sequence[bool]) -> None:
        """Blocks that came whole; others from whoever has them, up to the first that cannot be had."""
        layers = self._blocks.format.layout.layers
        for number, (source, block) in enumerate(zip(self._sources, self._arriving, strict=True)):
            item, _ = known[number]
            if item and whole[number] and self._advance(number, len(block.content)) == layers:
                self._host.counters["kv_blocks_fetched"] += 1
                self._blocks.keep(source.value, block.block, Origin(item.signed_by.identity, item))
            else:
                got = await self._fetcher.fetch_source(source)
                if got is None:
                    return
                block.block.copy_(got[0])
                item = got[1]
            self.found.take(block.block, self._blocks.uri(source.value), item)

    def _advance(self, number: int, count: int) -> int:
        """Layers that `count` bytes of a block make; 0 of a bad one."""
        try:
            return self._arriving[number].advance(count)
        except BadRecord as error:
            if number not in self._bad:
                log.warning("KV block %d of a prompt is refused: %s", number, error)
                self._host.counters["kv_blocks_refused"] += 1
            self._bad.add(number)
            return 0
