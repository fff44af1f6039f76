"""The Llama family's forward pass, in torch.

Owns: the order of operations in a layer and over the layers. Must not know: what weights are stored as, sampling,
streams, blocks, transformers.

Every operation and its rounding is that of transformers' LlamaForCausalLM with SDPA (modeling_llama.py and
sdpa_attention.py of 5.23), so the numbers are equal bit for bit for equal shapes; the tests use it as the oracle. With
`grouped` attention may be computed otherwise, where that is quicker (attention.py).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from ndn_infer.config import EngineConfig
from ndn_infer.engine.attention import AttentionKind, by_products, kv_class, plan_prompt
from ndn_infer.engine.decoded_rows import Hidden, RowAttention, TurnedRows, through
from ndn_infer.engine.device_rows import DeviceRows
from ndn_infer.engine.instructions import machine_of
from ndn_infer.engine.kv_cache import KvSequence
from ndn_infer.engine.model_config import ModelConfig
from ndn_infer.engine.rotary import RotaryTables, rotate
from ndn_infer.engine.weights import DTYPE_NAMES, Layer, Weights, load_weights
from ndn_infer.engine_class import LLAMA, EngineClass

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, queries [heads, n, head_dim], keys and values [kv_heads, n, head_dim]) -> [n, heads * head_dim]."""

Advance = Callable[[int], Tensor | None]
"""Computes a chunk of a prompt through all layers before this number: they, and the KV that they need, are there. The
hidden states after the last layer, None before it."""


_ROW_SHARES: Final = {"int4": 0.27, "int8": 0.13, "bf16": 0.1}
"""What a second row adds to a step at 128 tokens (SmolLM2-135M, one thread): see speculation.RowPrice. Elsewhere rows
are computed one by one (fp32), or have other bits in company (CUDA)."""


class Llama:
    """Weights and the forward pass. Used from one thread, under torch.inference_mode."""

    def __init__(self, config: ModelConfig, weights: Weights, *, grouped: bool = True) -> None:
        """`grouped` as in attention.attend_one."""
        self.config = config
        self.embedding = weights.embedding
        self.dtype, self.device = self.embedding.dtype, self.embedding.device
        self._weights = weights
        self._windows = frozenset(config.windows)
        self._grouped = grouped
        self._products = by_products(self.dtype, self.device, grouped=grouped)
        machine = machine_of(self.device, self.dtype, packed=weights.packed)
        self.engine_class = EngineClass(
            DTYPE_NAMES[self.dtype], weights.precision, LLAMA, "grouped" if grouped else "single", machine
        )  # fmt: skip
        on_cpu = self.device.type == "cpu" and self.dtype == torch.bfloat16
        self.row_share = _ROW_SHARES.get(weights.precision, 1.0) if on_cpu else 1.0
        self._rotary = RotaryTables(config, self.dtype, self.device)
        self._together: DeviceRows | None = None
        if self.device.type == "cuda":
            self._together = DeviceRows(config, weights.layers, self.embedding, self._rotary)

    @classmethod
    def load(cls, folder: Path, options: EngineConfig) -> Llama:
        """Load a prepared folder. Raises EngineUnavailable (architecture, device), DamagedCache."""
        config = ModelConfig.load(folder)
        return cls(config, load_weights(folder, config, options), grouped=options.grouped)

    def kv_class(self, end: int, total: int) -> Hashable:
        """Two prompts, of `total` tokens each, with equal first `end` tokens and equal classes have equal KV for these,
        bit for bit."""
        hiding = tuple(window for window in sorted(self._windows) if window and total > window)
        return 0 if self._products and not hiding else (kv_class(end, total), hiding)

    def prompt(self, ids: Tensor, cache: KvSequence, total: int) -> Tensor:
        """The next tokens `ids` [n] (int64) of a prompt of `total` tokens: hidden states [n, hidden] before the last
        norm. Their KV goes to `cache`. However a prompt is cut, the numbers are the same (see attention.py). Instead
        of ids, the later layers of a model take the hidden states that those before gave (stage.py)."""
        return self._one_sequence(ids, cache, total, self._weights.prompt_layers)

    def begin(self, ids: Tensor, cache: KvSequence, total: int, *, every: bool = False) -> Advance:
        """As `prompt`, a few layers at a time: for KV before these tokens that is not all there yet. `every`: hidden
        states of every row are wanted, as they are here in any case."""
        return self._begin(ids, cache, total, self._weights.prompt_layers)

    def score(self, ids: Tensor, cache: KvSequence) -> Tensor:
        """Hidden states [n, hidden] of a whole sequence by the weights that decoding reads, to measure what they cost;
        `cache` must be empty. The KV differs from that of `prompt` where the precision of weights is lower."""
        return self._one_sequence(ids, cache, int(ids.shape[0]), self._weights.layers)

    def first_layer(self, ids: Tensor) -> Tensor:
        """Keys and values [2, kv_heads, n, head_dim] that the first layer has for the first n tokens of a prompt: they
        follow from each token and its place alone."""
        layer, turns = self._weights.prompt_layers[0], self._rotary.rows(0, int(ids.shape[0]))
        _, keys, values = self._project(layer, self._rms(self._embed(ids), layer.input_norm), *turns)
        return torch.stack((keys, values))

    def decode(self, token: int, cache: KvSequence) -> Tensor:
        """One more token: its hidden state [1, hidden]."""
        return self.rows([(cache, [token])])

    def rows(self, batch: Sequence[tuple[KvSequence, Sequence[int]]], before: Tensor | None = None) -> Tensor:
        """The next tokens of several sequences, which share pages: hidden states [rows, hidden], in order. `before`:
        what the layers before these gave for the same rows, where this is not the beginning of a model.

        Bit for bit what one token after another, one sequence after another gives: the linear maps for decoding keep
        rows apart (linear.py), and each row has an attention call of its own. Not so on a GPU (device_rows.py).
        """
        for cache, tokens in batch:
            cache.reserve(cache.length + len(tokens))
        hidden = self._together(batch) if self._together is not None and before is None else None
        if hidden is None:
            hidden = self._row_by_row(batch, before)
        for cache, tokens in batch:
            cache.advance(len(tokens))
        return hidden

    def _row_by_row(self, batch: Sequence[tuple[KvSequence, Sequence[int]]], before: Tensor | None) -> Tensor:
        places = [cache.length + at for cache, tokens in batch for at in range(len(tokens))]
        inputs = before
        if inputs is None:
            inputs = torch.tensor([token for _, tokens in batch for token in tokens], device=self.device)
        rows = TurnedRows(self.config, self._rotary.at(places))
        attention = RowAttention(self.config, batch, rows, grouped=self._grouped)
        return through(self._weights.layers, Hidden(self._embed(inputs), self.config.norm_eps), rows, attention)

    def logits(self, hidden: Tensor) -> Tensor:
        """[n, vocab] float32 from hidden states [n, hidden]; rows are independent."""
        return self._weights.head(self._rms(hidden, self._weights.norm)).float()

    # ------------------------------------------------------------ inside

    def _one_sequence(self, ids: Tensor, cache: KvSequence, total: int, layers: tuple[Layer, ...]) -> Tensor:
        hidden = self._begin(ids, cache, total, layers)(len(layers))
        assert hidden is not None
        return hidden

    def _begin(self, ids: Tensor, cache: KvSequence, total: int, layers: tuple[Layer, ...]) -> Advance:
        start, count = cache.length, int(ids.shape[0])
        kinds = (AttentionKind(self.dtype, self.device, window, self._grouped) for window in self._windows)
        plans = {kind.window: plan_prompt(start, count, total, kind) for kind in kinds}
        cache.reserve(max(plan.extent for plan in plans.values()))
        slots = torch.tensor(cache.slots(count), device=self.device)
        tables = {window: cache.blocks(plan.extent) for window, plan in plans.items()}

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            plan, table = plans[self.config.windows[layer]], tables[self.config.windows[layer]]
            cache.pages.write(layer, slots, keys, values)
            all_keys, all_values = cache.pages.read(layer, table)[:, :, : plan.extent]
            return plan.attend(queries, all_keys, all_values).transpose(0, 1).reshape(count, -1)

        turns = self._rotary.rows(start, count)
        hidden, next_layer = self._embed(ids), 0

        def advance(upto: int) -> Tensor | None:
            nonlocal hidden, next_layer
            hidden = self._through(hidden, layers[next_layer:upto], turns, attend, first=next_layer)
            next_layer = max(upto, next_layer)
            if next_layer < len(layers):
                return None
            cache.advance(count)
            return hidden

        return advance

    def _embed(self, inputs: Tensor) -> Tensor:
        return inputs if inputs.is_floating_point() else F.embedding(inputs, self.embedding)

    def _through(
        self, hidden: Tensor, layers: tuple[Layer, ...], turns: tuple[Tensor, Tensor], attend: Attend, *, first: int = 0
    ) -> Tensor:
        """Through `layers`, of which the first has the number `first`. `turns`: cosines and sines of the rows."""
        for index, layer in enumerate(layers, first):
            projected = self._project(layer, self._rms(hidden, layer.input_norm), *turns)
            hidden = hidden + layer.o(attend(index, *projected))
            gate, up = layer.gate_up(self._rms(hidden, layer.post_norm))
            hidden = hidden + layer.down(F.silu(gate) * up)
        return hidden

    def _project(self, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of rows `x`, [heads, n, head_dim] each, turned by their positions."""
        config, count = self.config, x.shape[0]
        both = config.heads + config.kv_heads
        mixed = layer.qkv(x).view(count, both + config.kv_heads, config.head_dim).transpose(0, 1)
        turned, values = mixed[:both], mixed[both:]
        if layer.head_norm is not None:
            turned = self._rms(turned, layer.head_norm)
        turned = rotate(turned, cos, sin)
        return turned[: config.heads], turned[config.heads :], values

    def _rms(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """transformers rounds to the model's dtype before it multiplies by the weights, torch's kernel after."""
        return weight * F.rms_norm(hidden, (hidden.shape[-1],), None, self.config.norm_eps)
