"""Anything may break at any time, drawn from the seed: no token is wrong, nobody hangs, and afterwards all is well.

For sweeps: `ndn-infer testbed run chaos --virtual --seeds 100` names the seeds that do not hold.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from ndn_infer.errors import NdnInferError
from ndn_infer.testbed import load
from ndn_infer.testbed.generated import Shape, consumers, wide_area
from ndn_infer.testbed.scenario import VIRTUAL, scenario
from ndn_infer.testbed.topology import Topology
from ndn_infer.testbed.virtual.model import right_answer
from ndn_infer.testbed.world import Prompt, World

LENGTH_S: Final = 40.0
BROKEN_S: Final = (0.2, 6.0)
PAUSE_S: Final = (0.2, 2.5)
LONGEST_S: Final = 100.0
"""Of one question: a call has 30 s, and a stream that is silent 30 more."""


def _town() -> Topology:
    return wide_area(Shape(nodes=40, cities=6, decode=5, prefill=3, tokenize=3), seed=2)


@scenario(
    topology=_town,
    about="random deaths, cuts and restarts: no wrong token, and afterwards all is well",
    worlds=(VIRTUAL,),
)
async def chaos(world: World) -> None:
    rng = random.Random(f"chaos {world.seed}")
    who = [rng.choice(consumers(world.topology)) for _ in range(40)]
    asks = [Prompt(f"Chaos {number}.", 48, seed=number if number % 2 else None) for number in range(len(who))]
    asking = asyncio.ensure_future(load.open_loop(world, list(zip(who, asks, strict=True)), LENGTH_S / len(asks)))
    async with asyncio.TaskGroup() as mending:
        while world.now() < LENGTH_S:
            await world.sleep(rng.uniform(*PAUSE_S))
            broken, mended = _fault(world, rng)
            mending.create_task(_for_a_while(world, broken, mended, rng.uniform(*BROKEN_S)))
    rows = await asking
    await world.sleep(15.0)
    late = [Prompt(f"After chaos {number}.", 16) for number in range(6)]
    after = [await world.ask(rng.choice(consumers(world.topology)), what) for what in late]

    wrong = [row for row, what in zip(rows, asks, strict=True) if row.ids != right_answer(what)[: len(row.ids)]]
    short = [row for row in rows if row.complete and len(row.ids) != 48]
    lost = [f"{row.node}: {row.error}" for row in rows if not row.complete]
    still = [
        row.error or "wrong tokens" for row, what in zip(after, late, strict=True) if row.ids != right_answer(what)
    ]
    slow = max(row.total_s for row in rows)
    world.claim("no token is wrong", not wrong, wrong[0].node if wrong else sum(len(row.ids) for row in rows))
    world.claim("no answer ends early without an error", not short, short[0].node if short else len(rows))
    world.claim("nobody hangs", slow < LONGEST_S, f"{slow:.1f} s at most")
    world.claim("afterwards all is well", not still, still[0] if still else len(after))
    world.claim("answers that went on elsewhere", True, sum(row.continued for row in rows))
    world.claim("questions that were lost", True, f"{len(lost)}, {lost[0]}" if lost else 0)


Step = Callable[[], Awaitable[None]]


def _fault(world: World, rng: random.Random) -> tuple[Step, Step]:
    """What breaks, and what mends it."""
    producers = [(node.name, role) for node in world.topology.nodes for role in node.functions]
    kind = rng.choice(("kill", "stop", "cut", "forwarder"))
    if kind == "cut":
        link = rng.choice(world.topology.links)
        return (lambda: world.cut(link.first, link.second)), (lambda: world.heal(link.first, link.second))
    node, role = rng.choice(producers)
    if kind == "forwarder":
        return (lambda: world.kill_forwarder(node)), (lambda: world.start_forwarder(node))
    end = world.kill if kind == "kill" else world.stop
    return (lambda: end(node, role)), (lambda: world.start(node, role))


async def _for_a_while(world: World, broken: Step, mended: Step, seconds: float) -> None:
    await broken()
    await world.sleep(seconds)
    while True:
        try:
            await mended()
            return
        except NdnInferError:  # a producer cannot start where the forwarder is down too
            await world.sleep(1.0)
