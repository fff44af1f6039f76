"""One engine of our own, shared by the functions of a process that need it.

Owns: how the engine is configured, and the KV connectors of the functions behind one face, one
for each domain. Must not know: what these functions do.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ndn_infer import clock
from ndn_infer.config import EngineConfig
from ndn_infer.engine.engine import Engine
from ndn_infer.engine.step_costs import EngineSpent, StepCosts
from ndn_infer.engine_class import EngineClass
from ndn_infer.functions.base import Host
from ndn_infer.functions.capacity import CallTimes, Capacity, Occupied, Speeds, tokens_a_second
from ndn_infer.functions.engine_samples import engine_samples
from ndn_infer.functions.engine_worker import EngineWorker
from ndn_infer.kv import holders
from ndn_infer.kv.cache import SharedKv
from ndn_infer.kv.codec import BlockFormat, block_bytes
from ndn_infer.kv.connector import KvConnector
from ndn_infer.kv.holders import HoldsQuery
from ndn_infer.metrics.meters import Sample
from ndn_infer.ndn.name import Name
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import PUBLIC, Domain
from ndn_infer.wire.pace import Meter

if TYPE_CHECKING:
    import torch

MAX_CONNECTORS: Final = 256
"""Every epoch of a domain has a connector; those used last stay."""


def engine_worker(folder: Path, config: EngineConfig) -> EngineWorker:
    """The thread in which the engine of a prepared folder is going to compute, as configured."""
    return EngineWorker(lambda: Engine.load(folder, config))


class EngineHost:
    """`worker` runs the engine; hosts of several faces may have the same."""

    def __init__(self, model: str, folder: Path, config: EngineConfig, worker: EngineWorker | None = None) -> None:
        self._model = model
        self._config = config
        self.worker = worker or engine_worker(folder, config)
        self._uses_worker = False
        self.engine: Engine | None = None
        self.layers = config.kv_layers
        self.most_answers = 2 * (config.max_streams + config.queue_limit)
        """Those that nobody reads at the moment included: they hold no KV."""
        self._class: EngineClass | None = None
        self.format: BlockFormat | None = None
        self._shared: SharedKv | None = None
        self._prefill, self._decode = Meter(), Meter()
        self._occupied = Occupied()
        self._connectors: OrderedDict[str, KvConnector] = OrderedDict()
        self.exports: set[asyncio.Task[None]] = set()
        """KV blocks of answers on their way to be published; an answer may have ended before."""

    @property
    def context_tokens(self) -> int:
        """Of the model, once it is loaded."""
        assert self.engine is not None
        return self.engine.model_config.context_length

    @property
    def costs(self) -> StepCosts:
        """Of the engine, once it is loaded."""
        assert self.engine is not None
        return self.engine.costs

    @property
    def engine_class(self) -> EngineClass:
        """Once the engine is loaded."""
        assert self._class is not None
        return self._class

    async def start(self, host: Host, signer: Signer) -> None:
        """Load the engine if that has not happened, and tell those who ask which KV blocks this process holds, under
        the identity of `signer`."""
        if self._shared is None:
            self._uses_worker = True
            self.engine = await self.worker.start()
            self._class = replace(self.engine.engine_class, kv=self._config.kv_codec)
            self.format = BlockFormat(self.engine.layout, self._class.prompts, self._config.kv_codec)
            memory, policy = self._config.kv_at_hand_mib, self._config.prefill_elsewhere
            self._shared = SharedKv.for_blocks(self.engine.layout, memory, policy)
        self._shared.own.add(signer.identity)
        self.worker.known_as.add(signer.identity)
        host.meters.read_from(("engine", id(self.worker)), self._samples)
        holders.answer(host, signer, self._model, self._versions_of)

    def _samples(self) -> Iterator[Sample]:
        assert self.engine is not None
        return engine_samples(self._model, self.engine.counters)

    def connector(self, host: Host, domain: Domain) -> KvConnector:
        """KV blocks of `domain`; the engine has been started."""
        assert self.format is not None and self._shared is not None
        connector = self._connectors.get(domain.label)
        if connector is None:
            connector = self._connectors[domain.label] = KvConnector(
                host, self._model, self.format, domain=domain, shared=self._shared
            )  # fmt: skip
        self._connectors.move_to_end(domain.label)
        while len(self._connectors) > MAX_CONNECTORS:
            self._connectors.popitem(last=False)
        return connector

    def _versions_of(self, tags: Sequence[bytes], query: HoldsQuery) -> Sequence[int]:
        connector = self._connectors.get(query.domain)
        return [0] * len(tags) if connector is None else connector.published.versions_of(tags, query)

    @property
    def known_as(self) -> frozenset[Name]:
        """As BlockComputer.known_as."""
        return frozenset(self.worker.known_as)

    def prefilled(self) -> tuple[int, float]:
        """(tokens, seconds) of all prompts computed so far."""
        assert self.engine is not None
        return self.engine.counters.tokens_prefilled, self.engine.counters.prefill_s

    def speeds(self) -> Speeds:
        """What was measured of late; 0 for what was not."""
        assert self.engine is not None
        counters = self.engine.counters
        return Speeds(
            self._prefill.read(counters.tokens_prefilled, counters.prefill_s),
            self._decode.read(counters.tokens_decoded, counters.decode_s),
        )

    def capacity(self, times: CallTimes) -> Capacity:
        """What the engine could take on now."""
        assert self.engine is not None and self.format is not None and self._shared is not None
        speeds, counters = self.speeds(), self.engine.counters
        public = self._connectors.get(PUBLIC.label)
        goodput = self._shared.estimates.goodput.value(clock.monotonic()) or 0.0
        block_tokens = self.format.layout.block_tokens
        return Capacity(
            codec=self.format.codec,
            block_tokens=block_tokens,
            context=self.context_tokens,
            places=self._config.max_streams,
            free=max(self._config.max_streams - counters.streams_active, 0),
            call_s=times.whole.unit_s,
            prompt_s=times.first_token.unit_s,
            prefill_tps=tokens_a_second(speeds.prefill_s),
            decode_tps=tokens_a_second(speeds.decode_s * max(counters.streams_active, 1)),
            fetch_tps=goodput / block_bytes(self.format) * block_tokens,
            load=self._occupied.look(counters.prefill_s + counters.decode_s, clock.monotonic()),
            held=self._held,
            has=lambda value: public is None or self._has(public, value),
        )

    def _held(self) -> list[bytes]:
        """Chain values of public blocks at hand or published."""
        assert self._shared is not None
        public = self._connectors.get(PUBLIC.label)
        return [*(public.published.values if public is not None else ()), *self._shared.cache.values(PUBLIC.label)]

    @staticmethod
    def _has(public: KvConnector, value: bytes) -> bool:
        return public.blocks.at_hand(value) is not None or public.published.has(value)

    async def prefill(
        self, ids: Sequence[int], prefix: Sequence[torch.Tensor], on_block: Callable[[int, torch.Tensor], None], *,
        prompt_tokens: int = 0, cache_salt: str = "",
    ) -> EngineSpent:  # fmt: skip
        """As EngineWorker.prefill."""
        return await self.worker.prefill(ids, prefix, on_block, prompt_tokens=prompt_tokens, cache_salt=cache_salt)

    async def close(self) -> None:
        for export in self.exports:
            export.cancel()
        await asyncio.gather(*self.exports, return_exceptions=True)
        if self._uses_worker:
            self._uses_worker = False
            await self.worker.close()
