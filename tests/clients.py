"""A consumer inside the test process, joined to a running network."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

from ndn_infer import config as configuration
from ndn_infer.client import Client, Outcome
from ndn_infer.config import Config
from ndn_infer.node.keys import ensure_keys, role_identity
from ndn_infer.node.node import Node
from ndn_infer.records import Message, Sampling
from ndn_infer.security.identity import ROLES
from tests.daemons import RunningNetwork


def config_of(network: RunningNetwork, **settings: str) -> Config:
    """The configuration that the network's own processes have."""
    data_dir = str(Path(network.environment["HOME"]) / ".local" / "share" / "ndn-infer")
    flags = [f"paths.data_dir={data_dir}", *(f"{key.replace('__', '.')}={value}" for key, value in settings.items())]
    effective = configuration.load(environment=network.environment, flags=flags)
    return replace(effective, network=replace(effective.network, transport=f"unix://{network.socket}"))


@contextlib.asynccontextmanager
async def client_of(config: Config) -> AsyncIterator[tuple[Client, Node]]:
    keychain = ensure_keys(config, ROLES)
    node = await Node.join(config, keychain)
    user = keychain.signer_for(role_identity(config, "user"))
    client = Client(node.endpoint, node.validator, node.net, config, user=user, certificates=keychain.certificates())
    try:
        yield client, node
    finally:
        await client.close()
        await node.close()


async def ask(client: Client, messages: list[Mapping[str, str]], max_tokens: int) -> Outcome:
    """Greedy answer to a conversation."""
    model = await client.resolve_model("smollm2-135m-instruct")
    outcome = Outcome(model, ())
    outcome.prompt_ids = await client.tokenize(model, [Message(m["role"], m["content"]) for m in messages])
    async for _ in client.generate(model, outcome.prompt_ids, Sampling(max_tokens), outcome):
        pass
    return outcome
