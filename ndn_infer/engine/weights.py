"""Weights of a model of the Llama family, as the forward pass uses them.

Owns: loading a prepared folder's safetensors, and what a linear map is for each precision of weights. Must not know:
the order of operations, caches, streams.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from ndn_infer.engine.model_config import ModelConfig
from ndn_infer.errors import DamagedCache, EngineUnavailable, UsageError

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


class Linear(Protocol):
    """A linear map, whatever its weights are stored as."""

    def __call__(self, x: Tensor) -> Tensor:
        """x [n, in] -> [n, out], both in the model's dtype."""
        ...


class Dense:
    """Weights in the model's dtype, [out, in]."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: norms are tensors [hidden], the rest linear maps."""

    input_norm: Tensor
    q: Linear
    k: Linear
    v: Linear
    o: Linear
    post_norm: Tensor
    gate: Linear
    up: Linear
    down: Linear


@dataclass(frozen=True, slots=True)
class Weights:
    """A whole model. `embedding` is [vocab, hidden] in the model's dtype."""

    embedding: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor
    head: Linear


def load_weights(folder: Path, config: ModelConfig, dtype: str, device: str) -> Weights:
    """Map model.safetensors into memory and convert what is not of `dtype` ("bf16", "fp32") yet.

    Raises UsageError (dtype), EngineUnavailable (device), DamagedCache.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise EngineUnavailable("no CUDA device can be used here", hint="set engine.device to cpu")
    path = folder / "model.safetensors"
    try:
        with safe_open(path, framework="pt", device=device) as file:
            tensors = {name: file.get_tensor(name).to(DTYPES[dtype]) for name in file.keys()}
        embedding = tensors["model.embed_tokens.weight"]
        head = Dense(embedding if config.tied else tensors["lm_head.weight"])
        layers = tuple(_layer(tensors, index) for index in range(config.layers))
        return Weights(embedding, layers, tensors["model.norm.weight"], head)
    except (OSError, SafetensorError, KeyError) as error:
        raise DamagedCache(f"{path} cannot be used ({type(error).__name__}: {error})") from error


def _layer(tensors: dict[str, Tensor], index: int) -> Layer:
    def take(name: str) -> Tensor:
        return tensors[f"model.layers.{index}.{name}.weight"]

    return Layer(
        take("input_layernorm"),
        Dense(take("self_attn.q_proj")),
        Dense(take("self_attn.k_proj")),
        Dense(take("self_attn.v_proj")),
        Dense(take("self_attn.o_proj")),
        take("post_attention_layernorm"),
        Dense(take("mlp.gate_proj")),
        Dense(take("mlp.up_proj")),
        Dense(take("mlp.down_proj")),
    )
