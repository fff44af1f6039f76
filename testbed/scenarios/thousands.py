"""Scenarios that only virtual time can run: networks of up to a thousand nodes, and hundreds of deaths.

Every answer is compared with the one right answer, token by token: the model of virtual networks has one for each
question, whoever gives it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence

from ndn_infer.testbed import load
from ndn_infer.testbed.evidence import Snapshot, produced
from ndn_infer.testbed.generated import Shape, consumers, wide_area
from ndn_infer.testbed.result import percentile
from ndn_infer.testbed.scenario import VIRTUAL, scenario
from ndn_infer.testbed.topology import Topology
from ndn_infer.testbed.virtual.model import right_answer
from ndn_infer.testbed.world import AnswerProgress, LinkBytes, Prompt, PromptOutcome, World

ALONE = (VIRTUAL,)


def _all_right(world: World, asked: Iterable[tuple[PromptOutcome, Prompt]]) -> None:
    """Two claims: everything was answered, and with the right tokens."""
    rows = list(asked)
    lost = [f"{row.node} at {row.began_s:.1f}: {row.error}" for row, _ in rows if not row.complete]
    wrong = [f"{row.node} at {row.began_s:.1f}" for row, what in rows if row.complete and row.ids != right_answer(what)]
    world.claim("every question was answered", not lost, f"{len(lost)} were not; {lost[0]}" if lost else len(rows))
    world.claim("with the right tokens", not wrong, wrong[0] if wrong else sum(len(row.ids) for row, _ in rows))


def _first_tokens(world: World, rows: Sequence[PromptOutcome]) -> None:
    times = [row.ttft_s for row in rows if row.complete]
    if times:
        text = f"p50 {percentile(times, 50):.3f} s, p95 {percentile(times, 95):.3f} s"
        world.claim("time to the first token", True, text)


def _executions(before: Snapshot, after: Snapshot) -> int:
    return int(produced(before, after, "decode").get("calls", 0))


# ---------------------------------------------------------------- a thousand nodes


def _thousand() -> Topology:
    return wide_area(Shape(nodes=1000, cities=40, decode=60, prefill=30, tokenize=10))


@scenario(topology=_thousand, about="1,000 nodes, 100 of them producers: 200 questions from 200 nodes", worlds=ALONE)
async def thousand_nodes(world: World) -> None:
    rng = random.Random(world.seed)
    who = rng.sample(consumers(world.topology), 200)
    popular = [Prompt(f"What is the weather in region {number}?", 24) for number in range(10)]
    asks = [popular[n % 10] if n % 2 else Prompt(f"Tell {node} something.", 24) for n, node in enumerate(who)]
    before = await world.counters()
    rows = await load.open_loop(world, list(zip(who, asks, strict=True)), every_s=0.05)
    after = await world.counters()
    _all_right(world, zip(rows, asks, strict=True))
    _first_tokens(world, rows)
    executions, different = _executions(before, after), len(set(asks))
    world.claim("producers that answered", len({row.at for row in rows}) >= 20, len({row.at for row in rows}))
    world.claim("executions", executions < len(rows), f"{executions} of {different} different questions")


# ---------------------------------------------------------------- one execution, one copy


def _hundred() -> Topology:
    return wide_area(Shape(nodes=100, cities=10, decode=1, prefill=2, tokenize=2))


@scenario(topology=_hundred, about="50 consumers at 50 nodes make the same call at once: it runs once", worlds=ALONE)
async def identical_calls(world: World) -> None:
    what = Prompt("The same question, fifty times.", 32)
    before = await world.counters()
    rows = await load.together(world, consumers(world.topology)[:50], what)
    after = await world.counters()
    _all_right(world, [(row, what) for row in rows])
    calls, tokens = _executions(before, after), produced(before, after, "decode").get("tokens_decoded", 0)
    world.claim("one execution", tokens == 32, f"{calls} calls reached a producer, {tokens:g} tokens were decoded")


@scenario(topology="tree", about="100 readers of one stream on an edge-core tree: copies on every link", worlds=ALONE)
async def hundred_readers(world: World) -> None:
    edges = [node.name for node in world.topology.nodes if node.name.startswith("edge")]
    for edge in edges:
        await world.ask(edge, Prompt("Hello.", 4))  # certificates and catalogue are everywhere on the way
    shots = [list(await world.link_bytes())]
    one, many = Prompt("Write about a lighthouse.", 200), Prompt("Write about a windmill now.", 200)
    single = await load.together(world, edges, one)
    shots.append(list(await world.link_bytes()))
    crowd = await load.together(world, edges * (100 // len(edges)), many)
    shots.append(list(await world.link_bytes()))
    _all_right(world, [*((row, one) for row in single), *((row, many) for row in crowd)])
    alone, together = _grown(*shots[:2]), _grown(*shots[1:])
    copies = {link: round(together[link] / alone[link], 3) for link in alone if alone[link]}
    world.record.details["copies_by_link"] = copies
    most = max(copies.values())
    world.claim("every link carries what one reader at each edge costs", most < 1.05, f"{most} times as many bytes")


def _grown(before: Sequence[LinkBytes], after: Sequence[LinkBytes]) -> dict[str, int]:
    return {
        f"{new.first}-{new.second}": new.forth - old.forth + new.back - old.back
        for old, new in zip(before, after, strict=True)
    }


# ---------------------------------------------------------------- deaths


KILLED_AT = 200


@scenario(
    topology="two_decoders", about="the decode producer is killed after each token of an answer of 200, in 200 runs",
    settings=("producer.event_ms=0",), limit_s=100_000.0, worlds=ALONE,
)  # fmt: skip
async def killed_everywhere(world: World) -> None:
    await killed_at(world, range(1, KILLED_AT))


async def killed_at(world: World, positions: Iterable[int]) -> None:
    """One answer for each position, half of them sampled; whoever decodes it dies when its reader has so many tokens,
    and starts again before the next."""
    rows, asks, gaps = [], [], []
    for position in positions:
        what, progress = (
            Prompt(f"Run {position}.", KILLED_AT, seed=position if position % 2 else None),
            AnswerProgress(),
        )
        before = await world.counters()
        reading = asyncio.ensure_future(world.ask("edge", what, progress))
        reached = await progress.reached(position)
        node = _decoding(before, await world.counters())
        if reached and node:
            await world.kill(node, "decode")
        row = await reading
        rows.append(row)
        asks.append(what)
        gaps.append(max(row.gaps_s, default=0.0))
        if reached and node:
            await world.start(node, "decode")
            await world.sleep(1.0)
    _all_right(world, zip(rows, asks, strict=True))
    continued = sum(row.continued > 0 for row in rows)
    world.claim("all went on elsewhere", continued == len(rows), f"{continued} of {len(rows)}")
    text = f"p50 {percentile(gaps, 50):.3f} s, p95 {percentile(gaps, 95):.3f} s, max {max(gaps):.3f} s"
    world.claim("longest gap of an answer: p95 below 2 s", percentile(gaps, 95) < 2.0, text)
    world.record.details["gaps_s"] = [round(gap, 6) for gap in gaps]


def _decoding(before: Snapshot, after: Snapshot) -> str:
    """The node whose decode producer made tokens in between."""
    for key, counters in after.producers.items():
        node, _, role = key.partition("/")
        made = counters.get("tokens_decoded", 0) - before.producers.get(key, {}).get("tokens_decoded", 0)
        if role == "decode" and made > 0:
            return node
    return ""


def _hundred_decoders() -> Topology:
    return wide_area(Shape(nodes=300, cities=20, decode=100, prefill=10, tokenize=5))


@scenario(
    topology=_hundred_decoders, about="100 decode producers are restarted in turn while questions come", worlds=ALONE
)  # fmt: skip
async def hundred_restarts(world: World) -> None:
    rng = random.Random(world.seed)
    who = rng.choices(consumers(world.topology), k=150)
    asks = [Prompt(f"Question {number} of the restart.", 40) for number in range(len(who))]
    asking = asyncio.ensure_future(load.open_loop(world, list(zip(who, asks, strict=True)), every_s=0.4))
    for node in world.topology.with_function("decode"):
        await world.stop(node, "decode")
        await world.sleep(0.3)
        await world.start(node, "decode")
        await world.sleep(0.3)
    rows = await asking
    _all_right(world, zip(rows, asks, strict=True))
    world.claim("answers that went on elsewhere", True, sum(row.continued for row in rows))
    gaps = [max(row.gaps_s, default=0.0) for row in rows]
    world.claim("longest gap", True, f"{max(gaps):.3f} s")


# ---------------------------------------------------------------- partition


def _two_countries() -> Topology:
    return wide_area(Shape(nodes=120, cities=12, decode=12, prefill=8, tokenize=8), seed=4)


@scenario(
    topology=_two_countries, about="a network of 120 nodes is cut in two for a minute: both halves go on", worlds=ALONE
)  # fmt: skip
async def partition(world: World) -> None:
    border, west = _border(world.topology)
    rng = random.Random(world.seed)
    askers = consumers(world.topology)
    rows, asks, took = [], [], []
    for phase in ("before", "meanwhile", "after"):
        for first, second in border if phase == "meanwhile" else ():
            await world.cut(first, second)
        for first, second in border if phase == "after" else ():
            await world.heal(first, second)
        now = [Prompt(f"{phase} {number}", 16) for number in range(20)]
        found = await load.open_loop(world, [(rng.choice(askers), what) for what in now], every_s=0.5)
        rows += found
        asks += now
        took.append(round(percentile([row.ttft_s for row in found if row.complete], 95), 3))
    _all_right(world, zip(rows, asks, strict=True))
    world.claim(
        "the border", True, f"{len(border)} links; {len(west)} of {len(world.topology.nodes)} nodes in the west"
    )
    world.claim("first tokens, p95: before, meanwhile, after", True, ", ".join(map(str, took)))


def _border(topology: Topology) -> tuple[list[tuple[str, str]], set[str]]:
    """Links between the first half of the cities, as one walks from the first, and the rest; who is in that half.
    Both halves are in one piece."""
    cities = [node.name for node in topology.nodes if node.name.startswith("city")]
    near: dict[str, set[str]] = {}
    for link in topology.links:
        near.setdefault(link.first, set()).add(link.second)
        near.setdefault(link.second, set()).add(link.first)
    west: dict[str, None] = {}
    queue = [cities[0]]
    while queue and len(west) < len(cities) // 2:
        city = queue.pop(0)
        if city not in west and _in_one_piece(set(cities) - set(west) - {city}, near):
            west[city] = None
            queue += sorted(other for other in near[city] if other in cities)
    inside = set(west) | {other for city in west for other in near[city] if other not in cities}
    return [
        (link.first, link.second) for link in topology.links if (link.first in inside) != (link.second in inside)
    ], inside


def _in_one_piece(nodes: set[str], near: Mapping[str, set[str]]) -> bool:
    reached, queue = set[str](), sorted(nodes)[:1]
    while queue:
        node = queue.pop()
        if node not in reached:
            reached.add(node)
            queue += near[node] & nodes
    return reached == nodes
