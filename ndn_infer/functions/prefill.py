"""prefill: KV cache of a prompt, computed once, published block by block under hash-chained names.

Owns: the function; pulling of token blocks by name, and their check against the chain. Must not know: who will use
the KV, sampling.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ndn_infer import clock, ndn, records
from ndn_infer.errors import BadRecord, CallError
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.functions.capacity import CallTimes, Capacity
from ndn_infer.functions.engine_host import EngineHost
from ndn_infer.functions.receipts import count_prefill
from ndn_infer.kv.connector import KvConnector
from ndn_infer.kv.holders import holders_in
from ndn_infer.kv.prefix import FoundBlocks, count_signers
from ndn_infer.namespace import TokenBlock, blocks_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.records import Record, TokenBlockRecord
from ndn_infer.records.prefill import PrefillReport, PrefillRequest
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import most_sealed
from ndn_infer.together import together
from ndn_infer.transport.objects.fetch import Fetcher

if TYPE_CHECKING:
    import torch

PULLED_AT_ONCE: Final = 64
"""Token blocks asked for at the same time."""


class Prefill(NamedFunction[PrefillRequest]):
    function = "prefill"
    role = "prefill"
    request_type = PrefillRequest
    private = True
    quick_s = 0.0  # blocks are fetched while they are made: callers are to know at once from whom
    unit_s = 0.001

    def __init__(self, model: str, engine: EngineHost) -> None:
        self.subject = ("model", model)
        self._engine = engine

    async def start(self, host: Host, signer: Signer) -> None:
        await self._engine.start(host, signer)
        self.take_at_most(66 * self._engine.context_tokens)

    async def close(self) -> None:
        await self._engine.close()

    def serves(self, net: Name) -> tuple[Name, ...]:
        return (blocks_prefix(net, self.subject[1], "kv"),)

    def units(self, request: PrefillRequest) -> float:
        """Tokens, as many as a context at most: the request is not checked yet."""
        return min(max(len(request.blocks) - request.have, 0) * request.block_tokens, self._engine.context_tokens)

    def capacity(self) -> Capacity:
        return self._engine.capacity(CallTimes())

    def queue_length(self) -> int:
        return self._engine.worker.waiting

    async def run(self, request: PrefillRequest, job: Job) -> Record:
        connector = self._engine.connector(job.host, job.domain)
        values = self._check(request, connector)
        wanted = values[request.have :]
        for value in wanted:  # those at hand too: they may not be published yet
            job.promise(connector.blocks.name(value))
        try:
            return await self._compute(connector, values, request, job)
        finally:
            for value in wanted:  # what was published is no promise any more
                job.host.server.break_promise(connector.blocks.name(value), job.signer)

    def _check(self, request: PrefillRequest, connector: KvConnector) -> list[bytes]:
        fmt, block_tokens = connector.blocks.format, connector.blocks.block_tokens
        if request.codec != fmt.codec or request.block_tokens != block_tokens:
            mine = f"{fmt.codec} in blocks of {block_tokens}"
            text = f"this producer computes {mine}, not {request.codec}"
            raise CallError(text, code="wrong-codec", offered=fmt.codec)
        most = self._engine.context_tokens // block_tokens
        if not request.have < len(request.blocks) <= most:
            raise BadRecord(f"prefill of {len(request.blocks)} blocks from block {request.have}; {most} are a context")
        return [bytes.fromhex(block) for block in request.blocks]

    async def _compute(
        self, connector: KvConnector, values: list[bytes], request: PrefillRequest, job: Job
    ) -> PrefillReport:
        """Compute and publish what is missing. Blocks before it come from memory or by name, else are computed too.

        Only what is computed here gets our signature: blocks of others are passed on as they came, under theirs, and
        computed here where that cannot be done.
        """
        began = clock.monotonic()
        ids = await self._pull_ids(connector, values, job)
        found = await connector.find_prefix(values, holders_in(job.host.net, job.envelope.advice))
        computed = 0

        def on_block(index: int, block: torch.Tensor) -> None:
            nonlocal computed
            computed += 1
            connector.published.publish(values[index], block, job.signer)

        known = await self._publish_known(connector, values, found, request, job)
        if known < len(values):
            before = found.tensors[:known]
            spent = await self._engine.prefill(ids, before, on_block, cache_salt=job.domain.label)
            count_prefill(job.host.counters, spent)
        job.host.counters["prefill_blocks_computed"] += computed
        job.host.counters["prefill_tokens_computed"] += computed * connector.blocks.block_tokens
        elapsed_ms = round((clock.monotonic() - began) * 1000, 1)
        return PrefillReport(len(values), computed, elapsed_ms, count_signers(found.origins[:known]))

    async def _publish_known(
        self, connector: KvConnector, values: list[bytes], found: FoundBlocks, request: PrefillRequest, job: Job
    ) -> int:
        """Blocks that are known here and wanted by name; how many of the first can be had from us, then."""
        for index in range(request.have, len(found.tensors)):
            origin = found.origins[index]
            if origin is None:
                connector.published.publish(values[index], found.tensors[index], job.signer)
            elif not await connector.published.pass_on(values[index], origin):
                return index
        return len(found.tensors)

    async def _pull_ids(self, connector: KvConnector, values: list[bytes], job: Job) -> list[int]:
        """The token ids behind the chain values. A chain value is a digest: blocks that do not hash to it are refused,
        whoever signed them."""
        hints = (ndn.from_uri(job.envelope.caller),) if job.envelope.caller else ()
        model = self.subject[1]

        at_once = asyncio.Semaphore(PULLED_AT_ONCE)

        async def pull(fetcher: Fetcher, value: bytes) -> tuple[int, ...]:
            base = TokenBlock(model, job.domain.label, value.hex()).to_name(job.host.net)
            async with at_once:
                fetched = await fetcher.fetch(base, most=most_sealed(records.most_bytes(TokenBlockRecord)), hints=hints)
            job.host.counters["token_blocks_pulled"] += 1
            return records.decode(TokenBlockRecord, job.domain.open(base, fetched.content)).ids

        async with job.pulling() as fetcher:
            blocks = await together(pull(fetcher, value) for value in values)
        ids = [token for block in blocks for token in block]
        if await asyncio.to_thread(connector.blocks.chain, ids) != values:
            raise BadRecord("token blocks do not hash to the chain that names them")
        return ids
