"""Kill what an answer comes from, at random positions: is it complete, are its tokens the same, how long is the gap?

    python -m tests.load.failover --greedy 25 --seeded 25                 kill -9 the decode producer
    python -m tests.load.failover --what prefill|forwarder|link|front --greedy 5 --seeded 5

Owns: rounds, what is compared with what, figures. The last line is JSON. Every answer is compared, ids, text and log
probabilities, with the one that nobody disturbed. Each request differs from it in `max_tokens` alone, so that no cache
and no store has its answer; the KV of the prompt may be found by name. Producers are killed one after another and
started again in batches, so that no process starts while a gap is measured; `--at-once` answers run side by side. `gap`
is the longest time between two events of the answer after the kill (from the question on, where the prompt was computed
meanwhile). Its parts: until the stream was given up (`detect`), until somebody else answered (`choose`), until the next
token (`token`), of which the producer spent `kv` on KV of the prompt and `compute` on the answer so far. Gaps are told,
never judged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from ndn_infer.client import Answer, Client, Conversation
from ndn_infer.client.conversation import Move
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.local.prepare import record_of
from ndn_infer.models.store import ModelFolder, prepare
from ndn_infer.namespace import Role
from ndn_infer.records import ModelRecord, Sampling
from tests.load.failover_net import FRONT, SIDES, FailoverNet, running

T = TypeVar("T")
MODEL: Final = "smollm2-135m-instruct"
SETTINGS: Final = {
    "engine.threads": "1", "engine.weights": "int4", "producer.store_mib": "64", "fetch.deadline_s": "5",
    "call.deadline_s": "60", "call.attempts": "60", "log.level": "info",
}  # fmt: skip
QUESTIONS: Final = (
    "Tell a long story about a lighthouse keeper.",
    "Explain how bread is made, step by step.",
    "Describe a walk through an old town.",
)
LIMIT_S: Final = 180.0
PARTS: Final = ("detect", "choose", "token", "kv", "compute")


@dataclass
class Heard:
    """One answer as it came: `events` are (when, tokens until then)."""

    ids: tuple[int, ...] = ()
    text: str = ""
    logprobs: tuple[float, ...] = ()
    events: list[tuple[float, int]] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    by: str = ""
    """The node that gave its end."""
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
    differs: str = ""
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    what: str
    kinds: tuple[str, ...]
    """greedy or seeded, one a round."""
    tokens: int
    batch: int
    seed: int
    at_once: int = 1


class Harness:
    def __init__(self, plan: Plan, net: FailoverNet, model: ModelFolder, client: Client) -> None:
        self.plan = plan
        self.rounds: list[Round] = []
        self._net = net
        self._lanes = [client.conversation() for _ in range(plan.at_once)]
        self._record: ModelRecord = record_of(model, MODEL)
        self._tokenizer = ChatTokenizer.load(model.path)
        self._random = random.Random(plan.seed)
        self._whole: dict[tuple[str, int], Heard] = {}
        self._extra = 0

    async def run(self) -> None:
        await self._fill()
        jobs = list(enumerate(self.plan.kinds))
        if self.plan.what != "prefill":
            keys = list(dict.fromkeys((kind, number % len(QUESTIONS)) for number, kind in jobs))
            for some in _batches(keys, self.plan.at_once):
                heard = await asyncio.gather(*(
                    self._hear(lane, self._prompt(key[1]), self._sampling(key[0]))
                    for lane, key in zip(self._lanes, some, strict=False)
                ))  # fmt: skip
                self._whole.update(zip(some, heard, strict=True))
        play = self._prefill_round if self.plan.what == "prefill" else self._round
        for batch in _batches(jobs, self.plan.at_once):
            if self.plan.what == "decode" and (len(self._net.alive) <= len(batch) or not self._both_sides()):
                await self._fill()
            for one in await asyncio.gather(*(play(lane, *job) for lane, job in zip(self._lanes, batch, strict=False))):
                self.rounds.append(one)
                print(json.dumps(asdict(one)), flush=True)

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
        self, lane: Conversation, prompt: Sequence[int], sampling: Sampling, at: int = -1,
        then: Callable[[Answer], Awaitable[None]] | None = None,
    ) -> Heard:  # fmt: skip
        """The first `plan.tokens` tokens; `then` at that position."""
        heard, done = Heard(), False
        answer = lane.generate(self._record, tuple(prompt), sampling)
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
        heard.moves, heard.finish = answer.moves, answer.finish
        heard.by = self._node_of(lane, answer) if answer.by else ""
        return heard

    # ------------------------------------------------------------ rounds

    async def _round(self, lane: Conversation, number: int, kind: str) -> Round:
        question, at = number % len(QUESTIONS), self._random.randrange(1, self.plan.tokens - 1)
        struck_at, repair = 0.0, _nothing()

        async def strike(answer: Answer) -> None:
            nonlocal struck_at, repair
            struck_at, node = time.monotonic(), self._node_of(lane, answer)
            repair.close()
            repair = await self._strike(node)
            if self.plan.what == "front":  # the answer waits for it
                repair = asyncio.ensure_future(repair)

        heard = await self._hear(lane, self._prompt(question), self._sampling(kind), at, strike)
        await repair
        return self._judge(kind, at, heard, self._whole[kind, question], self._gap(heard, struck_at))

    async def _strike(self, node: str) -> Any:
        """Break something below an answer of `node`; what mends it is to be awaited."""
        side = self._net.sides[node]
        match self.plan.what:
            case "decode":
                if self._net.producers[node].running:  # an answer beside this one may have had the same producer
                    await self._net.producers[node].kill()
                return _nothing()
            case "forwarder":
                await self._net.forwarders[SIDES[side]].kill()
                return self._net.revive_side(side)
            case "front":
                await self._net.forwarders[FRONT].kill()
                return self._net.revive_front()
            case _:
                self._net.links[side].cut()
                return self._heal(side)

    async def _prefill_round(self, lane: Conversation, number: int, kind: str) -> Round:
        """A prompt of its own; prefill dies while it computes that, or a moment before or after."""
        salt = self._random.sample(range(1000, 40_000), 300)
        prompt, pause_s = (*salt, *self._prompt(number % len(QUESTIONS))), self._random.uniform(0.0, 0.5)

        async def kill() -> None:
            await asyncio.sleep(pause_s)
            await self._net.producers["p0"].kill()

        asked_at, killing = time.monotonic(), asyncio.ensure_future(kill())
        heard = await self._hear(lane, prompt, self._sampling(kind))
        await killing
        await self._fill()
        whole = await self._hear(lane, prompt, self._sampling(kind))
        first = heard.events[0][0] - asked_at if heard.events else 0.0
        parts = {"token": first, **self._of_producer(heard.by, 0)}
        return self._judge(kind, 0, heard, whole, (max(first, heard.gap_s(asked_at)), parts))

    def _gap(self, heard: Heard, struck_at: float) -> tuple[float, dict[str, float]]:
        """The gap, and the parts of it as far as there was a move."""
        move = next((one for one in heard.moves if one.lost_at >= struck_at), None)
        parts: dict[str, float] = {}
        if move is not None and move.token_at:
            parts = {
                "detect": move.lost_at - struck_at, "choose": move.answered_at - move.lost_at,
                "token": move.token_at - move.answered_at, **self._of_producer(heard.by, move.tokens),
            }  # fmt: skip
        return heard.gap_s(struck_at), parts

    def _of_producer(self, node: str, answered: int) -> dict[str, float]:
        """What the log of a node says of the newest answer that it went on with after so many tokens."""
        path = self._net.directory / f"{node}.log"
        pattern = re.compile(r"KV ([\d.]+) s, engine ([\d.]+) s, (\d+) tokens")
        told = pattern.findall(path.read_text(errors="replace")) if path.exists() else []
        mine = [(float(kv), float(engine)) for kv, engine, count in told if int(count) == answered]
        return {"kv": mine[-1][0], "compute": mine[-1][1]} if mine else {}

    def _judge(
        self, kind: str, at: int, heard: Heard, whole: Heard, gap: tuple[float, dict[str, float]]
    ) -> Round:  # fmt: skip
        differs = difference(heard, whole)
        complete = not heard.error and not whole.error and len(heard.ids) == self.plan.tokens
        parts = {key: round(seconds, 3) for key, seconds in gap[1].items()}
        return Round(
            self.plan.what, kind, at, complete, complete and not differs, len(heard.moves), round(gap[0], 3),
            heard.error or whole.error, differs, parts,
        )  # fmt: skip

    @staticmethod
    def _node_of(lane: Conversation, answer: Answer) -> str:
        role = Role.parse(lane.ledger.net, answer.by)
        assert role is not None
        return role.node

    def _both_sides(self) -> bool:
        return len({self._net.sides[node] for node in self._net.alive}) == len(SIDES)

    async def _heal(self, side: int) -> None:
        self._net.links[side].heal()
        await self._net.relink()


async def _nothing() -> None:
    pass


def _batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[first : first + size] for first in range(0, len(items), size)]


def difference(heard: Heard, whole: Heard) -> str:
    """Where two answers differ first; "" where they do not. Text is compared as far as both have it: the last event may
    bring more tokens than are compared."""
    for what in ("ids", "logprobs", "text"):
        one, other = getattr(heard, what), getattr(whole, what)
        for place, (mine, theirs) in enumerate(zip(one, other, strict=False)):
            if mine != theirs:
                return f"{what} at {place}: {mine!r}, undisturbed {theirs!r}"
        if what != "text" and len(one) != len(other):
            return f"{len(one)} {what}, undisturbed {len(other)}"
    return ""


def share(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def report(what: str, rounds: Sequence[Round], seconds: float) -> dict[str, Any]:
    gaps = [one.gap_s for one in rounds]
    parts = {
        part: {"p50": share(values, 0.5), "p95": share(values, 0.95)}
        for part in PARTS if (values := [one.parts[part] for one in rounds if part in one.parts])
    }  # fmt: skip
    without_recompute = [one.gap_s - one.parts.get("compute", 0.0) for one in rounds]
    return {
        "what": what, "rounds": len(rounds), "complete": sum(one.complete for one in rounds),
        "identical": sum(one.identical for one in rounds), "continued": sum(one.continued for one in rounds),
        "gap_p50_s": share(gaps, 0.5), "gap_p95_s": share(gaps, 0.95), "gap_worst_s": share(gaps, 1.0),
        "gap_without_compute_p95_s": round(share(without_recompute, 0.95), 3), "parts_s": parts,
        "errors": [one.error for one in rounds if one.error], "differs": [one.differs for one in rounds if one.differs],
        "seconds": round(seconds, 1), "cpus": os.cpu_count(), "load": os.getloadavg()[0],
    }  # fmt: skip


async def failover(plan: Plan, cache: Path) -> list[Round]:
    model = prepare(MODEL, cache)
    async with running(cache, dict(SETTINGS)) as net, net.consumer() as client:
        harness = Harness(plan, net, model, client)
        await harness.run()
        return harness.rounds


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--what", choices=("decode", "prefill", "forwarder", "link", "front"), default="decode")
    parser.add_argument("--greedy", type=int, default=3, help="rounds with the likeliest token")
    parser.add_argument("--seeded", type=int, default=3, help="rounds with a seed and penalties")
    parser.add_argument("--tokens", type=int, default=0, help="of an answer (200; 24 with --what prefill)")
    parser.add_argument("--batch", type=int, default=4, help="decode producers killed before any is started again")
    parser.add_argument("--at-once", type=int, default=2, help="answers side by side, with --what decode")
    parser.add_argument("--seed", type=int, default=1, help="of the positions")
    parser.add_argument("--cache", type=Path, help="prepared models (default: a fresh folder)")
    options = parser.parse_args()
    kinds = ("greedy",) * options.greedy + ("seeded",) * options.seeded
    tokens = options.tokens or (24 if options.what == "prefill" else 200)
    batch, at_once = (options.batch, options.at_once) if options.what == "decode" else (1, 1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as fresh:
        plan = Plan(options.what, kinds, tokens, batch, options.seed, at_once)
        rounds = asyncio.run(failover(plan, options.cache or Path(fresh)))
    document = report(options.what, rounds, time.monotonic() - began)
    print(json.dumps(document))
    return 0 if document["complete"] == document["identical"] == len(rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
