"""Dishonest producers, and what audits make of their answers.

    python -m tests.load.dishonest --answers 200            half of them honest, the others of all kinds in turn
    python -m tests.load.dishonest --answers 24 --tokens 16 --across 0

Owns: rounds, the table, figures. The last line is JSON. A network in one process over the real forwarder core; every
answer is asked for, signed, fetched and audited by name. Kinds of dishonesty: tests/audit_kit.py.

Each answer is audited wholly and by samples, with an engine of its class, after published KV and ("read") as if nobody
published any; the KV of prompt and answer as well. `--across` more answers come from int4 producers and are audited by
a bf16 engine: by margins, where false alarms are possible and are counted.

`cost` is CPU time of the auditor's engine thread over that of the producer's for the same answer (prompt included),
`whole` that of the process: packets fetched and served, too. Each kind of audit has an engine of its own, so that none
finds what another computed. Take both with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any, Final

from torch import Tensor

from ndn_infer.engine.split_rows import sums_are_exact
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.engine_class import weights_label
from ndn_infer.evidence.verdict import PASSED, AuditVerdict
from ndn_infer.functions.audit.auditor import Auditor
from ndn_infer.functions.audit.local_engine import of_worker
from ndn_infer.functions.audit.published_answer import FetchedAnswer
from ndn_infer.functions.audit.sample import AuditSample
from ndn_infer.functions.engine_worker import EngineWorker
from ndn_infer.models.store import prepare
from ndn_infer.records import GenerateRequest, Sampling
from tests.audit_kit import KINDS, AuditWorld, Engines, audit_world
from tests.harness import keychain_in

MODEL: Final = "smollm2-135m-instruct"
SHARES: Final = (1.0, 0.5, 0.25, 0.1)
READ: Final = (0.5, 0.1)
HONEST: Final = "honest"
TOPICS: Final = (
    "lighthouses", "bread", "old towns", "trains", "rain", "glass", "whales", "chess", "tea", "bridges", "maps",
    "wolves", "paper", "clocks", "salt", "violins", "moss", "harbours", "kites", "wells",
)  # fmt: skip
FORMS: Final = (
    "Tell a short story about {}.", "Explain {} to a child, step by step.", "What should everybody know about {}?",
    "Write a letter to a friend about {}.", "Why do people care about {}?",
)  # fmt: skip
PASSAGE: Final = (
    "Notes of the town's library, read aloud on market days: the oldest book here is about {}; it was given by a "
    "sailor who could not read, and who asked that it be read to him each winter. "
)
EXCUSED: Final = {"seed"}
"""Kinds that change nothing of a greedy answer: they are asked for seeded ones only."""


@dataclass
class Tally:
    """Of one kind: audits by share and what they found; costs."""

    answers: int = 0
    found: Counter[str] = field(default_factory=Counter)
    proven: Counter[str] = field(default_factory=Counter)
    same: int = 0
    """Answers that are token for token what an honest producer says: nothing is wrong with them."""
    cost: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    whole: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def plain(self, labels: list[str]) -> dict[str, Any]:
        return {
            "answers": self.answers, "equal_to_honest": self.same,
            "found": {label: self.found[label] for label in labels},
            "cost": {label: round(mean(self.cost[label]), 3) for label in labels if self.cost[label]},
            "whole": {label: round(mean(self.whole[label]), 3) for label in labels if self.whole[label]},
        }  # fmt: skip


def requests(tokenizer: ChatTokenizer, engine: str, tokens: int, seed: int) -> Iterator[GenerateRequest]:
    """Never the same twice; greedy and seeded ones in turn."""
    rng, number = random.Random(seed), 0
    while True:
        topic, number = rng.choice(TOPICS), number + 1
        text = PASSAGE.format(rng.choice(TOPICS)) + rng.choice(FORMS).format(topic) + f" ({seed}.{number})"
        ids = tuple(tokenizer.apply_chat([{"role": "user", "content": text}]))
        sampling = Sampling(max_tokens=tokens)
        if number % 2:
            sampling = replace(sampling, temperature=0.8, top_p=0.95, seed=rng.getrandbits(32))
        yield GenerateRequest(sampling, ids, engine)


class Unpublished(Auditor):
    """For whom nobody has any KV."""

    async def _kv_before(self, answer: FetchedAnswer, sample: AuditSample) -> list[Tensor]:
        return []


@dataclass
class Bench:
    """One way to audit, with an engine of its own."""

    auditor: Auditor
    worker: EngineWorker
    share: float

    @classmethod
    async def open(cls, world: AuditWorld, label: str) -> Bench:
        worker = world.engines.worker("")
        engine = of_worker(world.model, worker, await worker.start(), world.config.engine, world.audit.tokenizer)
        kind = Unpublished if label.endswith("read") else Auditor
        share = 1.0 if label == "kv" else float(label.split()[0])
        return cls(kind(world.consumer.fetcher, world.consumer.validator, engine), worker, share)


@dataclass(frozen=True)
class Seconds:
    """CPU time of one engine thread, and of the process."""

    engine: float
    process: float

    @classmethod
    async def of(cls, worker: EngineWorker) -> Seconds:
        return cls(await worker.run(lambda engine: time.thread_time()), time.process_time())

    def since(self, before: Seconds) -> Seconds:
        return Seconds(self.engine - before.engine, self.process - before.process)


class Rounds:
    """Asks, audits, counts."""

    world: AuditWorld

    def __init__(self, tokenizer: ChatTokenizer, plan: argparse.Namespace) -> None:
        self.plan, self.tokenizer = plan, tokenizer
        self.tallies: dict[str, Tally] = defaultdict(Tally)
        self.rng = random.Random(plan.seed)

    async def kind(self, world: AuditWorld, kind: str, count: int, *, weights: str = "") -> None:
        """So many answers of one kind. `weights`: of the class that the producer is of; "" is the auditor's."""
        self.world, self.benches = world, {label: await Bench.open(world, label) for label in self.labels}
        name = (kind or HONEST) + (f" {weights}" if weights else "")
        label = weights_label(weights, split=sums_are_exact())
        engine = self.world.engine.replace("bf16.bf16.", f"bf16.{label}.") if weights else self.world.engine
        asked = requests(self.tokenizer, engine, self.plan.tokens, hash_of(name) + self.plan.seed)
        async with self.world.producing(kind, weights=weights):
            while self.tallies[name].answers < count:
                request = next(asked)
                if kind in EXCUSED and request.sampling.temperature == 0:
                    continue
                await self.one(name, request, exact=not weights)
        for bench in self.benches.values():
            await bench.worker.close()
        print(f"{name:16} {json.dumps(self.tallies[name].plain(self.labels))}", file=sys.stderr, flush=True)

    @property
    def labels(self) -> list[str]:
        return [*(f"{share:g}" for share in SHARES), *(f"{share:g} read" for share in READ), "kv"]

    async def one(self, name: str, request: GenerateRequest, *, exact: bool) -> None:
        world, tally, maker = self.world, self.tallies[name], self.world.workers[-1]
        before = await Seconds.of(maker)
        answered = await world.ask(request)
        made = (await Seconds.of(maker)).since(before)
        answer = await world.fetch(answered)
        tally.answers += 1
        for label, bench in self.benches.items() if exact else [("1", self.benches["1"])]:
            sample, before = AuditSample(bench.share, self.rng.getrandbits(32)), await Seconds.of(bench.worker)
            verdict = await (bench.auditor.kv if label == "kv" else bench.auditor.tokens)(answer, sample)
            self.count(tally, label, verdict, (await Seconds.of(bench.worker)).since(before), made)

    def count(self, tally: Tally, label: str, verdict: AuditVerdict, took: Seconds, made: Seconds) -> None:
        tally.found[label] += verdict.result != PASSED
        tally.proven[label] += verdict.proof is not None
        if verdict.result == PASSED:
            tally.cost[label].append(took.engine / made.engine)
            tally.whole[label].append(took.process / made.process)
        if label == "1" and verdict.result == PASSED:
            tally.same += 1


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode()[:6], "big")


async def run(plan: argparse.Namespace) -> dict[str, Any]:
    cache = os.environ.get("NDNINFER_TEST_CACHE") or tempfile.mkdtemp()
    model = prepare(MODEL, Path(cache))
    with tempfile.TemporaryDirectory() as folder:
        keychain = keychain_in(Path(folder), "decode", "prefill", "user", "audit")
        rounds, engines = Rounds(ChatTokenizer.load(model.path), plan), Engines(model.path)
        for kind, count, weights in rows(plan):
            async with audit_world(model, keychain, engines) as world:
                await rounds.kind(world, kind, count, weights=weights)
        return {name: tally.plain(rounds.labels) for name, tally in rounds.tallies.items()}


def rows(plan: argparse.Namespace) -> Iterator[tuple[str, int, str]]:
    """(kind, answers, weights of the class): each in a network of its own, so that no KV of a dishonest producer is
    found by name in the next one."""
    tampered = plan.answers // 2
    yield "", plan.answers - tampered, ""
    for number, kind in enumerate(KINDS):
        if count := tampered // len(KINDS) + (number < tampered % len(KINDS)):
            yield kind, count, ""
    if plan.across:
        yield "", plan.across, "int4"
        for kind in ("seed", "cut", "edit", "passage"):
            yield kind, max(plan.across // 4, 1), "int4"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--across", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    found = asyncio.run(run(parser.parse_args()))
    print(json.dumps(found))
    alarms = sum(found[HONEST]["found"].values())
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main())
