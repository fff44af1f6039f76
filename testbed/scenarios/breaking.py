"""Scenarios of what breaks and what moves in the middle of an answer."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from ndn_infer.testbed.evidence import Snapshot, produced
from ndn_infer.testbed.load import open_loop
from ndn_infer.testbed.scenario import MININDN_NLSR, NAMESPACES, VIRTUAL, scenario
from ndn_infer.testbed.world import AnswerProgress, Prompt, World

FOLLOWED = (NAMESPACES, MININDN_NLSR, VIRTUAL)
"""Where routes follow a node that moves."""


def _unanswered(before: Snapshot, after: Snapshot, node: str) -> int:
    """Interests that a node sent to its neighbours and that brought no Data."""
    counts = []
    for shot in (before, after):
        faces = shot.nodes[node].faces.values()
        counts.append(sum(face["out_interests"] for face in faces) - sum(face["in_data"] for face in faces))
    return counts[1] - counts[0]


@scenario(
    topology="mobile",
    about="a phone changes its cell in the middle of an answer: no token lost or doubled",
    worlds=FOLLOWED,
)
async def mobile_consumer(world: World) -> None:
    await world.join("phone", "desk")
    await world.ask("phone", Prompt("Hello.", max_tokens=4))
    before = await world.counters()
    what, progress = Prompt("Tell a long story about a train.", max_tokens=96), AnswerProgress()
    reading = asyncio.ensure_future(world.ask("phone", what, progress))
    moved = await progress.reached(24)
    await world.move("phone", "cell1", "cell2")
    row = await reading
    after = await world.counters()
    still = await world.ask("desk", what)

    world.claim("it moved in the middle", moved and row.total_s > 0, progress.tokens)
    world.claim("the answer is complete", row.complete and len(row.ids) == 96, row.error or len(row.ids))
    world.claim("with the tokens that a desk reads", row.ids == still.ids, len(still.ids))
    world.claim("longest gap", True, round(max(row.gaps_s, default=0.0), 3))
    world.claim("Interests that brought nothing", True, _unanswered(before, after, "phone"))


@scenario(topology="mobile", about="a van that decodes changes its depot in the middle of an answer", worlds=FOLLOWED)
async def mobile_producer(world: World) -> None:
    await world.join("desk")
    await world.ask("desk", Prompt("Hello.", max_tokens=4))
    before = await world.counters()
    what, progress = Prompt("Tell a long story about a ship.", max_tokens=96), AnswerProgress()
    reading = asyncio.ensure_future(world.ask("desk", what, progress))
    moved = await progress.reached(24)
    await world.move("van", "depot1", "depot2")
    row = await reading
    after = await world.counters()

    decode = produced(before, after, "decode")
    world.claim("it moved in the middle", moved, progress.tokens)
    world.claim("the answer is complete", row.complete and len(row.ids) == 96, row.error or len(row.ids))
    world.claim("one execution", decode.get("tokens_decoded", 0) == 96, decode.get("tokens_decoded", 0))
    world.claim("longest gap", True, round(max(row.gaps_s, default=0.0), 3))
    world.claim("Interests that brought nothing", True, _unanswered(before, after, "desk"))


@scenario(topology="two_decoders", about="every producer is restarted in turn while questions come: all are answered")
async def rolling_restart(world: World) -> None:
    await world.join("edge")
    questions = [("edge", Prompt(f"What is {n} plus {n}?", max_tokens=24)) for n in range(20)]
    asking = asyncio.ensure_future(open_loop(world, questions, every_s=2.0))
    await world.sleep(3)
    for node, role in (("left", "decode"), ("left", "tokenize"), ("right", "decode"), ("compute", "prefill")):
        await world.stop(node, role)
        await world.start(node, role)
        await world.sleep(1)
    rows = await asking
    lost = [row.error for row in rows if not row.complete]
    world.claim("every question was answered", not lost, lost[0] if lost else len(rows))
    world.claim("with all tokens", all(len(row.ids) == 24 for row in rows), len(rows))
    world.claim("answers that went on elsewhere", True, sum(row.continued for row in rows))
    world.claim("longest gap", True, round(max((gap for row in rows for gap in row.gaps_s), default=0.0), 3))


@scenario(topology="two_halves", about="decoding is cut off from prefill, and joined again: answers go on meanwhile")
async def partition_heal(world: World) -> None:
    await world.join("user")
    shots = [await world.counters()]
    rows = [await world.ask("user", Prompt("Before: what is a bridge, and who builds one?", max_tokens=24))]
    shots.append(await world.counters())
    await world.cut("gate1", "gate2")
    rows.append(await world.ask("user", Prompt("Meanwhile: what is an island, and who lives there?", max_tokens=24)))
    shots.append(await world.counters())
    await world.heal("gate1", "gate2")
    await world.sleep(11)  # decoding does not ask for ten seconds whoever was silent
    rows.append(await world.ask("user", Prompt("Afterwards: what is a ferry, and where does it go?", max_tokens=24)))
    shots.append(await world.counters())

    computed = "prefill_blocks_computed"
    far = [produced(old, new, "prefill").get(computed, 0) for old, new in pairwise(shots)]
    near = [produced(old, new, "decode").get(computed, 0) for old, new in pairwise(shots)]
    lost = [row.error for row in rows if not row.complete]
    world.claim("every answer is complete", not lost, lost[0] if lost else len(rows))
    world.claim("before, the east computed the prompt", far[0] > 0, f"{far[0]:g} there, {near[0]:g} here")
    world.claim("meanwhile the west did", far[1] == 0, f"{far[1]:g} there")
    east = await world.ask("east", Prompt("Afterwards: what is a ferry, and where does it go?", max_tokens=24))
    words = east.error or f"{len(east.ids)} tokens; {far[2]:g} blocks computed there, {near[2]:g} here"
    world.claim("afterwards the east is reached again", east.complete and east.ids == rows[2].ids, words)
    world.claim("first tokens", True, ", ".join(f"{row.ttft_s:.2f}" for row in rows))
