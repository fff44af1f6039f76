"""Models of other families through transformers' modules, over our pages; and those that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ndn_infer.config import EngineConfig  # noqa: E402
from ndn_infer.engine.engine import Engine  # noqa: E402
from ndn_infer.engine.fallback import ModuleModel, load_model  # noqa: E402
from ndn_infer.engine.kv_cache import KvCache  # noqa: E402
from ndn_infer.engine.llama import Llama  # noqa: E402
from ndn_infer.errors import DamagedCache, EngineUnavailable  # noqa: E402
from ndn_infer.kv.layout import BlockLayout  # noqa: E402
from ndn_infer.records.sampling import Sampling  # noqa: E402

COMMON: dict[str, Any] = {
    "vocab_size": 151, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 128, "initializer_range": 0.15, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GPT2: dict[str, Any] = {
    "vocab_size": 151, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 128, "initializer_range": 0.15,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
PLAIN = {
    "GPT2LMHeadModel": transformers.GPT2Config(**GPT2),
    "GPTNeoXForCausalLM": transformers.GPTNeoXConfig(**COMMON),
    "PhiForCausalLM": transformers.PhiConfig(**COMMON, pad_token_id=0),
}
IDS = list(range(3, 43))


def make(folder: Path, architecture: str, config: Any) -> Path:
    torch.manual_seed(5)
    getattr(transformers, architecture)(config).save_pretrained(folder)
    return folder


def empty_cache(model: ModuleModel) -> KvCache:
    config = model.config
    return KvCache(
        BlockLayout(config.layers, config.kv_heads, config.head_dim, 4, model.dtype), model.device, capacity=8
    )


@pytest.mark.parametrize("architecture", PLAIN)
def test_logits_are_those_of_transformers(architecture: str, tmp_path: Path) -> None:
    folder = make(tmp_path, architecture, PLAIN[architecture])
    oracle = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model = load_model(folder, EngineConfig("fp32"))
    assert isinstance(model, ModuleModel) and architecture in model.engine_class.implementation
    with torch.inference_mode():
        expected = oracle(torch.tensor([IDS])).logits[0]
        whole = model.logits(model.score(torch.tensor(IDS), empty_cache(model)))
        assert torch.allclose(whole, expected, atol=1e-5)
        cache, other = empty_cache(model), empty_cache(model)
        for start in (0, 16):
            last = model.logits(model.prompt(torch.tensor(IDS[start : start + 16]), cache, 32))
        assert last.shape == (1, 151) and torch.allclose(last[0], expected[31], atol=1e-4)
        for index in range(8):  # KV out, and in elsewhere
            other.reserve(4 * index + 4)
            other.import_block(index, cache.export_block(index))
        for at in range(32, 36):
            assert torch.allclose(model.logits(model.decode(IDS[at], cache))[0], expected[at], atol=1e-4)
        rows = model.logits(model.rows([(cache, IDS[36:40]), (other, IDS[32:35])]))
        assert torch.allclose(rows, torch.cat((expected[36:40], expected[32:35])), atol=1e-4)


def test_streams_of_an_engine(tmp_path: Path) -> None:
    folder = make(tmp_path, "GPTNeoXForCausalLM", PLAIN["GPTNeoXForCausalLM"])
    oracle = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    engine = Engine.load(folder, EngineConfig(dtype="fp32", chunk_tokens=16, block_tokens=4))
    prompts = [IDS[:n] for n in (1, 7, 16, 33)]
    streams = [engine.start(ids, Sampling(max_tokens=12)) for ids in prompts]
    while any(stream.finished is None for stream in streams):
        engine.step()
    for ids, stream in zip(prompts, streams, strict=True):
        out = oracle.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False,
            max_new_tokens=12, min_new_tokens=12, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        assert stream.generated == out[0, len(ids) :].tolist()


def test_prompts_are_scored(tmp_path: Path) -> None:
    folder = make(tmp_path, "PhiForCausalLM", PLAIN["PhiForCausalLM"])
    oracle = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    engine = Engine.load(folder, EngineConfig(dtype="fp32", chunk_tokens=16, block_tokens=4))
    stream = engine.start(IDS, Sampling(max_tokens=1, score_prompt=True))
    told = []
    while stream.finished is None:
        told += [score for output in engine.step() for score in output.scores]
    with torch.inference_mode():
        expected = torch.log_softmax(oracle(torch.tensor([IDS])).logits[0], dim=-1)
    assert [score.token for score in told] == IDS
    wanted = [float(expected[at, token]) for at, token in enumerate(IDS[1:])]
    assert [score.logprob for score in told[1:]] == pytest.approx(wanted, abs=2e-4)


def test_our_families_take_our_forward(tmp_path: Path) -> None:
    folder = make(tmp_path, "LlamaForCausalLM", transformers.LlamaConfig(**COMMON))
    assert isinstance(load_model(folder, EngineConfig("fp32")), Llama)


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("MambaForCausalLM", transformers.MambaConfig(vocab_size=151, hidden_size=32, num_hidden_layers=2)),
        (
            "Gemma2ForCausalLM",
            transformers.Gemma2Config(**COMMON, num_key_value_heads=2, head_dim=16, sliding_window=8),
        ),
    ],
)
def test_caches_that_are_not_plain_are_refused(
    architecture: str, config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(tmp_path, architecture, config)
    capsys.readouterr()
    with pytest.raises(
        EngineUnavailable, match=rf"^{architecture} keeps (no|more or less than the) keys and values"
    ) as caught:
        load_model(folder, EngineConfig("fp32"))
    assert "of a family that this engine computes itself: Llama" in caught.value.hint
    assert "it/s" not in capsys.readouterr().err, "the reason of one of them was a progress bar"


@pytest.mark.parametrize("architecture", ["NoSuchForCausalLM", "os", "BertModel", "not a name"])
def test_what_transformers_does_not_know_is_refused(architecture: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    with pytest.raises(EngineUnavailable, match="do not compute"):
        load_model(tmp_path, EngineConfig("fp32"))


def test_damage_and_options(tmp_path: Path) -> None:
    with pytest.raises(DamagedCache):
        load_model(tmp_path, EngineConfig("fp32"))
    folder = make(tmp_path, "GPT2LMHeadModel", PLAIN["GPT2LMHeadModel"])
    with pytest.raises(EngineUnavailable, match="int4 weights"):
        load_model(folder, EngineConfig("bf16", "int4"))
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(DamagedCache):
        load_model(folder, EngineConfig("fp32"))
