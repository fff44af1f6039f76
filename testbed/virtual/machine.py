"""One node of a virtual network: a forwarder, and the processes of its applications.

Owns: starting and killing them, each a process of its own, joined as the product joins it (node.Node, compose.
build_producer, functions.producer.Producer). Must not know: links, routes, other nodes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ndn_infer import ndn
from ndn_infer.config import Config
from ndn_infer.config.values import grant
from ndn_infer.errors import Nacked
from ndn_infer.forwarder.shell.inprocess import MemoryLink, MemoryNetwork
from ndn_infer.functions.base import Host, NamedFunction
from ndn_infer.functions.compose import build_producer
from ndn_infer.functions.producer import Producer
from ndn_infer.ndn.lp import REASON_NO_ROUTE
from ndn_infer.ndn.name import Name
from ndn_infer.node.keys import machine_identity
from ndn_infer.node.node import Node, trust_schema
from ndn_infer.security.command_authority import CommandAuthority
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.validator import Validator
from ndn_infer.testbed.virtual.functions import functions_of
from ndn_infer.testbed.virtual.loop import Process
from ndn_infer.testbed.virtual.model import Speed, VirtualEngine
from ndn_infer.wire.manifest import ObjectPackets

T = TypeVar("T")


@dataclass(slots=True)
class Application:
    """A process of this node; its links are cut when it dies."""

    process: Process
    links: list[MemoryLink] = field(default_factory=list)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """As this process. Cancelled with whoever waits for it."""
        return await self.process.spawn(work)

    def kill(self) -> None:
        """At once: its forwarder sees its connection end, and nobody hears anything from it."""
        self.process.kill()
        for link in self.links:
            link.close()


@dataclass(slots=True)
class RunningProducer:
    application: Application
    node: Node
    producer: Producer
    host: Host
    identity: Name

    def counters(self) -> dict[str, float]:
        return {item.name: item.value for item in self.producer.status(self.identity).counters}


class VirtualNode:
    """`config` and `keychain` are this machine's; `catalogue` is offered by every producer. `strategy`, where it is not
    "", is what its forwarder uses below the network's name (NFD's name for it: "asf")."""

    def __init__(
        self, name: str, config: Config, keychain: Keychain, catalogue: Sequence[ObjectPackets], speed: Speed,
        seed: int, strategy: str = "",
    ) -> None:  # fmt: skip
        self.name = name
        self.config = config
        self.keychain = keychain
        self.speed = speed
        self.producers: dict[str, RunningProducer] = {}
        self._catalogue = catalogue
        self._seed = seed
        self._strategy = strategy
        self._started = 0
        self._processes = 0
        self._starting = asyncio.Lock()
        self.forwarder, self.network = self._new_forwarder()

    # ------------------------------------------------------------ forwarder

    def _new_forwarder(self) -> tuple[Process, MemoryNetwork]:
        process = Process(f"{self.name}/forwarder")
        self._started += 1
        seed = random.Random(f"{self._seed} {self.name} {self._started}").getrandbits(64)
        return process, process.run(lambda: self._guarded(MemoryNetwork(self.config.forwarder, seed=seed)))

    def _guarded(self, network: MemoryNetwork) -> MemoryNetwork:
        """Where the policy wants proof of who may register what, it is had from this machine's own certificates."""
        keychain = self.keychain
        validator = Validator(trust_schema(self.config), keychain.anchor, _nothing)
        validator.add_certificates(*keychain.certificates())
        authority = CommandAuthority(validator, keychain.net, map(grant, self.config.forwarder.grants))
        if self._strategy:
            network.core.strategies.set(keychain.net, ndn.from_uri(f"/localhost/nfd/strategy/{self._strategy}"))
        network.door.check = lambda claim: authority.check(claim.interest, claim.module, claim.prefix)
        return network

    def kill_forwarder(self) -> None:
        self.network.close()
        self.forwarder.kill()

    def start_forwarder(self) -> None:
        """A new one, without faces and routes; applications find it by themselves."""
        self.forwarder, self.network = self._new_forwarder()

    # ------------------------------------------------------------ applications

    def application(self, title: str) -> Application:
        return Application(Process(f"{self.name}/{title}"))

    async def join(self, application: Application, *, choose: bool = True) -> Node:
        """This application in the network: to be awaited as its process. Without `choose` it looks at no offers."""
        config = self.config
        if not choose:
            config = replace(config, offers=replace(config.offers, choose="network"))

        async def dial() -> MemoryLink:
            link = await self.network.dial()
            application.links.append(link)
            return link

        return await Node.join(config, self.keychain, uri=f"memory://{self.name}", dial=dial)

    async def start(self, role: str) -> None:
        """A producer; it answers calls when this returns. Raises UsageError for a role that no virtual node has,
        NdnInferError when its forwarder is dead."""
        async with self._starting:
            if role not in self.producers:
                await self._start(role, functions_of(role, VirtualEngine(self.speed)))

    async def _start(self, role: str, functions: Sequence[NamedFunction[Any]]) -> None:
        application = self.application(role)

        async def offer() -> RunningProducer:
            node = await self.join(application)
            producer, host = build_producer(node, role, self._instance(role))
            signer = node.signer_as(role)
            await producer.begin()
            for function in functions:
                await producer.offer(function, signer)
            for packets in self._catalogue:
                host.server.put(packets, pinned=True)
                await producer.offer_object(packets.base, signer)
            return RunningProducer(application, node, producer, host, signer.identity)

        try:
            self.producers[role] = await application.run(offer())
        except BaseException:
            application.kill()
            raise

    def _instance(self, role: str) -> str:
        """As random as the seed allows: choices depend on it, and equal seeds are to choose equally."""
        self._processes += 1
        return random.Random(f"{self._seed} {self.name}/{role} {self._processes}").randbytes(8).hex()

    def kill(self, role: str) -> None:
        running = self.producers.pop(role, None)
        if running is not None:
            running.application.kill()

    async def stop(self, role: str) -> None:
        """As an operator ends it: prefixes are withdrawn."""
        running = self.producers.pop(role, None)
        if running is None:
            return

        async def leave() -> None:
            await running.producer.close()
            await running.node.close()

        try:
            await running.application.run(leave())
        finally:
            running.application.kill()

    # ------------------------------------------------------------ what is seen from outside

    def registered(self) -> list[Name]:
        """Prefixes below the network's name that applications of this node registered."""
        core, net = self.network.core, self.keychain.net
        local = {face.id for face in core.faces.values() if face.local}
        return sorted(
            prefix
            for prefix, routes in core.rib.items()
            if prefix.startswith(net) and any(route.face_id in local for route in routes)
        )

    def own_prefix(self) -> Name:
        """Of everything that only this node answers for."""
        return machine_identity(self.config)


async def _nothing(name: Name) -> bytes:
    raise Nacked(f"{ndn.to_uri(name)} is not fetched", reason=REASON_NO_ROUTE)
