"""A whole network in one process over the real forwarder core: for attacks, which need a hand on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from ndn_infer import ndn
from ndn_infer.client import Client, Conversation
from ndn_infer.config import Config
from ndn_infer.forwarder.shell.inprocess import MemoryLink, MemoryNetwork
from ndn_infer.functions.base import Host, NamedFunction
from ndn_infer.functions.producer import Producer
from ndn_infer.namespace import Machine, Role
from ndn_infer.node.node import Node as JoinedNode
from ndn_infer.security.access import Access
from ndn_infer.security.domains import TenantDomain
from ndn_infer.security.keychain import Keychain
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.transport.calls.inputs import Inputs
from ndn_infer.transport.link.links import Link
from ndn_infer.transport.objects.serve import Server

NET = ndn.from_uri("/ndn-infer/local")


class Node:
    """One application on a MemoryNetwork, joined as the product joins it: `network` and `links` are the hand on the
    wire. What it remembers from one start to the next (versions, replays) is its own."""

    def __init__(
        self, network: MemoryNetwork, keychain: Keychain, config: Config, *, asks_as: str = "",
        domains: Sequence[TenantDomain] = (), commands_as: ndn.Name = b"",
    ) -> None:  # fmt: skip
        """`asks_as`: the role that makes private calls and publishes large requests, a member of `domains`.
        `commands_as`: the machine that signs commands to the forwarder; then it asks by hint where no route leads."""
        self.links: list[MemoryLink] = []
        self.network = network
        self.keychain = keychain
        self._files = TemporaryDirectory(prefix="node-", ignore_cleanup_errors=True)
        self.config = _on_this_machine(config, Path(self._files.name), commands_as)
        self.domains = list(domains)
        self._asks_as, self._detours = asks_as, bool(commands_as)
        self.access: Access | None = None
        self.inputs: Inputs | None = None

    async def _dial(self) -> Link:
        link = await self.network.dial()
        self.links.append(link)
        return link

    @property
    def link(self) -> MemoryLink:
        return self.links[-1]

    async def open(self) -> Self:
        self.joined = await JoinedNode.join(self.config, self.keychain, uri="memory://", dial=self._dial)
        self.endpoint, self.validator = self.joined.endpoint, self.joined.validator
        self.fetcher, self.registrar = self.joined.fetcher, self.joined.registrar
        if not self._detours:
            self.endpoint.detour = None
        self.server = Server(self.endpoint, ObjectStore(1 << 30))
        if self._asks_as:
            signer = self.keychain.signer_for(role(self._asks_as))
            self.access = Access(lambda: self.domains, signer, self.validator)
            self.inputs = Inputs(
                NET, self.server, signer, registrar=self.registrar, certificates=self.keychain.certificates
            )  # fmt: skip
        self.caller = self.joined.caller(inputs=lambda: self.inputs, access=self.access)
        return self

    def new_host(self) -> Host:
        """What its functions use of it."""
        return Host(self.joined, self.server, self.caller, access=self.access)

    async def produce(self, *functions: NamedFunction[Any]) -> Producer:
        host = self.new_host()
        self.counters = host.counters
        producer = Producer(host, self.keychain, self.registrar)
        await producer.begin()
        for function in functions:
            await producer.offer(function, self.keychain.signer_for(role(function.role)))
        return producer

    def conversation(self) -> Conversation:
        """With the keys of this machine's user, if they are here."""
        return Client(self.joined).conversation()

    async def close(self) -> None:
        await self.joined.close()
        self._files.cleanup()


def _on_this_machine(config: Config, folder: Path, machine: ndn.Name) -> Config:
    """With files of its own; deny lists are for tests that say so."""
    here = Machine.parse(NET, machine) if machine else Machine("home", "nobody")
    assert here is not None
    config = replace(
        config, paths=replace(config.paths, data_dir=str(folder)), trust=replace(config.trust, revocations="off"),
        network=replace(config.network, net=ndn.to_uri(NET), site=here.site, node=here.node),
    )  # fmt: skip
    config.keys_dir.mkdir(parents=True)
    return config


def role(label: str, site: str = "home", node: str = "n1") -> ndn.Name:
    return Role(site, node, label).to_name(NET)


def keychain_in(directory: Path, *roles: str, **options: Any) -> Keychain:
    """A fresh network's keys: operator and these roles of node n1."""
    keychain = Keychain.open_or_create(directory, NET, **options)
    keychain.ensure(NET + ndn.generic("operator"), *(role(label) for label in roles))
    return keychain
