"""The scheduler's half: what of a prompt is held, where it goes, what is to be saved.

Owns: lookups in flight, their deadlines, which requests are named at all. A lookup runs in the network's thread; one
that takes longer than a few milliseconds is not waited for: vLLM asks about the request again in its next step.
Must not know: vLLM's classes (connector.py passes in what is needed), tensors.
"""

from __future__ import annotations

import concurrent.futures
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ndn_infer import clock
from ndn_infer.kv.holders import MAX_HOLDS
from ndn_infer.vllm.book import BlockMemory, RequestBook, Scheduled, Tracked
from ndn_infer.vllm.finder import Found
from ndn_infer.vllm.jobs import LoadedBlock, LoadJob, StepJobs
from ndn_infer.vllm.naming import BlockChain
from ndn_infer.vllm.network import SchedulerNetwork
from ndn_infer.vllm.settings import ConnectorSettings

log = logging.getLogger(__name__)

GRACE: Final = 1.5
"""Times `lookup_ms`: then the network's thread itself is late."""


@dataclass(frozen=True, slots=True)
class AskedRequest:
    """A request as the scheduler shows it: all its token ids, tokens computed here already."""

    request: str
    ids: Sequence[int]
    computed: int


@dataclass(slots=True)
class PrefixLookup:
    """Blocks from number `first` on, asked for at a time."""

    first: int
    values: list[bytes]
    future: concurrent.futures.Future[Found]
    give_up_at: float

    def found(self, now: float) -> Found | None:
        """None while it is worth waiting."""
        if not self.future.done() and now < self.give_up_at:
            return None
        if not self.future.done() or self.future.cancelled() or self.future.exception() is not None:
            self.future.cancel()
            return []
        return self.future.result()


@dataclass(slots=True)
class _Open:
    """What is open for a request besides its book: a lookup, a load in flight, and whether one has failed."""

    lookup: PrefixLookup | None = None
    first: int = 0
    """The first block that was asked about last."""
    loading: dict[int, bytes] = field(default_factory=dict)
    failed: bool = False


class SchedulerSide:
    """`blocks` of the cache, `block_tokens` in one."""

    def __init__(self, settings: ConnectorSettings, network: SchedulerNetwork, block_tokens: int, blocks: int) -> None:
        self._settings = settings
        self._network = network
        self._block_tokens = block_tokens
        self.memory = BlockMemory(4 * blocks)
        self.book = RequestBook(block_tokens, self.memory, prompts_only=settings.save == "prompts")
        self._open: dict[str, _Open] = {}
        self._jobs = StepJobs()
        self.counters: Counter[str] = Counter()

    def begin(self, request: str, chain: BlockChain | None, prompt_tokens: int) -> None:
        """A new request. Without a chain nothing of it is shared."""
        if chain is None:
            self.counters["requests_unnamed"] += 1
        else:
            self.book.begin(request, chain, prompt_tokens)
            self._open[request] = _Open()

    def matched(self, asked: AskedRequest) -> int | None:
        """Tokens beyond the computed ones that can be loaded; None: not known yet, ask again."""
        tracked, open_ = self.book.get(asked.request), self._open.get(asked.request)
        first, end = asked.computed // self._block_tokens, (len(asked.ids) - 1) // self._block_tokens
        loads = self._network.ready and self._settings.lookup_ms > 0
        if tracked is None or open_ is None or open_.failed or first >= end or not loads:
            return 0
        lookup = open_.lookup
        if lookup is None or first < lookup.first:
            lookup = open_.lookup = self._look(tracked, asked.ids, first, end)
            concurrent.futures.wait([lookup.future], self._settings.wait_ms / 1000)
        open_.first = first
        found = lookup.found(clock.monotonic())
        if found is None:
            return None
        self._learn(tracked, lookup, found)
        held = min(lookup.first + len(found), end) - first
        return held * self._block_tokens if held >= self._settings.min_blocks else 0

    def allocated(self, request: str, blocks: Sequence[int], tokens: int) -> None:
        """vLLM keeps these `blocks` for the request, and wants `tokens` of those that matched to be loaded."""
        tracked, open_ = self.book.get(request), self._open.get(request)
        if not tokens or tracked is None or open_ is None or open_.lookup is None:
            return
        lookup, open_.lookup = open_.lookup, None
        first, count = open_.first, tokens // self._block_tokens
        found = lookup.found(clock.monotonic()) or []
        loaded = []
        for number in range(first, first + count):
            at = number - lookup.first
            value = lookup.values[at]
            loaded.append(LoadedBlock(value, blocks[number], found[at]))
            self.memory.fetched(tracked.chain.domain.label, value)
        tracked.loads += 1
        open_.loading = {item.block: item.value for item in loaded}
        self.counters["blocks_matched"] += count
        self.counters["tokens_matched"] += tokens
        domain, now = tracked.chain.domain.label, self._settings.load == "sync"
        self._jobs.loads.append(LoadJob(request, domain, tuple(loaded), now))

    def scheduled(self, steps: Sequence[Scheduled]) -> StepJobs:
        """What the workers do in this step."""
        if self._settings.save != "off":
            for step in steps:
                self._jobs.after.extend(self.book.scheduled(step))
        jobs, self._jobs = self._jobs, StepJobs()
        self.counters["blocks_to_save"] += len(jobs.before) + len(jobs.after)
        return jobs

    def loaded(self, done: Sequence[str], failed: Sequence[int]) -> None:
        """Loads that ended, and blocks that could not be had. What could not be had once is computed."""
        gone = set(failed)
        for open_ in self._open.values() if gone else ():
            if gone & open_.loading.keys():
                open_.failed = True
                self.counters["requests_recomputed"] += 1
        for request in done if self._settings.load == "async" else list(self._open):
            if request in self._open:
                self._open[request].loading = {}

    def dropped(self, domain: str, values: Sequence[bytes]) -> None:
        """The workers did not save these after all."""
        self.memory.missing(domain, values)

    def finished(self, request: str, blocks: Sequence[int], computed: int, ids: Sequence[int]) -> None:
        open_ = self._open.pop(request, None)
        if open_ is not None and open_.lookup is not None:
            open_.lookup.future.cancel()
        saves = self.book.finished(request, blocks, computed, ids)
        if self._settings.save != "off" and not (open_ is not None and open_.loading):  # half a load is no KV
            self._jobs.before.extend(saves)

    @property
    def idle(self) -> bool:
        """Nothing is known of any request."""
        return not self._open and not len(self.book)

    def _look(self, tracked: Tracked, ids: Sequence[int], first: int, end: int) -> PrefixLookup:
        values = tracked.chain.extend(ids, min(end, first + MAX_HOLDS))[first:]
        patience_s = self._settings.lookup_ms / 1000
        future = self._network.find(tracked.chain.domain, values)
        self.counters["lookups"] += 1
        return PrefixLookup(first, values, future, clock.monotonic() + GRACE * patience_s)

    def _learn(self, tracked: Tracked, lookup: PrefixLookup, found: Found) -> None:
        """What nobody holds is published again once it was computed."""
        self.memory.missing(tracked.chain.domain.label, lookup.values[len(found) :])
