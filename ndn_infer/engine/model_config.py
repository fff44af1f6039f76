"""What config.json says about a model of the Llama family: Llama, SmolLM2, Mistral, Qwen2 and Qwen3.

Owns: the facts that the computation needs, and the refusal of models it does not compute. Must not know: weights,
tensors.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndn_infer.errors import DamagedCache, EngineUnavailable

FAMILIES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
"""What differs: Mistral and Qwen may look back over a window only, Qwen2 has biases, Qwen3 norms queries and keys."""

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
    head_norm: bool
    """Queries and keys are normed, head by head."""
    windows: tuple[int, ...]
    """How many tokens each layer sees, counted back from the token itself; 0: all."""

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
                head_norm=_family(raw) == "Qwen3ForCausalLM",
                windows=_windows(raw),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedCache(f"{path} cannot be used ({type(error).__name__}: {error})") from error


def _family(raw: dict[str, Any]) -> str:
    return str((raw.get("architectures") or ["unknown"])[0])


def _refuse_others(raw: dict[str, Any]) -> None:
    if _family(raw) not in FAMILIES:
        known = ", ".join(name.removesuffix("ForCausalLM") for name in FAMILIES)
        raise EngineUnavailable(
            f"this engine computes {known}, not {_family(raw)}", hint="choose a model of the Llama family"
        )
    if raw.get("hidden_act", "silu") != "silu":
        raise EngineUnavailable(f"this engine computes SiLU, not {raw['hidden_act']}; this model differs")


def _windows(raw: dict[str, Any]) -> tuple[int, ...]:
    """Of each layer. Llama has none, whatever its config says; Mistral's holds for all; Qwen names the layers."""
    layers: int = raw["num_hidden_layers"]
    window: int = raw.get("sliding_window", 4096) or 0
    family = _family(raw)
    if family == "LlamaForCausalLM" or (family.startswith("Qwen") and not raw.get("use_sliding_window")):
        return (0,) * layers
    if family == "MistralForCausalLM":
        return (window,) * layers
    first = raw.get("max_window_layers", layers)
    kinds = raw.get("layer_types") or ["full_attention" if i < first else "sliding_attention" for i in range(layers)]
    if len(kinds) != layers:
        raise ValueError("layer_types does not name every layer")
    return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)


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
