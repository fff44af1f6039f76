"""A pipeline of three stages over the network against the same stages in one process: what does a hop cost a token?

Over the network: a process a stage behind the embedded forwarder, links without delay, one answer at a time. In
process: the same layer ranges called one after the other, and the model in one piece. With --forwarder every stage has
a node (a network namespace) with that forwarder; that needs root. Also told is the processor time of a token, prompts
included, of each process and of the same in one process: a busy machine changes that less. Owns: the cut, the figures.
Docs: docs/testbed.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Final

from ndn_infer.client import Client
from ndn_infer.config import Config
from ndn_infer.errors import UsageError
from ndn_infer.local.network import CommonFlags, ServedParts, embedded
from ndn_infer.local.prepare import prepared
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node
from ndn_infer.records import Sampling
from ndn_infer.testbed.bench.ask import prompt
from ndn_infer.testbed.bench.forwarders import CannotMeasure
from ndn_infer.testbed.bench.report import print_report
from ndn_infer.testbed.namespace_world import standing
from ndn_infer.testbed.namespaces import check_machine
from ndn_infer.testbed.network import Setup
from ndn_infer.testbed.process_network import say
from ndn_infer.testbed.topology import LinkSpec, NodeSpec, Topology
from ndn_infer.testbed.world import Prompt
from ndn_infer.vllm.backend.processor_time import cpu_s

STAGES: Final = 3
PROMPT_TOKENS: Final = 64
ANSWER_TOKENS: Final = 64


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds a token: median of answers by the clock, processor time of all by process (none: not known)."""

    clock: float
    processor: dict[str, float] = field(default_factory=dict)

    @property
    def computed(self) -> float:
        return sum(self.processor.values())


def run(options: argparse.Namespace, config: Config) -> int:
    from ndn_infer.engine.model_config import ModelConfig

    ensure_keys(config)
    folder = prepared(config, config.ask.model)
    parts = cut(ModelConfig.load(folder.path).layers, STAGES)
    prompts = [prompt(index)[:PROMPT_TOKENS] for index in range(options.runs)]
    settings = (f"engine.threads={config.engine.threads or 1}",)
    if options.forwarder:
        check_machine()
        setup = Setup(config.cache_dir, settings, options.forwarder)
        named = asyncio.run(over_nodes(parts, setup, options.runs))
    else:
        flags = CommonFlags(options.config, (*options.settings, *settings))
        named = asyncio.run(over_network(config, parts, prompts, flags))
    local = in_process(folder.path, parts, prompts, config)
    whole = in_process(folder.path, cut(parts[-1][1] + 1, 1), prompts, config)
    figures = {
        "nodes": f"namespaces with {options.forwarder}" if options.forwarder else "processes of one machine",
        "stages": [f"{first}-{last}" for first, last in parts], "prompt_tokens": PROMPT_TOKENS,
        "answer_tokens": ANSWER_TOKENS, "named_ms_a_token": named.clock, "stages_in_process_ms_a_token": local.clock,
        "named_cpu_ms_a_token": named.computed or None, "stages_in_process_cpu_ms_a_token": local.computed,
        "named_cpu_ms_a_token_by_process": {name: round(spent, 2) for name, spent in named.processor.items()},
    }  # fmt: skip
    ratios = {
        "named_over_stages_in_process": named.clock / local.clock, "named_over_one_piece": named.clock / whole.clock,
        "named_cpu_over_stages_in_process": named.computed / local.computed if named.computed else None,
    }  # fmt: skip
    print_report("pipeline", figures, {"one_piece_ms_a_token": whole.clock}, ratios)
    return 0


def cut(layers: int, stages: int) -> list[tuple[int, int]]:
    """(first, last) layer of each stage, as equal as can be. Raises UsageError for a model with too few."""
    if layers < stages:
        raise UsageError(f"a model of {layers} layers cannot be cut into {stages} stages")
    edges = [round(layers * number / stages) for number in range(stages + 1)]
    return [(first, end - 1) for first, end in zip(edges, edges[1:], strict=False)]


def in_process(
    folder: Path, parts: Sequence[tuple[int, int]], prompts: Sequence[Sequence[int]], config: Config
) -> Measured:  # fmt: skip
    """Greedy decoding, stage after stage in this process."""
    import torch

    from ndn_infer.engine.stage import Stage

    torch.set_num_threads(config.engine.threads or 1)
    stages = [Stage.load(folder, first, last, config.engine) for first, last in parts]
    found, computed = [], time.process_time()
    with torch.inference_mode():
        for ids in prompts:
            caches, hidden = [stage.sequence() for stage in stages], torch.tensor(ids)
            for stage, cache in zip(stages, caches, strict=True):
                hidden = stage.prompt(hidden, cache, len(ids))
            token = stages[-1].logits(hidden[-1:]).argmax(-1)
            began = time.perf_counter()
            for _ in range(ANSWER_TOKENS - 1):
                hidden = token
                for stage, cache in zip(stages, caches, strict=True):
                    hidden = stage.decode(hidden, cache)
                token = stages[-1].logits(hidden).argmax(-1)
            found.append((time.perf_counter() - began) * 1000 / (ANSWER_TOKENS - 1))
    return Measured(statistics.median(found), {"": _a_token(time.process_time() - computed, len(prompts))})


def _a_token(seconds: float, answers: int) -> float:
    return seconds * 1000 / (answers * ANSWER_TOKENS)


async def over_network(
    config: Config, parts: Sequence[tuple[int, int]], prompts: Sequence[tuple[int, ...]], flags: CommonFlags
) -> Measured:
    """Answers as a consumer reads them; its own processor time is under "consumer"."""
    *before, (first, last) = parts
    functions = ["tokenize", *(f"stage:{start}-{end}" for start, end in before), f"decode:{first}-{last}"]
    served = ServedParts(functions, [config.ask.model], config.ask.embedder)
    network = embedded(config, served, flags, private=True)
    await network.start()
    try:
        async with await Node.join(config, ensure_keys(config), uri=network.uri) as node, Client(node) as client:
            conversation = client.conversation()
            model = await conversation.resolve_model(config.ask.model)
            await _one(conversation, model, prompt(-1)[:PROMPT_TOKENS])  # connections, certificates, allocations
            pids = {child.title: child.process.pid for child in network.children if child.process is not None}
            pids["consumer"] = os.getpid()
            at_first = {title: cpu_s(pid) for title, pid in pids.items()}
            clock = statistics.median([await _one(conversation, model, ids) for ids in prompts])
            spent = {title: _a_token(cpu_s(pid) - at_first[title], len(prompts)) for title, pid in pids.items()}
            return Measured(clock, spent)
    finally:
        await network.stop()


async def over_nodes(parts: Sequence[tuple[int, int]], setup: Setup, runs: int) -> Measured:
    """The same with a node for each stage and one that asks, all linked with all, without delay."""
    *before, (first, last) = parts
    functions = [f"stage:{start}-{end}" for start, end in before] + [f"decode:{first}-{last},tokenize"]
    nodes = [NodeSpec(f"stage{number}", {"functions": text}) for number, text in enumerate(functions)]
    nodes.append(NodeSpec("user"))
    links = tuple(LinkSpec(a.name, b.name) for a, b in combinations(nodes, 2))
    async with standing(Topology("pipeline", tuple(nodes), links), setup, say) as world:
        rows = [
            await world.ask("user", Prompt(f"Write about the number {n}.", ANSWER_TOKENS)) for n in range(-1, runs)
        ]  # fmt: skip
    lost = [row.error for row in rows if not row.complete]
    if lost:
        raise CannotMeasure(f"{len(lost)} of {len(rows)} answers are not complete: {lost[0]}")
    return Measured(statistics.median(row.per_token_s * 1000 for row in rows[1:]))


async def _one(conversation: Any, model: Any, ids: tuple[int, ...]) -> float:
    answer = conversation.generate(model, ids, Sampling(ANSWER_TOKENS, ignore_eos=True))
    async for _ in answer:
        pass
    timing = answer.timing
    return float((timing.total_s - timing.first_token_s) * 1000 / (len(answer.ids) - 1))
