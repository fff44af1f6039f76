"""What int8 and int4 weights cost: against the GGUF file they come from, and by perplexity on real text."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from safetensors import safe_open

from ndn_infer.config import EngineConfig
from ndn_infer.engine.kv_cache import KvCache
from ndn_infer.engine.linear import quantise_int4
from ndn_infer.engine.llama import Llama
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.kv.layout import BlockLayout
from ndn_infer.models.gguf_file import GgufFile
from ndn_infer.models.registry import resolve
from ndn_infer.models.store import ModelFolder

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.model

PROMPTS = json.loads((Path(__file__).parents[1] / "data" / "prompts.json").read_text("utf-8"))
BOUNDS = {"bf16": 0.005, "int8": 0.015, "int4": 0.01}
"""Largest part by which perplexity may differ from fp32's. The model comes from Q4_1, so int4 loses no more than the
rounding of scales, and int8, which is another grid, loses more."""


def perplexity(model: Llama, ids: list[int]) -> float:
    """Through the kernels that decode; all rows at once, since they are independent."""
    config = model.config
    cache = KvCache(BlockLayout(config.layers, config.kv_heads, config.head_dim, 16, model.dtype), model.device)
    with torch.inference_mode():
        tokens = torch.tensor(ids)
        logits = model.logits(model.score(tokens[:-1], cache))
        return math.exp(torch.nn.functional.cross_entropy(logits, tokens[1:]).item())


@pytest.mark.parametrize("name", ["attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"])
def test_int4_weights_are_those_of_the_gguf_file(name: str, smollm2: ModelFolder) -> None:
    """Q4_1 was de-quantised and rounded to bf16 when the model was prepared; quantising finds the same 4 bits again."""
    ours = {"attn_v": "self_attn.v", "attn_output": "self_attn.o"}.get(name, "mlp." + name.removeprefix("ffn_"))
    with safe_open(smollm2.path / "model.safetensors", framework="pt") as file:
        quantised = quantise_int4(file.get_tensor(f"model.layers.17.{ours}_proj.weight"))
    with GgufFile(resolve("smollm2-135m-instruct").path) as gguf:
        groups = torch.from_numpy(gguf.load(f"blk.17.{name}.weight")).view(-1, 32)
    low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
    step = (high - low) / 15
    assert torch.equal(quantised.values.view(-1, 32), ((groups - low) / step).round().to(torch.uint8))
    wrong = (quantised.dense().view(-1, 32) - groups) / step
    assert wrong.pow(2).mean().sqrt() < 0.008 and wrong.abs().max() < 0.05, "in steps; bf16 weights: 0.005 and 0.034"


@pytest.mark.slow
def test_perplexity_against_fp32(smollm2: ModelFolder) -> None:
    text = "\n\n".join(message["content"] for prompt in PROMPTS for message in prompt["messages"])
    ids = ChatTokenizer.load(smollm2.path).encode(text)[:1024]
    exact = perplexity(Llama.load(smollm2.path, EngineConfig("fp32")), ids)
    found = {weights: perplexity(Llama.load(smollm2.path, EngineConfig("bf16", weights)), ids) for weights in BOUNDS}
    print(f"perplexity of {len(ids)} tokens: fp32 {exact:.4f}, {found}")
    for weights, value in found.items():
        assert abs(value / exact - 1) < BOUNDS[weights], (weights, value, exact)
