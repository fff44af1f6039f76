"""Which blocks of which request are where, and which are to be saved: the scheduler's side, without vLLM.

Owns: one record a request, and the memory of blocks that this instance published or fetched. Pure: it is told what
vLLM scheduled. Must not know: vLLM, the network.

An instance signs only what it computed. What it fetched may come back as a hit of vLLM's own prefix cache, in another
request: it is remembered as foreign and not published. What was computed in this very request was computed here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ndn_infer.vllm.jobs import SavedBlock
from ndn_infer.vllm.naming import BlockChain

LEAST_REMEMBERED: Final = 65536


@dataclass(slots=True)
class Tracked:
    """A request whose blocks have names. `prompt_blocks`: full blocks of its prompt. `handled`: leading blocks that
    were looked at for saving. `computed_from`: the first block that was computed in this request since it was scheduled
    last. `loads` counts those that were begun."""

    chain: BlockChain
    prompt_blocks: int
    blocks: list[int] = field(default_factory=list)
    handled: int = 0
    computed_from: int | None = None
    loads: int = 0


@dataclass(frozen=True, slots=True)
class Scheduled:
    """What vLLM scheduled of a request: tokens computed before and in this step, ids known now. `resumed`: its blocks
    are others than before."""

    request: str
    new_blocks: Sequence[int]
    computed: int
    tokens: int
    ids: Sequence[int]
    resumed: bool = False


class BlockMemory:
    """Blocks by (domain, value), the ones seen last: published here, or fetched."""

    def __init__(self, most: int = LEAST_REMEMBERED) -> None:
        self._most = max(most, LEAST_REMEMBERED)
        self._own: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        self._foreign: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def published(self, domain: str, value: bytes) -> None:
        self._put(self._own, (domain, value))

    def fetched(self, domain: str, value: bytes) -> None:
        self._put(self._foreign, (domain, value))

    def missing(self, domain: str, values: Iterable[bytes]) -> None:
        """Nobody has these any more: once they are computed again, they are published again."""
        for value in values:
            self._own.pop((domain, value), None)

    def is_published(self, domain: str, value: bytes) -> bool:
        return self._seen(self._own, (domain, value))

    def is_foreign(self, domain: str, value: bytes) -> bool:
        return self._seen(self._foreign, (domain, value))

    def _put(self, where: OrderedDict[tuple[str, bytes], None], key: tuple[str, bytes]) -> None:
        where[key] = None
        where.move_to_end(key)
        while len(where) > self._most:
            where.popitem(last=False)

    @staticmethod
    def _seen(where: OrderedDict[tuple[str, bytes], None], key: tuple[str, bytes]) -> bool:
        if key not in where:
            return False
        where.move_to_end(key)
        return True


class RequestBook:
    """The requests of one instance. `prompts_only`: decoded blocks are not saved."""

    def __init__(self, block_tokens: int, memory: BlockMemory, *, prompts_only: bool = False) -> None:
        self._block_tokens = block_tokens
        self._prompts_only = prompts_only
        self.memory = memory
        self._requests: dict[str, Tracked] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def begin(self, request: str, chain: BlockChain, prompt_tokens: int) -> Tracked:
        tracked = self._requests[request] = Tracked(chain, prompt_tokens // self._block_tokens)
        return tracked

    def get(self, request: str) -> Tracked | None:
        return self._requests.get(request)

    def scheduled(self, step: Scheduled) -> Iterator[SavedBlock]:
        """The blocks that are complete after this step and to be saved then."""
        tracked = self._requests.get(step.request)
        if tracked is None:
            return
        if step.resumed or not tracked.blocks:
            tracked.blocks = list(step.new_blocks)
            tracked.computed_from = step.computed // self._block_tokens
        else:
            tracked.blocks += step.new_blocks
        yield from self._complete(tracked, step.computed + step.tokens, step.ids)

    def finished(self, request: str, blocks: Sequence[int], computed: int, ids: Sequence[int]) -> list[SavedBlock]:
        """The request ends with these blocks: what of it is to be saved before they are overwritten."""
        tracked = self._requests.pop(request, None)
        if tracked is None or tracked.computed_from is None:
            return []
        tracked.blocks = list(blocks)
        return list(self._complete(tracked, computed, ids))

    def _complete(self, tracked: Tracked, computed: int, ids: Sequence[int]) -> Iterator[SavedBlock]:
        full = min(computed, len(ids)) // self._block_tokens
        if self._prompts_only:
            full = min(full, tracked.prompt_blocks)
        full = min(full, len(tracked.blocks))
        if full <= tracked.handled:
            return
        values, domain = tracked.chain.extend(ids, full), tracked.chain.domain.label
        first = tracked.computed_from or 0
        for number in range(tracked.handled, full):
            value = values[number]
            if self.memory.is_published(domain, value) or (number < first and self.memory.is_foreign(domain, value)):
                continue
            self.memory.published(domain, value)
            yield SavedBlock(domain, value, tracked.blocks[number])
        tracked.handled = full
