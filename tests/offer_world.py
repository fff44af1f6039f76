"""Producers that offer, and askers that choose by offers, over a real forwarder core. A producer's routes are not
announced: it is reached by hint."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ndn_infer import ndn
from ndn_infer.config import CallConfig, Config
from ndn_infer.errors import CallError
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.functions.producer import Producer
from ndn_infer.functions.tokenize import Text
from ndn_infer.offers.live.chooser import OfferChooser
from ndn_infer.offers.live.offers import Offers, Where
from ndn_infer.records import Record, TokenizeRequest
from ndn_infer.security.keychain import Keychain
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.calls.caller import Caller
from tests.harness import NET, Node, role

SUBJECT = ("model", "ab" * 32)
NAMES = ("a", "b", "c")
CONFIG = replace(Config(), call=replace(CallConfig(), deadline_s=10.0))


class Echo(NamedFunction[TokenizeRequest]):
    """Says who answered; `fails` is raised instead."""

    function, role, request_type, subject = "tokenize", "tokenize", TokenizeRequest, SUBJECT

    def __init__(self, name: str) -> None:
        self.name, self.done = name, 0
        self.fails: CallError | None = None

    async def run(self, request: TokenizeRequest, job: Job) -> Record:
        self.done += 1
        if self.fails is not None:
            raise self.fails
        return Text(self.name)


class Producing(Node):
    """A producer on a machine of its own name; without `announced` it has a route to its identity and no other."""

    async def offer(self, function: Echo, *, announced: bool) -> None:
        self.function = function
        if not announced:
            register = self.registrar.register

            async def own_only(prefix: ndn.Name, **options: Any) -> None:
                if prefix.startswith(role("tokenize", node=function.name)):
                    await register(prefix, **options)

            self.registrar.register = own_only  # type: ignore[method-assign]
        host = self.new_host()
        self.hint = host.hint(self.keychain.signer_for(role("tokenize", node=function.name)))
        self.producer = Producer(host, self.keychain, self.registrar)
        await self.producer.begin()
        await self.producer.offer(function, self.keychain.signer_for(role("tokenize", node=function.name)))


@dataclass
class World:
    keychain: Keychain
    network: MemoryNetwork = field(default_factory=MemoryNetwork)
    nodes: list[Node] = field(default_factory=list)
    offered: list[Offers] = field(default_factory=list)

    async def produce(self, name: str, *, announced: bool = False) -> Producing:
        node = Producing(self.network, self.keychain, CONFIG)
        self.nodes.append(await node.open())
        await node.offer(Echo(name), announced=announced)
        return node

    async def asker(self, **config: Any) -> Node:
        node = await Node(self.network, self.keychain, CONFIG).open()
        self.nodes.append(node)
        node.validator.add_certificates(*self.keychain.certificates())
        where = Where.of(NET, node.endpoint, node.validator, replace(CONFIG, offers=replace(CONFIG.offers, **config)))
        self.offered.append(Offers(where))
        node.caller = Caller(
            node.endpoint, node.validator, node.fetcher, NET, config=CONFIG.call, fetch=CONFIG.fetch,
            chooser=OfferChooser(self.offered[-1]),
        )  # fmt: skip
        return node


@asynccontextmanager
async def offer_world(folder: Path) -> AsyncIterator[World]:
    keychain = Keychain.open_or_create(folder, NET)
    keychain.ensure(NET + ndn.generic("operator"), *(role("tokenize", node=name) for name in NAMES))
    world = World(keychain)
    yield world
    for offers in world.offered:
        await offers.close()
    for node in world.nodes:
        if isinstance(node, Producing):
            await node.producer.close()
        await node.close()
    world.network.close()


async def ask(node: Node, text: str) -> str:
    return (await node.caller.call(Ask(SUBJECT, "tokenize", TokenizeRequest(text=text)), Text)).text
