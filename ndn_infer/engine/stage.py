"""A stage: some layers of a model, for a node that does not hold all of it.

Owns: loading layers a to b alone, their part of the forward pass, and the sequences whose KV they keep. Must not know:
the other stages, names, packets, sampling.

Layers count from 0 inside a stage: its config, weights and KV are those of a model that has no others, so nothing can
address a layer by its number in the whole model. Positions are those of the sequence and need no change. Stage after
stage the numbers are those of the whole model bit for bit, since each layer computes what it computes there.

A stage's KV blocks are slices of the whole model's: [layers of this stage, 2, kv_heads, block_tokens, head_dim].
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from ndn_infer.config import EngineConfig
from ndn_infer.engine.kv_cache import KvCache
from ndn_infer.engine.llama import Llama
from ndn_infer.engine.model_config import ModelConfig
from ndn_infer.engine.weights import Part, load_weights
from ndn_infer.errors import BadRecord, PromptError, UsageError
from ndn_infer.kv.layout import BlockLayout


class Stage:
    """Layers `first` to `last` (both included). Used from one thread."""

    def __init__(self, model: Llama, whole: ModelConfig, part: Part, block_tokens: int) -> None:
        """`model` has the layers of `part` only; `whole` is the config of all."""
        self.whole = whole
        self.first, self.last = part.first, part.last
        self.engine_class = model.engine_class
        self.dtype = model.dtype
        config = model.config
        self.layout = BlockLayout(config.layers, config.kv_heads, config.head_dim, block_tokens, model.dtype)
        self._model = model

    @classmethod
    def load(cls, folder: Path, first: int, last: int, options: EngineConfig) -> Stage:
        """Load these layers of a prepared folder, and no others.

        Raises UsageError (no such layers), EngineUnavailable (architecture, device), DamagedCache.
        """
        whole = ModelConfig.load(folder)
        if not 0 <= first <= last < whole.layers:
            raise UsageError(f"layers {first}-{last}: this model has layers 0-{whole.layers - 1}")
        part = Part(first, last, whole.layers)
        tied = whole.tied and last == whole.layers - 1
        config = replace(whole, layers=last - first + 1, windows=whole.windows[first : last + 1], tied=tied)
        loaded = load_weights(folder, config, options, part)
        return cls(Llama(config, loaded, grouped=options.grouped), whole, part, options.block_tokens)

    @property
    def begins(self) -> bool:
        """Whether it takes token ids."""
        return self.first == 0

    @property
    def ends(self) -> bool:
        """Whether it gives logits."""
        return self.last == self.whole.layers - 1

    def sequence(self) -> KvCache:
        """An empty sequence: KV of this stage's layers; blocks go in and out as in kv_cache.py."""
        return KvCache(self.layout, self._model.device)

    @torch.inference_mode()
    def prompt(self, inputs: Tensor, cache: KvCache, total: int) -> Tensor:
        """The next n tokens of a prompt of `total`: hidden states [n, hidden].

        `inputs`: token ids [n] int64 for the first layers, else the hidden states [n, hidden] of the stage before.
        At least LEAST_ROWS tokens at once, except in a shorter prompt. Raises PromptError (ids), BadRecord (shape).
        """
        inputs = self._check(inputs)
        if total > self.whole.context_length:
            raise PromptError(f"this model takes {self.whole.context_length} tokens")
        if cache.length + inputs.shape[0] > total:
            raise PromptError(f"{cache.length + inputs.shape[0]} tokens of a prompt of {total}")
        return self._model.prompt(inputs, cache, total)

    @torch.inference_mode()
    def decode(self, inputs: Tensor, cache: KvCache) -> Tensor:
        """The next n tokens after a prompt, computed as one after another is: [n, hidden]. `inputs` as in `prompt`."""
        inputs = self._check(inputs)
        count = inputs.shape[0]
        if cache.length + count > self.whole.context_length:
            raise PromptError(f"this model takes {self.whole.context_length} tokens")
        if self.begins:
            return self._model.rows([(cache, inputs.tolist())])
        return self._model.rows([(cache, [0] * count)], inputs)

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """[n, vocab] float32 of what `prompt` and `decode` gave; only of a stage that ends the model."""
        if not self.ends:
            raise UsageError(f"layers {self.first}-{self.last} are not the last ones: they give no logits")
        return self._model.logits(hidden)

    def _check(self, inputs: Tensor) -> Tensor:
        if self.begins:
            vocabulary = self.whole.vocab_size
            if inputs.dim() != 1 or inputs.dtype != torch.int64 or not len(inputs):
                raise BadRecord(f"layers 0-{self.last} take token ids")
            if not 0 <= int(inputs.min()) <= int(inputs.max()) < vocabulary:
                raise PromptError(f"token ids of this model are 0 to {vocabulary - 1}")
        elif inputs.dim() != 2 or inputs.shape[1] != self.whole.hidden or inputs.dtype != self.dtype:
            wanted = f"{self.dtype} [n, {self.whole.hidden}]"
            raise BadRecord(f"layers from {self.first} on take {wanted}, not {inputs.dtype} {list(inputs.shape)}")
        return inputs.to(self._model.device)


@dataclass(eq=False, slots=True)
class _Held:
    """One sequence and the keys of what it holds: length by key."""

    cache: KvCache
    lengths: dict[bytes, int] = field(default_factory=dict)


class Sequences:
    """The sequences that a stage keeps between two steps, each found by the key of any of its states.

    A key stands for all tokens up to there. Whoever goes on from an older state gets a copy of that beginning, so
    prompts that begin alike share what was computed. The least recently used sequence goes first when memory is short.
    """

    def __init__(self, stage: Stage, memory_bytes: int) -> None:
        self._stage = stage
        self._memory = memory_bytes
        self._held: OrderedDict[_Held, None] = OrderedDict()
        self._by_key: dict[bytes, _Held] = {}

    def __contains__(self, key: bytes) -> bool:
        return key in self._by_key

    def __len__(self) -> int:
        return len(self._held)

    def take(self, key: bytes) -> KvCache | None:
        """A sequence in exactly the state of `key`, to be computed on and kept again; None when that is not held."""
        held = self._by_key.get(key)
        if held is None:
            return None
        length = held.lengths[key]
        if held.cache.length == length:
            self._held.move_to_end(held)
            return held.cache
        return self._beginning(held.cache, length)

    def keep(self, parent: bytes, key: bytes, cache: KvCache) -> None:
        """`cache`, which came from `take(parent)` or is new, has reached the state of `key`."""
        held = self._by_key.get(parent)
        if held is None or held.cache is not cache:
            held = _Held(cache)
        self._held[held] = None
        self._held.move_to_end(held)
        held.lengths[key] = cache.length
        self._by_key[key] = held
        while len(self._held) > 1 and self.bytes > self._memory:
            self._drop(next(iter(self._held)))

    @property
    def bytes(self) -> int:
        """KV memory of all sequences."""
        return sum(held.cache.pages.blocks for held in self._held) * self._stage.layout.nbytes

    def clear(self) -> None:
        self._held.clear()
        self._by_key.clear()

    def _drop(self, held: _Held) -> None:
        del self._held[held]
        for key in held.lengths:
            if self._by_key.get(key) is held:
                del self._by_key[key]

    def _beginning(self, cache: KvCache, length: int) -> KvCache:
        copy = self._stage.sequence()
        copy.reserve(length)
        for number in range(-(-length // self._stage.layout.block_tokens)):
            copy.pages.put(copy.table[number], cache.pages.take(cache.table[number]).to(cache.pages.device))
        copy.length = length
        return copy


def piece_end(start: int, total: int, chunk_tokens: int, least: int) -> int:
    """Where the piece of a prompt of `total` tokens ends that begins at `start`: pieces have `chunk_tokens` each, the
    last one as many more as would be fewer than `least` alone. `start` when no piece begins there."""
    end = start + chunk_tokens
    if start % chunk_tokens or start >= total or (start > 0 and total - start < least):
        return start
    return total if total - end < least else end
