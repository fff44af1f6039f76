"""KV of a prompt before its first token: at hand, by name, computed here, or from a prefill producer.

Owns: the order of these for one prompt, what is done at the same time, and the log line and counters that compare the
estimate with the outcome. Must not know: streams, sampling, how KV is computed or fetched, the rule (plan.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ndn_infer import clock, ndn
from ndn_infer.errors import NdnInferError, NetworkError
from ndn_infer.kv.arriving import ArrivingBlocks
from ndn_infer.kv.connector import KvConnector
from ndn_infer.kv.holders import MAX_HINTS
from ndn_infer.kv.host import BlockComputer, KvAsker
from ndn_infer.kv.plan import Costs, LoadPlan, choose, layer_by_layer
from ndn_infer.kv.prefix import FoundBlocks, Located, Origin
from ndn_infer.kv.token_blocks import TokenChain, publish_token_blocks
from ndn_infer.records import KvSources
from ndn_infer.records.prefill import PrefillRequest
from ndn_infer.security.domains import PUBLIC
from ndn_infer.together import both, together
from ndn_infer.transport.calls.ask import Ask

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

RESUMED_TOKENS: Final = 512
"""Of the prompt of an answer that goes on here. Whoever would compute them elsewhere may be gone as well: to find that
out takes longer than to compute so few."""

CHAINED_AT_ONCE: Final = 512
"""Tokens whose chain values are computed in the event loop, in a tenth of a millisecond."""


@dataclass(frozen=True, slots=True)
class LoadedKv:
    """Blocks of the prompt from its first on, where they came from, and who holds them (URIs).

    With `arriving` the contents of some are still on their way, and the rest is not known yet: iterate it to its end,
    then ask the loader what is `complete`. If that are fewer blocks than were promised, the contents of the others
    never come.
    """

    blocks: Sequence[torch.Tensor]
    sources: KvSources = KvSources()
    names: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()
    arriving: ArrivingBlocks | None = None
    origins: tuple[Origin | None, ...] = ()
    """Of each block; None: computed here."""


@dataclass(slots=True)
class _Effort:
    """What one prompt took."""

    located: Located
    costs: Costs
    plan: LoadPlan
    kv_s: float = 0.0
    """Until all that was held was here, fetched or computed."""


class KvLoader:
    """Loads the KV of one prompt."""

    def __init__(self, connector: KvConnector, engine: BlockComputer) -> None:
        self._host = connector.host
        self._connector = connector
        self._blocks = connector.blocks
        self._engine = engine
        self._crowded: Callable[[], bool] = lambda: False
        self.values: list[bytes] = []
        """Chain values of the prompt's full blocks."""
        self.blocks_here = 0
        """Blocks of the prompt that are here so far, for whoever waits."""
        self._late: tuple[_Effort, ArrivingBlocks] | None = None

    async def load(
        self, ids: Sequence[int], asker: KvAsker, *, resumed: bool = False,
        crowded: Callable[[], bool] = lambda: False,
    ) -> LoadedKv:  # fmt: skip
        """Every full block of `ids` that is sooner had than computed by the stream itself. Never raises for what the
        network does: what cannot be had is left to the stream. `resumed`: for an answer that broke off elsewhere.
        `crowded`: whether other answers are in work here."""
        self._crowded = crowded
        connector = self._connector
        self.values = await self._chain(ids)
        located = await connector.locate(self.values, asker.holders)
        costs = self._costs()
        effort = _Effort(located, costs, choose(located.held, costs))
        held = len(located.local) + located.held
        self.blocks_here = len(located.local)
        missing = located.values[held:] if effort.plan.fetch or not located.held else []
        if resumed and len(missing) * self._blocks.block_tokens <= RESUMED_TOKENS:
            missing = []
        if self._is_prefill():
            missing = self._left(missing)
        if self._layered(effort, len(missing)):
            return self._begin(effort)
        (head, tail), made = await self._rest(effort, ids, missing, asker)
        found = connector.at_hand(located)
        found.extend(head)
        if len(head.tensors) == effort.plan.recompute or not effort.plan.fetch:
            found.extend(tail)
        if len(found.tensors) == held:
            found.extend(made)
        return self._account(effort, found, len(head.tensors), len(made.tensors))

    async def _rest(
        self, effort: _Effort, ids: Sequence[int], missing: list[bytes], asker: KvAsker
    ) -> tuple[tuple[FoundBlocks, FoundBlocks], FoundBlocks]:  # fmt: skip
        """What is not at hand: head and tail of what is held, and what nobody holds. Where there is nothing of either,
        without a turn of the event loop: the engine begins before what a call leaves to be done."""
        if not effort.plan.fetch and not missing:
            return (FoundBlocks([], []), FoundBlocks([], [])), FoundBlocks([], [])
        located = effort.located
        have = len(located.local) + located.held
        return await both(self._held(effort, ids), self._from_prefill(ids, have, missing, located, asker))

    async def leave(self, ids: Sequence[int]) -> LoadedKv:
        """Nothing: all of it is left to the stream."""
        self.values = await self._chain(ids)
        return LoadedKv((), KvSources(recomputed=len(self.values)))

    async def _chain(self, ids: Sequence[int]) -> list[bytes]:
        """Chain values of the full blocks. Few are sooner computed than a thread is woken for them."""
        if len(ids) <= CHAINED_AT_ONCE:
            return self._blocks.chain(ids)
        return await asyncio.to_thread(self._blocks.chain, ids)

    # ------------------------------------------------------------ layer by layer

    def _layered(self, effort: _Effort, missing: int) -> bool:
        """Whether this prompt's blocks are awaited in the engine."""
        how, estimates, costs = self._engine.layers, self._connector.estimates, effort.costs
        now = clock.monotonic()
        wanted = layer_by_layer(effort.plan, costs, estimates.busy.value(now)) or (
            how == "on" and effort.plan.recompute == 0 < effort.plan.fetch
        )
        if how == "off" or not wanted or self._blocks.domain is not PUBLIC:
            return False
        return not estimates.ask_elsewhere(missing, costs, now)

    def _begin(self, effort: _Effort) -> LoadedKv:
        """Blocks without contents; their fetching begins when `arriving` is iterated."""
        arriving = self._connector.arriving(effort.located)
        self._late = effort, arriving
        self._host.counters["kv_plans_by_layers"] += 1
        return LoadedKv([*effort.located.local, *arriving.tensors], arriving=arriving)

    def complete(self) -> LoadedKv:
        """What was loaded in the end, after `arriving` has ended."""
        assert self._late is not None
        effort, arriving = self._late
        effort.kv_s = arriving.seconds
        found = self._connector.at_hand(effort.located)
        found.extend(arriving.found)
        return self._account(effort, found, 0, 0)

    def _is_prefill(self) -> bool:
        """Whether others are in work here, and the prefill producer that would be asked computes with the same engine,
        as far as anybody knows."""
        only_here = self._connector.estimates.only_here(clock.monotonic())
        return only_here and len(self._engine.known_as) > 1 and self._crowded()

    def _left(self, missing: list[bytes]) -> list[bytes]:
        """Left to the stream: through a producer with the same engine each block is computed in the same turn, copied,
        signed, sent, verified and copied back, while others want the processors."""
        self._host.counters["prefill_not_asked"] += bool(missing)
        return []

    def _costs(self) -> Costs:
        """What fetching and computing cost now."""
        self._connector.estimates.engine(*self._engine.prefilled(), clock.monotonic())
        return self._connector.costs()

    def _arrived(self) -> None:
        self.blocks_here += 1

    # ------------------------------------------------------------ what somebody holds

    async def _held(self, effort: _Effort, ids: Sequence[int]) -> tuple[FoundBlocks, FoundBlocks]:
        """Head and tail of what is held, computed and fetched at the same time. A plan that fetches nothing leaves the
        computing to the stream, which needs no blocks for that."""
        plan, located = effort.plan, effort.located
        if not plan.fetch:
            return FoundBlocks([], []), FoundBlocks([], [])
        began = clock.monotonic()
        head, tail = await together(
            (self._compute(ids, located, plan.recompute), self._connector.fetcher.fetch(located, plan.recompute))
        )
        now = clock.monotonic()
        effort.kv_s = now - began
        self._connector.estimates.outcome(plan, effort.costs, effort.kv_s, now)
        return head, tail

    async def _compute(self, ids: Sequence[int], located: Located, count: int) -> FoundBlocks:
        """The first `count` blocks of what is held, computed here."""
        found = FoundBlocks([], [])
        if not count:
            return found
        first = len(located.local)
        computed: dict[int, torch.Tensor] = {}

        def on_block(index: int, block: torch.Tensor) -> None:
            computed[index] = block
            self._arrived()

        upto = (first + count) * self._blocks.block_tokens
        try:
            await self._engine.prefill(
                ids[:upto], located.local, on_block, prompt_tokens=len(ids), cache_salt=self._blocks.domain.label
            )  # fmt: skip
        except NdnInferError as error:
            log.warning("computing %d blocks of a prompt's head failed: %s", count, error)
            return found
        for index in range(first, first + count):
            value = located.values[index]
            self._blocks.keep(value, computed[index], None)
            found.tensors.append(computed[index])
            found.origins.append(None)
            found.names.append(self._blocks.uri(value))
        self._host.counters["kv_head_blocks_computed"] += count
        return found

    # ------------------------------------------------------------ what nobody holds

    async def _from_prefill(
        self, ids: Sequence[int], have: int, missing: list[bytes], located: Located, asker: KvAsker
    ) -> FoundBlocks:
        """Have the missing blocks computed elsewhere and take them as they appear. Without a prefill producer that
        answers we compute them ourselves: slower, and the same tokens."""
        found, connector = FoundBlocks([], []), self._connector
        if not connector.estimates.ask_elsewhere(len(missing), connector.costs(), clock.monotonic()):
            self._host.counters["prefill_not_asked"] += bool(missing)
            return found
        block_tokens = self._blocks.block_tokens
        request = PrefillRequest(
            tuple(value.hex() for value in located.values), have, block_tokens, self._blocks.format.codec
        )  # fmt: skip
        chain = TokenChain(self._blocks.model, block_tokens, self._blocks.domain)
        await publish_token_blocks(self._host.server, self._host.net, chain, tuple(ids), asker.signer)
        began = clock.monotonic()
        advice = connector.discovery.holders.to_ask((asker.signer.identity,), began)[:MAX_HINTS]
        try:
            async with asyncio.timeout(connector.estimates.patience_s(len(missing), connector.costs())):
                ask = Ask(
                    ("model", self._blocks.model), "prefill", request, self._blocks.domain.label,
                    advice=tuple(map(ndn.to_uri, advice)), caller=ndn.to_uri(asker.hint),
                )  # fmt: skip
                answered = await self._host.caller.start(ask)
            answer = answered.answer
            if answered.signed_by.identity not in self._engine.known_as:
                connector.estimates.another(clock.monotonic())
            elif self._is_prefill():  # others came meanwhile
                self._left(missing)
                return found
            if not connector.estimates.ask_elsewhere(
                len(missing), connector.costs(), clock.monotonic(), queue=answer.queue
            ):  # fmt: skip
                log.info("prefill at %s has %d prompts waiting; computing here", answer.hint, answer.queue)
                self._host.counters["prefill_too_busy"] += 1
                return found
            wait_s = 10.0 + 0.05 * block_tokens * len(missing)
            found = await connector.fetcher.await_blocks(missing, ndn.from_uri(answer.hint), wait_s, self._arrived)
        except (NdnInferError, TimeoutError) as error:
            if isinstance(error, TimeoutError | NetworkError):
                connector.estimates.unanswered(clock.monotonic())
            log.warning("no prefill producer available (%s); computing %d blocks here", error or "none", len(missing))
            self._host.counters["prefill_unavailable"] += 1
            return found
        now = clock.monotonic()
        log.info("prefill at %s gave %d of %d blocks", answer.hint, len(found.tensors), len(missing))
        connector.estimates.elsewhere(len(found.tensors) * block_tokens, now - began, now)
        if found.tensors:
            found.content_store = 0  # of these the report says that prefill made them
            found.holders = {answered.signed_by.identity: None}
        return found

    # ------------------------------------------------------------ accounts

    def _account(self, effort: _Effort, found: FoundBlocks, head: int, made: int) -> LoadedKv:
        """Counters, the log line, and the report for the caller."""
        located, plan, counters = effort.located, effort.plan, self._host.counters
        total, got = len(located.values), len(found.tensors)
        prefilled = made if got == len(located.local) + located.held + made else 0
        fetched = found.named - prefilled
        computed = head + total - got
        counters["kv_blocks_local"] += found.local
        counters["kv_blocks_named"] += fetched
        counters["kv_blocks_from_prefill"] += prefilled
        counters["prefill_blocks_computed"] += computed
        if located.held:
            counters["kv_plans"] += 1
            counters["kv_plan_estimate_us"] += round(plan.estimate_s * 1e6) if plan.fetch else 0
            counters["kv_plan_outcome_us"] += round(effort.kv_s * 1e6)
            counters["kv_plans_without_fetch"] += not plan.fetch
            log.info(
                "KV of %d blocks: %d at hand, %d held by name, of which %d computed and %d fetched; estimated %.3f s "
                "(all fetched %.3f, all computed %.3f), took %.3f s",
                total, found.local, located.held, head, fetched, plan.estimate_s, plan.fetch_all_s, plan.compute_all_s,
                effort.kv_s,
            )  # fmt: skip
        sources = KvSources(
            local=found.local,
            named=fetched,
            content_store=found.content_store,
            prefilled=prefilled,
            recomputed=computed,
            signers=found.signers(),
        )
        holders = tuple(map(ndn.to_uri, found.holders))
        return LoadedKv(found.tensors, sources, tuple(found.names), holders, origins=tuple(found.origins))
