"""Scenarios of distance: where the work is done, and how far KV cache and tokens travel."""

from __future__ import annotations

from ndn_infer.testbed.evidence import produced
from ndn_infer.testbed.load import together
from ndn_infer.testbed.scenario import MININDN, NAMESPACES, scenario
from ndn_infer.testbed.world import Prompt, World

STORY = "Rivers carry water, and names carry data to whoever asks for it. " * 12
"""About 200 tokens: a prompt of many KV blocks."""


@scenario(topology="edge_core_line", about="home, edge, metro, core: the second reader is served nearer to home")
async def edge_core_line(world: World) -> None:
    what = Prompt("Write two sentences about the sea.", max_tokens=24)
    first = await world.ask("home", what)
    between = await world.link_bytes()
    again = await world.ask("edge", what)
    after = await world.link_bytes()

    far = sum(new.back - old.back for old, new in zip(between, after, strict=True) if new.first in ("metro", "core"))
    near = first.complete and again.complete
    world.claim("home and edge were answered", near, first.error or again.error)
    world.claim("with the same tokens", near and first.ids == again.ids, len(again.ids))
    world.claim("the second answer did not come from the core", far < 12_000, f"{far} bytes")
    world.claim("its first token came sooner", again.ttft_s < first.ttft_s, round(again.ttft_s, 4))


@scenario(topology="three_sites", about="round trips of 20, 50 and 100 ms, 1 % loss: answers are whole and equal")
async def three_sites(world: World) -> None:
    before = await world.counters()
    rows = await together(world, ("lisbon", "oslo", "paris"), Prompt(f"{STORY} Say it in one line.", max_tokens=32))
    more = [await world.ask("lisbon", Prompt(f"Name city number {n} of Europe.", max_tokens=32)) for n in range(1, 5)]
    after = await world.counters()

    decode, prefill = produced(before, after, "decode"), produced(before, after, "prefill")
    lost = [row.error for row in (*rows, *more) if not row.complete]
    world.claim("every answer is complete", not lost, lost[0] if lost else len(rows) + len(more))
    world.claim("three sites read the same tokens", len({row.ids for row in rows}) == 1, len(rows[0].ids))
    fetched, made = decode.get("kv_blocks_fetched", 0), prefill.get("prefill_blocks_computed", 0)
    world.claim("KV cache came from the other site", 0 < fetched <= made, f"{fetched:g} of {made:g} blocks")
    world.claim("one stream for three readers", decode.get("calls", 0) == 1 + len(more), decode.get("calls", 0))


@scenario(topology="geant", about="24 cities: one question from eight of them, then one from each of the eight")
async def geant(world: World) -> None:
    cities = ("lisbon", "athens", "helsinki", "london", "bucharest", "stockholm", "madrid", "zagreb")
    await world.join(*cities)
    before = await world.counters()
    same = await together(world, cities, Prompt("What is a European research network for?", max_tokens=24))
    between = await world.counters()
    own = [await world.ask(city, Prompt(f"What is {city.title()} known for?", max_tokens=16)) for city in cities]

    lost = [f"{row.node}: {row.error}" for row in (*same, *own) if not row.complete]
    world.claim("every city was answered", not lost, lost[0] if lost else len(same) + len(own))
    world.claim("all read the same tokens", len({row.ids for row in same}) == 1, len(same[0].ids))
    decoded = produced(before, between, "decode").get("tokens_decoded", 0)
    world.claim("they were decoded once", decoded == 24, decoded)


@scenario(topology="edge_decode", about="decoding at the edge, prompts computed in the core: KV cache comes by name")
async def edge_decode_core_prefill(world: World) -> None:
    before = await world.counters()
    row = await world.ask("user", Prompt(f"{STORY} What do names carry?", max_tokens=32))
    after = await world.counters()

    decode, prefill = produced(before, after, "decode"), produced(before, after, "prefill")
    fetched, made = decode.get("kv_blocks_fetched", 0), prefill.get("prefill_blocks_computed", 0)
    own = decode.get("prefill_blocks_computed", 0)
    world.claim("the answer is complete", row.complete, row.error or len(row.ids))
    world.claim("the core computed the prompt", made > 8, f"{made:g} blocks")
    world.claim("the edge fetched all of it and computed none", fetched == made and own == 0, f"{fetched:g}, {own:g}")
    world.claim("the edge decoded", row.at == "edge", row.at)


@scenario(
    topology="pipeline", about="layers in three stages on three nodes, each token passes all of them",
    settings=("engine.threads=1",), worlds=(NAMESPACES, MININDN),
)  # fmt: skip
async def pipeline(world: World) -> None:
    row = await world.ask("user", Prompt("What is the capital of France?", max_tokens=24))
    more = await world.ask("user", Prompt("What is the capital of Italy?", max_tokens=24, seed=7))
    world.claim("the answer is right", row.complete and "Paris" in row.text, row.error or row.text[:60])
    world.claim("a sampled one is whole", more.complete and len(more.ids) == 24, more.error or len(more.ids))
    world.claim("the last stage decoded", row.at == "third", row.at)
