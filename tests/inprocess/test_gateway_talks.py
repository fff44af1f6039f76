"""Conversations of the gateway's clients whose requests come at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ndn_infer.apps.gateway_talks import GatewayTalk, GatewayTalks
from ndn_infer.client import Client
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.library.continuing import Conversations
from ndn_infer.library.saved import SavedChats
from ndn_infer.namespace import Machine
from ndn_infer.records import Message, Sampling
from ndn_infer.security.domains import PUBLIC
from tests.guard_kit import MODEL
from tests.harness import NET, Node, keychain_in
from tests.inprocess.test_streams import CONFIG


@asynccontextmanager
async def talking(folder: Path) -> AsyncIterator[GatewayTalks]:
    keychain, network = keychain_in(folder / "keys", "user"), MemoryNetwork()
    node = await Node(network, keychain, CONFIG, commands_as=Machine("home", "n1").to_name(NET)).open()
    async with Client(node.joined) as client:
        talks = GatewayTalks(Conversations(SavedChats(node.joined, client), node.config))
        yield talks
        await talks.close()
    await node.close()
    network.close()


async def opened(talks: GatewayTalks, text: str) -> GatewayTalk:
    return await talks.open("trip", [Message("user", text)], PUBLIC.label, "")


def answered(talks: GatewayTalks, talk: GatewayTalk, text: str) -> None:
    answer = talks.conversations.saved.client.conversation().generate(MODEL, (1,), Sampling(8))
    answer.text = text
    talk.over(answer)


async def test_of_requests_at_once_none_replaces_what_another_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "ndn_infer.apps.gateway_talks")
    async with talking(tmp_path) as talks:
        one, two = await asyncio.gather(opened(talks, "Where to?"), opened(talks, "And when?"))
        answered(talks, one, "To the sea.")
        answered(talks, two, "In June.")
        third = await opened(talks, "Who comes?")  # waits for both
        assert [message.content for message in third.continued.chat.messages] == ["Where to?", "To the sea."]
        (branch,) = [record.args[1] for record in caplog.records if record.args and "branch" in record.msg]
        loaded = await talks.conversations.saved.load(str(branch))
        assert [message.content for message in loaded.messages] == ["And when?", "In June."]
