"""Serve the OpenAI API in front of a running network.

OpenAI clients, chat front ends and load generators ask it; it asks the network by name, verifies every byte, and holds
no model. What is spoken and what is refused: docs/gateway.md.

ndn-infer up                          in one terminal
ndn-infer gateway                     in another; then: export OPENAI_BASE_URL=http://127.0.0.1:8000/v1
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from ndn_infer.client import Client
from ndn_infer.config import Config, GatewayConfig
from ndn_infer.config.values import address
from ndn_infer.console.signals import stop_on_signals
from ndn_infer.errors import UsageError
from ndn_infer.functions.registry import ROLES
from ndn_infer.gateway.keys import ApiKeys
from ndn_infer.gateway.server import GatewayServer
from ndn_infer.gateway.service import Service
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node
from ndn_infer.security.domain_store import DomainStore, tenant_of
from ndn_infer.security.domains import PUBLIC


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--listen", default="", metavar="HOST:PORT", help="default: gateway.listen, 127.0.0.1:8000")
    parser.add_argument(
        "--api-key-file", type=Path, metavar="FILE", help="API keys, one a line; default: none is wanted"
    )
    parser.add_argument("--domain", default="", metavar="NAME", help="ask privately, in a tenant domain")


def run(options: argparse.Namespace, config: Config) -> int:
    keys = ApiKeys.read(options.api_key_file)
    settings = _settings(options, config)
    return asyncio.run(_serve(_Domain(options.domain, config), settings, keys))


def _settings(options: argparse.Namespace, config: Config) -> GatewayConfig:
    if not options.listen:
        return config.gateway
    try:
        address(options.listen)
    except ValueError as error:
        raise UsageError(f"--listen {options.listen}: {error}") from error
    return replace(config.gateway, listen=options.listen)


class _Domain:
    """The label of a domain's newest epoch, as this machine's files say at the time: keys are renewed meanwhile."""

    def __init__(self, name: str, config: Config) -> None:
        """Raises what DomainStore.find raises, for a domain that is not here."""
        self.config = config
        self._name = name
        self()

    def __call__(self) -> str:
        if self._name in ("", PUBLIC.label):
            return PUBLIC.label
        return tenant_of(DomainStore(self.config.keys_dir).find(self._name)).newest.label


async def _serve(domain: _Domain, settings: GatewayConfig, keys: ApiKeys) -> int:
    stop = asyncio.Event()
    stop_on_signals(stop)
    config = domain.config
    async with AsyncExitStack() as ends:
        node = await ends.enter_async_context(await Node.join(config, ensure_keys(config, ROLES)))
        client = await ends.enter_async_context(Client(node))
        server = GatewayServer(Service(client, config, domain), settings, keys)
        await server.open()
        ends.push_async_callback(server.close)
        print(f"READY {server.url}", flush=True)
        await stop.wait()
        print("stopping", file=sys.stderr, flush=True)
    return 0
