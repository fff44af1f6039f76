"""From a source to the content files of a model folder, and the facts about it.

Owns: which files make a model, merging shards, the fingerprint of a source. Must not know: caches, locks, digests.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from ndn_infer.errors import ModelError
from ndn_infer.models import gguf_convert, linear_text, manifest, weights_file
from ndn_infer.models.manifest import CLASSIFIER, Facts
from ndn_infer.models.onnx_linear import read_linear
from ndn_infer.models.registry import ModelSource, Progress

VERSION = "2"
"""Raised when the same source would give other bytes, so that older folders are not taken for it."""

_COPIED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
_OLDER = {
    "num_attention_heads": "n_head", "hidden_size": "n_embd", "num_hidden_layers": "n_layer",
    "max_position_embeddings": "n_positions",
}  # fmt: skip
"""What GPT-2 calls these."""
_UNQUANTISED = "choose its bf16 or fp16 form, or a GGUF file: they can be quantised on loading (engine.weights)"
_SUPPORTED = "Llama, SmolLM2, Mistral, Qwen2, Qwen3, and others that keep keys and values of every token (GPT-2, Phi)"
_POOLING = "1_Pooling/config.json"
_SENTENCE = "sentence_bert_config.json"


def source_files(source: ModelSource) -> list[Path]:
    """The files of a source that matter, sorted by name. Raises ModelError when it is no model."""
    if source.kind != "folder":
        return [source.path]
    folder = source.path
    if (folder / linear_text.FILE).is_file():
        return [folder / linear_text.FILE]
    weights = _weight_files(folder)
    others = [folder / name for name in (*_COPIED, _POOLING, _SENTENCE) if (folder / name).is_file()]
    present = {path.name for path in others}
    for needed in ("config.json", "tokenizer.json"):
        if needed not in present:
            raise ModelError(f"{folder} has no {needed}, so it is not a model this can use")
    return sorted([*weights, *others])


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(_read_json(index).get("weight_map", {}).values()))
        if not names or any(Path(name).name != name for name in names):
            raise ModelError(f"{index} names no shards of this folder")
        return [folder / name for name in names]
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    raise ModelError(f"{folder} has no model.safetensors", hint="weights in pickle files (*.bin, *.pt) are not read")


def fingerprint(source: ModelSource, progress: Progress) -> str:
    """SHA-256 over the converter's version and the source's files: equal sources give equal models."""
    files = source_files(source)
    total, done = sum(path.stat().st_size for path in files), 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        progress("hashing the source", done, total)

    entries = [(str(path.relative_to(source.path.parent)), manifest.hash_file(path, count)) for path in files]
    if source.kind != "folder":
        parts: list[Any] = [entry.sha256 for _, entry in entries]
    else:
        parts = [
            (str(path.relative_to(source.path)), entry.sha256) for path, (_, entry) in zip(files, entries, strict=True)
        ]
    return hashlib.sha256(manifest.canonical([VERSION, source.kind, parts])).hexdigest()


def build(source: ModelSource, target: Path, progress: Progress) -> Facts:
    """Write the content files of `source` into the empty folder `target` and say what the model is.

    Raises ModelError (not a model, not supported), OSError (disk).
    """
    if source.kind == "onnx" or (source.path / linear_text.FILE).is_file():
        return _classifier(source, target, progress)
    if source.kind == "gguf":
        gguf_convert.convert(source.path, target, progress)
    else:
        _copy(source.path, target, progress)
    return _facts(target)


def _classifier(source: ModelSource, target: Path, progress: Progress) -> Facts:
    progress("reading", 0, 0)
    found = read_linear(source.path) if source.kind == "onnx" else linear_text.read_classifier(source.path)
    found.write(target)
    return Facts(
        kind=CLASSIFIER, architecture="TfidfLinear", layers=0, heads=0, kv_heads=0, head_dim=0,
        hidden=len(found.labels), vocab=len(found.terms), context_length=0, eos_ids=(), weights_dtype="fp32",
    )  # fmt: skip


def _copy(folder: Path, target: Path, progress: Progress) -> None:
    for name in _COPIED:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)
    if (folder / _POOLING).is_file():
        (target / "pooling.json").write_text(json.dumps(_pooling(folder), sort_keys=True, indent=1) + "\n")
    weights = _weight_files(folder)
    total = sum(len(weights_file.read_header(path)[1]) for path in weights)
    if len(weights) == 1:
        progress("copying", 0, total)
        shutil.copyfile(weights[0], target / "model.safetensors")
        progress("copying", total, total)
    else:
        weights_file.merge(weights, target / "model.safetensors", lambda count: progress("copying", count, total))


def _pooling(folder: Path) -> dict[str, Any]:
    """sentence-transformers keeps these in two files and a subfolder; a model folder here is flat."""
    pooling = _read_json(folder / _POOLING)
    if not pooling.get("pooling_mode_mean_tokens"):
        raise ModelError(f"{folder} pools in another way than by the mean of its tokens; that is not supported")
    sentence = _read_json(folder / _SENTENCE) if (folder / _SENTENCE).is_file() else {}
    return {"pooling": "mean", "normalize": True, "max_tokens": int(sentence.get("max_seq_length", 256))}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} is not a JSON object")
    return value


def _facts(folder: Path) -> Facts:
    """Read from the files that were written, not from the source: what counts is what will be loaded."""
    config = _read_json(folder / "config.json")
    generation = folder / "generation_config.json"
    eos = (_read_json(generation) if generation.is_file() else {}).get("eos_token_id", config.get("eos_token_id"))
    architecture = next(iter(config.get("architectures") or ["unknown"]))
    pooled = (folder / "pooling.json").is_file()
    if not pooled and not architecture.endswith(("ForCausalLM", "LMHeadModel")):
        raise ModelError(f"{architecture} is neither a causal language model nor a sentence embedder")
    if config.get("quantization_config") or config.get("compression_config"):
        raise ModelError("the weights of this model are quantised (quantization_config)", hint=_UNQUANTISED)
    config = {**config, **{ours: config[theirs] for ours, theirs in _OLDER.items() if theirs in config}}
    try:
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        return Facts(
            kind="text-embedding" if pooled else "causal-lm",
            architecture=architecture,
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or hidden // heads),
            hidden=hidden,
            vocab=int(config["vocab_size"]),
            context_length=int(config["max_position_embeddings"]),
            eos_ids=tuple(eos) if isinstance(eos, list) else () if eos is None else (int(eos),),
            weights_dtype=_weights_dtype(folder / "model.safetensors"),
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, KeyError):
            what = f"config.json of this {architecture} has no {error}: not a transformer with attention in every layer"
            raise ModelError(what, hint=_SUPPORTED) from error
        raise ModelError(f"config.json of this model spoils a number ({error})") from error


def _weights_dtype(path: Path) -> str:
    dtypes = {spec.dtype for spec in weights_file.read_header(path)[1] if spec.dtype in ("F32", "F16", "BF16")}
    return "+".join(sorted({"F32": "fp32", "F16": "fp16", "BF16": "bf16"}[dtype] for dtype in dtypes))
