"""Serve the OpenAI API in front of a network: the one that runs here, or one that it brings up for itself.

OpenAI clients, chat front ends and load generators ask it; it asks the network by name, verifies every byte, and holds
no model. What is spoken and what is refused: docs/gateway.md.

ndn-infer up                          in one terminal; without it, the gateway brings up a network that ends with it
ndn-infer gateway                     in another; then: export OPENAI_BASE_URL=http://127.0.0.1:8000/v1
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ndn_infer.apps.exposing import aliases_of, traced, tracer_of
from ndn_infer.apps.gateway_talks import GatewayTalks
from ndn_infer.client import Client
from ndn_infer.config import Config, GatewayConfig
from ndn_infer.config.values import address
from ndn_infer.console.signals import stop_on_signals
from ndn_infer.errors import NoForwarder, UsageError
from ndn_infer.evidence.live.remember import Remembering
from ndn_infer.functions.registry import ROLES
from ndn_infer.gateway.logged import LoggedRequests
from ndn_infer.gateway.metering import Metering
from ndn_infer.gateway.page.routes import paged
from ndn_infer.gateway.policies import KeptPolicies
from ndn_infer.gateway.routes import ALIASES, ROUTES
from ndn_infer.gateway.served import Served
from ndn_infer.gateway.server import GatewayServer
from ndn_infer.gateway.service import Service
from ndn_infer.gateway.tenants import Tenants
from ndn_infer.gateway.tracing import Tracing
from ndn_infer.gateway.uplink import Uplink
from ndn_infer.library.continuing import Conversations
from ndn_infer.library.joining import WantedNetwork, join
from ndn_infer.library.saved import SavedChats
from ndn_infer.local.network import CommonFlags
from ndn_infer.local.prepare import network_name
from ndn_infer.metrics.meters import Meters
from ndn_infer.node.keys import USER, ensure_keys
from ndn_infer.node.node import Node
from ndn_infer.node.node_samples import read_node
from ndn_infer.prompt_log.live.writers import LogWriters
from ndn_infer.prompt_log.policy import GATEWAY
from ndn_infer.security.domain_store import DomainStore, tenant_of
from ndn_infer.security.domains import PUBLIC
from ndn_infer.security.keychain import Keychain

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--listen", default="", metavar="HOST:PORT", help="default: gateway.listen, 127.0.0.1:8000")
    parser.add_argument("--port", type=int, metavar="PORT", help="the port alone; 0: a free one")
    parser.add_argument(
        "--api-key-file", type=Path, metavar="FILE",
        help="API keys, one a line, each with its domain and quotas (docs/gateway.md); default: none is wanted",
    )  # fmt: skip
    parser.add_argument("--domain", default="", metavar="NAME", help="ask privately, in a tenant domain")
    parser.add_argument("--model", default="", help="of an embedded network; default: ask.model")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--embedded", action="store_true", help="always bring up an embedded network")
    group.add_argument("--no-embedded", action="store_true", help="fail when no network is running")


def run(options: argparse.Namespace, config: Config) -> int:
    settings = _settings(options, config)
    domains = _Domains(options.domain, config)
    tenants = Tenants(options.api_key_file, domains.label_of)
    return asyncio.run(_serve(options, _Front(config, settings, domains, tenants)))


@dataclass(frozen=True, slots=True)
class _Front:
    """What is the same whichever network is behind."""

    config: Config
    settings: GatewayConfig
    domains: _Domains
    tenants: Tenants


def _settings(options: argparse.Namespace, config: Config) -> GatewayConfig:
    listen = options.listen or config.gateway.listen
    if options.port is not None:
        listen = f"{listen.rpartition(':')[0]}:{options.port}"
    try:
        address(listen)
    except ValueError as error:
        raise UsageError(f"--listen {listen}: {error}") from error
    return replace(config.gateway, listen=listen)


class _Domains:
    """Labels of domains' newest epochs, as this machine's files say at the time: keys are renewed meanwhile."""

    def __init__(self, name: str, config: Config) -> None:
        """`name`: the domain of those whose key names none. Raises what DomainStore.find raises, for a domain that is
        not here."""
        self._name = name
        self._store = DomainStore(config.keys_dir)
        self.own()

    def own(self) -> str:
        return self.label_of(self._name)

    def label_of(self, name: str) -> str:
        if name in ("", PUBLIC.label):
            return PUBLIC.label
        return tenant_of(self._store.find(name)).newest.label


async def _joined(options: argparse.Namespace, config: Config, ends: AsyncExitStack) -> Node:
    """A running network, whatever it serves; an embedded one where none runs, as the options say."""
    keychain = await asyncio.to_thread(ensure_keys, config, ROLES)
    if not options.embedded:
        try:
            return await ends.enter_async_context(await Node.join(config, keychain))
        except NoForwarder:
            named = config.network.transport or os.environ.get("NDN_CLIENT_TRANSPORT")
            if options.no_embedded or named:
                raise
    return await _embedded(options, config, keychain, ends)


async def _embedded(options: argparse.Namespace, config: Config, keychain: Keychain, ends: AsyncExitStack) -> Node:
    model = await asyncio.to_thread(network_name, config, options.model or config.ask.model, quiet=True)
    flags = CommonFlags(options.config, options.settings)
    wanted = WantedNetwork(
        model,
        "always",
        policy=config.gateway.policy or config.ask.policy,
        flags=flags,
        news=lambda text: print(text, file=sys.stderr, flush=True),
    )
    return (await join(config, keychain, wanted, ends)).node


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` gives; None when a signal came before, and the work has ended."""
    task, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return None
    return await task


async def _logged(client: Client, node: Node, ends: AsyncExitStack) -> LoggedRequests:
    """Where requests are recorded, in the name of this machine's user. Raises MissingKey, RegistrationRefused,
    StorageError."""
    inputs = client.inputs()
    await inputs.announce()
    writers = LogWriters(node, GATEWAY, node.signer_as(USER), inputs)
    ends.push_async_callback(writers.close)
    await writers.start()
    return LoggedRequests(writers)


async def _serve(options: argparse.Namespace, front: _Front) -> int:
    stop = asyncio.Event()
    stop_on_signals(stop)
    config = front.config
    async with AsyncExitStack() as ends:
        node = await _unless(stop, _joined(options, config, ends))
        if node is None:
            return 130
        client = await ends.enter_async_context(Client(node))
        client.meters = Meters()
        read_node(client.meters, node)
        metering = Metering(client.meters, aliases_of(config))
        if config.gateway.policy or config.ask.policy:
            await client.demand(config.gateway.policy or config.ask.policy)
        uplink = Uplink(node.endpoint, client)
        ends.callback(uplink.close)
        service = Service(client, config, front.domains.own)
        talks = GatewayTalks(Conversations(SavedChats(node, client), config))
        ends.push_async_callback(talks.close)
        service.talks = talks
        if config.recording.policies:
            service.log = await _logged(client, node, ends)
        if config.gateway.context == "on":
            remembering = Remembering(node)
            ends.push_async_callback(remembering.close)
            service.on_over = remembering.over
        served = Served(service, front.domains.label_of, uplink, KeptPolicies(client.policy_of))
        tracer = tracer_of(config, "gateway")
        await ends.enter_async_context(traced(config, tracer))
        middlewares = [metering.middleware, *([Tracing(tracer).middleware] if tracer is not None else [])]
        routes = [
            *paged((*ROUTES, *ALIASES), client, front.settings.answers, node.uri, keyed=bool(front.tenants)),
            metering.route,
        ]
        server = GatewayServer(served, front.settings, front.tenants, routes, middlewares)
        await server.open()
        ends.push_async_callback(server.close)
        print(f"READY {server.url}", flush=True)
        await stop.wait()
        print("stopping", file=sys.stderr, flush=True)
    return 0
