"""Chat continuity: the second turn, on another decode node, takes all KV of the first turn by name.

Real forwarders on sockets, one or two of them linked by TCP; producers with the real model, each on a connection of
its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ndn_infer.client import Answer, Client, Conversation
from ndn_infer.config import Config, EngineConfig, NetworkConfig, PathsConfig
from ndn_infer.forwarder.shell.daemon import ForwarderDaemon
from ndn_infer.functions.base import Host
from ndn_infer.functions.compose import build_producer
from ndn_infer.functions.decode import Generate
from ndn_infer.functions.kv_answer import AnsweringHost
from ndn_infer.functions.prefill import Prefill
from ndn_infer.kv.plan import Average
from ndn_infer.local.prepare import record_of
from ndn_infer.models.store import ModelFolder
from ndn_infer.node.keys import ensure_keys, role_identity
from ndn_infer.node.node import Node
from ndn_infer.records import KvSources, Sampling
from ndn_infer.security.domains import PUBLIC
from ndn_infer.transport.objects.side_by_side import SideBySide
from tests.integration.test_forwarder_clients import command, forwarder

pytestmark = pytest.mark.model

BLOCK = 16
TURN_ONE = 3 * BLOCK + 5
ANSWER = 2 * BLOCK + 12
"""So that the KV of the last token that has one fills a block exactly: TURN_ONE + ANSWER - 1 is six blocks."""

TURN_TWO = 40
NEXT_ANSWER = 12


SAMPLED = Sampling(
    48, temperature=0.8, seed=7, repetition_penalty=1.1, frequency_penalty=0.4, stop=("never",), ignore_eos=True
)


@dataclass
class Peer:
    """A producer process, but for the process."""

    host: Host
    engine: AnsweringHost
    leave: Callable[[], Awaitable[None]]
    """Goes without a word, as a process that is killed."""

    def counter(self, name: str) -> int:
        return self.host.counters[name] + self.host.tenant_counters[name]

    @property
    def blocks_computed(self) -> int:
        """The engine's own count."""
        assert self.engine.engine is not None
        return self.engine.engine.counters.blocks_prefilled


def config_in(directory: Path, node: str) -> Config:
    return Config(
        network=NetworkConfig(node=node), paths=PathsConfig(data_dir=str(directory)), engine=EngineConfig(threads=1)
    )


@asynccontextmanager
async def peer(
    daemon: ForwarderDaemon, directory: Path, node: str, role: str, model: ModelFolder, **settings: str
) -> AsyncIterator[Peer]:
    """`settings` of its engine."""
    config = config_in(directory, node)
    config = replace(config, engine=replace(config.engine, **settings))  # type: ignore[arg-type]
    keychain = ensure_keys(config, (role,))
    joined = await Node.join(config, keychain, uri=f"unix://{daemon.options.unix_path}")
    producer, host = build_producer(joined, role)
    engine = AnsweringHost(model.digest, model.path, config.engine)
    function = Prefill(model.digest, engine) if role == "prefill" else Generate(model.digest, model.path, engine)
    try:
        await producer.begin()
        await producer.offer(function, keychain.signer_for(role_identity(config, role)))
        yield Peer(host, engine, joined.endpoint.close)
    finally:
        await producer.close()
        await joined.close()


async def link(near: ForwarderDaemon, far: ForwarderDaemon, *prefixes: str) -> None:
    """Routes from `near` for these prefixes, dearer than any of its own."""
    assert far.tcp_address is not None
    face = await command(near, "faces", "create", uri=f"tcp4://{far.tcp_address[0]}:{far.tcp_address[1]}")
    for prefix in prefixes:
        done = await command(
            near, "rib", "register", name=prefix, face_id=face["face_id"], origin=255, cost=10, flags=1
        )
        assert done["status_code"] == 200, done


async def turn(
    client: Conversation, model: ModelFolder, prompt: tuple[int, ...], tokens: int, at: Config
) -> Answer:  # fmt: skip
    answer = client.generate(record_of(model, "smollm2-135m-instruct"), prompt, Sampling(tokens, ignore_eos=True))
    answer.at = (role_identity(at, "decode"),)
    async for _ in answer:
        pass
    assert len(answer.ids) == tokens
    return answer


async def published(at: Peer, blocks: int) -> None:
    for _ in range(2000):
        if at.counter("kv_blocks_published") >= blocks:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{at.counter('kv_blocks_published')} of {blocks} blocks published")


@pytest.mark.parametrize("forwarders", [1, 2])
async def test_second_turn_elsewhere_computes_nothing_twice(
    tmp_path: Path, smollm2: ModelFolder, forwarders: int
) -> None:
    keys, near, far = tmp_path / "data", config_in(tmp_path / "data", "near"), config_in(tmp_path / "data", "far")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        one = await enter(forwarder(tmp_path, "one"))
        two = one if forwarders == 1 else await enter(forwarder(tmp_path, "two"))
        if two is not one:
            await link(one, two, "/ndn-infer/local/home/far")
            await link(two, one, "/ndn-infer/local")
        prefill = await enter(peer(one, keys, "near", "prefill", smollm2))
        first = await enter(peer(one, keys, "near", "decode", smollm2))
        second = await enter(peer(two, keys, "far", "decode", smollm2))
        user = config_in(keys, "near")
        keychain = ensure_keys(user, ("user",))
        node = await Node.join(user, keychain, uri=f"unix://{one.options.unix_path}")
        stack.push_async_callback(node.close)
        client = (await enter(Client(node))).conversation()

        prompt = tuple(range(1000, 1000 + TURN_ONE))
        said = await turn(client, smollm2, prompt, ANSWER, near)
        held = (TURN_ONE + ANSWER - 1) // BLOCK
        assert held == 6
        await published(first, held - TURN_ONE // BLOCK)

        more = (*prompt, *said.ids, *range(2000, 2000 + TURN_TWO))
        made = prefill.counter("prefill_blocks_computed")
        answer = await turn(client, smollm2, more, NEXT_ANSWER, far)
        blocks = len(more) // BLOCK
        assert answer.last is not None and answer.last.kv is not None
        assert sum(signer.blocks for signer in answer.last.kv.signers) == blocks
        kv = replace(answer.last.kv, content_store=0, signers=())
        assert kv == KvSources(named=held, prefilled=blocks - held, tail_tokens=len(more) % BLOCK or 1), kv
        assert second.blocks_computed == 0 and second.counter("kv_claims_false") == 0
        assert prefill.counter("prefill_blocks_computed") == made + blocks - held  # nor did prefill do it again

        # The same on the node of the first turn, which has it all in memory; one token more, so that no cache answers.
        again = await turn(client, smollm2, more, NEXT_ANSWER + 1, near)
        assert answer.ids == again.ids[:NEXT_ANSWER]
        assert again.last is not None and again.last.kv is not None and again.last.kv.recomputed == 0


@pytest.mark.parametrize("codec", ["raw", "int8"])
async def test_computing_begins_before_the_last_layer_is_there(
    tmp_path: Path, smollm2: ModelFolder, codec: str
) -> None:
    """The same tokens as of blocks that are awaited whole, where the prompt goes on after them and where it does not,
    and where blocks that were found are gone when their segments are asked for."""
    keys = tmp_path / "data"
    near, far = config_in(keys, "near"), config_in(keys, "far")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        daemon = await enter(forwarder(tmp_path, "one"))
        first = await enter(peer(daemon, keys, "near", "decode", smollm2, kv_codec=codec, kv_layers="off"))
        second = await enter(peer(daemon, keys, "far", "decode", smollm2, kv_codec=codec, kv_layers="on"))
        node = await Node.join(near, ensure_keys(near, ("user",)), uri=f"unix://{daemon.options.unix_path}")
        stack.push_async_callback(node.close)
        client = (await enter(Client(node))).conversation()
        connector = second.engine.connector(second.host, PUBLIC)
        connector.estimates.remote.add(1.0, time.monotonic())  # nobody computes for it
        connector.estimates.prefill.add(1e4, time.monotonic())

        prompt = tuple(range(1000, 1000 + 3 * BLOCK + 9))
        said = await turn(client, smollm2, prompt, 2 * BLOCK, near)
        await published(first, 4)
        for number, more in enumerate((tuple(said.ids), (*said.ids, *range(3000, 3000 + 2 * BLOCK + 3))), 1):
            whole = await turn(client, smollm2, (*prompt, *more), 8, near)
            connector.blocks.shared.cache.clear()  # as if another process asked
            connector.estimates.goodput = Average()  # and had fetched nothing yet
            parts = await turn(client, smollm2, (*prompt, *more), 9, far)
            assert second.counter("kv_plans_by_layers") == number
            assert parts.last is not None and parts.last.kv is not None and parts.last.kv.named >= 4
            if codec == "raw":
                assert parts.ids[:8] == whole.ids
        assert second.counter("failed") == 0

        lost = first.engine.connector(first.host, PUBLIC).blocks.chain(prompt)[2]
        real = second.host.fetcher.side_by_side

        @asynccontextmanager
        async def late(parts: Any) -> AsyncIterator[SideBySide]:
            first.host.server.store.remove(connector.blocks.name(lost))
            async with real(parts) as reading:
                reading.whole = lambda: [at != 2 for at in range(len(parts))]  # type: ignore[method-assign]
                yield reading

        second.host.fetcher.side_by_side = late  # type: ignore[method-assign]
        connector.blocks.shared.cache.clear()
        connector.estimates.goodput = Average()
        daemon.core.cs.erase(connector.blocks.name(lost), 1 << 20)
        again = await turn(client, smollm2, (*prompt, *said.ids), 10, far)
        assert again.last is not None and again.last.kv is not None
        assert again.last.kv.named == 2 and again.last.kv.recomputed == 3
        if codec == "raw":
            assert again.ids[:8] == (await turn(client, smollm2, (*prompt, *said.ids), 8, near)).ids
        assert second.counter("failed") == 0


@pytest.mark.timeout(180)
async def test_an_answer_whose_producer_dies_goes_on_elsewhere(tmp_path: Path, smollm2: ModelFolder) -> None:
    """With penalties, which count the tokens of both producers, and the very tokens and text of one that lives."""
    keys = tmp_path / "data"
    near = config_in(keys, "near")
    near = replace(near, engine=replace(near.engine, dtype="fp32"), fetch=replace(near.fetch, deadline_s=3.0))
    prompt = tuple(range(1000, 1000 + TURN_ONE))
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        daemon = await enter(forwarder(tmp_path, "one"))
        peers = [await enter(peer(daemon, keys, node, "decode", smollm2, dtype="fp32")) for node in ("near", "far")]
        node = await Node.join(near, ensure_keys(near, ("user",)), uri=f"unix://{daemon.options.unix_path}")
        stack.push_async_callback(node.close)
        client = (await enter(Client(node))).conversation()
        record = record_of(smollm2, "smollm2-135m-instruct")

        broken, dead = client.generate(record, prompt, SAMPLED), None
        async for _ in broken:
            if dead is None and len(broken.ids) >= 20:
                dead = max(peers, key=lambda item: item.counter("tokens_decoded"))
                await dead.leave()
        assert dead is not None and broken.continued == 1 and broken.finish == "length"
        (alive,) = (item for item in peers if item is not dead)
        assert 20 <= alive.counter("tokens_decoded") <= 28

        whole = client.generate(record, prompt, replace(SAMPLED, logprobs=1))
        async for _ in whole:
            pass
        assert whole.continued == 0
        assert (broken.ids, broken.text) == (whole.ids, whole.text)
