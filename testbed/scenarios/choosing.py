"""Scenarios of choosing: the same load by offers and by anycast, in one run over one network.

Each question joins the network anew and looks at offers first, as `ndn-infer ask` does; that is in its time to the
first token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ndn_infer.testbed import load
from ndn_infer.testbed.evidence import produced
from ndn_infer.testbed.generated import Shape, consumers, wide_area
from ndn_infer.testbed.result import percentile
from ndn_infer.testbed.scenario import VIRTUAL, scenario
from ndn_infer.testbed.scenarios.crowds import RULES
from ndn_infer.testbed.topology import LinkSpec, NodeSpec, Topology
from ndn_infer.testbed.virtual.model import right_answer
from ndn_infer.testbed.world import Prompt, PromptOutcome, World

ALONE = (VIRTUAL,)
WAYS = ("by offers", "by anycast")
CROWD = 40
QUIET_S = 20.0
"""Everything in work has ended, and nobody remembers a busy producer."""


def _star(edges: int, near_ms: Sequence[int], seats: int) -> Topology:
    """Edges, a core that tokenizes, and one node that decodes so many answers at once at each of these distances."""
    nodes = [NodeSpec(f"edge{number}") for number in range(1, edges + 1)]
    nodes += [NodeSpec("core", {"functions": "tokenize"}), NodeSpec("compute", {"functions": "prefill"})]
    for number in range(1, len(near_ms) + 1):
        nodes.append(NodeSpec(f"decode{number}", {"functions": "decode", "seats": str(seats)}))
    links = [LinkSpec(node.name, "core", 5000, 100.0, cost=5) for node in nodes if node.name.startswith("edge")]
    links += [LinkSpec("compute", "core", 2000, 1000.0, cost=2)]
    links += [
        LinkSpec(f"decode{number}", "core", delay * 1000, 1000.0, cost=delay) for number, delay in enumerate(near_ms, 1)
    ]
    return Topology("star", tuple(nodes), tuple(links))


def _row(way: str, rows: Sequence[PromptOutcome]) -> str:
    times, at = [row.ttft_s for row in rows], Counter(row.at for row in rows)
    share = ", ".join(f"{node} {count}" for node, count in sorted(at.items()))
    return f"{way:12}{percentile(times, 50):8.3f}{percentile(times, 95):8.3f}{max(times):8.3f}   {share}"


def _compare(world: World, ways: dict[str, list[PromptOutcome]], asks: dict[str, list[Prompt]]) -> None:
    """A table, and the claims that all were answered rightly, and sooner by offers."""
    head = f"{'':12}{'p50':>8}{'p95':>8}{'max':>8}   seconds to the first token; answers of each producer"
    world.record.tables.append("\n".join([head, *(_row(way, rows) for way, rows in ways.items())]))
    world.record.details["first_token"] = {
        way: {
            "p50_s": round(percentile([row.ttft_s for row in rows], 50), 3),
            "p95_s": round(percentile([row.ttft_s for row in rows], 95), 3),
            "at": dict(sorted(Counter(row.at for row in rows).items())),
        }
        for way, rows in ways.items()
    }  # fmt: skip
    pairs = [(row, what) for way, rows in ways.items() for row, what in zip(rows, asks[way], strict=True)]
    wrong = [row.error or row.node for row, what in pairs if not row.complete or row.ids != right_answer(what)]
    world.claim("every answer has the right tokens", not wrong, wrong[0] if wrong else len(pairs))
    for percent in (50, 95):
        offers, anycast = (percentile([row.ttft_s for row in ways[way]], percent) for way in WAYS)
        words = f"{offers:.3f} s, by anycast {anycast:.3f} s"
        world.claim(f"first tokens come sooner by offers, p{percent}", offers < anycast, words)


@scenario(
    topology=lambda: _star(5, (3, 6, 9), 4), worlds=ALONE,
    about="a crowd with one system prompt at three producers: by what offers promise, against the nearest",
)  # fmt: skip
async def crowd_by_offers(world: World) -> None:
    ways: dict[str, list[PromptOutcome]] = {}
    asks: dict[str, list[Prompt]] = {}
    for way in WAYS:
        chosen, system = way == "by offers", f"{way}: {RULES}"
        asks[way] = [Prompt(f"Where is train {n}?", TOKENS, system=system, choose=chosen) for n in range(CROWD)]
        places = [f"edge{1 + n % 5}" for n in range(CROWD)]
        ways[way] = await load.open_loop(world, list(zip(places, asks[way], strict=True)), every_s=0.05)
        await world.sleep(QUIET_S)
    _compare(world, ways, asks)


def _several() -> Topology:
    return wide_area(Shape(nodes=100, cities=10, decode=6, prefill=2, tokenize=2))


@scenario(topology=_several, about="50 consumers at 50 nodes, six producers: equal calls run once", worlds=ALONE)
async def identical_calls_chosen(world: World) -> None:
    runs = []
    for number in range(3):
        what = Prompt(f"The same question, fifty times: number {number}.", 32)
        before = await world.counters()
        rows = await load.together(world, consumers(world.topology)[:50], what)
        after = await world.counters()
        tokens = produced(before, after, "decode").get("tokens_decoded", 0)
        right = all(row.ids == right_answer(what) for row in rows)
        runs.append((right, tokens / 32, rows[0].at))
        await world.sleep(QUIET_S)
    world.claim("all fifty have the right tokens, each time", all(right for right, _, _ in runs), len(runs))
    most = max(executions for _, executions, _ in runs)
    world.claim("one execution each", most == 1, ", ".join(f"{count:g} at {at}" for _, count, at in runs))


PREFIX = " ".join(f"{number:x}" for number in range(1000))
"""1,024 tokens with those of the template before it: 64 blocks. Short words, so that requests fit an Interest."""
IN_TURN = 10
TOKENS = 40


async def _sixteen(
    world: World, words: str, edges: Sequence[str], every_s: float
) -> tuple[dict[str, list[PromptOutcome]], dict[str, list[Prompt]]]:
    """Both ways: answers to sixteen questions with PREFIX, asked at these edges in turn; and the questions."""
    ways: dict[str, list[PromptOutcome]] = {}
    asks: dict[str, list[Prompt]] = {}
    for way in WAYS:
        await world.sleep(QUIET_S)
        choose = way == "by offers"
        asks[way] = [Prompt(f"{words} {way}: {number}.", TOKENS, system=PREFIX, choose=choose) for number in range(16)]
        places = [edges[number % len(edges)] for number in range(16)]
        ways[way] = await load.open_loop(world, list(zip(places, asks[way], strict=True)), every_s=every_s)
    return ways, asks


@scenario(
    topology=lambda: _star(1, (3, 3), 2), worlds=ALONE,
    about="of two equal producers one has the KV of 1,024 tokens: it is asked until its queue is longer",
)  # fmt: skip
async def prefix_holder(world: World) -> None:
    first = await world.ask("edge1", Prompt("Hello.", TOKENS, system=PREFIX, choose=False))
    holder = first.at
    rows = []
    for number in range(IN_TURN):
        await world.sleep(5.0)
        rows.append(await world.ask("edge1", Prompt(f"Question {number}.", TOKENS, system=PREFIX)))
    there = sum(row.at == holder for row in rows)
    world.claim("one after the other, all are asked of the holder", there == IN_TURN, f"{there} of {IN_TURN}")
    cold = first.ttft_s
    warm = percentile([row.ttft_s for row in rows], 50)
    world.claim("whose first tokens come sooner than its own first", warm < cold, f"{warm:.3f} s, {cold:.3f} s")
    ways, asks = await _sixteen(world, "A crowd", ["edge1"], every_s=0.25)
    chosen = [row.at for row in ways["by offers"]]
    until = next((number for number, at in enumerate(chosen) if at != holder), len(chosen))
    other = sum(at != holder for at in chosen)
    words = f"the first {until} of {len(chosen)} at the holder, {other} at the other one"
    world.claim("in a crowd the holder first, then the other one too", 2 <= until < len(chosen), words)
    _compare(world, ways, asks)


@scenario(
    topology=lambda: _star(4, (3, 3), 4), worlds=ALONE,
    about="sixteen questions in the same instant, of two producers one has their prefix: queues divide them",
)  # fmt: skip
async def crowd_at_once(world: World) -> None:
    first = await world.ask("edge1", Prompt("Hello.", TOKENS, system=PREFIX, choose=False))
    ways, asks = await _sixteen(world, "At once", [f"edge{number}" for number in range(1, 5)], every_s=0.0)
    chosen = [row.at for row in ways["by offers"]]
    there = chosen.count(first.at)
    words = f"{there} at the holder, {len(chosen) - there} at the other one"
    world.claim("both answer a quarter of them at least", 4 <= there <= len(chosen) - 4, words)
    _compare(world, ways, asks)
