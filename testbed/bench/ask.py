"""The same prompts in process and through the network: what do names, signatures and processes cost?

In process: our engine alone, KV of the prompt at hand. Named, by turns with it: decode and prefill as separate
processes behind the embedded forwarder, measured by a consumer; cold (nothing known), warm (KV exists at the decode
node), and again (the whole answer in the Content Store). Peer in the same run: transformers' generate on the same
weights.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from torch import Tensor

PROMPT_TOKENS = 257
"""16 full blocks and the token whose logits give the first answer."""

ANSWER_TOKENS = 64

ENGINE = "decode"
"""The process that computes."""


def run(options: argparse.Namespace, config: Config) -> int:
    ensure_keys(config)
    folder = prepared(config, config.ask.model)
    prompts = [prompt(index) for index in range(options.runs)]
    local = InProcess(folder.path, config)
    named = asyncio.run(through_network(config, CommonFlags(options.config, options.settings), prompts, local))
    peer = transformers(folder.path, prompts, config)
    figures = {
        "prompt_tokens": PROMPT_TOKENS,
        "answer_tokens": ANSWER_TOKENS,
        **(alone := local.figures()),
        **named,
        "added_ttft_ms": named["warm_ttft_ms"] - alone["local_ttft_ms"],
    }
    ratios = {
        "named_over_local_tokens_per_s": named["warm_tokens_per_s"] / alone["local_tokens_per_s"],
        "named_over_transformers_tokens_per_s": None if peer is None else named["warm_tokens_per_s"] / peer,
    }
    print_report("ask", figures, {"transformers_tokens_per_s": peer}, ratios)
    return 0


def prompt(index: int) -> tuple[int, ...]:
    """Token ids that no other prompt of this benchmark begins with."""
    return tuple((index * 7919 + position * 31) % 40_000 + 100 for position in range(PROMPT_TOKENS))


class InProcess:
    """Our engine alone, with KV of all full blocks given. All of it in one thread of its own, as in a producer: the
    system's OpenMP puts its threads to sleep between operators where several threads compute."""

    def __init__(self, folder: Path, config: Config) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._engine = self._thread.submit(Engine.load, folder, config.engine).result()
        self._first: list[float] = []
        self._speed: list[float] = []
        self._spent_s = 0.0

    async def measure(self, ids: tuple[int, ...]) -> None:
        """One answer, after another answer to the same prompt: as by name, where the first one computes the KV."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._measure, ids)

    def _measure(self, ids: tuple[int, ...]) -> None:
        blocks = [block for _, block in self._engine.prefill(ids[:-1])]
        self._answer(ids, blocks)
        before_s = time.process_time()
        first_s, rest_s = self._answer(ids, blocks)
        self._spent_s += time.process_time() - before_s
        self._first.append(first_s)
        self._speed.append((ANSWER_TOKENS - 1) / rest_s)

    def _answer(self, ids: tuple[int, ...], blocks: list[Tensor]) -> tuple[float, float]:
        """Seconds to the first token, and for the others."""
        began = time.perf_counter()
        stream = self._engine.start(ids, Sampling(ANSWER_TOKENS), blocks)
        while not self._engine.step():
            pass
        first = time.perf_counter()
        while not stream.finished:
            self._engine.step()
        return first - began, time.perf_counter() - first

    def figures(self) -> dict[str, float]:
        """Medians."""
        return {
            "local_ttft_ms": statistics.median(self._first) * 1000,
            "local_tokens_per_s": statistics.median(self._speed),
            "local_cpu_ms_engine": 1000 * self._spent_s / (len(self._first) * ANSWER_TOKENS),
        }


async def through_network(
    config: Config, flags: CommonFlags, prompts: list[tuple[int, ...]], local: InProcess
) -> dict[str, float]:
    """Medians of cold, warm and repeated questions through separate processes; before each of them in process."""
    served = ServedParts(["tokenize", "prefill", "decode"], [config.ask.model], config.ask.embedder)
    network = embedded(config, served, flags, private=True)
    await network.start()
    try:
        async with await Node.join(config, ensure_keys(config), uri=network.uri) as node:
            pids = {"client": os.getpid(), **processor.children(os.getpid())}
            return await _measure(node, prompts, pids, local)
    finally:
        await network.stop()


async def _measure(
    node: Node, prompts: list[tuple[int, ...]], pids: Mapping[str, int], local: InProcess
) -> dict[str, float]:
    conversation = Client(node).conversation()
    model = await conversation.resolve_model(node.config.ask.model)
    await _one(conversation, model, prompt(-1), 0)  # connections, certificates, allocations
    rows: dict[str, list[Answer]] = {"cold": [], "warm": [], "again": []}
    spent = []
    for ids in prompts:
        await local.measure(ids)  # by turns: the machine is not the same from minute to minute
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
