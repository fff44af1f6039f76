"""The engine: token ids in, token ids and KV blocks out, several streams by turns.

Owns: streams, whose turn it is, counters. Must not know: text, names, packets, asyncio, who holds KV blocks.

Used from one thread. Blocks are [layers, 2, kv_heads, block_tokens, head_dim], see kv_cache.py.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from ndn_infer.engine.sampler import SamplingParams, sample
from ndn_infer.engine.stream import Counters, StepOutput, Stream
from ndn_infer.errors import EngineUnavailable, ModelError, PromptError, UsageError

try:
    import torch
    from torch import Tensor

    from ndn_infer.engine.attention import LEAST_ROWS
    from ndn_infer.engine.kv_cache import KvCache, KvShape
    from ndn_infer.engine.llama import IMPLEMENTATION, Llama
except ImportError as error:
    raise EngineUnavailable(f"the engine needs a package that is not installed ({error})") from error

__all__ = ["Counters", "Engine", "StepOutput", "Stream"]

log = logging.getLogger(__name__)


class Engine:
    """Make one with `Engine.load`. Every method is to be called from the same thread."""

    implementation = IMPLEMENTATION
    """Names the computation: KV of engines with equal values (and equal hardware) is equal bit for bit."""

    def __init__(self, model: Llama, *, chunk_tokens: int = 256, block_tokens: int = 16, max_streams: int = 8) -> None:
        if min(chunk_tokens, block_tokens, max_streams) < 1:
            raise UsageError("chunk_tokens, block_tokens and max_streams must be at least 1")
        config = model.config
        self.model_config = config
        self.block_tokens = block_tokens
        self.counters = Counters()
        self._model = model
        self._chunk = chunk_tokens
        self._max_streams = max_streams
        self._kv_shape = KvShape(config.layers, config.kv_heads, config.head_dim, block_tokens, model.dtype)
        self._running: list[Stream] = []
        self._waiting: deque[Stream] = deque()
        self._numbers = itertools.count(1)

    @classmethod
    def load(
        cls, folder: Path, *, dtype: str = "bf16", device: str = "cpu", threads: int = 0,
        chunk_tokens: int = 256, block_tokens: int = 16, max_streams: int = 8,
    ) -> Engine:  # fmt: skip
        """Load a prepared folder. `threads` 0 leaves torch's number (all cores); it holds for the whole process.

        Raises UsageError (bad option), EngineUnavailable (architecture, device), DamagedCache.
        """
        if threads > 0:
            torch.set_num_threads(threads)
        started = time.monotonic()
        model = Llama.load(folder, dtype, device)
        log.info("loaded %s as %s on %s in %.2f s", folder.name[:16], dtype, device, time.monotonic() - started)
        return cls(model, chunk_tokens=chunk_tokens, block_tokens=block_tokens, max_streams=max_streams)

    # ------------------------------------------------------------ streams

    def start(self, ids: Sequence[int], params: SamplingParams, prefix_blocks: Sequence[Tensor] = ()) -> Stream:
        """Begin a stream; `step` computes it. `prefix_blocks` are the KV of the first tokens, from token 0 on.

        When they cover the whole prompt its last token is computed again, since its logits are wanted, and the few
        before it that LEAST_ROWS asks for. Raises PromptError
        (empty, too long, not token ids), BadRecord (a block of another model, dtype or size).
        """
        self._check(ids, room=1)
        total = min(len(ids) + params.max_tokens, self.model_config.context_length)
        cache = self._new_cache(prefix_blocks[: len(ids) // self.block_tokens], total)
        cache.rewind(min(cache.length, len(ids) - 1))
        stream = Stream(next(self._numbers), tuple(ids), params, cache)
        self._waiting.append(stream)
        self._admit()
        return stream

    def step(self) -> list[StepOutput]:
        """One turn: each running stream gets one chunk of its prompt or one token computed."""
        outputs = []
        for stream in list(self._running):
            logits = self._advance(stream)
            if logits is not None:
                outputs.append(self._choose(stream, logits))
        self._running = [stream for stream in self._running if stream.finished is None]
        self._admit()
        return outputs

    def cancel(self, stream: Stream) -> None:
        """End a stream and free its KV. Nothing happens when it has ended."""
        stream.finished = stream.finished or "cancelled"
        stream.cache = None
        self._running = [other for other in self._running if other is not stream]
        if stream in self._waiting:
            self._waiting.remove(stream)
        self._admit()

    def export_block(self, stream: Stream, index: int) -> Tensor:
        """A copy of one full block of a stream's KV. Raises ModelError when it is not computed or was freed."""
        if stream.cache is None:
            raise ModelError("the KV of this stream was freed")
        return stream.cache.export_block(index)

    # ------------------------------------------------------------ prompts without a stream, embeddings

    def prefill(
        self, ids: Sequence[int], prefix_blocks: Sequence[Tensor] = (), *, prompt_tokens: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """Compute the KV of every full block of `ids` after the prefix; yields (block index, block) as they get ready.

        `prompt_tokens`: length of the prompt of which `ids` are the beginning, when it is longer; the last bits of
        bf16 KV follow it (attention.py). Between two yields at most one chunk is computed. Raises as `start` does, at
        the first `next`.
        """
        self._check(ids, room=0)
        total = max(prompt_tokens, len(ids))
        full = len(ids) // self.block_tokens
        cache = self._new_cache(prefix_blocks[:full], full * self.block_tokens)
        wanted = tuple(ids[: full * self.block_tokens])
        index = cache.length // self.block_tokens
        while cache.length < len(wanted):
            self._prefill_chunk(wanted, cache, total)
            while (index + 1) * self.block_tokens <= cache.length:
                yield index, cache.export_block(index)
                index += 1

    @torch.inference_mode()
    def embed_tokens(self, ids: Sequence[int]) -> Tensor:
        """Rows of the input embedding, [len(ids), hidden], on the CPU. Raises PromptError."""
        self._check(ids, room=0)
        return self._model.embedding[torch.tensor(ids, device=self._model.device)].cpu()

    # ------------------------------------------------------------ inside

    def _check(self, ids: Sequence[int], *, room: int) -> None:
        limit = self.model_config.context_length - room
        if not ids:
            raise PromptError("the prompt is empty")
        if len(ids) > limit:
            raise PromptError(f"the prompt has {len(ids)} tokens, this model takes {limit}")
        if not 0 <= min(ids) <= max(ids) < self.model_config.vocab_size:
            raise PromptError(f"token ids of this model are 0 to {self.model_config.vocab_size - 1}")

    @torch.inference_mode()
    def _new_cache(self, blocks: Sequence[Tensor], capacity: int) -> KvCache:
        cache = KvCache(self._kv_shape, self._model.device, capacity=max(capacity, self.block_tokens))
        for index, block in enumerate(blocks):
            cache.import_block(index, block)
        self.counters.blocks_imported += len(blocks)
        return cache

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._max_streams:
            self._running.append(self._waiting.popleft())
        self.counters.streams_active = len(self._running)

    @torch.inference_mode()
    def _advance(self, stream: Stream) -> Tensor | None:
        """Compute a stream's next chunk or token; its next logits [1, vocab], None while the prompt goes on."""
        cache = stream.cache
        assert cache is not None
        if not stream.generated:
            hidden = self._prefill_chunk(stream.prompt, cache, len(stream.prompt))
            return self._model.logits(hidden[-1:]) if cache.length == len(stream.prompt) else None
        started = time.perf_counter()
        logits = self._model.logits(self._model.decode(stream.generated[-1], cache))
        self.counters.decode_s += time.perf_counter() - started
        return logits

    @torch.inference_mode()
    def _prefill_chunk(self, ids: Sequence[int], cache: KvCache, total: int) -> Tensor:
        started, first = time.perf_counter(), cache.length
        chunk = ids[first : first + self._chunk]
        if len(chunk) < LEAST_ROWS:
            cache.rewind(first + len(chunk) - LEAST_ROWS)
            chunk = ids[cache.length : first + len(chunk)]
        hidden = self._model.prompt(torch.tensor(chunk, device=self._model.device), cache, total)
        self.counters.prefill_s += time.perf_counter() - started
        self.counters.tokens_prefilled += len(chunk)
        self.counters.blocks_prefilled += cache.length // self.block_tokens - -(-first // self.block_tokens)
        return hidden

    def _choose(self, stream: Stream, logits: Tensor) -> StepOutput:
        position = len(stream.prompt) + len(stream.generated)
        token, logprob = sample(logits[0].cpu().numpy(), stream.params, position)
        stream.generated.append(token)
        self.counters.tokens_decoded += 1
        if token in stream.params.stop_ids:
            stream.finished = "stop"
        elif len(stream.generated) >= stream.params.max_tokens or position + 1 >= self.model_config.context_length:
            stream.finished = "length"
        return StepOutput(stream, token, logprob, stream.finished)
