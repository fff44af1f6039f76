"""The real model, many prompts at once: greedy ids at fp32 are those of transformers, one prompt at a time.

Lengths from 1 to 4,000; arrivals at random; memory for a few streams only, so that some are preempted; some prompts
begin alike; some bring KV along that another engine computed. The whole of it takes hours on two cores:

    NDNINFER_PROMPTS=200 NDNINFER_LONGEST=4000 pytest -m slow tests/integration/test_engine_batching.py
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from ndn_infer.config import EngineConfig
from ndn_infer.engine.engine import Engine, Stream
from ndn_infer.models.store import ModelFolder
from ndn_infer.records.sampling import Sampling

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.model

NEW_TOKENS = 8
PARAMS = Sampling(max_tokens=NEW_TOKENS)


def prompts(count: int, longest: int) -> list[list[int]]:
    """Every other one is short; a third goes on from a common beginning."""
    dice = random.Random(5)
    begun = [dice.randrange(100, 40_000) for _ in range(longest)]
    chosen = [1, 2, 16, 17, longest][:count]
    chosen += [dice.randrange(1, longest if at % 2 else min(longest, 200)) for at in range(count - len(chosen))]
    return [
        [*begun[: length // 2 * (at % 3 == 0)], *(dice.randrange(100, 40_000) for _ in range(length))][:length]
        for at, length in enumerate(chosen)
    ]


def expected(model: Any, ids: list[int]) -> list[int]:
    mask = torch.ones(1, len(ids), dtype=torch.long)
    out = model.generate(
        torch.tensor([ids]), attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None
    )
    tokens: list[int] = out[0, len(ids) :].tolist()
    return tokens


def compare(folder: ModelFolder, count: int, longest: int) -> None:
    wanted = prompts(count, longest)
    room = (
        48 * (longest + NEW_TOKENS + 15) // 1024 * 2
    )  # MiB; fp32 KV of SmolLM2 takes 45 KiB a token: two long streams
    options = EngineConfig("fp32", kv_memory_mib=max(room, 8), max_streams=6, sharing="near", queue_limit=count)
    engine = Engine.load(folder.path, options)
    other = Engine.load(folder.path, EngineConfig(dtype="fp32", chunk_tokens=100))
    dice = random.Random(6)
    streams: list[Stream] = []
    while len(streams) < len(wanted) or not engine.idle:
        if len(streams) < len(wanted) and dice.random() < 0.5:
            ids = wanted[len(streams)]
            blocks = [block for _, block in other.prefill(ids)] if dice.random() < 0.2 else []
            streams.append(engine.start(ids, PARAMS, blocks[: dice.randrange(len(blocks) + 1)]))
        engine.step()
    assert engine.counters.blocks_used == 0 and engine.counters.tokens_shared
    model = transformers.AutoModelForCausalLM.from_pretrained(folder.path, local_files_only=True, dtype=torch.float32)
    wrong = [len(s.prompt) for s in streams if s.generated != expected(model.eval(), list(s.prompt))]
    assert not wrong, wrong


def test_a_few_prompts(smollm2: ModelFolder) -> None:
    compare(smollm2, 10, 300)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_many_prompts(smollm2: ModelFolder) -> None:
    compare(smollm2, int(os.environ.get("NDNINFER_PROMPTS", "12")), int(os.environ.get("NDNINFER_LONGEST", "1200")))


@pytest.mark.parametrize("weights", ["bf16", "int4"])
def test_company_changes_no_bit(smollm2: ModelFolder, weights: str) -> None:
    """What a stream says, and with which probability, alone and among five others, with prompts in pieces between."""
    wanted = [ids[:120] for ids in prompts(6, 120)]
    engine = Engine.load(smollm2.path, EngineConfig(weights=weights, chunk_tokens=48, sharing="off"))
    alone = []
    for ids in wanted:
        stream, said = engine.start(ids, PARAMS), []
        while stream.finished is None:
            said += [(output.token_id, output.logprob) for output in engine.step()]
        alone.append(said)
    streams = [engine.start(ids, PARAMS) for ids in wanted]
    together: dict[Stream, list[tuple[int, float]]] = {stream: [] for stream in streams}
    while not engine.idle:
        for output in engine.step():
            together[output.stream].append((output.token_id, output.logprob))
    assert list(together.values()) == alone
