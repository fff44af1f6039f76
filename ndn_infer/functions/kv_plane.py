"""KV cache by name: which blocks a prompt needs, what exists, fetching and publishing them.

Owns: the meeting of KV tensors and names: chain values, discovery of the longest prefix, what is kept at hand. Must
not know: how a block looks as bytes (kv_codec.py), who computes a block, how a tensor is used. One object holds one
block of tokens for all layers.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ndn_infer import chain
from ndn_infer import name as ndn
from ndn_infer.errors import NdnInferError
from ndn_infer.functions.base import Host
from ndn_infer.functions.kv_codec import KvShape, decode_block, encode_block
from ndn_infer.name import Name
from ndn_infer.namespace import KvBlock
from ndn_infer.security.crypto import Signer
from ndn_infer.transport.fetch import Discovered
from ndn_infer.wire.manifest import ABSENT_FRESHNESS_MS


@dataclass(slots=True)
class FoundBlocks:
    """The longest prefix of blocks that could be had: tensors in order, and how many came from where."""

    tensors: list[torch.Tensor]
    names: list[str]
    local: int = 0
    named: int = 0
    content_store: int = 0


class KvPlane:
    """KV blocks of one model in one process. At most `memory_blocks` tensors are kept at hand, recently used ones."""

    def __init__(self, host: Host, model: str, shape: KvShape, *, memory_blocks: int = 2048) -> None:
        self._host = host
        self._model = model
        self.shape = shape
        self._memory_blocks = memory_blocks
        self._memory: OrderedDict[bytes, torch.Tensor] = OrderedDict()

    def chain(self, ids: Sequence[int]) -> list[bytes]:
        return chain.chain(ids, self.shape.block_tokens)

    def name(self, value: bytes, domain: str = "public") -> Name:
        """Base name of the block whose chain value is `value`."""
        layers = f"0-{self.shape.layers - 1}"
        return KvBlock(self._model, domain, self.shape.codec, value.hex(), layers).to_name(self._host.net)

    def local(self, value: bytes) -> torch.Tensor | None:
        block = self._memory.get(value)
        if block is not None:
            self._memory.move_to_end(value)
        return block

    def remember(self, value: bytes, block: torch.Tensor) -> None:
        self._memory[value] = block
        self._memory.move_to_end(value)
        while len(self._memory) > self._memory_blocks:
            self._memory.popitem(last=False)

    def publish(self, value: bytes, block: torch.Tensor, signer: Signer) -> None:
        """Sign and publish one block, and keep it at hand."""
        self.remember(value, block)
        base = self.name(value)
        if base not in self._host.server.store:
            self._host.server.publish(base, encode_block(block, self.shape), signer)
            self._host.counters["kv_blocks_published"] += 1

    async def find_prefix(self, values: Sequence[bytes]) -> FoundBlocks:
        """The longest prefix of `values` that exists here or by name.

        Discovery of all blocks goes out at once: one round trip, whatever their number. A block that does not verify,
        or that nobody has, ends the prefix; what comes after it is computed.
        """
        found = FoundBlocks([], [])
        for value in values:
            block = self.local(value)
            if block is None:
                break
            found.tensors.append(block)
            found.names.append(ndn.to_uri(self.name(value)))
        found.local = len(found.tensors)
        rest = list(values[found.local :])
        discovered = await asyncio.gather(*(self._discover(value) for value in rest))
        usable = list(self._until_absent(rest, discovered))
        fetched = await asyncio.gather(*(self._fetch(value, item) for value, item in usable))
        for (value, item), block in zip(usable, fetched, strict=True):
            if block is None:
                break
            found.tensors.append(block)
            found.names.append(ndn.to_uri(self.name(value)))
            found.named += 1
            found.content_store += item.arrival.from_content_store
        return found

    @staticmethod
    def _until_absent(
        values: Sequence[bytes], discovered: Sequence[Discovered | None]
    ) -> list[tuple[bytes, Discovered]]:
        usable: list[tuple[bytes, Discovered]] = []
        for value, item in zip(values, discovered, strict=True):
            if item is None or item.manifest is None:
                break
            usable.append((value, item))
        return usable

    async def _discover(self, value: bytes) -> Discovered | None:
        try:
            return await self._host.fetcher.discover(self.name(value))
        except NdnInferError:
            return None

    async def _fetch(self, value: bytes, item: Discovered, hints: tuple[Name, ...] = ()) -> torch.Tensor | None:
        try:
            fetched = await self._host.fetcher.collect(item, hints=hints)
            block = decode_block(fetched.content, self.shape)
        except NdnInferError:
            self._host.counters["kv_blocks_refused"] += 1
            return None
        self.remember(value, block)
        self._host.counters["kv_blocks_fetched"] += 1
        return block

    async def await_blocks(self, values: Sequence[bytes], hint: Name, deadline_s: float) -> list[torch.Tensor]:
        """Blocks that the producer behind `hint` is computing, as they appear; the prefix of them that arrived."""

        deadline = time.monotonic() + deadline_s

        async def one(value: bytes) -> torch.Tensor | None:
            while True:
                left_s = deadline - time.monotonic()
                try:
                    found = await self._host.fetcher.await_object(self.name(value), hints=(hint,), deadline_s=left_s)
                except NdnInferError:
                    return None
                if found.manifest is not None:
                    return await self._fetch(value, found, (hint,))
                # Only the producer we wait for can say that it will not come; a cache repeats what another holder said
                # to somebody else's question.
                theirs = found.signed_by.identity == hint and not found.arrival.from_content_store
                if theirs or left_s <= 0:
                    return None
                await asyncio.sleep(2 * ABSENT_FRESHNESS_MS / 1000)

        blocks: list[torch.Tensor] = []
        for block in await asyncio.gather(*(one(value) for value in values)):
            if block is None:
                break
            blocks.append(block)
        return blocks
