"""What config.json says about a model of the Llama family.

Owns: the facts that the computation needs, and the refusal of models it does not compute. Must not know: weights,
tensors.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndn_infer.errors import DamagedCache, EngineUnavailable

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
