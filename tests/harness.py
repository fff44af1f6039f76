"""A whole network in one process over the real forwarder core: for attacks, which need a hand on the wire."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ndn_infer import ndn
from ndn_infer.client import Client, Conversation
from ndn_infer.config import Config
from ndn_infer.forwarder.shell.inprocess import MemoryLink, MemoryNetwork
from ndn_infer.functions.base import Host, NamedFunction
from ndn_infer.functions.producer import Producer
from ndn_infer.namespace import Role
from ndn_infer.node.known import detour
from ndn_infer.node.node import Node as JoinedNode
from ndn_infer.security.access import Access
from ndn_infer.security.domains import TenantDomain
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import Validator
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.transport.calls.caller import Caller
from ndn_infer.transport.calls.inputs import Inputs
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.objects.serve import Server

NET = ndn.from_uri("/ndn-infer/local")


class Node:
    """One application on a MemoryNetwork: endpoint, validator, fetcher, caller, server, keys."""

    def __init__(
        self, network: MemoryNetwork, keychain: Keychain, config: Config, *, clock: Any = time.time,
        asks_as: str = "", domains: Sequence[TenantDomain] = (), commands_as: ndn.Name = b"",
    ) -> None:  # fmt: skip
        """`asks_as`: the role that makes private calls and publishes large requests, a member of `domains`.
        `commands_as`: the identity that signs commands to the forwarder; then it asks by hint where no route leads."""
        self.links: list[MemoryLink] = []
        self.network = network
        self.keychain = keychain
        self.config = config
        self.endpoint = Endpoint(self._dial)
        self.validator = Validator(TrustSchema.load(NET), keychain.anchor, self._certificate, now=clock)
        self.server = Server(self.endpoint, ObjectStore(1 << 30))
        self.registrar = Registrar(self.endpoint, keychain.signer_for(commands_as) if commands_as else None)
        if commands_as:
            self.endpoint.detour = detour(config)
        self.domains = list(domains)
        self.access: Access | None = None
        self.inputs: Inputs | None = None
        if asks_as:
            signer = keychain.signer_for(role(asks_as))
            self.access = Access(lambda: self.domains, signer, self.validator)
            self.inputs = Inputs(
                NET, self.server, signer, registrar=self.registrar, certificates=keychain.certificates
            )  # fmt: skip

    async def _dial(self) -> MemoryLink:
        link = self.network.attach()
        self.links.append(link)
        return link

    async def _certificate(self, name: ndn.Name) -> bytes:
        data, _ = await self.endpoint.express(name, can_be_prefix=True, lifetime_ms=1000)
        return data.wire

    @property
    def link(self) -> MemoryLink:
        return self.links[-1]

    async def open(self) -> Node:
        await self.endpoint.open()
        self.fetcher = Fetcher(self.endpoint, self.validator, self.config.fetch)
        self.caller = Caller(
            self.endpoint, self.validator, self.fetcher, NET, config=self.config.call, fetch=self.config.fetch,
            access=self.access, inputs=lambda: self.inputs,
        )  # fmt: skip
        await self.registrar.enable_local_fields()
        return self

    async def produce(self, *functions: NamedFunction[Any]) -> Producer:
        host = Host(NET, self.config, self.server, self.fetcher, self.caller, access=self.access)
        self.counters = host.counters
        producer = Producer(host, self.keychain, self.registrar)
        await producer.begin()
        for function in functions:
            await producer.offer(function, self.keychain.signer_for(role(function.role)))
        return producer

    def conversation(self) -> Conversation:
        """With the keys of this machine's user, if they are here."""
        joined = JoinedNode(self.config, NET, self.keychain, self.endpoint, self.validator, uri="")
        return Client(joined).conversation()

    async def close(self) -> None:
        await self.validator.aclose()
        await self.registrar.close()
        await self.endpoint.close()


def role(label: str, site: str = "home", node: str = "n1") -> ndn.Name:
    return Role(site, node, label).to_name(NET)


def keychain_in(directory: Path, *roles: str, **options: Any) -> Keychain:
    """A fresh network's keys: operator and these roles of node n1."""
    keychain = Keychain.open_or_create(directory, NET, **options)
    keychain.ensure(NET + ndn.generic("operator"), *(role(label) for label in roles))
    return keychain
