"""The Llama family's forward pass, in torch, one sequence at a time.

Owns: configuration, weights, rotary positions, the layers. Must not know: sampling, streams, blocks, transformers.

Every operation and its rounding is that of transformers' LlamaForCausalLM with SDPA (modeling_llama.py and
sdpa_attention.py of 5.23), so the numbers are equal bit for bit for equal shapes; the tests use it as the oracle.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from ndn_infer.engine.attention import AttentionPlan, plan_decode, plan_prompt
from ndn_infer.engine.kv_cache import KvCache
from ndn_infer.errors import DamagedCache, EngineUnavailable, UsageError

IMPLEMENTATION = "llama-torch-1"
"""Changed whenever the same tokens would give other KV bytes on the same machine."""

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
_ROPE_KINDS = ("default", "linear", "llama3")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The facts of config.json which the computation needs. Sizes are counts of numbers, heads, layers, tokens."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    norm_eps: float
    tied: bool
    rope: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> ModelConfig:
        """Read config.json. Raises EngineUnavailable for an architecture this does not compute, DamagedCache."""
        path = folder / "config.json"
        try:
            raw = json.loads(path.read_bytes())
            _refuse_others(raw)
            heads, hidden = raw["num_attention_heads"], raw["hidden_size"]
            return cls(
                layers=raw["num_hidden_layers"],
                hidden=hidden,
                intermediate=raw["intermediate_size"],
                heads=heads,
                kv_heads=raw.get("num_key_value_heads") or heads,
                head_dim=raw.get("head_dim") or hidden // heads,
                vocab_size=raw["vocab_size"],
                context_length=raw["max_position_embeddings"],
                norm_eps=raw["rms_norm_eps"],
                tied=raw.get("tie_word_embeddings", False),
                rope=_rope(raw),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedCache(f"{path} cannot be used ({type(error).__name__}: {error})") from error


def _refuse_others(raw: dict[str, Any]) -> None:
    architecture = (raw.get("architectures") or ["unknown"])[0]
    if architecture != "LlamaForCausalLM":
        raise EngineUnavailable(
            f"this engine computes LlamaForCausalLM, not {architecture}", hint="choose a model of the Llama family"
        )
    if raw.get("attention_bias") or raw.get("mlp_bias") or raw.get("hidden_act", "silu") != "silu":
        raise EngineUnavailable("this engine computes Llama without biases and with SiLU; this model differs")


def _rope(raw: dict[str, Any]) -> dict[str, Any]:
    """Rotary parameters in one form: transformers 4 wrote rope_theta and rope_scaling, 5 writes rope_parameters."""
    rope = {"rope_theta": raw.get("rope_theta", 10000.0), **(raw.get("rope_scaling") or {})}
    rope.update(raw.get("rope_parameters") or {})
    rope["rope_type"] = rope.get("rope_type") or rope.get("type") or "default"
    if rope["rope_type"] not in _ROPE_KINDS:
        raise EngineUnavailable(f"rotary positions of kind {rope['rope_type']} are not supported")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise EngineUnavailable("partial rotary positions are not supported")
    return rope


def inverse_frequencies(config: ModelConfig) -> Tensor:
    """[head_dim / 2] float32, as transformers' modeling_rope_utils computes them."""
    rope, dim = config.rope, config.head_dim
    plain: Tensor = 1.0 / (rope["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.int64).to(torch.float) / dim))
    if rope["rope_type"] == "linear":
        plain /= rope["factor"]
        return plain
    if rope["rope_type"] != "llama3":
        return plain
    factor, low, high = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    original = rope["original_max_position_embeddings"]
    wavelength = 2 * math.pi / plain
    scaled = torch.where(wavelength > original / low, plain / factor, plain)
    smooth = (original / wavelength - low) / (high - low)
    smoothed = (1 - smooth) * scaled / factor + smooth * scaled
    medium = ~(wavelength < original / high) * ~(wavelength > original / low)
    return torch.where(medium, smoothed, scaled)


@dataclass(frozen=True, slots=True)
class _Layer:
    """Weights of one layer, [out, in]."""

    input_norm: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor
    post_norm: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor


class Llama:
    """Weights and the forward pass. Used from one thread, under torch.inference_mode."""

    def __init__(self, config: ModelConfig, weights: dict[str, Tensor]) -> None:
        self.config = config
        self.embedding = weights["model.embed_tokens.weight"]
        self.dtype, self.device = self.embedding.dtype, self.embedding.device
        self._norm = weights["model.norm.weight"]
        self._head = self.embedding if config.tied else weights["lm_head.weight"]
        self._layers = [_layer(weights, index) for index in range(config.layers)]
        self._frequencies = inverse_frequencies(config)
        self._cos, self._sin = self._rotary_tables(256)

    @classmethod
    def load(cls, folder: Path, dtype: str, device: str) -> Llama:
        """Map model.safetensors into memory and convert what is not of `dtype` ("bf16", "fp32") yet.

        Raises UsageError (dtype), EngineUnavailable (architecture, device), DamagedCache.
        """
        if dtype not in DTYPES:
            raise UsageError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype}")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise EngineUnavailable("no CUDA device can be used here", hint="set engine.device to cpu")
        config = ModelConfig.load(folder)
        path = folder / "model.safetensors"
        try:
            with safe_open(path, framework="pt", device=device) as file:
                weights = {name: file.get_tensor(name).to(DTYPES[dtype]) for name in file.keys()}
            return cls(config, weights)
        except (OSError, SafetensorError, KeyError) as error:
            raise DamagedCache(f"{path} cannot be used ({type(error).__name__}: {error})") from error

    def prompt(self, ids: Tensor, cache: KvCache, total: int) -> Tensor:
        """The next tokens `ids` [n] (int64) of a prompt of `total` tokens: hidden states [n, hidden] before the last
        norm. Their KV goes to `cache`. However a prompt is cut, the numbers are the same (see attention.py)."""
        plan = plan_prompt(cache.length, int(ids.shape[0]), total, dtype=self.dtype, device=self.device)
        return self._forward(ids, cache, plan)

    def decode(self, token: int, cache: KvCache) -> Tensor:
        """One more token: its hidden state [1, hidden]."""
        return self._forward(torch.tensor([token], device=self.device), cache, plan_decode(cache.length))

    def _forward(self, ids: Tensor, cache: KvCache, plan: AttentionPlan) -> Tensor:
        start, count = cache.length, int(ids.shape[0])
        cache.reserve(plan.extent)
        cos, sin = self._rotary(start, count)
        hidden = F.embedding(ids, self.embedding)
        for index, layer in enumerate(self._layers):
            hidden = hidden + self._attention(layer, index, self._rms(hidden, layer.input_norm), cos, sin, plan, cache)
            normed = self._rms(hidden, layer.post_norm)
            hidden = hidden + F.linear(F.silu(F.linear(normed, layer.gate)) * F.linear(normed, layer.up), layer.down)
        cache.advance(count)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """[n, vocab] float32 from hidden states [n, hidden]."""
        return F.linear(self._rms(hidden, self._norm), self._head).float()

    # ------------------------------------------------------------ inside

    def _rms(self, hidden: Tensor, weight: Tensor) -> Tensor:
        wide = hidden.to(torch.float32)
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.config.norm_eps)
        return weight * wide.to(hidden.dtype)

    def _attention(
        self, layer: _Layer, index: int, x: Tensor, cos: Tensor, sin: Tensor, plan: AttentionPlan, cache: KvCache
    ) -> Tensor:
        config, count = self.config, x.shape[0]
        queries = F.linear(x, layer.q).view(count, config.heads, config.head_dim).transpose(0, 1)
        keys = F.linear(x, layer.k).view(count, config.kv_heads, config.head_dim).transpose(0, 1)
        values = F.linear(x, layer.v).view(count, config.kv_heads, config.head_dim).transpose(0, 1)
        all_keys, all_values = cache.append(index, _rotate(keys, cos, sin), values, plan.extent)
        out = plan.attend(_rotate(queries, cos, sin), all_keys, all_values)
        return F.linear(out.transpose(0, 1).reshape(count, config.heads * config.head_dim), layer.o)

    def _rotary(self, start: int, count: int) -> tuple[Tensor, Tensor]:
        """cos and sin, [count, head_dim] each."""
        if start + count > self._cos.shape[0]:
            self._cos, self._sin = self._rotary_tables(max(start + count, 2 * self._cos.shape[0]))
        return self._cos[start : start + count], self._sin[start : start + count]

    def _rotary_tables(self, count: int) -> tuple[Tensor, Tensor]:
        angles = torch.arange(count)[:, None].float() * self._frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(self.device, self.dtype), angles.sin().to(self.device, self.dtype)


def _layer(weights: dict[str, Tensor], index: int) -> _Layer:
    def take(name: str) -> Tensor:
        return weights[f"model.layers.{index}.{name}.weight"]

    return _Layer(
        take("input_layernorm"),
        take("self_attn.q_proj"),
        take("self_attn.k_proj"),
        take("self_attn.v_proj"),
        take("self_attn.o_proj"),
        take("post_attention_layernorm"),
        take("mlp.gate_proj"),
        take("mlp.up_proj"),
        take("mlp.down_proj"),
    )


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on x [heads, n, head_dim]."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin
