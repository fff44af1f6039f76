"""The same prompts in process and through the network: what do names, signatures and processes cost?

In process: our engine alone, KV of the prompt at hand. Named: decode and prefill as separate processes behind the
embedded forwarder, measured by a consumer; cold (nothing known), warm (KV exists at the decode node), and again (the
whole answer in the Content Store). Peer in the same run: transformers' generate on the same weights.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ndn_infer.client import Answer, Client, Conversation
from ndn_infer.config import Config
from ndn_infer.engine.engine import Engine
from ndn_infer.local.network import CommonFlags, ServedParts, embedded
from ndn_infer.local.prepare import prepared
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node
from ndn_infer.records import ModelRecord, Sampling
from ndn_infer.testbed.bench import processor
from ndn_infer.testbed.bench.report import print_report

PROMPT_TOKENS = 257
"""16 full blocks and the token whose logits give the first answer."""

ANSWER_TOKENS = 64

ENGINE = "decode"
"""The process that computes."""


def run(options: argparse.Namespace, config: Config) -> int:
    ensure_keys(config)
    folder = prepared(config, config.ask.model)
    prompts = [prompt(index) for index in range(options.runs)]
    local = in_process(folder.path, prompts, config)
    named = asyncio.run(through_network(config, prompts))
    peer = transformers(folder.path, prompts, config)
    figures = {
        "prompt_tokens": PROMPT_TOKENS,
        "answer_tokens": ANSWER_TOKENS,
        "local_ttft_ms": local["ttft_ms"],
        "local_tokens_per_s": local["tokens_per_s"],
        **named,
        "local_cpu_ms_engine": local["cpu_ms"],
        "added_ttft_ms": named["warm_ttft_ms"] - local["ttft_ms"],
    }
    ratios = {
        "named_over_local_tokens_per_s": named["warm_tokens_per_s"] / local["tokens_per_s"],
        "named_over_transformers_tokens_per_s": None if peer is None else named["warm_tokens_per_s"] / peer,
    }
    print_report("ask", figures, {"transformers_tokens_per_s": peer}, ratios)
    return 0


def prompt(index: int) -> tuple[int, ...]:
    """Token ids that no other prompt of this benchmark begins with."""
    return tuple((index * 7919 + position * 31) % 40_000 + 100 for position in range(PROMPT_TOKENS))


def in_process(folder: Path, prompts: list[tuple[int, ...]], config: Config) -> dict[str, float]:
    """Medians of our engine alone, KV of all full blocks given."""
    engine = Engine.load(folder, config.engine)
    first, speed, spent_s = [], [], 0.0
    for ids in prompts:
        blocks = [block for _, block in engine.prefill(ids[:-1])]
        began, before_s = time.perf_counter(), time.process_time()
        stream = engine.start(ids, Sampling(ANSWER_TOKENS), blocks)
        while not engine.step():
            pass
        first.append(time.perf_counter() - began)
        began = time.perf_counter()
        while not stream.finished:
            engine.step()
        speed.append((ANSWER_TOKENS - 1) / (time.perf_counter() - began))
        spent_s += time.process_time() - before_s
    return {
        "cpu_ms": 1000 * spent_s / (len(prompts) * ANSWER_TOKENS),
        "ttft_ms": statistics.median(first) * 1000,
        "tokens_per_s": statistics.median(speed),
    }


async def through_network(config: Config, prompts: list[tuple[int, ...]]) -> dict[str, float]:
    """Medians of cold, warm and repeated questions through separate processes."""
    served = ServedParts(["tokenize", "prefill", "decode"], [config.ask.model], config.ask.embedder)
    network = embedded(config, served, CommonFlags(), private=True)
    await network.start()
    try:
        async with await Node.join(config, ensure_keys(config), uri=network.uri) as node:
            return await _measure(node, prompts, {"client": os.getpid(), **processor.children(os.getpid())})
    finally:
        await network.stop()


async def _measure(node: Node, prompts: list[tuple[int, ...]], pids: Mapping[str, int]) -> dict[str, float]:
    conversation = Client(node).conversation()
    model = await conversation.resolve_model(node.config.ask.model)
    await _one(conversation, model, prompt(-1), 0)  # connections, certificates, allocations
    rows: dict[str, list[Answer]] = {"cold": [], "warm": [], "again": []}
    spent = []
    for ids in prompts:
        rows["cold"].append(await _one(conversation, model, ids, 1))
        before = processor.read(pids)
        rows["warm"].append(await _one(conversation, model, ids, 2))  # another seed: another call, the same KV
        spent.append(processor.since(before, processor.read(pids)))
        rows["again"].append(await _one(conversation, model, ids, 2))
    figures = {}
    for title, answers in rows.items():
        figures[f"{title}_ttft_ms"] = statistics.median(item.timing.first_token_s for item in answers) * 1000
        figures[f"{title}_tokens_per_s"] = statistics.median(
            item.timing.tokens_per_s(len(item.ids)) for item in answers
        )
    tokens = sum(len(answer.ids) for answer in rows["warm"])
    costs = processor.per_token(processor.together(spent), tokens, ENGINE)
    return figures | {f"warm_{name}": value for name, value in costs.items()}


async def _one(conversation: Conversation, model: ModelRecord, ids: tuple[int, ...], seed: int) -> Answer:
    answer = conversation.generate(model, ids, Sampling(ANSWER_TOKENS, seed=seed, ignore_eos=True))
    async for _ in answer:
        pass
    return answer


def transformers(folder: Path, prompts: list[tuple[int, ...]], config: Config) -> float | None:
    """Decode speed of transformers' generate, tokens/s; None when it is not installed."""
    try:
        import torch
        from transformers import AutoModelForCausalLM
    except ImportError:
        return None
    dtype = torch.bfloat16 if config.engine.dtype == "bf16" else torch.float32
    model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=dtype).eval()
    speeds = []
    for ids in prompts:
        inputs = torch.tensor([ids])
        mask = torch.ones_like(inputs)
        elapsed = []
        for count in (1, ANSWER_TOKENS):
            began = time.perf_counter()
            model.generate(inputs, attention_mask=mask, max_new_tokens=count, min_new_tokens=count, do_sample=False)
            elapsed.append(time.perf_counter() - began)
        speeds.append((ANSWER_TOKENS - 1) / (elapsed[1] - elapsed[0]))
    return statistics.median(speeds)
