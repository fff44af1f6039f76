"""A consumer inside the test process, joined to a running network."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

from ndn_infer import config as configuration
from ndn_infer.client import Answer, Client, Conversation
from ndn_infer.config import Config
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node
from ndn_infer.records import Message, Sampling
from tests.daemons import RunningNetwork


def config_of(network: RunningNetwork, **settings: str) -> Config:
    """The configuration that the network's own processes have."""
    data_dir = str(Path(network.environment["HOME"]) / ".local" / "share" / "ndn-infer")
    flags = [f"paths.data_dir={data_dir}", *(f"{key.replace('__', '.')}={value}" for key, value in settings.items())]
    effective = configuration.load(environment=network.environment, flags=flags)
    return replace(effective, network=replace(effective.network, transport=f"unix://{network.socket}"))


@contextlib.asynccontextmanager
async def client_of(config: Config) -> AsyncIterator[tuple[Conversation, Node]]:
    async with await Node.join(config, ensure_keys(config)) as node, Client(node) as client:
        yield client.conversation(), node


async def ask(conversation: Conversation, messages: list[Mapping[str, str]], max_tokens: int) -> Answer:
    """Greedy answer to a conversation."""
    model = await conversation.resolve_model("smollm2-135m-instruct")
    prompt = await conversation.tokenize(model, [Message(m["role"], m["content"]) for m in messages])
    answer = conversation.generate(model, prompt, Sampling(max_tokens))
    async for _ in answer:
        pass
    return answer
