"""Kill what an answer comes from, at random positions: is it complete, are its tokens the same, how long is the gap?

    python -m tests.load.failover --greedy 25 --seeded 25                 kill -9 the decode producer
    python -m tests.load.failover --what prefill|forwarder|link --greedy 5 --seeded 5

Owns: rounds, what is compared with what, figures. The last line is JSON. Every answer is compared, ids, text and log
probabilities, with the one that nobody disturbed. Each request differs from it in `max_tokens` alone, so that no cache
and no store has its answer; the KV of the prompt may be found by name. Producers are killed one after another and
started again in batches, so that no process starts while a gap is measured. `gap` is the longest time between two
events of the answer after the kill (from the question on, where the prompt was computed meanwhile): noticing, asking
elsewhere, recomputing. Gaps are told, never judged.
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
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ndn_infer.client import Answer, Conversation
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.local.prepare import record_of
from ndn_infer.models.store import ModelFolder, prepare
from ndn_infer.namespace import Role
from ndn_infer.records import ModelRecord, Sampling
from tests.load.failover_net import SIDES, FailoverNet, running

MODEL: Final = "smollm2-135m-instruct"
SETTINGS: Final = {
    "engine.threads": "1", "engine.weights": "int4", "producer.store_mib": "64", "fetch.deadline_s": "5",
    "call.deadline_s": "60", "call.attempts": "60",
}  # fmt: skip
QUESTIONS: Final = (
    "Tell a long story about a lighthouse keeper.",
    "Explain how bread is made, step by step.",
    "Describe a walk through an old town.",
)
LIMIT_S: Final = 180.0


@dataclass
class Heard:
    """One answer as it came: `events` are (when, tokens until then)."""

    ids: tuple[int, ...] = ()
    text: str = ""
    logprobs: tuple[float, ...] = ()
    events: list[tuple[float, int]] = field(default_factory=list)
    continued: int = 0
    finish: str = ""
    error: str = ""

    def gap_s(self, since: float) -> float:
        """The longest silence after `since`."""
        times = [when for when, _ in self.events]
        return max((later - max(earlier, 0.0) for earlier, later in zip(times, times[1:], strict=False)
                    if later > since), default=0.0)  # fmt: skip


@dataclass
class Round:
    what: str
    kind: str
    position: int
    complete: bool
    identical: bool
    continued: int
    gap_s: float
    error: str = ""


@dataclass(frozen=True)
class Plan:
    what: str
    kinds: tuple[str, ...]
    """greedy or seeded, one a round."""
    tokens: int
    batch: int
    seed: int


class Harness:
    def __init__(self, plan: Plan, net: FailoverNet, model: ModelFolder, conversation: Conversation) -> None:
        self.plan = plan
        self.rounds: list[Round] = []
        self._net = net
        self._conversation = conversation
        self._record: ModelRecord = record_of(model, MODEL)
        self._tokenizer = ChatTokenizer.load(model.path)
        self._random = random.Random(plan.seed)
        self._whole: dict[tuple[str, int], Heard] = {}
        self._extra = 0

    async def run(self) -> None:
        await self._fill()
        if self.plan.what != "prefill":
            for number, kind in enumerate(self.plan.kinds):
                if (key := (kind, number % len(QUESTIONS))) not in self._whole:
                    self._whole[key] = await self._hear(self._prompt(key[1]), self._sampling(kind))
        for number, kind in enumerate(self.plan.kinds):
            one = await (self._prefill_round if self.plan.what == "prefill" else self._round)(number, kind)
            self.rounds.append(one)
            print(json.dumps(one.__dict__), flush=True)

    # ------------------------------------------------------------ producers

    @property
    def _functions(self) -> dict[str, str]:
        """Nodes and what they offer."""
        if self.plan.what == "prefill":
            return {"d0": "decode", "d1": "decode", "p0": "prefill"}
        return {f"d{number}": "prefill,decode" for number in range(self.plan.batch + 1)}

    async def _fill(self) -> None:
        """All producers run again."""
        missing = [node for node in self._functions if node not in self._net.alive]
        await asyncio.gather(*(
            self._net.start_producer(node, int(node[1:]) % len(SIDES), self._functions[node], MODEL)
            for node in missing
        ))  # fmt: skip
        await self._net.relink()

    # ------------------------------------------------------------ asking

    def _prompt(self, number: int) -> tuple[int, ...]:
        text = f"<|im_start|>user\n{QUESTIONS[number]}<|im_end|>\n<|im_start|>assistant\n"
        return tuple(self._tokenizer.encode(text))

    def _sampling(self, kind: str) -> Sampling:
        """Longer than any before: another request, the same tokens."""
        self._extra += 1
        sampling = Sampling(
            self.plan.tokens + self._extra, logprobs=1, ignore_eos=True, stop=("\n\n\n\n\n\n", "never ever never")
        )  # fmt: skip
        if kind == "seeded":
            sampling = replace(
                sampling, temperature=0.8, top_p=0.95, seed=7, repetition_penalty=1.05, frequency_penalty=0.2
            )
        return sampling

    async def _hear(
        self, prompt: Sequence[int], sampling: Sampling, at: int = -1,
        then: Callable[[Answer], Awaitable[None]] | None = None,
    ) -> Heard:  # fmt: skip
        """The first `plan.tokens` tokens; `then` at that position."""
        heard, done = Heard(), False
        answer = self._conversation.generate(self._record, tuple(prompt), sampling)
        try:
            async with asyncio.timeout(LIMIT_S), answer:
                async for event in answer:
                    if event.ids:
                        heard.events.append((time.monotonic(), len(answer.ids)))
                        heard.logprobs += tuple(token.logprob for token in event.logprobs)
                    if then is not None and not done and len(answer.ids) >= at:
                        done = True
                        await then(answer)
                    if len(answer.ids) >= self.plan.tokens:
                        break
        except Exception as error:
            heard.error = f"{type(error).__name__}: {error}"
        count = self.plan.tokens
        heard.ids, heard.logprobs, heard.text = tuple(answer.ids[:count]), heard.logprobs[:count], answer.text
        heard.continued, heard.finish = answer.continued, answer.finish
        return heard

    # ------------------------------------------------------------ rounds

    async def _round(self, number: int, kind: str) -> Round:
        question, at = number % len(QUESTIONS), self._random.randrange(1, self.plan.tokens - 1)
        killed_at, repair = 0.0, self._fill

        async def strike(answer: Answer) -> None:
            nonlocal killed_at, repair
            node = self._node_of(answer)
            side, killed_at = self._net.sides[node], time.monotonic()
            if self.plan.what == "decode":
                await self._net.producers[node].kill()
            elif self.plan.what == "forwarder":
                await self._net.forwarders[SIDES[side]].kill()
                repair = lambda: self._net.revive_side(side)  # noqa: E731
            else:
                self._net.links[side].cut()
                repair = lambda: self._heal(side)  # noqa: E731

        heard = await self._hear(self._prompt(question), self._sampling(kind), at, strike)
        if self.plan.what != "decode" or len(self._net.alive) < 2 or not self._both_sides():
            await repair()
        return self._judge(kind, at, heard, self._whole[kind, question], heard.gap_s(killed_at))

    async def _prefill_round(self, number: int, kind: str) -> Round:
        """A prompt of its own; prefill dies while it computes that, or a moment before or after."""
        salt = self._random.sample(range(1000, 40_000), 300)
        prompt, pause_s = (*salt, *self._prompt(number % len(QUESTIONS))), self._random.uniform(0.0, 0.5)

        async def kill() -> None:
            await asyncio.sleep(pause_s)
            await self._net.producers["p0"].kill()

        asked_at, killing = time.monotonic(), asyncio.ensure_future(kill())
        heard = await self._hear(prompt, self._sampling(kind))
        await killing
        await self._fill()
        whole = await self._hear(prompt, self._sampling(kind))
        first = heard.events[0][0] - asked_at if heard.events else 0.0
        return self._judge(kind, 0, heard, whole, max(first, heard.gap_s(asked_at)))

    def _judge(self, kind: str, at: int, heard: Heard, whole: Heard, gap_s: float) -> Round:
        both = min(len(heard.text), len(whole.text))  # the last event may have brought more tokens than are compared
        same = (heard.ids, heard.logprobs) == (whole.ids, whole.logprobs) and heard.text[:both] == whole.text[:both]
        complete = not heard.error and not whole.error and len(heard.ids) == self.plan.tokens
        return Round(
            self.plan.what, kind, at, complete, complete and same, heard.continued, round(gap_s, 3),
            heard.error or whole.error,
        )  # fmt: skip

    def _node_of(self, answer: Answer) -> str:
        role = Role.parse(self._conversation.ledger.net, answer.by)
        assert role is not None
        return role.node

    def _both_sides(self) -> bool:
        return len({self._net.sides[node] for node in self._net.alive}) == len(SIDES)

    async def _heal(self, side: int) -> None:
        self._net.links[side].heal()
        await self._net.relink()


def report(what: str, rounds: Sequence[Round], seconds: float) -> dict[str, Any]:
    gaps = sorted(one.gap_s for one in rounds)

    def share(part: float) -> float:
        return gaps[min(int(part * len(gaps)), len(gaps) - 1)] if gaps else 0.0

    return {
        "what": what, "rounds": len(rounds), "complete": sum(one.complete for one in rounds),
        "identical": sum(one.identical for one in rounds), "continued": sum(one.continued for one in rounds),
        "gap_p50_s": share(0.5), "gap_p95_s": share(0.95), "gap_worst_s": gaps[-1] if gaps else 0.0,
        "errors": [one.error for one in rounds if one.error], "seconds": round(seconds, 1), "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
    }  # fmt: skip


async def failover(plan: Plan, cache: Path) -> list[Round]:
    model = prepare(MODEL, cache)
    async with running(cache, dict(SETTINGS)) as net, net.consumer() as conversation:
        harness = Harness(plan, net, model, conversation)
        await harness.run()
        return harness.rounds


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--what", choices=("decode", "prefill", "forwarder", "link"), default="decode")
    parser.add_argument("--greedy", type=int, default=3, help="rounds with the likeliest token")
    parser.add_argument("--seeded", type=int, default=3, help="rounds with a seed and penalties")
    parser.add_argument("--tokens", type=int, default=0, help="of an answer (200; 24 with --what prefill)")
    parser.add_argument("--batch", type=int, default=4, help="decode producers killed before any is started again")
    parser.add_argument("--seed", type=int, default=1, help="of the positions")
    parser.add_argument("--cache", type=Path, help="prepared models (default: a fresh folder)")
    options = parser.parse_args()
    kinds = ("greedy",) * options.greedy + ("seeded",) * options.seeded
    tokens = options.tokens or (24 if options.what == "prefill" else 200)
    batch = options.batch if options.what == "decode" else 1
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as fresh:
        plan = Plan(options.what, kinds, tokens, batch, options.seed)
        rounds = asyncio.run(failover(plan, options.cache or Path(fresh)))
    document = report(options.what, rounds, time.monotonic() - began)
    print(json.dumps(document))
    return 0 if document["complete"] == document["identical"] == len(rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
