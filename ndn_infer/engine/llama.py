"""A lean forward pass for the Llama family.

Owns: weights and arithmetic. Must not know: scheduling, sampling, tokenizers, the network. The order of operations is
that of transformers' modules, so that results are equal bit for bit for equal shapes (tests/integration/
test_engine_oracle.py); transformers itself is not imported: it takes longer to import than this model to load.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch.nn import functional

from ndn_infer.engine.kv_cache import KvCache
from ndn_infer.errors import DamagedCache, EngineUnavailable, UsageError

DTYPES: Final = {"bf16": torch.bfloat16, "fp32": torch.float32}
ARCHITECTURES: Final = ("LlamaForCausalLM",)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Facts of a model, from its config.json."""

    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    rope_theta: float
    norm_eps: float
    tied: bool

    @classmethod
    def load(cls, folder: Path) -> ModelConfig:
        """Raises DamagedCache when there is none, EngineUnavailable for a model that this engine cannot compute."""
        try:
            raw: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise DamagedCache(f"{folder} has no readable config.json") from error
        architecture = (raw.get("architectures") or ["unknown"])[0]
        rope = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        unsupported = [
            text
            for text, wrong in (
                (f"architecture {architecture}", architecture not in ARCHITECTURES),
                (f"rope scaling {kind!r}", kind != "default"),
                (f"activation {raw.get('hidden_act')!r}", raw.get("hidden_act", "silu") != "silu"),
                ("biases", bool(raw.get("attention_bias") or raw.get("mlp_bias"))),
            )
            if wrong
        ]
        if unsupported:
            raise EngineUnavailable(
                f"this engine cannot compute {', '.join(unsupported)}", hint=f"it computes {', '.join(ARCHITECTURES)}"
            )
        return cls(
            architecture=architecture,
            layers=raw["num_hidden_layers"],
            hidden=raw["hidden_size"],
            heads=raw["num_attention_heads"],
            kv_heads=raw.get("num_key_value_heads") or raw["num_attention_heads"],
            head_dim=raw.get("head_dim") or raw["hidden_size"] // raw["num_attention_heads"],
            vocab_size=raw["vocab_size"],
            context_length=raw["max_position_embeddings"],
            rope_theta=float(rope.get("rope_theta") or raw.get("rope_theta") or 10000.0),
            norm_eps=float(raw["rms_norm_eps"]),
            tied=bool(raw.get("tie_word_embeddings", False)),
        )


@dataclass(slots=True)
class _Layer:
    """Weights of one layer, [out, in] each; norms [hidden]."""

    attention_norm: torch.Tensor
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    o: torch.Tensor
    mlp_norm: torch.Tensor
    gate: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor


_LAYER_NAMES: Final = {
    "attention_norm": "input_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


class Llama:
    """One model on one device. `forward` extends a KvCache; nothing else is kept between calls."""

    def __init__(self, config: ModelConfig, weights: dict[str, torch.Tensor]) -> None:
        self.config = config
        self._embedding = weights["model.embed_tokens.weight"]
        self._norm = weights["model.norm.weight"]
        self._head = self._embedding if config.tied else weights["lm_head.weight"]
        self._layers = [
            _Layer(**{key: weights[f"model.layers.{index}.{name}.weight"] for key, name in _LAYER_NAMES.items()})
            for index in range(config.layers)
        ]
        self.dtype = self._embedding.dtype
        self.device = self._embedding.device
        self._scale = 1 / math.sqrt(config.head_dim)
        self._cos = self._sin = torch.empty(0)
        self._grow_rope(1024)

    @classmethod
    def load(cls, folder: Path, *, dtype: str = "bf16", device: str = "cpu") -> Llama:
        """Weights from model.safetensors, memory-mapped where no conversion is needed."""
        from safetensors.torch import load_file

        if dtype not in DTYPES:
            raise UsageError(f"engine.dtype is bf16 or fp32, not {dtype!r}")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise EngineUnavailable("no CUDA device here", hint="use --set engine.device=cpu")
        config = ModelConfig.load(folder)
        try:
            weights = load_file(folder / "model.safetensors", device=device)
            return cls(config, {name: tensor.to(DTYPES[dtype]) for name, tensor in weights.items()})
        except (OSError, KeyError, ValueError) as error:
            raise DamagedCache(f"the weights in {folder} cannot be read: {error}") from error

    def new_cache(self, block_tokens: int, capacity: int = 0) -> KvCache:
        config = self.config
        return KvCache(
            config.layers, config.kv_heads, config.head_dim, block_tokens=block_tokens, dtype=self.dtype,
            device=self.device, capacity=capacity,
        )  # fmt: skip

    @torch.inference_mode()
    def forward(self, ids: torch.Tensor, cache: KvCache, *, logits: bool = True) -> torch.Tensor | None:
        """Compute tokens `ids` [n] (int64) after those in `cache`, which grows by n.

        Returns logits of the last token, [vocab] float32, or None when they are not wanted.
        """
        count, past = ids.shape[0], cache.length
        cache.reserve(count)
        self._grow_rope(past + count)
        cos, sin = self._cos[past : past + count], self._sin[past : past + count]
        mask = self._mask(count, past)
        hidden = functional.embedding(ids, self._embedding)
        for index, layer in enumerate(self._layers):
            hidden = hidden + self._attention(
                index, layer, self._rms(hidden, layer.attention_norm), cache, cos, sin, mask
            )
            normed = self._rms(hidden, layer.mlp_norm)
            gated = functional.silu(functional.linear(normed, layer.gate)) * functional.linear(normed, layer.up)
            hidden = hidden + functional.linear(gated, layer.down)
        cache.advance(count)
        if not logits:
            return None
        last = self._rms(hidden[-1:], self._norm)
        return functional.linear(last, self._head)[0].float()

    def _attention(
        self,
        index: int,
        layer: _Layer,
        normed: torch.Tensor,
        cache: KvCache,
        cos: torch.Tensor,
        sin: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        config, count = self.config, normed.shape[0]
        q = functional.linear(normed, layer.q).view(count, config.heads, config.head_dim).transpose(0, 1)
        k = functional.linear(normed, layer.k).view(count, config.kv_heads, config.head_dim).transpose(0, 1)
        v = functional.linear(normed, layer.v).view(count, config.kv_heads, config.head_dim).transpose(0, 1)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        keys, values = cache.append(index, k, v)
        if mask is not None:  # as transformers does: heads are repeated when there is an explicit mask
            groups = config.heads // config.kv_heads
            keys, values = keys.repeat_interleave(groups, 0), values.repeat_interleave(groups, 0)
        out = functional.scaled_dot_product_attention(
            q[None], keys[None], values[None], attn_mask=mask, is_causal=mask is None and count > 1,
            scale=self._scale, enable_gqa=mask is None,
        )  # fmt: skip
        return functional.linear(out[0].transpose(0, 1).reshape(count, -1), layer.o)

    def _mask(self, count: int, past: int) -> torch.Tensor | None:
        """Boolean causal mask [1, 1, count, past + count]; none is needed for one token or without a past."""
        if count == 1 or past == 0:
            return None
        rows = torch.arange(past, past + count, device=self.device)[:, None]
        return (torch.arange(past + count, device=self.device)[None] <= rows)[None, None]

    def _rms(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        wide = hidden.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.config.norm_eps)
        return weight * wide.to(self.dtype)

    def _grow_rope(self, tokens: int) -> None:
        """Cosine and sine tables [positions, head_dim], computed in float32."""
        if tokens <= self._cos.shape[0]:
            return
        size = min(max(tokens, 2 * self._cos.shape[0]), max(tokens, self.config.context_length))
        steps = torch.arange(0, self.config.head_dim, 2, dtype=torch.int64, device=self.device).float()
        frequencies = 1.0 / (self.config.rope_theta ** (steps / self.config.head_dim))
        angles = torch.arange(size, device=self.device).float()[:, None] * frequencies[None]
        angles = torch.cat((angles, angles), dim=-1)
        self._cos, self._sin = angles.cos().to(self.dtype), angles.sin().to(self.dtype)

    @torch.inference_mode()
    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows [n, hidden] of the input embedding."""
        return functional.embedding(ids, self._embedding)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of x [heads, n, head_dim] (RoFormer, in the half-split form of transformers)."""
    half = x.shape[-1] // 2
    return (x * cos) + (torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin)
