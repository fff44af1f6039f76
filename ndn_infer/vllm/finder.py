"""Who holds the next blocks of a prompt: asked for the scheduler, in the network's thread.

Owns: one search for all ranks of an instance, and its patience. Must not know: vLLM, how blocks are fetched.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ndn_infer import clock
from ndn_infer.kv.discovery import BlockDiscovery
from ndn_infer.kv.host import KvHost
from ndn_infer.kv.prefix import BlockSource
from ndn_infer.kv.search import Search
from ndn_infer.kv.space import NamedBlocks
from ndn_infer.ndn.name import Name
from ndn_infer.security.domains import Domain
from ndn_infer.together import together
from ndn_infer.vllm.jobs import Held
from ndn_infer.vllm.spaces import OpaqueBlocks, RankBlocks

log = logging.getLogger(__name__)

Found = list[tuple[Held, ...]]
"""The longest prefix that somebody holds: for each block one entry a rank."""


class QuickDiscovery(BlockDiscovery):
    """With a patience of its own: a prompt that waits could be computed meanwhile."""

    def __init__(self, host: KvHost, blocks: NamedBlocks, whole_s: float) -> None:
        super().__init__(host, blocks)
        self._whole_s = whole_s

    def patience_s(self) -> float:
        """For one answer; a search takes four times as long at most."""
        return self._whole_s / 4


class PrefixFinder:
    """`peers` are asked before others are known; a search takes `whole_s` at most."""

    def __init__(self, host: KvHost, ranks: Sequence[RankBlocks], peers: Sequence[Name], whole_s: float) -> None:
        self._host = host
        self._ranks = ranks
        self._peers = tuple(peers)
        self._whole_s = whole_s
        self._discoveries: dict[str, list[QuickDiscovery]] = {}

    async def find(self, domain: Domain, values: Sequence[bytes]) -> Found:
        """The longest prefix of `values`."""
        began, counters = clock.monotonic(), self._host.counters
        searches = []
        for discovery in self._of(domain):
            asked = discovery.holders.to_ask(self._peers, began)
            searches.append(Search(discovery, list(values), asked))
        found = await together(search.run() for search in searches)
        counters["kv_searches"] += 1
        counters["kv_search_us"] += round((clock.monotonic() - began) * 1e6)
        return [tuple(map(_held, block)) for block in zip(*found, strict=False)]

    def _of(self, domain: Domain) -> list[QuickDiscovery]:
        known = self._discoveries.get(domain.label)
        if known is None:
            spaces = [OpaqueBlocks(self._host, rank, domain) for rank in self._ranks]
            known = [QuickDiscovery(self._host, space, self._whole_s) for space in spaces]
            self._discoveries[domain.label] = known
        return known


def _held(source: BlockSource) -> Held:
    return Held(source.found.data.wire if source.found is not None else b"", tuple(source.claims))
