"""Fetching blocks for a worker: verified again, each once for all requests that wait for it, then placed.

Owns: the tasks of one load, and its deadline. Runs in the network's thread. Must not know: vLLM, how a block gets into
the paged cache (running_load.py), how blocks are found.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from ndn_infer import clock
from ndn_infer.errors import NdnInferError
from ndn_infer.kv.discovery import BlockDiscovery
from ndn_infer.kv.prefix import BlockSource
from ndn_infer.kv.source import SourceFetcher
from ndn_infer.ndn.packet import decode_data
from ndn_infer.security.domains import Domain
from ndn_infer.transport.link.exchange import BARE
from ndn_infer.transport.objects.fetched import Discovered
from ndn_infer.vllm.jobs import Held, LoadedBlock
from ndn_infer.vllm.member import VllmMember
from ndn_infer.vllm.running_load import RunningLoad
from ndn_infer.vllm.single_flight import SingleFlight
from ndn_infer.vllm.spaces import OpaqueBlocks, RankBlocks
from ndn_infer.wire.manifest import decode_manifest, is_absent

log = logging.getLogger(__name__)

AT_ONCE: Final = 16
"""Blocks of one load that are fetched side by side, and lie in memory beside the cache."""


class BlockLoader:
    """Of one rank, `number` among those of its instance."""

    def __init__(self, member: VllmMember, rank: RankBlocks, number: int) -> None:
        self._member = member
        self._rank = rank
        self._number = number
        self._own = frozenset({member.signer.identity})
        self._spaces: dict[str, tuple[OpaqueBlocks, SourceFetcher[memoryview]]] = {}
        self._flights: SingleFlight[tuple[str, bytes], memoryview | None] = SingleFlight()

    async def load(self, running: RunningLoad, domain: Domain, timeout_s: float) -> None:
        """Place what can be had in time."""
        room, counters, began = asyncio.Semaphore(AT_ONCE), self._member.counters, clock.monotonic()

        async def one(block: LoadedBlock) -> None:
            async with room:
                payload = await self._payload(domain, block)
            if payload is not None:
                running.place(block.block, payload)
                counters["kv_blocks_loaded"] += 1
                counters["kv_bytes_loaded"] += len(payload)

        try:
            async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as group:
                for block in running.job.blocks:
                    group.create_task(one(block))
        except TimeoutError:
            log.warning("a load took longer than %g s; what is missing is computed", timeout_s)
        except BaseExceptionGroup as errors:
            log.error("a load failed: %r", errors.exceptions[0])
        counters["kv_load_us"] += round((clock.monotonic() - began) * 1e6)
        counters["kv_blocks_failed"] += len(running.failed)

    async def _payload(self, domain: Domain, block: LoadedBlock) -> memoryview | None:
        key = (domain.label, block.value)
        return await self._flights.run(key, lambda: self._fetch(domain, block))

    async def _fetch(self, domain: Domain, block: LoadedBlock) -> memoryview | None:
        space, fetcher = self._of(domain)
        held = block.held[self._number]
        found = await self._verified(space, block.value, held)
        got = await fetcher.fetch_source(BlockSource(block.value, found, list(held.claims)))
        return None if got is None else got[0]

    async def _verified(self, space: OpaqueBlocks, value: bytes, held: Held) -> Discovered | None:
        """The manifest that the scheduler's half found, judged here."""
        if not held.metadata:
            return None
        try:
            data = decode_data(held.metadata)
            signed_by = await self._member.node.validator.validate(data)
            manifest = None if is_absent(data) else decode_manifest(data)
        except NdnInferError as error:
            log.warning("a manifest is refused: %s", error)
            return None
        if manifest is None or manifest.base != space.name(value) or not space.believes(signed_by.identity):
            return None
        return Discovered(manifest, data, signed_by, BARE)

    def _of(self, domain: Domain) -> tuple[OpaqueBlocks, SourceFetcher[memoryview]]:
        known = self._spaces.get(domain.label)
        if known is None:
            space = OpaqueBlocks(self._member, self._rank, domain, self._own)
            fetcher = SourceFetcher(self._member, space, BlockDiscovery(self._member, space))
            known = self._spaces[domain.label] = (space, fetcher)
        return known
