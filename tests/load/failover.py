"""Kill what an answer comes from, at random positions: is it complete, are its tokens the same, how long is the gap?

    python -m tests.load.failover --greedy 25 --seeded 25                 kill -9 the decode producer
    python -m tests.load.failover --what prefill|forwarder|link|front --greedy 5 --seeded 5
    python -m tests.load.failover --schema            in the middle of an answer that is held to a JSON schema

Owns: rounds, what is compared with what, figures. The last line is JSON. Every answer is compared, ids, text and log
probabilities, with the one that nobody disturbed. Each request differs from it in `max_tokens` alone, so that no cache
and no store has its answer; the KV of the prompt may be found by name. Producers are killed one after another and
started again in batches, so that no process starts while a gap is measured. `--at-once` answers come from one producer
and lose it together, each at a position of its own.

`gap` is the longest time between two events of the answer after the kill (from the question on, where the prompt was
computed meanwhile). Its parts: until the stream was given up (`detect`), until somebody else answered (`choose`), until
the next token (`token`), of which the producer spent `kv` on KV of the prompt and `compute` on the answer so far. Gaps
are told, never judged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from ndn_infer.client import Answer, Client, Conversation
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.local.prepare import record_of
from ndn_infer.models.store import ModelFolder, prepare
from ndn_infer.namespace import Role
from ndn_infer.ndn.name import Name
from ndn_infer.records import ModelRecord, Sampling, grammar
from tests.load.failover_figures import Heard, Round, difference, report
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
SCHEMA: Final = grammar.of_json_schema(
    {
        "type": "array", "minItems": 500,
        "items": {
            "type": "object", "properties": {"title": {"type": "string", "maxLength": 40}, "page": {"type": "integer"}},
            "required": ["title", "page"], "additionalProperties": False,
        },
    }
)  # fmt: skip
"""Longer than any answer here."""
LIMIT_S: Final = 180.0


@dataclass(frozen=True)
class Plan:
    what: str
    kinds: tuple[str, ...]
    """greedy or seeded, one a round."""
    tokens: int
    batch: int
    seed: int
    at_once: int = 1
    schema: bool = False
    """Answers are held to a JSON schema, which goes on wherever they go on."""


class Blow:
    """One strike for several answers. It comes when the first one has reached its position; each other begins so that
    it is at its own about then."""

    def __init__(self, positions: Sequence[int], strike: Callable[[str], Awaitable[Awaitable[None]]]) -> None:
        self.at = positions
        self.struck_at = 0.0
        self.repair: Awaitable[None] = _nothing()
        self._strike = strike
        self._last = max(range(len(positions)), key=positions.__getitem__)
        self._begun = [asyncio.Event() for _ in positions]
        self._begun[self._last].set()

    async def turn(self, place: int) -> None:
        await self._begun[place].wait()

    async def reached(self, place: int, answer: Answer, node: str) -> None:
        """An answer got tokens from `node`."""
        if place != self._last or self.struck_at:
            return
        count, most = len(answer.ids), self.at[place]
        for position, begun in zip(self.at, self._begun, strict=True):
            if count >= most - position:
                begun.set()
        if count >= most:
            self.struck_at = time.monotonic()
            await self.repair
            self.repair = await self._strike(node)

    def over(self, place: int) -> None:
        """An answer ended, perhaps too soon: nobody waits for it any more."""
        if place == self._last:
            for begun in self._begun:
                begun.set()


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

    async def run(self) -> list[Round]:
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
        play = self._prefill_rounds if self.plan.what == "prefill" else self._rounds
        for batch in _batches(jobs, self.plan.at_once):
            if self.plan.what == "decode" and (len(self._net.alive) < 2 or not self._both_sides()):
                await self._fill()
            for one in await play(batch):
                self.rounds.append(one)
                print(json.dumps(asdict(one)), flush=True)
        return self.rounds

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
        return replace(sampling, grammar=SCHEMA) if self.plan.schema else sampling

    async def _hear(
        self, lane: Conversation, prompt: Sequence[int], sampling: Sampling, *, at: tuple[Name, ...] = (),
        watch: Callable[[Answer], Awaitable[None]] | None = None,
    ) -> Heard:  # fmt: skip
        """The first `plan.tokens` tokens; `watch` after each event. `at`: who is to begin it."""
        heard = Heard()
        answer = lane.generate(self._record, tuple(prompt), sampling)
        answer.at = at
        try:
            async with asyncio.timeout(LIMIT_S), answer:
                async for event in answer:
                    if event.ids:
                        heard.events.append((time.monotonic(), len(answer.ids)))
                        heard.logprobs += tuple(token.logprob for token in event.logprobs)
                    answer.at = ()
                    if watch is not None:
                        await watch(answer)
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

    async def _rounds(self, batch: Sequence[tuple[int, str]]) -> list[Round]:
        """Answers that lose what they come from together."""
        blow = Blow([self._random.randrange(1, self.plan.tokens - 1) for _ in batch], self._strike)
        begins = self._hint(self._random.choice(self._net.alive)) if self.plan.at_once > 1 else ()
        heard = await asyncio.gather(*(
            self._lose(blow, place, kind, self._prompt(number % len(QUESTIONS)), begins)
            for place, (number, kind) in enumerate(batch)
        ))  # fmt: skip
        await blow.repair
        return [
            self._judge(
                kind, blow.at[place], one, self._whole[kind, number % len(QUESTIONS)], self._gap(one, blow.struck_at)
            )
            for place, ((number, kind), one) in enumerate(zip(batch, heard, strict=True))
        ]

    async def _lose(self, blow: Blow, place: int, kind: str, prompt: Sequence[int], at: tuple[Name, ...]) -> Heard:
        lane = self._lanes[place]
        await blow.turn(place)

        async def watch(answer: Answer) -> None:
            await blow.reached(place, answer, self._node_of(lane, answer))

        try:
            return await self._hear(lane, prompt, self._sampling(kind), at=at, watch=watch)
        finally:
            blow.over(place)

    async def _strike(self, node: str) -> Awaitable[None]:
        """Break something below an answer of `node`; what mends it is to be awaited."""
        side = self._net.sides[node]
        match self.plan.what:
            case "decode":
                await self._net.producers[node].kill()
                return _nothing()
            case "forwarder":
                await self._net.forwarders[SIDES[side]].kill()
                return self._net.revive_side(side)
            case "front":
                await self._net.forwarders[FRONT].kill()
                return asyncio.ensure_future(self._net.revive_front())  # the answer waits for it
            case _:
                self._net.links[side].cut()
                return self._heal(side)

    async def _prefill_rounds(self, batch: Sequence[tuple[int, str]]) -> list[Round]:
        return [await self._prefill_round(self._lanes[0], number, kind) for number, kind in batch]

    async def _prefill_round(self, lane: Conversation, number: int, kind: str) -> Round:
        """A prompt of its own; prefill dies while it computes that, or a moment before or after."""
        salt = self._random.sample(range(1000, 40_000), 300)
        prompt, pause_s = (*salt, *self._prompt(number % len(QUESTIONS))), self._random.uniform(0.0, 0.5)

        async def kill() -> None:
            await asyncio.sleep(pause_s)
            await self._net.producers["p0"].kill()

        asked_at, killing = time.monotonic(), asyncio.ensure_future(kill())
        heard = await self._hear(lane, prompt, self._sampling(kind))
        parts = self._of_producer(heard.by, 0)
        await killing
        await self._fill()
        whole = await self._hear(lane, prompt, self._sampling(kind))
        first = heard.events[0][0] - asked_at if heard.events else 0.0
        parts["token"] = first
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

    def _hint(self, node: str) -> tuple[Name, ...]:
        return (Role("home", node, "decode").to_name(self._lanes[0].ledger.net),)

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


async def failover(plan: Plan, cache: Path) -> list[Round]:
    model = prepare(MODEL, cache)
    async with running(cache, dict(SETTINGS)) as net, net.consumer() as client:
        harness = Harness(plan, net, model, client)
        return await harness.run()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--what", choices=("decode", "prefill", "forwarder", "link", "front"), default="decode")
    parser.add_argument("--greedy", type=int, default=3, help="rounds with the likeliest token")
    parser.add_argument("--seeded", type=int, default=3, help="rounds with a seed and penalties")
    parser.add_argument("--tokens", type=int, default=0, help="of an answer (200; 24 with --what prefill)")
    parser.add_argument("--batch", type=int, default=4, help="decode producers killed before any is started again")
    parser.add_argument("--at-once", type=int, default=2, help="answers side by side, with --what decode")
    parser.add_argument("--seed", type=int, default=1, help="of the positions")
    parser.add_argument("--schema", action="store_true", help="answers are held to a JSON schema")
    parser.add_argument("--cache", type=Path, help="prepared models (default: a fresh folder)")
    options = parser.parse_args()
    kinds = ("greedy",) * options.greedy + ("seeded",) * options.seeded
    tokens = options.tokens or (24 if options.what == "prefill" else 200)
    batch, at_once = (options.batch, options.at_once) if options.what == "decode" else (1, 1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as fresh:
        plan = Plan(options.what, kinds, tokens, batch, options.seed, at_once, options.schema)
        rounds = asyncio.run(failover(plan, options.cache or Path(fresh)))
    document = report(options.what, rounds, time.monotonic() - began)
    print(json.dumps(document))
    return 0 if document["complete"] == document["identical"] == len(rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
