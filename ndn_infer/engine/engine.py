"""The engine: prompts in, tokens out, KV blocks in and out. One step at a time.

Owns: streams, their order, and what one step computes. Must not know: names, the network, text. Not thread-safe: one
thread calls everything (functions/engine_worker.py).

One `step`: every running stream gets either one chunk of its prompt computed, or its next token. A long prompt
therefore delays other streams by a chunk at a time, never by its whole length.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import torch

from ndn_infer.engine.kv_cache import KvCache
from ndn_infer.engine.llama import Llama, ModelConfig
from ndn_infer.engine.sampler import SamplingParams, sample
from ndn_infer.errors import PromptError

IMPLEMENTATION: Final = "llama-torch-1"
"""Names the class of engines whose KV bytes are equal for equal inputs; part of a KV block's name."""


@dataclass(slots=True)
class EngineCounters:
    """Since the engine was made. Blocks are counted when all their tokens were computed here."""

    tokens_prefilled: int = 0
    blocks_prefilled: int = 0
    blocks_imported: int = 0
    tokens_decoded: int = 0
    streams_active: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0


@dataclass(slots=True, eq=False)
class Stream:
    """One sequence being continued. `ids` is the prompt and what was generated; `cache` holds KV of a prefix of it."""

    ids: list[int]
    prompt_tokens: int
    params: SamplingParams
    cache: KvCache
    finished: str | None = None

    @property
    def generated(self) -> int:
        return len(self.ids) - self.prompt_tokens


class StepOutput(NamedTuple):
    """A token of a stream. `finished` is None, "stop" (token_id is the stop token) or "length"."""

    stream: Stream
    token_id: int
    logprob: float
    finished: str | None


@dataclass(slots=True)
class Engine:
    """A model and its running streams. At most `max_streams` run; others wait in order."""

    model: Llama
    block_tokens: int = 16
    chunk_tokens: int = 256
    max_streams: int = 8
    implementation: str = IMPLEMENTATION
    counters: EngineCounters = field(default_factory=EngineCounters)
    _running: list[Stream] = field(default_factory=list)
    _waiting: deque[Stream] = field(default_factory=deque)

    @classmethod
    def load(
        cls, folder: Path, *, dtype: str = "bf16", device: str = "cpu", threads: int = 0, chunk_tokens: int = 256,
        block_tokens: int = 16, max_streams: int = 8,
    ) -> Engine:  # fmt: skip
        """From a prepared model folder. Raises DamagedCache, EngineUnavailable, UsageError."""
        if threads:
            torch.set_num_threads(threads)
        chunk = max(chunk_tokens // block_tokens, 1) * block_tokens
        return cls(Llama.load(folder, dtype=dtype, device=device), block_tokens, chunk, max_streams)

    @property
    def model_config(self) -> ModelConfig:
        return self.model.config

    # ------------------------------------------------------------ streams

    def start(self, ids: Sequence[int], params: SamplingParams, prefix_blocks: Sequence[torch.Tensor] = ()) -> Stream:
        """Queue a prompt. `prefix_blocks` are KV of its first blocks, in order; the last token is always computed here.

        Raises PromptError for an empty or too long prompt or bad ids, BadRecord for blocks that do not fit.
        """
        self._check(ids)
        usable = min(len(prefix_blocks), (len(ids) - 1) // self.block_tokens)
        cache = self._cache_with(prefix_blocks[:usable], len(ids) + min(params.max_tokens, 256))
        stream = Stream(list(ids), len(ids), params, cache)
        self._waiting.append(stream)
        return stream

    def cancel(self, stream: Stream) -> None:
        """Forget a stream, running or waiting; its KV is freed with it."""
        stream.finished = stream.finished or "cancelled"
        if stream in self._running:
            self._running.remove(stream)
        if stream in self._waiting:
            self._waiting.remove(stream)
        self.counters.streams_active = len(self._running)

    def step(self) -> list[StepOutput]:
        """One chunk or one token for every running stream; returns the tokens made."""
        while self._waiting and len(self._running) < self.max_streams:
            self._running.append(self._waiting.popleft())
        self.counters.streams_active = len(self._running)
        outputs = [output for output in map(self._advance, list(self._running)) if output is not None]
        for output in outputs:
            if output.finished:
                self._running.remove(output.stream)
        return outputs

    def _advance(self, stream: Stream) -> StepOutput | None:
        todo = len(stream.ids) - stream.cache.length
        if todo > self.chunk_tokens:
            self._prefill_chunk(stream.ids, stream.cache, self.chunk_tokens, logits=False)
            return None
        if stream.generated == 0:
            logits = self._prefill_chunk(stream.ids, stream.cache, todo, logits=True)
        else:
            began = time.perf_counter()
            logits = self.model.forward(self._tensor(stream.ids[-1:]), stream.cache)
            self.counters.decode_s += time.perf_counter() - began
        assert logits is not None
        token, logprob = sample(logits, stream.params, len(stream.ids))
        stream.ids.append(token)
        self.counters.tokens_decoded += 1
        stream.finished = self._ending(stream, token)
        return StepOutput(stream, token, logprob, stream.finished)

    def _ending(self, stream: Stream, token: int) -> str | None:
        if token in stream.params.stop_ids:
            return "stop"
        full = stream.generated >= stream.params.max_tokens or len(stream.ids) >= self.model_config.context_length
        return "length" if full else None

    def export_block(self, stream: Stream, index: int) -> torch.Tensor:
        """KV block `index`, [layers, 2, kv_heads, block_tokens, head_dim]. Raises ModelError while incomplete."""
        return stream.cache.export_block(index)

    # ------------------------------------------------------------ prefill for others

    def prefill(
        self, ids: Sequence[int], prefix_blocks: Sequence[torch.Tensor] = ()
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (index, block) for every full block of `ids` after `prefix_blocks`, chunk by chunk.

        The caller can publish one block while the next chunk is computed. Raises like `start`.
        """
        full = len(ids) // self.block_tokens
        self._check(ids)
        cache = self._cache_with(prefix_blocks, full * self.block_tokens)
        for start in range(len(prefix_blocks) * self.block_tokens, full * self.block_tokens, self.chunk_tokens):
            count = min(self.chunk_tokens, full * self.block_tokens - start)
            self._prefill_chunk(ids, cache, count, logits=False)
            for index in range(start // self.block_tokens, (start + count) // self.block_tokens):
                yield index, cache.export_block(index)

    def embed_tokens(self, ids: Sequence[int]) -> torch.Tensor:
        """Input embeddings, [n, hidden]."""
        return self.model.embed(self._tensor(ids))

    def _prefill_chunk(self, ids: Sequence[int], cache: KvCache, count: int, *, logits: bool) -> torch.Tensor | None:
        began, start = time.perf_counter(), cache.length
        result = self.model.forward(self._tensor(ids[start : start + count]), cache, logits=logits)
        counters = self.counters
        counters.prefill_s += time.perf_counter() - began
        counters.tokens_prefilled += count
        counters.blocks_prefilled += (start + count) // self.block_tokens - -(-start // self.block_tokens)
        return result

    def _cache_with(self, blocks: Sequence[torch.Tensor], capacity: int) -> KvCache:
        cache = self.model.new_cache(self.block_tokens, capacity)
        for index, block in enumerate(blocks):
            cache.import_block(index, block)
        self.counters.blocks_imported += len(blocks)
        return cache

    def _check(self, ids: Sequence[int]) -> None:
        config = self.model_config
        if not ids:
            raise PromptError("the prompt is empty")
        if len(ids) >= config.context_length:
            raise PromptError(f"the prompt has {len(ids)} tokens; this model takes {config.context_length}")
        if min(ids) < 0 or max(ids) >= config.vocab_size:
            raise PromptError(f"token ids of this model are 0 to {config.vocab_size - 1}")

    def _tensor(self, ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor(ids, dtype=torch.int64, device=self.model.device)
