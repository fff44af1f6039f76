"""Scenarios of loss in the middle of an answer: its producer, the core's forwarder, a link. Tokens stay the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from ndn_infer.testbed.result import percentile
from ndn_infer.testbed.scenario import MININDN_NLSR, VIRTUAL, scenario
from ndn_infer.testbed.world import AnswerProgress, Prompt, PromptOutcome, World

TOKENS = 64
LIMIT_S = 1200.0
ROUNDS = 4
MANY_ROUNDS = 50
"""Where time costs nothing."""

Break = Callable[[World, str], Awaitable[None]]


async def _broken(world: World, node: str, what: Prompt, position: int, break_it: Break) -> PromptOutcome:
    """The answer to `what`, asked at `node`, with something broken once `position` tokens are there."""
    progress = AnswerProgress()
    reading = asyncio.ensure_future(world.ask(node, what, progress))
    if await progress.reached(position):
        await break_it(world, progress.at)
    return await reading


async def _rounds(world: World, break_it: Break, mend_it: Break, node: str = "edge") -> None:
    """Answers with and without a break, greedy and by seed in turn, at positions drawn by the world's seed. The one
    without asks for a token more: it is another call, with the same tokens and one after them."""
    draw = random.Random(world.seed)
    await world.join(node)
    pairs = []
    for number in range(MANY_ROUNDS if world.kind == VIRTUAL else ROUNDS):
        prompt, seed = f"Tell a story about the number {number}.", number if number % 2 else None
        row = await _broken(world, node, Prompt(prompt, TOKENS, seed), draw.randrange(1, TOKENS - 8), break_it)
        await mend_it(world, row.at)
        pairs.append((row, await world.ask(node, Prompt(prompt, TOKENS + 1, seed))))
    lost = [row.error for row, _ in pairs if not row.complete]
    same = sum(row.ids == whole.ids[:TOKENS] for row, whole in pairs)
    gaps = [max(row.gaps_s, default=0.0) for row, _ in pairs]
    world.claim("every answer is complete", not lost, lost[0] if lost else len(pairs))
    world.claim("with the tokens of one that was not broken", same == len(pairs), f"{same} of {len(pairs)}")
    words = f"p50 {percentile(gaps, 50):.2f} s, p95 {percentile(gaps, 95):.2f} s"
    world.claim("longest gap of an answer", bool(gaps), words)


@scenario(
    topology="two_decoders",
    limit_s=LIMIT_S,
    about="the producer of an answer is killed in the middle: another one goes on",
)
async def kill_decode(world: World) -> None:
    async def kill(world: World, at: str) -> None:
        await world.kill(at, "decode")

    async def mend(world: World, at: str) -> None:
        for node in ("left", "right"):
            await world.start(node, "decode")

    await _rounds(world, kill, mend)


@scenario(
    topology="two_decoders",
    limit_s=LIMIT_S,
    about="the core's forwarder is killed in the middle of an answer, and back a second later",
)
async def kill_core(world: World) -> None:
    async def kill(world: World, at: str) -> None:
        await world.kill_forwarder("core")
        await world.sleep(1)
        await world.start_forwarder("core")

    async def mend(world: World, at: str) -> None:
        await world.sleep(0.5)

    await _rounds(world, kill, mend)


@scenario(
    topology="two_decoders",
    limit_s=LIMIT_S,
    about="the link to the producer of an answer is cut in the middle, for good",
)
async def cut_link(world: World) -> None:
    async def cut(world: World, at: str) -> None:
        await world.cut("core", at)

    async def mend(world: World, at: str) -> None:
        for node in ("left", "right"):
            await world.heal("core", node)

    await _rounds(world, cut, mend)


@scenario(
    topology="ring",
    limit_s=LIMIT_S,
    about="the short way of an answer is lost in the middle, link or forwarder: routing finds the long one",
    worlds=(MININDN_NLSR,),
)
async def way_round(world: World) -> None:
    """Nobody routes again: that is for a routing protocol, or for forwarders that know of several next hops."""
    short: list[bool] = []

    async def lose(world: World, at: str) -> None:
        sent = {(link.first, link.second): link.back for link in await world.link_bytes()}
        short.append(sent["gate", "north"] > sent["gate", "south"])
        if len(short) % 2:
            await world.cut("gate", "north")
        else:
            await world.kill_forwarder("north")

    async def mend(world: World, at: str) -> None:
        await world.start_forwarder("north")
        await world.heal("gate", "north")

    before = {(link.first, link.second): link.back for link in await world.link_bytes()}
    await _rounds(world, lose, mend, "user")
    after = {(link.first, link.second): link.back for link in await world.link_bytes()}
    round_about = after["gate", "south"] - before["gate", "south"]
    world.claim("answers began on the short way", all(short), len(short))
    world.claim("and went on along the long one", round_about > 0, f"{round_about} bytes")
