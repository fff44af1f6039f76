"""An answer whose producer is gone, in a network where producers of another engine class are: it waits for one of its
own class that may be there, and for nobody else. In virtual time, over the real forwarder core."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ndn_infer import clock, ndn
from ndn_infer.client import Answer, Client
from ndn_infer.config import Config
from ndn_infer.engine_class import WRONG_ENGINE
from ndn_infer.errors import CallError, NoForwarder
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.base import Job
from ndn_infer.functions.producer import Producer
from ndn_infer.records import GenerateRequest, Sampling
from ndn_infer.security.keychain import Keychain
from ndn_infer.testbed.virtual.functions import ModelGenerate
from ndn_infer.testbed.virtual.loop import run_virtual
from ndn_infer.testbed.virtual.model import Speed, VirtualEngine, model_record
from ndn_infer.transport.link.links import Link
from ndn_infer.transport.objects.live_stream import LiveStream
from tests.harness import NET, Node, role

OURS, OTHER = "bf16.bf16.llama-torch-3.grouped.avx512.raw", "bf16.int4.llama-torch-3.grouped.avx512.raw"
TOKENS, KILL_AT = 40, 10


class OfClass(ModelGenerate):
    """Refuses other classes, as the product's does."""

    def __init__(self, engine_class: str) -> None:
        super().__init__(VirtualEngine(Speed()))
        self._class = engine_class

    def engine_class(self) -> str:
        return self._class

    async def run(self, request: GenerateRequest, job: Job) -> LiveStream:
        if request.engine != self._class:
            raise CallError("another class", code=WRONG_ENGINE, offered=self._class)
        return await super().run(request, job)


class Mortal(Node):
    dead = False

    async def _dial(self) -> Link:
        if self.dead:
            raise NoForwarder("dead")
        return await super()._dial()

    def kill(self) -> None:
        """Its forwarder knows at once."""
        self.dead = True
        for link in self.links:
            link.close()


@dataclass
class World:
    keychain: Keychain
    network: MemoryNetwork = field(default_factory=MemoryNetwork)
    nodes: dict[str, Mortal] = field(default_factory=dict)
    producers: list[Producer] = field(default_factory=list)

    async def join(self, name: str, config: Config) -> Mortal:
        self.nodes[name] = await Mortal(self.network, self.keychain, config).open()
        return self.nodes[name]

    async def produce(self, name: str, engine_class: str) -> None:
        node = await self.join(name, Config())
        node.validator.add_certificates(*self.keychain.certificates())
        producer = Producer(node.new_host(), self.keychain, node.registrar)
        self.producers.append(producer)
        await producer.begin()
        await producer.offer(OfClass(engine_class), self.keychain.signer_for(role("decode", node=name)))

    @contextlib.contextmanager
    def deaf(self, name: str) -> Iterator[None]:
        """It has too much to do to answer anything."""
        links = self.nodes[name].links
        receivers = [link.receiver for link in links]
        for link in links:
            link.receiver = lambda packets: None
        yield
        for link, receiver in zip(links, receivers, strict=True):
            link.receiver = receiver


@contextlib.asynccontextmanager
async def world_of(choose: str = "soonest", **classes: str) -> AsyncIterator[tuple[World, Client]]:
    """Nodes that produce, each of its class, and one who asks and knows them by name."""
    with tempfile.TemporaryDirectory() as folder:
        keychain = Keychain.open_or_create(Path(folder), NET)
        identities = [role("decode", node=name) for name in classes]
        keychain.ensure(NET + ndn.generic("operator"), *identities)
        world = World(keychain)
        for name, engine_class in classes.items():
            await world.produce(name, engine_class)
        known = replace(Config().offers, choose=choose, pull=tuple(map(ndn.to_uri, identities)))
        asker = await world.join("asker", replace(Config(), offers=known))
        asker.validator.add_certificates(*keychain.certificates())
        async with Client(asker.joined) as client:
            yield world, client
        for producer in world.producers:
            await producer.close()
        for node in world.nodes.values():
            await node.close()
        world.network.close()


def answer_of(client: Client) -> Answer:
    conversation, model = client.conversation(), model_record("virtual")
    conversation.engines.only(model.digest, OURS)
    return Answer(conversation, model, tuple(range(5, 25)), Sampling(TOKENS, ignore_eos=True))


def test_nobody_waits_where_the_only_one_of_its_class_is_dead() -> None:
    async def work() -> None:
        async with world_of(first=OURS, other=OTHER) as (world, client):
            answer, killed_at = answer_of(client), 0.0
            with pytest.raises(CallError):
                async for _ in answer:
                    if len(answer.ids) >= KILL_AT and not killed_at:
                        world.nodes["first"].kill()
                        killed_at = clock.monotonic()
            assert answer.continued == 1 and KILL_AT <= len(answer.ids) < TOKENS
            assert clock.monotonic() - killed_at < 3.0

    run_virtual(work)


def test_one_of_its_class_that_could_not_say_that_it_is_there_goes_on() -> None:
    """It had too much to do when offers were looked for, and still has when the other one is killed."""

    async def work() -> None:
        async with world_of(first=OURS, other=OTHER, second=OURS) as (world, client):
            answer, loop = answer_of(client), asyncio.get_running_loop()
            deafness = contextlib.ExitStack()
            deafness.enter_context(world.deaf("second"))
            killed = False
            async for _ in answer:
                if len(answer.ids) >= KILL_AT and not killed:
                    world.nodes["first"].kill()
                    killed = True
                    loop.call_later(6.0, deafness.close)
            assert answer.continued == 1 and len(answer.ids) == TOKENS
            assert answer.by == role("decode", node="second")

    run_virtual(work)


@pytest.mark.parametrize("choose", ["soonest", "network"])
def test_who_is_silent_may_be_of_its_class_until_it_said_that_it_is_not(choose: str) -> None:
    async def work() -> None:
        async with world_of(choose, other=OTHER) as (world, client):
            answer, offers = answer_of(client), client.offers

            async def may_come() -> bool:
                await offers.look()
                return answer.conversation.engines.may_come(answer.model.digest, b"")

            assert not answer.conversation.engines.may_come(answer.model.digest, b"")
            with world.deaf("other"):
                assert await may_come() == (choose == "soonest")
            assert not await may_come() and [entry.offer.engine for entry in offers.entries()] == [OTHER]
            with world.deaf("other"):
                assert not await may_come()
            world.nodes["other"].kill()
            assert not await may_come()

    run_virtual(work)


def test_of_one_that_has_not_said_its_class_no_way_is_no_last_word() -> None:
    """Producers with too much to do were seen to be refused so for a moment; the lost one is another matter."""

    async def work() -> None:
        async with world_of(other=OTHER) as (world, client):
            answer, offers = answer_of(client), client.offers
            world.nodes["other"].kill()
            await offers.look()
            lost = role("decode", node="other")
            may_come = [offers.may_come(answer.model.digest, OURS, by) for by in (role("decode", node="else"), lost)]
            assert may_come == [True, False] and not list(offers.entries())

    run_virtual(work)
