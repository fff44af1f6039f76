"""Scenarios of many: readers of one stream, a crowd with one system prompt, load at a rate, more than can be served."""

from __future__ import annotations

from ndn_infer.testbed import load
from ndn_infer.testbed.evidence import produced
from ndn_infer.testbed.result import percentile
from ndn_infer.testbed.scenario import scenario
from ndn_infer.testbed.world import LinkBytes, Prompt, World

EDGES = ("edge1", "edge2", "edge3", "edge4", "edge5")
RULES = (
    "You are the help desk of a railway. Answer in one short sentence. Never promise a refund; name the form instead. "
    "Trains are numbered, stations have two names, and delays are told in minutes. Be kind to people who missed a "
    "connection, and tell them about the next train before anything else. Do not invent times. "
) * 3


def _down(before: list[LinkBytes], after: list[LinkBytes], first: str, second: str) -> int:
    """Bytes that came down the link from `second` to `first`."""
    pairs = zip(before, after, strict=True)
    return sum(new.back - old.back for old, new in pairs if (new.first, new.second) == (first, second))


@scenario(topology="tree", about="fifty readers of one stream at five edges: the producer sends one copy")
async def fifty_readers(world: World) -> None:
    await world.join(*EDGES)
    await world.ask("edge1", Prompt("Hello.", max_tokens=4))  # certificates and catalogue are everywhere on the way
    empty = list(await world.link_bytes())
    before = await world.counters()
    many = await load.together(world, EDGES * 10, Prompt("Write about a windmill.", max_tokens=64))
    full = list(await world.link_bytes())
    after = await world.counters()

    lost = [row.error for row in many if not row.complete]
    egress = _down(empty, full, "core", "origin")
    edge = max(_down(empty, full, name, "core") for name in EDGES)
    calls = produced(before, after, "decode").get("calls", 0)
    world.claim("fifty readers have the answer", not lost, lost[0] if lost else len(many))
    world.claim("the same one", len({row.ids for row in many}) == 1, len(many[0].ids))
    world.claim("one execution", calls == 1, calls)
    # What one edge gets is one copy: how many packets an answer is follows the speed of this machine.
    words = f"{egress / max(1, edge):.3f} times what an edge gets"  # 'bench readers' measures it more closely
    world.claim("the producer sends one copy, within 5 %", egress < 1.05 * edge, words)
    world.record.details["egress_bytes"] = {"producer": egress, "edge": edge}


@scenario(topology="tree", about="a flash crowd with one system prompt: its KV cache is computed once")
async def flash_crowd(world: World) -> None:
    await world.join(*EDGES)
    before = await world.counters()
    asks = [(EDGES[n % 5], Prompt(f"Where is train {n}?", max_tokens=16, system=RULES)) for n in range(15)]
    rows = await load.open_loop(world, asks, every_s=0.2)
    after = await world.counters()

    lost = [row.error for row in rows if not row.complete]
    prefill, decode = produced(before, after, "prefill"), produced(before, after, "decode")
    alone = decode.get("prefill_blocks_computed", 0)  # left to its engine, where streams that begin alike share them
    computed = prefill.get("prefill_blocks_computed", 0) + decode.get("engine_blocks_prefilled", alone)
    blocks = prefill.get("token_blocks_pulled", 0) or computed
    world.claim("everybody was answered", not lost, lost[0] if lost else len(rows))
    world.claim("shared blocks were computed once", computed < 3 * len(rows) + 20, f"{computed:g} of {blocks:g} blocks")
    world.claim("time to the first token, p95", True, round(percentile([row.ttft_s for row in rows], 95), 3))


@scenario(topology="three_nodes", about="one question a second for a minute, 32 tokens each, whoever is still answered")
async def open_loop(world: World) -> None:
    await world.join("edge")
    await world.ask("edge", Prompt("Hello.", max_tokens=4))
    questions = [("edge", Prompt(f"Tell me something about the number {n}.", max_tokens=32)) for n in range(60)]
    rows = await load.open_loop(world, questions, every_s=1.0)
    done = [row for row in rows if row.complete]
    gaps = [gap for row in done for gap in row.gaps_s]
    world.claim("at least 99 % are complete", len(done) >= 0.99 * len(rows), f"{len(done)} of {len(rows)}")
    world.claim("each has 32 tokens", all(len(row.ids) == 32 for row in done), len(done))
    for name, values in (("first token", [row.ttft_s for row in done]), ("between arrivals", gaps)):
        words = f"p50 {percentile(values, 50):.3f} s, p99 {percentile(values, 99):.3f} s" if values else "none"
        world.claim(f"time to {name}" if name == "first token" else f"time {name}", bool(values), words)


@scenario(
    topology="three_nodes", about="more questions than can be served: some are told so at once, none hangs",
    settings=("engine.max_streams=2", "engine.queue_limit=2", "producer.queue_limit=4", "call.deadline_s=20"),
)  # fmt: skip
async def overload(world: World) -> None:
    await world.join("edge")
    await world.ask("edge", Prompt("Hello.", max_tokens=4))
    before = await world.counters()
    questions = [("edge", Prompt(f"Count from {n} upwards.", max_tokens=48)) for n in range(24)]
    rows = await load.open_loop(world, questions, every_s=0.1)
    after = await world.counters()
    again = await world.ask("edge", Prompt("Are you still there?", max_tokens=4))

    done = [row for row in rows if row.complete]
    refused = [row for row in rows if row.error.startswith("busy")]
    slow = max((row.total_s for row in refused), default=0.0)
    world.claim("some are answered", len(done) >= 2, len(done))
    world.claim("all others are told that it is busy", len(done) + len(refused) == len(rows), len(refused))
    world.claim("nobody is told so after the deadline", slow < 22, round(slow, 2))
    decoded = produced(before, after, "decode").get("tokens_decoded", 0)
    world.claim("no work but for answers", decoded <= 48 * (len(done) + 2), decoded)
    world.claim("afterwards it answers as before", again.complete, again.error)
