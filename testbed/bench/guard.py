"""What a policy costs: time to the first token and tokens a second, under none and at several hold-backs.

Decode, embed and guard are processes of their own; the same kind of question is asked without a policy and under
policies that differ in `hold_back` alone, in turns. `patterns_*`: phrases, secrets and personal data, which hold back
what may be the beginning of a match. `topics_*`: besides, a topic by embedding distance, which is asked about each
`hold_back` tokens. Then the CPU of judging itself, in this process. Owns: the questions, the figures. Docs:
docs/guard.md.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from typing import Any, Final

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
from ndn_infer.testbed.bench.ask import prompt
from ndn_infer.testbed.bench.report import print_report

HOLD_BACKS: Final = (1, 8, 32)
TOKENS: Final = 96
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
    figures = asyncio.run(asking(config, 2 if options.quick else 6 * options.runs))
    none = figures["none_tokens_per_s"], figures["none_ttft_ms"]
    ratios = {f"{key}_over_none": value / none[0] for key, value in figures.items() if key.endswith("tokens_per_s")}
    ratios |= {f"{key}_over_none": value / none[1] for key, value in figures.items() if key.endswith("ttft_ms")}
    print_report("guard", {"runs": options.runs, "answer_tokens": TOKENS, **figures, **judging()}, {}, ratios)
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


async def asking(config: Config, questions: int) -> dict[str, float]:
    """Medians."""
    served = ServedParts(["tokenize", "decode", "embed", "guard"], [config.ask.model], config.ask.embedder)
    network = embedded(config, served, CommonFlags(), private=True)
    await network.start()
    try:
        async with await Node.join(config, ensure_keys(config), uri=network.uri) as node, Client(node) as client:
            return await _asked(client, node, questions)
    finally:
        await network.stop()


async def _asked(client: Client, node: Node, questions: int) -> dict[str, float]:
    model = await client.conversation().resolve_model(node.config.ask.model)
    modes: dict[str, DemandedPolicy | None] = {"none": None}
    for topics in (False, True):
        for hold_back in HOLD_BACKS:
            made = await _demanded(client, wire_of(hold_back, topics=topics))
            modes[made.policy.name.replace("-", "_")] = made
    rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
    number = 0
    for turn in range(questions + 1):
        for mode, demanded in modes.items():
            number += 1
            row = await _one(client, model, demanded, number)
            if turn:  # the first one makes connections, fetches policies, embeds examples
                rows[mode].append(row)
    return {
        f"{mode}_{what}": statistics.median(row[at] for row in found)
        for mode, found in rows.items()
        for at, what in enumerate(("ttft_ms", "tokens_per_s"))
    }


async def _demanded(client: Client, wire: bytes) -> DemandedPolicy:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(wire)
        file.flush()
        return await client.policy_of(file.name)


async def _one(
    client: Client, model: ModelRecord, demanded: DemandedPolicy | None, number: int
) -> tuple[float, float]:  # fmt: skip
    """Milliseconds to the first token shown, tokens a second of all."""
    conversation = client.conversation()
    conversation.policy = demanded
    answer = conversation.generate(model, prompt(number), Sampling(TOKENS, ignore_eos=True))
    async for _ in answer:
        pass
    return answer.timing.first_token_s * 1000, len(answer.ids) / answer.timing.total_s
