"""Whose KV is used and whose name stands on it, through the real forwarder core, in virtual time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ndn_infer import chain, ndn
from ndn_infer.config import Config, KvConfig
from ndn_infer.engine.step_costs import EngineSpent
from ndn_infer.errors import BadRecord, KeyNotAllowed
from ndn_infer.functions.base import Job
from ndn_infer.functions.prefill import Prefill
from ndn_infer.functions.stage_costs import StageCosts
from ndn_infer.functions.stage_host import StageHost
from ndn_infer.functions.stage_steps import StageReport
from ndn_infer.functions.tokenize import TokenChain, publish_token_blocks
from ndn_infer.kv.connector import KvConnector
from ndn_infer.namespace import Call, blocks_prefix
from ndn_infer.ndn.packet import decode_data
from ndn_infer.records import Envelope, KvSigner
from ndn_infer.records.prefill import PrefillReport, PrefillRequest
from ndn_infer.security.certificate import split_locator
from ndn_infer.security.domains import PUBLIC
from ndn_infer.testbed.virtual.loop import run_virtual
from tests.harness import NET
from tests.kv_kit import FORMAT, LAYOUT, MODEL, Station, block_of, stations

IDS = tuple(range(4 * LAYOUT.block_tokens))
VALUES = chain.chain(IDS, LAYOUT.block_tokens)
MADE_UP = torch.full(LAYOUT.shape, 7.0, dtype=torch.bfloat16)


class Engine:
    """Shaped like EngineHost: one connector, blocks that are right."""

    context_tokens = 8 * LAYOUT.block_tokens

    def __init__(self, connector: KvConnector) -> None:
        self._connector = connector
        self.worker = self

    def connector(self, host: Any, domain: Any) -> KvConnector:
        return self._connector

    async def prefill(
        self, ids: Sequence[int], prefix: Sequence[torch.Tensor], on_block: Callable[..., None], *, cache_salt: str
    ) -> EngineSpent:
        for index in range(len(prefix), len(VALUES)):
            on_block(index, block_of(VALUES[index]))
        return EngineSpent()


async def prefill_at(p: Station, asker: Station, kv: Station, have: int = 0) -> PrefillReport:
    """What prefill at `p` answers, told that `kv` may hold some of it."""
    await publish_token_blocks(asker.server, NET, TokenChain(MODEL, LAYOUT.block_tokens, PUBLIC), IDS, asker.signer)
    tokens = blocks_prefix(NET, MODEL, "tokens")
    asker.server.serve(tokens, asker.signer)
    await asker.registrar.register(tokens)
    request = PrefillRequest(tuple(value.hex() for value in VALUES), have, LAYOUT.block_tokens, FORMAT.codec)
    envelope = Envelope(caller=ndn.to_uri(asker.identity), advice=(ndn.to_uri(kv.identity),))
    job = Job(p.host, Call("model", MODEL, "prefill", "shared", "0" * 64), envelope, p.signer)
    report = await Prefill(MODEL, Engine(p.kv)).run(request, job)  # type: ignore[arg-type]
    assert isinstance(report, PrefillReport)
    return report


def trust(station: Station, signers: str) -> None:
    """As `--set kv.trusted_signers=...` from its start on."""
    config = replace(station.config, kv=KvConfig(tuple(signers.split())))
    station.host = replace(station.host, node=replace(station.host.node, config=config))
    station.kv = KvConnector(station.host, MODEL, FORMAT)
    station.kv.answer_holders(station.signer)


def signer_in_store(station: Station, value: bytes) -> ndn.Name:
    packets = station.server.store.get(station.kv.blocks.name(value))
    assert packets is not None
    located = split_locator(decode_data(packets.metadata).signature_info.key_locator or b"")
    assert located is not None
    return located.identity


def in_network(work: Callable[..., Awaitable[Any]]) -> None:
    async def whole() -> None:
        async with stations() as made:
            await work(*made)

    run_virtual(whole)


def test_more_than_a_context_is_refused_before_anything_is_promised_or_pulled() -> None:
    """Thousands of names that nobody has were asked for at once."""

    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        request = PrefillRequest(("00" * 32,) * 9, 0, LAYOUT.block_tokens, FORMAT.codec)
        job = Job(p.host, Call("model", MODEL, "prefill", "shared", "0" * 64), Envelope(), p.signer)
        with pytest.raises(BadRecord, match="8 are a context"):
            await Prefill(MODEL, Engine(p.kv)).run(request, job)  # type: ignore[arg-type]

    in_network(work)


def test_a_block_that_another_computed_is_passed_on_under_its_signature_and_never_signed_again() -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        for value in VALUES[:3]:
            b.kv.published.publish(value, MADE_UP, b.signer)
        report = await prefill_at(p, asker, b)
        assert (report.blocks, report.computed) == (4, 1)
        assert report.signers == (KvSigner(ndn.to_uri(b.identity), 3),)
        assert [signer_in_store(p, value) for value in VALUES] == [b.identity] * 3 + [p.identity]
        located = await asker.kv.locate(VALUES, (p.identity,))
        found = await asker.kv.fetcher.fetch(located)
        assert found.signers() == (KvSigner(ndn.to_uri(b.identity), 3), KvSigner(ndn.to_uri(p.identity), 1))

    in_network(work)


def test_signers_that_the_policy_does_not_name_are_not_used_and_the_blocks_are_computed() -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        trust(p, ndn.to_uri(a.identity))
        for value in VALUES:
            b.kv.published.publish(value, MADE_UP, b.signer)
        report = await prefill_at(p, asker, b)
        assert (report.computed, report.signers) == (4, ())
        assert [signer_in_store(p, value) for value in VALUES] == [p.identity] * 4
        assert p.host.counters["kv_signers_refused"] > 0

    in_network(work)


def test_what_a_node_passes_on_is_judged_by_who_computed_it() -> None:
    """The asker believes p, not b: blocks of b that p hands on are of no use to it."""

    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        trust(asker, ndn.to_uri(p.identity))
        b.kv.published.publish(VALUES[0], MADE_UP, b.signer)
        await prefill_at(p, asker, b)
        assert signer_in_store(p, VALUES[0]) == b.identity
        blocks = await asker.kv.fetcher.await_blocks(VALUES, p.identity, 5.0, lambda: None)
        assert blocks.tensors == []

    in_network(work)


def test_after_a_restart_the_signature_in_the_store_tells_who_computed_a_block() -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        b.kv.published.publish(VALUES[0], MADE_UP, b.signer)
        await prefill_at(p, asker, b)
        trust(p, "")
        await asyncio.sleep(0)
        found = await p.kv.find_prefix(VALUES)
        assert found.local == 4
        assert [origin.signer if origin else None for origin in found.origins] == [b.identity, None, None, None]
        trust(p, ndn.to_uri(a.identity))  # b is not believed any more: its block is computed
        assert (await p.kv.find_prefix(VALUES[:1], (b.identity,))).tensors == []

    in_network(work)


async def test_activations_of_a_stage_that_the_policy_does_not_name_are_not_used() -> None:
    stage, site = StageHost.__new__(StageHost), NET + ndn.from_uri("/lab")
    stage.model, stage._stage = MODEL, SimpleNamespace(first=15)  # type: ignore[assignment]
    stage._givers = OrderedDict()
    step = SimpleNamespace(name=bytes(32), parent=bytes(32), value=bytes(32))

    class Caller:
        async def call(self, *_: Any, on_answer: Callable[[Any], None]) -> StageReport:
            signed_by = SimpleNamespace(identity=site + ndn.from_uri("/n1/stage"))
            on_answer(SimpleNamespace(signed_by=signed_by, hint=b""))
            return StageReport(bytes(32).hex(), "", b"numbers")

    def host(signers: str) -> Any:
        return SimpleNamespace(caller=Caller(), config=replace(Config(), kv=KvConfig(tuple(signers.split()))))

    assert await stage._ask(Any, step, ((), StageCosts()), host("")) == b"numbers"  # type: ignore[arg-type]
    assert await stage._ask(Any, step, ((), StageCosts()), host(ndn.to_uri(site))) == b"numbers"  # type: ignore[arg-type]
    with pytest.raises(KeyNotAllowed, match="are not used"):
        await stage._ask(Any, step, ((), StageCosts()), host("/ndn-infer/local/home"))  # type: ignore[arg-type]
