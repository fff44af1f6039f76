"""KV cache by name, of one model in one domain: locate what exists of a prompt, fetch it, publish what is new.

Owns: the composition of blocks, discovery, fetching and publishing, and the search for the longest prefix. Must not
know: who computes a block, how a tensor is used. One object holds one block of tokens for all layers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import torch

from ndn_infer import clock
from ndn_infer.kv import holders
from ndn_infer.kv.arriving import ArrivingBlocks
from ndn_infer.kv.blocks import Blocks
from ndn_infer.kv.cache import SharedKv
from ndn_infer.kv.codec import BlockFormat
from ndn_infer.kv.discovery import BlockDiscovery
from ndn_infer.kv.fetch import BlockFetcher
from ndn_infer.kv.host import KvHost
from ndn_infer.kv.plan import SHARING, Costs
from ndn_infer.kv.prefix import MAX_EXAMPLES, FoundBlocks, Located, Origin
from ndn_infer.kv.published import PublishedBlocks
from ndn_infer.kv.search import Search
from ndn_infer.ndn.name import Name
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import PUBLIC, Domain


class KvConnector:
    """`shared` is that of the process; without it the connector has one of its own."""

    def __init__(
        self, host: KvHost, model: str, fmt: BlockFormat, *, domain: Domain = PUBLIC, shared: SharedKv | None = None
    ) -> None:
        self.host = host
        self.blocks = Blocks(host, model, fmt, domain, shared or SharedKv.for_blocks(fmt.layout))
        self.published = PublishedBlocks(host, self.blocks)
        self.discovery = BlockDiscovery(host, self.blocks)
        self.fetcher = BlockFetcher(host, self.blocks, self.discovery)
        self.estimates = self.blocks.shared.estimates

    def answer_holders(self, signer: Signer) -> None:
        """Answer questions which blocks are published here, under the identity of `signer`. Where there are connectors
        of several domains, see EngineHost."""
        self.blocks.shared.own.add(signer.identity)
        holders.answer(self.host, signer, self.blocks.model, self.published.versions_of)

    def costs(self, *, engine_wait_s: float = 0.0) -> Costs:
        """What fetching and computing a block costs, by what was measured of late."""
        now = clock.monotonic()
        return Costs(
            block_bytes=self.blocks.content_bytes,
            block_tokens=self.blocks.block_tokens,
            round_trip_s=self.host.fetcher.round_trip_s or 0.0,
            goodput=self.estimates.goodput.value(now),
            prefill=self.estimates.prefill.value(now),
            engine_wait_s=engine_wait_s,
            sharing=self.estimates.sharing.value(now) or SHARING,
        )

    async def find_prefix(self, values: Sequence[bytes], hints: Sequence[Name] = ()) -> FoundBlocks:
        """The longest prefix of `values` that exists here or by name, fetched. A block that does not verify, or that
        nobody has, ends the prefix; what comes after it is computed."""
        located = await self.locate(values, hints)
        found = self.at_hand(located)
        found.extend(await self.fetcher.fetch(located))
        return found

    async def locate(self, values: Sequence[bytes], hints: Sequence[Name] = ()) -> Located:
        """The longest prefix of `values` that is at hand or held by somebody, in about one round trip, whatever its
        length. `hints` are identities to ask before all others."""
        local: list[torch.Tensor] = []
        origins: list[Origin | None] = []
        for value in values:
            held = self.blocks.at_hand(value)
            if held is None:
                held = self.published.stored(value)
                await asyncio.sleep(0)  # reading takes time that others want too
            if held is None:
                break
            local.append(held[0])
            origins.append(held[1])
        rest = list(values[len(local) :])
        if not rest:
            return Located(list(values), local, [], origins)
        began = clock.monotonic()
        asked = self.discovery.holders.to_ask(hints, began, own=frozenset(self.blocks.shared.own))
        search = Search(self.discovery, rest, asked)
        sources = await search.run()
        counters = self.host.counters
        counters["kv_searches"] += 1
        counters["kv_holders_asked"] += len(asked)
        counters["kv_holders_silent"] += search.unanswered
        counters["kv_search_us"] += round((clock.monotonic() - began) * 1e6)
        return Located(list(values), local, sources, origins)

    def arriving(self, located: Located) -> ArrivingBlocks:
        """The held blocks, fetched layer by layer. Not for private domains."""
        return ArrivingBlocks(self.host, self.blocks, self.fetcher, located)

    def at_hand(self, located: Located) -> FoundBlocks:
        """Those that need not be fetched; with as many names as are told."""
        names = [self.blocks.uri(value) for value in located.values[: min(len(located.local), MAX_EXAMPLES)]]
        return FoundBlocks(list(located.local), names, list(located.origins), local=len(located.local))
