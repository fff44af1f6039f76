"""What a policy costs: time to the first token, tokens a second and CPU, under none and at several hold-backs.

Decode, embed and guard are processes of their own; the same kind of question is asked without a policy and under
policies that differ in `hold_back` alone, in turns. `patterns_*`: phrases, secrets and personal data, which hold back
what may be the beginning of a match. `topics_*`: besides, a topic by embedding distance, which is asked about each
`hold_back` tokens. Then the CPU of judging itself, in this process. No turn begins after `MEASURING_S` but those that
a median needs, so this ends within minutes on slow cores. Owns: the questions, the figures. Docs: docs/guard.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ndn_infer import clock
from ndn_infer.client import Client
from ndn_infer.client.guarding import DemandedPolicy
from ndn_infer.config import Config
from ndn_infer.guard.judge import PolicyRules
from ndn_infer.guard.policy import SHOW
from ndn_infer.guard.policy_form import encode, policy_of
from ndn_infer.guard.trial import try_text
from ndn_infer.local.network import CommonFlags, ServedParts, embedded
from ndn_infer.local.prepare import prepared
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node
from ndn_infer.records import ModelRecord, Sampling
from ndn_infer.testbed.bench import processor
from ndn_infer.testbed.bench.report import print_report

HOLD_BACKS: Final = (1, 8, 32)
PROMPT_TOKENS: Final = 15
"""Less than a block of KV, so no prefill is asked for."""
TOKENS: Final = 48
LEAST_TURNS: Final = 3
MEASURING_S: Final = 120.0
"""After which no turn begins, once there are `LEAST_TURNS`."""
_RULES: Final[list[dict[str, Any]]] = [
    {"id": "codename", "kind": "phrases", "phrases": ["project nightingale", "quarterly layoffs", "master password"]},
    {"id": "secrets", "kind": "secrets", "action": "redact"},
    {"id": "personal", "kind": "personal", "types": ["email", "card", "iban"], "action": "redact"},
]
_TOPIC: Final[dict[str, Any]] = {
    "id": "poison", "kind": "topics", "similarity": 0.7,
    "examples": ["how to make poison at home", "which doses of this drug are deadly"],
}  # fmt: skip
_TEXT: Final = "The quick brown fox jumps over the lazy dog, and then it rains for 20 days. " * 40


def run(options: argparse.Namespace, config: Config) -> int:
    ensure_keys(config)
    for model in (config.ask.model, config.ask.embedder):
        prepared(config, model)
    flags = CommonFlags(options.config, options.settings)
    rows = asyncio.run(asking(config, flags, LEAST_TURNS if options.quick else 5 * options.runs))
    figures = {"turns": len(rows["none"]), "prompt_tokens": PROMPT_TOKENS, "answer_tokens": TOKENS}
    ratios = {key: value for mode in rows if mode != "none" for key, value in over_none(mode, rows)}
    print_report("guard", {**figures, **medians(rows), **judging()}, {}, ratios)
    return 0


def wire_of(hold_back: int, *, topics: bool) -> bytes:
    """A policy that lets go what it may not hold: the figures are of answers that are shown whole."""
    rules = [*_RULES, _TOPIC] if topics else _RULES
    named = f"{'topics' if topics else 'patterns'}-{hold_back}"
    return encode(policy_of({"name": named, "hold_back": hold_back, "past_hold_back": SHOW, "rules": rules}))


def judging() -> dict[str, float]:
    """Microseconds of CPU for an event of 16 characters, guard and reader together."""
    rules = PolicyRules(policy_of({"name": "x", "rules": _RULES}), "answer")
    pieces = [_TEXT[at : at + 16] for at in range(0, len(_TEXT), 16)]
    try_text(rules, pieces[:4])
    began = time.thread_time()
    try_text(rules, pieces)
    return {"judge_event_us": (time.thread_time() - began) / len(pieces) * 1e6}


@dataclass(frozen=True, slots=True)
class GuardedCosts:
    """One answer. CPU: milliseconds of a processor for each token, of the guard and the embedder that it calls, and of
    this process, which enforces."""

    ttft_ms: float
    tokens_per_s: float
    cpu_ms_guard: float
    cpu_ms_embed: float
    cpu_ms_reader: float


FIGURES: Final = ("ttft_ms", "tokens_per_s", "cpu_ms_guard", "cpu_ms_embed", "cpu_ms_reader")
Rows = Mapping[str, list[GuardedCosts]]
"""Answers by mode: "none", or what the policy is called."""


def medians(rows: Rows) -> dict[str, float]:
    return {
        f"{mode}_{what}": statistics.median(getattr(asked, what) for asked in found)
        for mode, found in rows.items() for what in FIGURES
    }  # fmt: skip


def over_none(mode: str, rows: Rows) -> Iterator[tuple[str, float]]:
    """Of a mode, the median of what each turn has over that without a policy in the same turn."""
    for what in ("ttft_ms", "tokens_per_s"):
        pairs = zip(rows[mode], rows["none"], strict=True)
        yield f"{mode}_{what}_over_none", statistics.median(getattr(a, what) / getattr(b, what) for a, b in pairs)


async def asking(config: Config, flags: CommonFlags, turns: int) -> Rows:
    """So many answers in each mode at most."""
    served = ServedParts(["tokenize", "decode", "embed", "guard"], [config.ask.model], config.ask.embedder)
    network = embedded(config, served, flags, private=True)
    await network.start()
    try:
        async with await Node.join(config, ensure_keys(config), uri=network.uri) as node, Client(node) as client:
            return await _asked(client, node, turns)
    finally:
        await network.stop()


async def _asked(client: Client, node: Node, turns: int) -> Rows:
    model = await client.conversation().resolve_model(node.config.ask.model)
    modes: dict[str, DemandedPolicy | None] = {"none": None}
    for topics in (False, True):
        for hold_back in HOLD_BACKS:
            made = await _demanded(client, wire_of(hold_back, topics=topics))
            modes[made.policy.name.replace("-", "_")] = made
    for number, demanded in enumerate(modes.values()):  # connections are made, policies fetched, examples embedded
        await _one(client, model, demanded, number)
    rows: dict[str, list[GuardedCosts]] = {mode: [] for mode in modes}
    ends, number = clock.monotonic() + MEASURING_S, len(modes)
    for turn in range(turns):
        if turn >= LEAST_TURNS and clock.monotonic() >= ends:
            break
        print(f"  turn {turn + 1} of {turns} at most", file=sys.stderr, flush=True)
        for mode, demanded in modes.items():
            rows[mode].append(await _one(client, model, demanded, number))
            number += 1
    return rows


async def _demanded(client: Client, wire: bytes) -> DemandedPolicy:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(wire)
        file.flush()
        return await client.policy_of(file.name)


def _prompt(number: int) -> tuple[int, ...]:
    """Token ids that no other prompt of this benchmark begins with."""
    return tuple((number * 7919 + position * 31) % 40_000 + 100 for position in range(PROMPT_TOKENS))


async def _one(client: Client, model: ModelRecord, demanded: DemandedPolicy | None, number: int) -> GuardedCosts:
    conversation = client.conversation()
    conversation.policy = demanded
    pids = {"reader": os.getpid(), **processor.children(os.getpid())}
    before = processor.read(pids)
    answer = conversation.generate(model, _prompt(number), Sampling(TOKENS, ignore_eos=True))
    async for _ in answer:
        pass
    spent = processor.since(before, processor.read(pids))
    cpu = [1000 * (spent[one].main_s + spent[one].others_s) / TOKENS for one in ("guard", "embed", "reader")]
    return GuardedCosts(answer.timing.first_token_s * 1000, len(answer.ids) / answer.timing.total_s, *cpu)
