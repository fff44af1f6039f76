"""Several processes of one identity, side by side at one forwarder: each serves what is its own, and nobody denies
what a sibling may hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ndn_infer import ndn
from ndn_infer.config import CallConfig, Config
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.functions.producer import Producer
from ndn_infer.functions.tokenize import Text
from ndn_infer.namespace import Instance, InstanceQuestion, asks_prefix
from ndn_infer.records import Record, TokenizeRequest
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.calls.direct import DirectAsk
from ndn_infer.transport.trust.presence import STATUS, ProducerStatus, StatusQuery
from tests.harness import NET, Node, keychain_in, role

SUBJECT = ("model", "ab" * 32)
CONFIG = replace(Config(), call=replace(CallConfig(), deadline_s=20.0))


class Echo(NamedFunction[TokenizeRequest]):
    """What it was given, `times` over, after a while: so it is acknowledged, and published when it is large."""

    function, role, request_type, subject = "tokenize", "tokenize", TokenizeRequest, SUBJECT

    def __init__(self, times: int = 1, wait_s: float = 0.0) -> None:
        self.times, self.wait_s, self.done = times, wait_s, 0

    async def run(self, request: TokenizeRequest, job: Job) -> Record:
        await asyncio.sleep(self.wait_s)
        self.done += 1
        return Text(request.text * self.times)


@dataclass
class World:
    folder: Path
    network: MemoryNetwork = field(default_factory=MemoryNetwork)
    nodes: list[Node] = field(default_factory=list)
    producers: list[Producer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keychain = keychain_in(self.folder / "keys", "tokenize", "user")

    async def node(self, asks_as: str = "") -> Node:
        self.nodes.append(await Node(self.network, self.keychain, CONFIG, asks_as=asks_as).open())
        return self.nodes[-1]

    async def produce(self, function: Echo) -> Node:
        node = await self.node("tokenize")
        self.producers.append(await node.produce(function))
        return node


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    for producer in world.producers:
        await producer.close()
    for node in world.nodes:
        await node.close()
    world.network.close()


async def test_eight_callers_of_one_identity_with_large_requests_get_eight_answers(world: World) -> None:
    await world.produce(Echo())
    askers = [await world.node("user") for _ in range(8)]
    texts = [f"{number} " * 2500 for number in range(8)]

    async def ask(asker: Node, text: str) -> str:
        return (await asker.caller.call(Ask(SUBJECT, "tokenize", TokenizeRequest(text=text)), Text)).text

    answers = await asyncio.gather(*map(ask, askers, texts))
    assert answers == texts
    assert len({asker.inputs.instance for asker in askers if asker.inputs}) == 8


@pytest.mark.parametrize("wait_s", [0.0, 0.6], ids=["at once", "acknowledged"])
async def test_two_producers_of_one_identity_both_give_their_results(world: World, wait_s: float) -> None:
    """Results too large for an answer lie at one of them; the other is asked as often by the forwarder."""
    functions = [Echo(9000, wait_s), Echo(9000, wait_s)]
    for function in functions:
        await world.produce(function)
    asker = await world.node("user")
    for number in range(4):
        if number == 2:  # the route to the one that was asked first goes
            await world.producers[0].close()
        request = TokenizeRequest(text=f"{number}")
        assert (await asker.caller.call(Ask(SUBJECT, "tokenize", request), Text)).text == f"{number}" * 9000
    assert [function.done for function in functions] == [2, 2]


async def test_a_result_is_found_at_its_own_producer_whichever_of_two_the_forwarder_prefers(world: World) -> None:
    first, second = Echo(9000, 0.6), Echo(9000, 0.6)
    await world.produce(first)
    asker = await world.node("user")
    request = TokenizeRequest(text="x")
    answered = await asker.caller.start(Ask(SUBJECT, "tokenize", request))
    late = await world.produce(second)  # the same prefixes, and the same identity
    base = ndn.from_uri(answered.answer.result)
    for _ in range(3):  # asked without a hint the sibling does not deny it, and with the hint it is not asked at all
        late.endpoint.stats.interests_in = 0
        found = await asker.fetcher.await_object(base, hints=(ndn.from_uri(answered.answer.hint),), deadline_s=5)
        assert found.manifest is not None and late.endpoint.stats.interests_in == 0
    assert first.done == 1 and second.done == 0


async def test_each_process_has_a_status_of_its_own(world: World) -> None:
    for _ in range(2):
        await world.produce(Echo())
    asker = await world.node("user")
    identities = []
    for node in world.nodes[:2]:
        instance = next(name for name in node.registrar.prefixes if Instance.parse(NET, name))
        status = (await asker.caller.direct.ask(DirectAsk(instance, STATUS, StatusQuery()), ProducerStatus)).record
        assert ndn.to_uri(instance) in status.offers
        assert InstanceQuestion.parse(NET, asks_prefix(instance) + ndn.generic(STATUS)) is not None
        identities.append(status.identity)
    assert identities == [ndn.to_uri(role("tokenize"))] * 2
