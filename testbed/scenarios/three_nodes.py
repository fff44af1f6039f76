"""Three nodes in a row: KV cache is computed in one, fetched by name in the next, and caches answer who asks again.

Last, a question that is longer than a call carries: whoever answers pulls it from where it was asked."""

from __future__ import annotations

from dataclasses import asdict

from ndn_infer.testbed import evidence
from ndn_infer.testbed.scenario import VIRTUAL, scenario
from ndn_infer.testbed.world import Prompt, World

LONG = Prompt("What does a line of hyphens mean? " + 5000 * "-", max_tokens=2)
"""More bytes than calls.inline_bytes, and few tokens: hyphens go together."""


@scenario(topology="three_nodes", about="the same question twice: KV cache travels by name, caches answer the second")
async def three_nodes(world: World) -> None:
    what = Prompt(evidence.DEFAULT_PROMPT, max_tokens=8)
    roles = world.topology.roles()
    before = await world.counters()
    first = await world.ask(world.topology.consumer, what)
    between = await world.counters()
    second = await world.ask(world.topology.consumer, what)
    after = await world.counters()
    by_reference = await world.ask(world.topology.consumer, LONG)

    questions = (
        evidence.AskEvidence(asdict(first), before, between),
        evidence.AskEvidence(asdict(second), between, after),
    )
    world.claim("both questions were answered", first.complete and second.complete, first.error or second.error)
    expect = evidence.DEFAULT_EXPECT if world.kind != VIRTUAL else ""  # hashes know nothing of France
    for check in evidence.judge(*questions, expect=expect, roles=roles):
        world.claim(check.claim, check.holds, check.numbers)
    world.claim("a question too long for a call was pulled by name", by_reference.complete, by_reference.error)
    world.record.details["questions"] = [asdict(question) for question in questions]
    world.record.tables.append(evidence.table(*questions))
