"""The Llama family's forward pass, in torch.

Owns: the order of operations in a layer and over the layers. Must not know: what weights are stored as, sampling,
streams, blocks, transformers.

Every operation and its rounding is that of transformers' LlamaForCausalLM with SDPA (modeling_llama.py and
sdpa_attention.py of 5.23), so the numbers are equal bit for bit for equal shapes; the tests use it as the oracle.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ndn_infer.engine.attention import AttentionPlan, plan_decode, plan_prompt
from ndn_infer.engine.kv_cache import KvCache
from ndn_infer.engine.model_config import ModelConfig
from ndn_infer.engine.rotary import RotaryTables, rotate
from ndn_infer.engine.weights import Layer, Weights, load_weights

IMPLEMENTATION = "llama-torch-1"
"""Changed whenever the same tokens would give other KV bytes on the same machine."""


class Llama:
    """Weights and the forward pass. Used from one thread, under torch.inference_mode."""

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        self.config = config
        self.embedding = weights.embedding
        self.dtype, self.device = self.embedding.dtype, self.embedding.device
        self._weights = weights
        self._rotary = RotaryTables(config, self.dtype, self.device)

    @classmethod
    def load(cls, folder: Path, dtype: str, device: str) -> Llama:
        """Load a prepared folder. Raises UsageError (dtype), EngineUnavailable (architecture, device), DamagedCache."""
        config = ModelConfig.load(folder)
        return cls(config, load_weights(folder, config, dtype, device))

    def prompt(self, ids: Tensor, cache: KvCache, total: int) -> Tensor:
        """The next tokens `ids` [n] (int64) of a prompt of `total` tokens: hidden states [n, hidden] before the last
        norm. Their KV goes to `cache`. However a prompt is cut, the numbers are the same (see attention.py)."""
        plan = plan_prompt(cache.length, int(ids.shape[0]), total, dtype=self.dtype, device=self.device)
        return self._forward(ids, cache, plan)

    def decode(self, token: int, cache: KvCache) -> Tensor:
        """One more token: its hidden state [1, hidden]."""
        return self._forward(torch.tensor([token], device=self.device), cache, plan_decode(cache.length))

    def logits(self, hidden: Tensor) -> Tensor:
        """[n, vocab] float32 from hidden states [n, hidden]."""
        return self._weights.head(self._rms(hidden, self._weights.norm)).float()

    # ------------------------------------------------------------ inside

    def _forward(self, ids: Tensor, cache: KvCache, plan: AttentionPlan) -> Tensor:
        start, count = cache.length, int(ids.shape[0])
        cache.reserve(plan.extent)
        cos, sin = self._rotary.rows(start, count)
        hidden = F.embedding(ids, self.embedding)
        for index, layer in enumerate(self._weights.layers):
            hidden = hidden + self._attention(layer, index, self._rms(hidden, layer.input_norm), cos, sin, plan, cache)
            normed = self._rms(hidden, layer.post_norm)
            hidden = hidden + layer.down(F.silu(layer.gate(normed)) * layer.up(normed))
        cache.advance(count)
        return hidden

    def _rms(self, hidden: Tensor, weight: Tensor) -> Tensor:
        wide = hidden.to(torch.float32)
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.config.norm_eps)
        return weight * wide.to(hidden.dtype)

    def _attention(
        self, layer: Layer, index: int, x: Tensor, cos: Tensor, sin: Tensor, plan: AttentionPlan, cache: KvCache
    ) -> Tensor:
        config, count = self.config, x.shape[0]
        queries = layer.q(x).view(count, config.heads, config.head_dim).transpose(0, 1)
        keys = layer.k(x).view(count, config.kv_heads, config.head_dim).transpose(0, 1)
        values = layer.v(x).view(count, config.kv_heads, config.head_dim).transpose(0, 1)
        all_keys, all_values = cache.append(index, rotate(keys, cos, sin), values, plan.extent)
        out = plan.attend(rotate(queries, cos, sin), all_keys, all_values)
        return layer.o(out.transpose(0, 1).reshape(count, config.heads * config.head_dim))
