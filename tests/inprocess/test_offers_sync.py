"""offers.sync = on through the client library and a producer as `ndn-infer produce` makes it: one hears what the other
offers in the group, and asks it for nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from ndn_infer.client import Client
from ndn_infer.config import Config, OffersConfig
from ndn_infer.errors import BadRecord
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.functions.compose import build_producer
from ndn_infer.functions.producer import Producer
from ndn_infer.node.node import Node
from ndn_infer.offers.live import publishing
from ndn_infer.records.offer import ProducerOffer
from ndn_infer.security.crypto import Signer
from ndn_infer.security.keychain import Keychain
from tests.harness import NET, keychain_in, role
from tests.offer_world import Echo

CONFIG = replace(
    Config(), trust=replace(Config().trust, revocations="off"), offers=OffersConfig(sync="on", refresh_s=600.0)
)


async def joined(network: MemoryNetwork, directory: Path, keychain: Keychain) -> Node:
    paths = replace(CONFIG.paths, **dict.fromkeys(("data_dir", "cache_dir", "runtime_dir"), str(directory)))
    config = replace(CONFIG, paths=paths)
    return await Node.join(config, keychain, uri="memory://here", dial=network.dial)


async def test_a_client_hears_of_a_change_without_asking(tmp_path: Path) -> None:
    keychain = keychain_in(tmp_path / "keys", "tokenize", "user")
    network = MemoryNetwork()
    try:
        async with await joined(network, tmp_path / "p", keychain) as node:
            producer, host = build_producer(node, "tokenize")
            signer = node.signer_as("tokenize")
            await producer.begin()
            await producer.offer(Echo("first"), signer)
            async with await joined(network, tmp_path / "c", keychain) as asking, Client(asking) as client:
                await client.offers.ready()
                (first,) = client.offers.entries()
                assert first.identity == role("tokenize") and first.identity.startswith(NET)
                asked, made_us = client.offers.asked, first.offer.made_us
                other = Echo("second")
                other.subject = ("model", "cd" * 32)
                await producer.offer(other, signer)
                for _ in range(400):
                    (newest,) = client.offers.entries()
                    if len(newest.offer.functions) == 2:
                        break
                    await asyncio.sleep(0.05)
                assert len(newest.offer.functions) == 2 and newest.offer.made_us > made_us
                assert client.offers.asked == asked, "it was told in the group"
            await producer.close()
            host.server.store.close()
    finally:
        network.close()


async def test_an_offer_that_cannot_be_made_once_is_made_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keychain = keychain_in(tmp_path / "keys", "tokenize", "user")
    network, failures = MemoryNetwork(), [BadRecord("out of its bounds"), ValueError("a defect")]
    offered, made = Producer.offered, asyncio.Event()

    def offered_late(producer: Producer, signer: Signer) -> ProducerOffer:
        if failures:
            raise failures.pop()
        made.set()
        return offered(producer, signer)

    monkeypatch.setattr(publishing, "LEAST_GAP_S", 0.01)
    try:
        async with await joined(network, tmp_path / "p", keychain) as node:
            producer, host = build_producer(node, "tokenize")
            await producer.begin()
            monkeypatch.setattr(Producer, "offered", offered_late)
            await producer.offer(Echo("first"), node.signer_as("tokenize"))
            async with asyncio.timeout(60):
                await made.wait()
            async with await joined(network, tmp_path / "c", keychain) as asking, Client(asking) as client:
                await client.offers.ready()
                for _ in range(400):
                    if [*client.offers.entries()]:
                        break
                    await asyncio.sleep(0.05)
                (first,) = client.offers.entries()
                assert first.identity == role("tokenize")
            await producer.close()
            host.server.store.close()
    finally:
        network.close()
