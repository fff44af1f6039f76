"""What config.json says about a model of the Llama family: Llama, SmolLM2, Mistral, Qwen2 and Qwen3.

Owns: the facts that the computation needs, and the refusal of models it does not compute. Must not know: weights,
tensors.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndn_infer.errors import DamagedCache, EngineUnavailable

FAMILIES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
"""What differs: Mistral and Qwen may look back over a window only, Qwen2 has biases, Qwen3 norms queries and keys."""

_OTHER = "choose another model of the Llama family"

HONOURED = frozenset({
    "architectures", "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads",
    "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings", "rms_norm_eps", "hidden_act",
    "tie_word_embeddings", "rope_theta", "rope_scaling", "rope_parameters", "original_max_position_embeddings",
    "partial_rotary_factor", "sliding_window", "use_sliding_window", "max_window_layers", "layer_types",
    "attention_bias", "mlp_bias",
})  # fmt: skip
"""Keys of config.json that say what is computed: read here, or seen in the weights (biases)."""

INERT = frozenset({
    "model_type", "transformers_version", "torch_dtype", "dtype", "_name_or_path", "return_dict", "output_attentions",
    "output_hidden_states", "use_cache", "id2label", "label2id", "problem_type", "chunk_size_feed_forward",
    "is_encoder_decoder", "initializer_range", "attention_dropout", "pretraining_tp", "pad_token_id", "bos_token_id",
    "eos_token_id",
})  # fmt: skip
"""Keys that change no number of a prompt or an answer."""

REFUSED = frozenset({
    "quantization_config", "compression_config", "rope_interleaved", "attn_logit_softcapping",
    "final_logit_softcapping", "logit_scale", "logits_scaling", "embedding_multiplier", "residual_multiplier",
    "attention_multiplier", "query_pre_attn_scalar", "clip_qkv", "qk_layernorm", "use_qk_norm", "num_local_experts",
    "num_experts",
})  # fmt: skip
"""Keys that change the computation into one that is not ours, where they are given and not off. What transformers has
for these families is in one of the three sets (a test compares them); what it does not know it ignores, too."""

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
            refuse_others(raw)
            heads, hidden = raw["num_attention_heads"], raw["hidden_size"]
            return cls(
                layers=raw["num_hidden_layers"],
                hidden=hidden,
                intermediate=raw["intermediate_size"],
                heads=heads,
                kv_heads=raw.get("num_key_value_heads") or heads,
                head_dim=raw.get("head_dim") or hidden // heads,
                vocab_size=min(raw["vocab_size"], tokens_of(folder)),
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


def tokens_of(folder: Path) -> int:
    """One more than the largest id that the tokenizer has; no bound where there is no tokenizer. Weights may have more
    rows, to fill their matrix up: no token stands behind them, so none of them is ever chosen.

    Raises OSError, ValueError, TypeError, KeyError, AttributeError for damaged files."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return sys.maxsize
    raw = json.loads(path.read_bytes())
    vocabulary = raw["model"].get("vocab") or {}
    listed = len(vocabulary) if isinstance(vocabulary, list) else max(vocabulary.values(), default=-1) + 1
    return max(int(listed), *(int(token["id"]) + 1 for token in raw.get("added_tokens") or ()), 0)


def refuse_quantised(raw: dict[str, Any]) -> None:
    """Raises EngineUnavailable for weights that another library has to de-quantise."""
    quantised = raw.get("quantization_config") or raw.get("compression_config")
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise EngineUnavailable(
            f"the weights of this model are quantised by {method or 'another library'} (quantization_config), which "
            "this engine does not read",
            hint="choose its bf16 or fp16 form, or a GGUF file: they can be quantised on loading (engine.weights)",
        )


def refuse_others(raw: dict[str, Any]) -> None:
    """Raises EngineUnavailable for a config.json whose model would be computed otherwise than it says."""
    refuse_quantised(raw)
    if _family(raw) not in FAMILIES:
        known = ", ".join(name.removesuffix("ForCausalLM") for name in FAMILIES)
        raise EngineUnavailable(f"this engine computes {known}, not {_family(raw)}", hint=_OTHER)
    if raw.get("hidden_act", "silu") != "silu":
        raise EngineUnavailable(f"this engine computes SiLU, not {raw['hidden_act']} (hidden_act)", hint=_OTHER)
    for key in sorted(REFUSED & raw.keys()):
        if raw[key]:
            raise EngineUnavailable(
                f"this model's config.json has {key}={raw[key]!r}, which is not computed", hint=_OTHER
            )


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
    if raw.get("original_max_position_embeddings"):
        rope["original_max_position_embeddings"] = raw["original_max_position_embeddings"]
    rope["rope_type"] = rope.get("rope_type") or rope.get("type") or "default"
    if rope["rope_type"] not in _ROPE_KINDS:
        hint = f"rotary positions of kind {', '.join(_ROPE_KINDS)} are; {_OTHER}"
        raise EngineUnavailable(f"rotary positions of kind {rope['rope_type']} are not computed", hint=hint)
    if (raw.get("partial_rotary_factor") or rope.get("partial_rotary_factor") or 1.0) != 1.0:
        raise EngineUnavailable("rotary positions of a part of each head are not computed", hint=_OTHER)
    return rope
