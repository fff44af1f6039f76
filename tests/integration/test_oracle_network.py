"""Greedy ids through the network equal transformers' own `generate`: 30 varied prompts, bf16 and fp32, no exception.

A quick run asks four short prompts and two long ones, half in bf16, half in fp32; `-m slow` asks all in both."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from ndn_infer.models.store import ModelFolder
from tests.clients import ask, client_of, config_of
from tests.daemons import RunningNetwork, run_network

pytestmark = pytest.mark.model

PROMPTS = json.loads((Path(__file__).parents[1] / "data" / "prompts.json").read_text("utf-8"))
QUICK = PROMPTS[2:24:6] + PROMPTS[26::2]


def oracle(prompts: list[Any], folder: Path, dtype: str) -> list[tuple[list[int], list[int]]]:
    """(prompt ids, greedy continuation) of every prompt by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=kind).eval()
    results = []
    for prompt in prompts:
        ids = tokenizer.apply_chat_template(prompt["messages"], add_generation_prompt=True, return_dict=False)
        out = model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=prompt["max_tokens"], do_sample=False,
        )  # fmt: skip
        results.append((list(ids), out[0, len(ids) :].tolist()))
    return results


async def through_the_network(prompts: list[Any], network: RunningNetwork, dtype: str) -> list[Any]:
    async with client_of(config_of(network, engine__dtype=dtype)) as (client, _):
        return [await ask(client, prompt["messages"], prompt["max_tokens"]) for prompt in prompts]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("dtype", "prompts"),
    [("bf16", QUICK[::2]), ("fp32", QUICK[1::2])]
    + [pytest.param(dtype, PROMPTS, marks=pytest.mark.slow) for dtype in ("bf16", "fp32")],
    ids=["bf16-quick", "fp32-quick", "bf16", "fp32"],
)
def test_ids_equal_transformers(
    dtype: str, prompts: list[Any], smollm2: ModelFolder, model_cache: Path, tmp_path: Path
) -> None:
    expected = oracle(prompts, smollm2.path, dtype)
    functions = ("--functions", "tokenize,prefill,decode")
    settings = (f"engine.dtype={dtype}", "engine.attention=single", "engine.prefill_elsewhere=always")
    with run_network(tmp_path, model_cache, *functions, *(f"--set={one}" for one in settings)) as network:
        outcomes = asyncio.run(through_the_network(prompts, network, dtype))
        decode, prefill = network.counters("decode"), network.counters("prefill")
    wrong = []
    for prompt, outcome, (ids, tokens) in zip(prompts, outcomes, expected, strict=True):
        assert list(outcome.prompt_ids) == ids, prompt["id"]
        if outcome.ids != tokens:
            wrong.append(prompt["id"])
    blocks = max(len(outcome.prompt_ids) for outcome in outcomes) // 16
    print(f"{dtype}: {len(prompts) - len(wrong)} of {len(prompts)} equal; up to {blocks} KV blocks")
    assert len(PROMPTS) >= 30 and blocks > 20 and len(prompts) >= len(QUICK) // 2
    assert not wrong
    assert prefill["prefill_blocks_computed"] >= blocks
    assert decode["prefill_blocks_computed"] == 0 == decode["engine_blocks_prefilled"]
