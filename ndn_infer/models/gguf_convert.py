"""GGUF to the ordinary layout of a model folder: safetensors, config.json, tokenizer.json, chat template.

Owns: what llama.cpp calls things and what transformers calls them, for the Llama family. Must not know: caches,
digests.

transformers can read GGUF too. It is not used here because the identity of a model must not hang on the version of a
library that writes its version, its defaults and its guesses into the files, and because it takes 35 s where this takes
5 s; the tests hold this reading against transformers' (equal weights, equal token ids).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndn_infer.errors import ModelError
from ndn_infer.models import weights_file
from ndn_infer.models.gguf_file import GgufFile
from ndn_infer.models.weights_file import TensorSpec

if TYPE_CHECKING:
    import numpy as np

_ELSEWHERE = "use the model's safetensors form (a Hugging Face id or a folder) instead of GGUF"
_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_CONTROL_TOKEN, _USER_DEFINED = 3, 4  # tokenizer.ggml.token_type; both are never split
_ENDS = ("eos", "eot", "eom")
"""Tokens that end an answer: of a text, of a turn, of a message."""
_KEYS = frozenset({
    "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.layer_norm_rms_epsilon",
    "rope.dimension_count", "rope.freq_base", "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear",
    "rope.scaling.original_context_length", "rope.scaling.finetuned",
})  # fmt: skip
"""Keys of a model's architecture that are honoured, or say nothing more; others that are not off are refused."""
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_DIGITS = {"type": "Digits", "individual_digits": True}
# tokenizer.ggml.pre -> pre-tokenizer. llama.cpp splits "smollm" at every digit, as the model was trained; transformers'
# own GGUF reading forgets that.
_PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "smollm": {"type": "Sequence", "pretokenizers": [_DIGITS, _BYTE_LEVEL]},
    "gpt-2": _BYTE_LEVEL,
}


def convert(path: Path, target: Path, progress: Callable[[str, int, int], None]) -> None:
    """Write the model in `path` into the existing folder `target`: weights as bf16, and what else a model needs.

    Raises ModelError when the file is damaged or of a kind this cannot read, OSError from the disk.
    """
    progress("reading", 0, 0)
    with GgufFile(path) as gguf:
        try:
            _convert(gguf, target, progress)
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
            raise ModelError(f"{path} is damaged or unusual ({error})", hint=_ELSEWHERE) from error


def _convert(gguf: GgufFile, target: Path, progress: Callable[[str, int, int], None]) -> None:
    config = _config(gguf)
    tokenizer, tokenizer_config = _tokenizer(gguf)
    _write_json(target / "config.json", config)
    _write_json(target / "generation_config.json", _generation_config(gguf, config))
    _write_json(target / "tokenizer_config.json", tokenizer_config)
    (target / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, indent=1) + "\n", "utf-8")
    if template := gguf.fields.get("tokenizer.chat_template"):
        (target / "chat_template.jinja").write_text(template, "utf-8")
    _weights(gguf, config, target / "model.safetensors", progress)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, sort_keys=True, indent=1) + "\n", "utf-8")


def _field(gguf: GgufFile, key: str) -> Any:
    try:
        return gguf.fields[key]
    except KeyError as error:
        raise ModelError(f"{gguf.path} does not say {key}", hint=_ELSEWHERE) from error


# ------------------------------------------------------------ configuration


def _config(gguf: GgufFile) -> dict[str, Any]:
    if (architecture := _field(gguf, "general.architecture")) != "llama":
        raise ModelError(f"GGUF models of architecture {architecture} are not supported", hint=_ELSEWHERE)
    for key, value in gguf.fields.items():
        if key.startswith("llama.") and key.removeprefix("llama.") not in _KEYS and value:
            raise ModelError(f"GGUF models with {key}={value!r} are not supported", hint=_ELSEWHERE)
    heads = _field(gguf, "llama.attention.head_count")
    hidden = _field(gguf, "llama.embedding_length")
    theta = float(gguf.fields.get("llama.rope.freq_base", 10000.0))
    head_dim = gguf.fields.get("llama.attention.key_length", hidden // heads)
    for key in ("llama.rope.dimension_count", "llama.attention.value_length"):
        if gguf.fields.get(key, head_dim) != head_dim:
            raise ModelError(f"GGUF models with {key} other than {head_dim} are not supported", hint=_ELSEWHERE)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "mlp_bias": False,
        "dtype": "bfloat16",
        "head_dim": head_dim,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": _field(gguf, "llama.feed_forward_length"),
        "max_position_embeddings": _field(gguf, "llama.context_length"),
        "num_attention_heads": heads,
        "num_hidden_layers": _field(gguf, "llama.block_count"),
        "num_key_value_heads": gguf.fields.get("llama.attention.head_count_kv", heads),
        "rms_norm_eps": _field(gguf, "llama.attention.layer_norm_rms_epsilon"),
        "rope_parameters": {"rope_theta": theta, **_rope_scaling(gguf)},
        "rope_theta": theta,
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
        "vocab_size": len(_field(gguf, "tokenizer.ggml.tokens")),
    }
    for ours, theirs in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        if (value := gguf.fields.get(f"tokenizer.ggml.{theirs}_token_id")) is not None:
            config[f"{ours}_token_id"] = value
    return config


def _rope_scaling(gguf: GgufFile) -> dict[str, Any]:
    """As llama.cpp reads it: a factor without a type scales linearly, and has an older name."""
    if "rope_freqs.weight" in gguf.tensors:
        raise ModelError("GGUF models with factors for rotary frequencies are not supported", hint=_ELSEWHERE)
    kind = gguf.fields.get("llama.rope.scaling.type", "linear")
    factor = float(gguf.fields.get("llama.rope.scaling.factor") or gguf.fields.get("llama.rope.scale_linear") or 1.0)
    if kind == "none" or (kind == "linear" and factor == 1.0):
        return {"rope_type": "default"}
    if kind != "linear":
        raise ModelError(f"GGUF models with rotary positions of kind {kind} are not supported", hint=_ELSEWHERE)
    return {"rope_type": "linear", "factor": factor}


def _generation_config(gguf: GgufFile, config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id") if key in config
    }
    ends = [gguf.fields.get(f"tokenizer.ggml.{end}_token_id") for end in _ENDS]
    ends = list(dict.fromkeys(end for end in ends if end is not None))
    return {**found, "eos_token_id": ends} if len(ends) > 1 or (ends and "eos_token_id" not in found) else found


# ------------------------------------------------------------ tokenizer


def _tokenizer(gguf: GgufFile) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tokenizer.json, tokenizer_config.json) of a byte-level BPE tokenizer."""
    kind, pre = _field(gguf, "tokenizer.ggml.model"), gguf.fields.get("tokenizer.ggml.pre", "gpt-2")
    pre = "gpt-2" if pre == "default" else pre
    if kind != "gpt2" or pre not in _PRE_TOKENIZERS:
        raise ModelError(f"GGUF tokenizers of kind {kind}/{pre} are not supported", hint=_ELSEWHERE)
    tokens: list[str] = _field(gguf, "tokenizer.ggml.tokens")
    types: list[int] = gguf.fields.get("tokenizer.ggml.token_type", [])
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": i, "content": tokens[i], **flags, "special": kind == _CONTROL_TOKEN}
        for i, kind in enumerate(types) if kind in (_CONTROL_TOKEN, _USER_DEFINED)
    ]  # fmt: skip
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": _PRE_TOKENIZERS[pre],
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [merge.split(" ", 1) for merge in _field(gguf, "tokenizer.ggml.merges")],
        },
    }
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": _field(gguf, "llama.context_length"),
    }
    for ours, theirs in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")):
        if (value := gguf.fields.get(f"tokenizer.ggml.{theirs}_token_id")) is not None:
            config[f"{ours}_token"] = tokens[value]
    return tokenizer, config


# ------------------------------------------------------------ weights


def _weights(gguf: GgufFile, config: dict[str, Any], path: Path, progress: Callable[[str, int, int], None]) -> None:
    theirs = {_our_name(name): name for name in gguf.tensors}
    order = sorted(theirs)
    specs = [TensorSpec(name, "BF16", gguf.tensors[theirs[name]].shape) for name in order]

    def blobs() -> Iterator[bytes]:
        for name in order:
            values = gguf.load(theirs[name])
            if name.endswith("q_proj.weight"):
                values = _unpermute(values, config["num_attention_heads"])
            elif name.endswith("k_proj.weight"):
                values = _unpermute(values, config["num_key_value_heads"])
            yield _to_bf16(values, name)

    weights_file.write(path, specs, blobs(), lambda count: progress("de-quantising", count, len(order)))


def _our_name(name: str) -> str:
    if name in _TOP:
        return _TOP[name]
    match = re.fullmatch(r"blk\.(\d{1,4})\.(\w+)\.weight", name)
    if match is None or match[2] not in _BLOCK:
        raise ModelError(f"a Llama model with a tensor {name} is not supported", hint=_ELSEWHERE)
    return f"model.layers.{match[1]}.{_BLOCK[match[2]]}.weight"


def _unpermute(values: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp keeps the two halves of a rotary pair side by side, transformers half a head apart."""
    rows, columns = values.shape
    return values.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _to_bf16(values: np.ndarray, name: str) -> bytes:
    """Rounded to nearest even, as torch rounds; little-endian."""
    import numpy as np

    if not np.isfinite(values).all():
        raise ModelError(f"{name} holds values that are not numbers: the file is damaged")
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return rounded.astype("<u2").tobytes()
