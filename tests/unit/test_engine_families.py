"""A small random model of each family: our one forward against transformers, full attention and sliding windows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ndn_infer.config import EngineConfig  # noqa: E402
from ndn_infer.engine.kv_cache import KvCache  # noqa: E402
from ndn_infer.engine.llama import Llama  # noqa: E402
from ndn_infer.engine.model_config import FAMILIES as FAMILY_NAMES  # noqa: E402
from ndn_infer.engine.model_config import HONOURED, INERT, REFUSED, ModelConfig  # noqa: E402
from ndn_infer.errors import DamagedCache, EngineUnavailable  # noqa: E402
from ndn_infer.kv.layout import BlockLayout  # noqa: E402

WINDOW = 24
LENGTH = 70
"""Of the whole sequence: longer than any window."""

SIZES: dict[str, Any] = {
    "vocab_size": 151, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.15, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
QWEN_WINDOW = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama2": ("Llama", {"num_key_value_heads": 4}),
    "llama3": ("Llama", {"rope_parameters": LLAMA3}),
    "smollm2": ("Llama", {"tie_word_embeddings": True}),
    "llama-biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 24}),
    "mistral-window": ("Mistral", {"sliding_window": WINDOW}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen2-window": ("Qwen2", QWEN_WINDOW),
    "qwen3": ("Qwen3", {"head_dim": 32}),
    "qwen3-window": ("Qwen3", QWEN_WINDOW),
}


def make(folder: Path, name: str) -> Path:
    family, changes = FAMILIES[name]
    torch.manual_seed(5)
    config = getattr(transformers, f"{family}Config")(**{**SIZES, **changes})
    model = getattr(transformers, f"{family}ForCausalLM")(config)
    for key, value in model.named_parameters():  # as made, norms are ones and biases zeros: both would hide a mistake
        if "norm" in key or key.endswith("bias"):
            torch.nn.init.normal_(value, mean=float("norm" in key), std=0.3)
    model.save_pretrained(folder)
    return folder


def empty_cache(model: Llama) -> KvCache:
    config = model.config
    return KvCache(BlockLayout(config.layers, config.kv_heads, config.head_dim, 4, model.dtype), model.device)


def ours(model: Llama, ids: Any, prompt: int, chunk: int) -> Any:
    """Logits of all positions: `prompt` tokens in chunks, the rest one by one."""
    cache, rows = empty_cache(model), []
    with torch.inference_mode():
        for start in range(0, prompt, chunk):
            rows.append(model.logits(model.prompt(ids[start : min(start + chunk, prompt)], cache, prompt)))
        rows += [model.logits(model.decode(int(token), cache)) for token in ids[prompt:]]
        return torch.cat(rows)


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    folder = make(tmp_path, name)
    ids = torch.randint(3, 151, (LENGTH,), generator=torch.Generator().manual_seed(1))
    oracle = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = oracle(ids[None]).logits[0]
    model = Llama.load(folder, EngineConfig("fp32"))
    for prompt, chunk in ((LENGTH, LENGTH), (LENGTH, 16), (50, 50), (50, 16), (8, 8)):
        got = ours(model, ids, prompt, chunk)
        assert torch.allclose(got, expected, atol=1e-4, rtol=0), (prompt, chunk, float((got - expected).abs().max()))


@pytest.mark.parametrize("name", ["mistral-window", "qwen3-window"])
def test_the_window_matters(name: str, tmp_path: Path) -> None:
    """The comparison above would prove nothing if these models gave the same logits without their windows."""
    folder = make(tmp_path, name)
    ids = torch.arange(3, 3 + LENGTH)
    narrow = ours(Llama.load(folder, EngineConfig("fp32")), ids, LENGTH, LENGTH)
    config = json.loads((folder / "config.json").read_text())
    wide = {"sliding_window": None, "use_sliding_window": False, "layer_types": None}
    (folder / "config.json").write_text(json.dumps(config | wide))
    full = ours(Llama.load(folder, EngineConfig("fp32")), ids, LENGTH, LENGTH)
    assert torch.allclose(narrow[:WINDOW], full[:WINDOW], atol=1e-5)
    assert not torch.allclose(narrow[WINDOW:], full[WINDOW:], atol=1e-1)


def config_of(folder: Path, **changes: Any) -> ModelConfig:
    raw = {
        "architectures": ["Qwen2ForCausalLM"], "num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 96,
        "num_attention_heads": 4, "vocab_size": 151, "max_position_embeddings": 128, "rms_norm_eps": 1e-6, **changes,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(raw))
    return ModelConfig.load(folder)


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"sliding_window": 9}, (0, 0, 0, 0)),
        ({"sliding_window": 9, "use_sliding_window": True, "max_window_layers": 2}, (0, 0, 9, 9)),
        (
            {
                "sliding_window": 9, "use_sliding_window": True, "max_window_layers": 2,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
            },
            (9, 0, 9, 0),
        ),
        ({"architectures": ["LlamaForCausalLM"], "sliding_window": 9}, (0, 0, 0, 0)),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": 9}, (9, 9, 9, 9)),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": None}, (0, 0, 0, 0)),
        ({"architectures": ["MistralForCausalLM"]}, (4096,) * 4),
    ],
)  # fmt: skip
def test_windows_of_config(changes: dict[str, Any], windows: tuple[int, ...], tmp_path: Path) -> None:
    assert config_of(tmp_path, **changes).windows == windows


def test_configs_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="GELU|gelu"):
        config_of(tmp_path, hidden_act="gelu")
    with pytest.raises(EngineUnavailable, match="not GPT2LMHeadModel"):
        config_of(tmp_path, architectures=["GPT2LMHeadModel"])
    with pytest.raises(DamagedCache, match="every layer"):
        config_of(tmp_path, use_sliding_window=True, layer_types=["full_attention"])


# ------------------------------------------------------------ what config.json says


@pytest.mark.parametrize("family", [name.removesuffix("ForCausalLM") for name in FAMILY_NAMES])
def test_every_key_that_transformers_has_for_a_family_is_honoured_or_changes_nothing(family: str) -> None:
    keys = set(getattr(transformers, f"{family}Config")().to_dict())
    assert keys <= HONOURED | INERT


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_keys_of_other_computations_are_refused_by_name(key: str, tmp_path: Path) -> None:
    make(tmp_path, "smollm2")
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, key: None}))
    ModelConfig.load(tmp_path)
    path.write_text(json.dumps({**raw, key: {"quant_method": "gptq"} if "config" in key else 2}))
    with pytest.raises(EngineUnavailable, match="quantization_config" if "config" in key else key) as caught:
        ModelConfig.load(tmp_path)
    assert "install" not in caught.value.hint


def _same_logits(folder: Path) -> None:
    truth = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours = Llama.load(folder, EngineConfig("fp32"))
    ids = torch.arange(5, 45)
    with torch.inference_mode():
        found = ours.logits(ours.prompt(ids, empty_cache(ours), len(ids)))
        expected = truth(ids[None]).logits[0]
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_head_in_the_file_is_used_although_the_config_says_that_it_is_tied(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    make(tmp_path, "smollm2")
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = torch.randn_like(tensors["model.embed_tokens.weight"])
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    _same_logits(tmp_path)


def test_llama3_positions_with_their_original_length_at_the_top_level(tmp_path: Path) -> None:
    make(tmp_path, "llama3")
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text())
    raw["original_max_position_embeddings"] = raw["rope_parameters"].pop("original_max_position_embeddings")
    path.write_text(json.dumps(raw))
    _same_logits(tmp_path)


@pytest.mark.parametrize("listed", [False, True])
def test_rows_without_a_token_are_never_chosen(listed: bool, tmp_path: Path) -> None:
    """Matrices are filled up to a multiple of 128; a padded row may well have the largest logit."""
    make(tmp_path, "smollm2")
    tokens = [f"t{number}" for number in range(SIZES["vocab_size"] - 23)]
    vocabulary = [[token, 0.0] for token in tokens] if listed else {token: i for i, token in enumerate(tokens)}
    added = [{"id": SIZES["vocab_size"] - 21, "content": "<end>"}]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": added}))
    model = Llama.load(tmp_path, EngineConfig("fp32"))
    assert model.config.vocab_size == SIZES["vocab_size"] - 20
    ids = torch.arange(5, 25)
    with torch.inference_mode():
        logits = model.logits(model.prompt(ids, empty_cache(model), len(ids)))
    assert logits.shape == (20, SIZES["vocab_size"] - 20)
