"""Weights of a model as the forward pass uses them.

Owns: loading a prepared folder's safetensors, and which linear map each weight becomes for each precision. Must not
know: the order of operations, caches, streams.

Prompts are computed with the model's own weights, mapped from the file; `precision` says what *decoding* reads, which
is bound by memory where prompts are bound by arithmetic (an int4 product of 256 rows takes three times as long as a
bf16 one). So the KV of a prompt does not depend on it. Dense weights are either packed, a private copy for quicker
products (linear.py), or mapped: then they lie in the page cache, shared by all processes, and are given up when memory
is short. Models of more than PACKED_PART of the machine's memory are mapped.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ndn_infer.config import EngineConfig
from ndn_infer.engine.device import check_device
from ndn_infer.engine.linear import (
    Apart,
    Dense,
    DenseRows,
    Halves,
    Int4,
    Int8,
    Joined,
    Linear,
    Matrix,
    QuantisedInt4,
    fits_int4,
    quantise_int4,
    quantise_int8,
    relative_error,
)
from ndn_infer.engine.model_config import ModelConfig
from ndn_infer.engine.split_rows import SplitRows, can_split
from ndn_infer.engine_class import weights_label
from ndn_infer.errors import DamagedCache

log = logging.getLogger(__name__)

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_QUANTISED = ("int8", "int4")

PACKED_PART = 1 / 8
EMBEDDING = "model.embed_tokens.weight"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: norms are tensors [hidden], the rest linear maps."""

    input_norm: Tensor
    qkv: Linear
    """[n, hidden] -> [n, (heads + 2 * kv_heads) * head_dim]: queries, keys, values."""
    head_norm: Tensor | None
    """[heads + kv_heads, 1, head_dim]: weights of the norms of queries and keys, where the family has them."""
    o: Linear
    post_norm: Tensor
    gate_up: Callable[[Tensor], tuple[Tensor, Tensor]]
    """[n, hidden] -> twice [n, intermediate]."""
    down: Linear


@dataclass(frozen=True, slots=True)
class Weights:
    """A whole model. `embedding` is [vocab, hidden] in the model's dtype."""

    embedding: Tensor
    layers: tuple[Layer, ...]
    """For decoding: rows are independent bit for bit, however many (linear.py)."""
    prompt_layers: tuple[Layer, ...]
    """For prompts: dense; the numbers of transformers."""
    norm: Tensor
    head: Linear
    """Rows are independent. int8 where the layers are int4. May give float32."""
    precision: str
    """What decoding reads, as an engine class says it."""
    packed: bool
    """Whether matrices are in the layout that oneDNN computes with (linear.py)."""


@dataclass(frozen=True, slots=True)
class Part:
    """Layers `first` to `last` of a model of `layers` layers. The embedding belongs to the first part, last norm and
    head to the last one, and where the head is tied to it the embedding does, too."""

    first: int
    last: int
    layers: int

    def names(self, stored: Iterable[str], config: ModelConfig) -> dict[str, str]:
        """Names in the file of what this part needs, and what each is called here: layers count from 0."""
        found = {}
        for key in stored:
            head, _, rest = key.removeprefix("model.layers.").partition(".")
            if key.startswith("model.layers."):
                if self.first <= int(head) <= self.last:
                    found[key] = f"model.layers.{int(head) - self.first}.{rest}"
            elif self._has(key, config):
                found[key] = key
        return found

    def _has(self, key: str, config: ModelConfig) -> bool:
        at_end = self.last == self.layers - 1
        if key == EMBEDDING:
            return self.first == 0 or (at_end and config.tied)
        return at_end

    def fill(self, tensors: dict[str, Tensor], config: ModelConfig, nothing: Tensor) -> None:
        """Put `nothing` where the model has more than this part."""
        tensors.setdefault(EMBEDDING, nothing)
        if self.last < self.layers - 1:
            tensors["model.norm.weight"] = tensors["lm_head.weight"] = nothing


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def load_weights(folder: Path, config: ModelConfig, options: EngineConfig, part: Part | None = None) -> Weights:
    """Map model.safetensors into memory and convert what is not of the dtype of `options` yet.

    With `part` only that part is read, and `config` is that of the part. What a part has not got is empty.

    Where no kernel takes int8 or int4 weights (fp32, CUDA), the weights are rounded to it and computed dense: the same
    numbers but for rounding, without the saving. Raises EngineUnavailable (device), DamagedCache.
    """
    precision, dtype, device = options.precision, DTYPES[options.dtype], options.device
    check_device(device)
    path = folder / "model.safetensors"

    def read(wanted: Collection[str] = ()) -> dict[str, Tensor]:
        """By our names, as a mapping of the file of its own where nothing is converted."""
        with safe_open(path, framework="pt", device=device) as file:
            stored = torch.bfloat16 if precision == "bf16" else dtype
            names = {name: name for name in file.keys()} if part is None else part.names(file.keys(), config)
            found = {name: key for key, name in names.items() if not wanted or name in wanted}
            return {name: file.get_tensor(key).to(stored).to(dtype) for name, key in found.items()}

    try:
        tensors = read()
        with torch.inference_mode():
            if part is not None:
                part.fill(tensors, config, torch.empty(0, config.hidden, dtype=dtype, device=device))
            if precision in _QUANTISED and device != "cpu":
                log.warning("%s weights save nothing on %s: rounded, they are computed as %s", precision, device, dtype)
            builder = _Builder(tensors, config, precision)
            again = read([EMBEDDING]) if builder.packs else {}
            return builder.build(again.get(EMBEDDING, tensors[EMBEDDING]))
    except (OSError, SafetensorError, KeyError) as error:
        raise DamagedCache(f"{path} cannot be used ({type(error).__name__}: {error})") from error


class _Builder:
    def __init__(self, tensors: dict[str, Tensor], config: ModelConfig, precision: str) -> None:
        self._tensors, self._config, self._precision = tensors, config, precision
        self._errors: list[float] = []
        self._matrices: dict[str, Matrix] = {}
        size = sum(tensor.numel() * tensor.itemsize for tensor in tensors.values())
        on_cpu = all(tensor.device.type == "cpu" for tensor in tensors.values())
        self.packs = on_cpu and size <= PACKED_PART * _memory_bytes()

    def build(self, embedding: Tensor) -> Weights:
        """`embedding` is kept as it is. Of all other matrices nothing refers to the file when they are packed, so that
        their pages in it, which were read once, are this process's no more."""
        head = self._tensors.get("lm_head.weight")  # which the file may have although it says that it is tied
        if head is None:
            head = self._tensors[EMBEDDING if self._config.tied else "lm_head.weight"]
        prompt = tuple(self._layer(index, Dense) for index in range(self._config.layers))
        layers = tuple(self._decode_layer(index, prompt[index]) for index in range(self._config.layers))
        if self._errors:
            mean, most = sum(self._errors) / len(self._errors), max(self._errors)
            log.info("%s weights: relative error %.4f in the mean, %.4f at most", self._precision, mean, most)
        norm = self._tensors["model.norm.weight"].clone()
        end = self._head(head[: self._config.vocab_size])
        kind = weights_label(self._precision, split=can_split(embedding.dtype, embedding.device))
        return Weights(embedding, layers, prompt, norm, end, kind, self.packs)

    def _layer(self, index: int, kind: type[Dense]) -> Layer:
        def make(name: str) -> Dense:
            weight, bias = self._pair(index, name)
            return kind(self._matrix(f"{index}.{name}", weight), bias)

        return Layer(
            self._norm(index, "input_layernorm"),
            Joined([make(f"self_attn.{name}_proj") for name in "qkv"]),
            self._head_norm(index),
            make("self_attn.o_proj"),
            self._norm(index, "post_attention_layernorm"),
            Apart(make("mlp.gate_proj"), make("mlp.up_proj")),
            make("mlp.down_proj"),
        )

    def _matrix(self, key: str, weight: Tensor) -> Matrix:
        """One for prompts and decoding."""
        if key not in self._matrices:
            self._matrices[key] = Matrix(weight, packed=self.packs)
        return self._matrices[key]

    def _decode_layer(self, index: int, prompt: Layer) -> Layer:
        if self._precision not in _QUANTISED:
            return self._layer(index, DenseRows)
        return Layer(
            prompt.input_norm,
            self._fused(index, [f"self_attn.{name}_proj" for name in "qkv"]),
            prompt.head_norm,
            self._fused(index, ["self_attn.o_proj"]),
            prompt.post_norm,
            Halves(self._fused(index, ["mlp.gate_proj", "mlp.up_proj"])),
            self._fused(index, ["mlp.down_proj"]),
        )

    def _fused(self, index: int, names: list[str]) -> Linear:
        """Several maps in one product: scales belong to rows and groups of rows, so it is the same quantisation."""
        pairs = [self._pair(index, name) for name in names]
        biases = [bias for _, bias in pairs if bias is not None]
        bias = torch.cat(biases) if biases else None
        return self._quantised(torch.cat([weight for weight, _ in pairs]), bias, self._precision)

    def _quantised(self, weight: Tensor, bias: Tensor | None, precision: str) -> Linear:
        quantised = quantise_int4(weight) if precision == "int4" and fits_int4(weight) else quantise_int8(weight)
        if log.isEnabledFor(logging.INFO):
            self._errors.append(relative_error(weight, quantised.dense()))
        if weight.dtype != torch.bfloat16 or weight.device.type != "cpu":
            return DenseRows(quantised.dense().to(weight.dtype), bias)
        return Int4(quantised, bias) if isinstance(quantised, QuantisedInt4) else Int8(quantised, bias)

    def _head(self, weight: Tensor) -> Linear:
        """Four bits are too few for the head: it is what llama.cpp leaves at eight, too."""
        if self._precision not in _QUANTISED or not weight.shape[0]:  # a part without the end has none
            return DenseRows(self._matrix("head", weight))
        split = can_split(weight.dtype, weight.device)
        return SplitRows(quantise_int8(weight)) if split else self._quantised(weight, None, "int8")

    def _pair(self, index: int, name: str) -> tuple[Tensor, Tensor | None]:
        key = f"model.layers.{index}.{name}"
        bias = self._tensors.get(key + ".bias")
        return self._tensors[key + ".weight"], None if bias is None else bias.clone()

    def _norm(self, index: int, name: str) -> Tensor:
        return self._tensors[f"model.layers.{index}.{name}.weight"].clone()

    def _head_norm(self, index: int) -> Tensor | None:
        if not self._config.head_norm:
            return None
        q, k = (self._norm(index, f"self_attn.{name}_norm") for name in "qk")
        return torch.cat((q.expand(self._config.heads, 1, -1), k.expand(self._config.kv_heads, 1, -1)))
