"""Choosing by offers against the network's own choice: two decode nodes, one of which holds a long prefix.

In namespaces with links of 5 ms, each decode node on half of the processors: on the same ones two would share the speed
of one, and no choice could gain by that. The same questions twice in one run, with offers.choose=soonest and =network:
first one question after another on one system prompt, of which the node that answered first holds the KV; then a flash
crowd on it, all at once. Needs root and iproute2, as the testbed does. Owns: the questions, the figures. Docs:
docs/offers.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from ndn_infer.config import Config
from ndn_infer.testbed.bench.forwarders import CannotMeasure
from ndn_infer.testbed.bench.report import print_report
from ndn_infer.testbed.namespace_world import NamespaceWorld, standing
from ndn_infer.testbed.namespaces import check_machine
from ndn_infer.testbed.network import Setup
from ndn_infer.testbed.process_network import say
from ndn_infer.testbed.result import percentile
from ndn_infer.testbed.topology import LinkSpec, NodeSpec, Topology
from ndn_infer.testbed.world import Prompt, PromptOutcome

WAYS: Final = ("soonest", "network")
SENTENCES: Final = 75
"""Of the system prompt: a little more than 1,024 tokens of SmolLM2."""
QUICK_SENTENCES: Final = 20
CROWD: Final = 16
QUICK_CROWD: Final = 4
TOKENS: Final = 8
SETTLED_S: Final = 3.0
"""Offers are looked at again after two."""


def run(options: argparse.Namespace, config: Config) -> int:
    check_machine()
    sizes = (QUICK_SENTENCES, QUICK_CROWD) if options.quick else (SENTENCES, CROWD)
    found = {way: asyncio.run(_measured(config, tuple(options.settings), way, options.runs, sizes)) for way in WAYS}
    figures = {"crowd": sizes[1], "questions": 4 * options.runs, "sentences": sizes[0], **found["soonest"]}
    peers = {f"network_{name}": value for name, value in found["network"].items()}
    ratios = {
        f"{name}_soonest_over_network": found["soonest"][name] / found["network"][name]
        for name in ("holder_ttft_p50_ms", "holder_ttft_p95_ms", "crowd_ttft_p50_ms", "crowd_ttft_p95_ms")
    }
    print_report("choose", figures, peers, ratios)
    return 0


def halves() -> tuple[str, str, int]:
    """Two equal parts of our processors, as taskset has them, and how many are in each; all of them twice where there
    is one."""
    cores = sorted(os.sched_getaffinity(0))
    half = max(len(cores) // 2, 1)
    first, second = cores[:half], cores[half : 2 * half] or cores
    return ",".join(map(str, first)), ",".join(map(str, second)), half


def topology() -> Topology:
    """Two equal decode nodes and one who asks, all behind a core."""
    left, right, _ = halves()
    nodes = (
        NodeSpec("user"), NodeSpec("core"), NodeSpec("left", {"functions": "decode,tokenize", "cores": left}),
        NodeSpec("right", {"functions": "decode", "cores": right}),
    )  # fmt: skip
    return Topology("choose", nodes, tuple(LinkSpec("core", name, delay_us=5000) for name in ("user", "left", "right")))


def system(way: str, sentences: int) -> str:
    """Instructions that no other run has, about 14 tokens a sentence."""
    return " ".join(f"Rule {number} of the {way} house says to be brief and kind." for number in range(sentences))


async def _measured(
    config: Config, settings: tuple[str, ...], way: str, runs: int, sizes: tuple[int, int]
) -> dict[str, Any]:
    sentences, crowd = sizes
    setup = Setup(config.cache_dir, (f"engine.threads={halves()[2]}", *settings, f"offers.choose={way}"))
    async with standing(topology(), setup, say) as world:
        await world.ask("user", Prompt("Hello.", max_tokens=4))  # certificates and catalogue are on the way
        text = system(way, sentences)
        holder = (await _all(world, [Prompt("Who are you?", TOKENS, system=text)]))[0].at
        await world.sleep(SETTLED_S)
        one_by_one = []
        for number in range(4 * runs):
            one_by_one += await _all(world, [Prompt(f"What is {number} and {number}?", TOKENS, system=text)])
        await _all(world, [Prompt(f"Hello {number}.", 2) for number in range(crowd)])  # a connection for each of them
        await world.sleep(SETTLED_S)
        asked = [Prompt(f"Name {number} colours.", TOKENS, system=text) for number in range(crowd)]
        together = await _all(world, asked)
    return {
        "holder_share": sum(row.at == holder for row in one_by_one) / len(one_by_one),
        **_ttft("holder", one_by_one),
        **_ttft("crowd", together),
        "crowd_by_node": dict(Counter(row.at for row in together)),
    }


async def _all(world: NamespaceWorld, asked: Sequence[Prompt]) -> list[PromptOutcome]:
    """Raises CannotMeasure when an answer is not complete."""
    rows = list(await asyncio.gather(*(world.ask("user", one) for one in asked)))
    lost = [row.error for row in rows if not row.complete]
    if lost:
        raise CannotMeasure(f"{len(lost)} of {len(rows)} answers are not complete: {lost[0]}")
    return rows


def _ttft(what: str, rows: Sequence[PromptOutcome]) -> dict[str, float]:
    times = [row.ttft_s * 1000 for row in rows]
    return {f"{what}_ttft_p50_ms": percentile(times, 50), f"{what}_ttft_p95_ms": percentile(times, 95)}
