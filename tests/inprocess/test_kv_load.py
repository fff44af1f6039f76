"""The KV of one prompt: a head that is computed while the tail is fetched, layers that are used as they come, and what
prefill producers make. Through the real forwarder core, in virtual time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from ndn_infer import chain, ndn
from ndn_infer.config import FetchConfig
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.functions.prefill import Prefill
from ndn_infer.functions.producer import Producer
from ndn_infer.kv.codec import encode_block
from ndn_infer.kv.connector import KvConnector
from ndn_infer.kv.host import KvAsker
from ndn_infer.kv.load import KvLoader
from ndn_infer.ndn import lp
from ndn_infer.ndn.name import Name
from ndn_infer.records import Record
from ndn_infer.records.prefill import PrefillReport, PrefillRequest
from ndn_infer.wire.peek import data_name
from tests.kv_kit import FORMAT, LAYOUT, MODEL, Station, block_of, identities, in_network, right, spread

IDS = tuple(range(64 * LAYOUT.block_tokens + 3))
VALUES = chain.chain(IDS, LAYOUT.block_tokens)
SHORTER = IDS[: 56 * LAYOUT.block_tokens]
"""Its chain fits an Interest."""


class SlowEngine:
    """Computes `tokens_s` tokens of a prompt a second."""

    def __init__(self, tokens_s: float, layers: str = "off") -> None:
        self.tokens_s = tokens_s
        self.layers = layers
        self.known_as: frozenset[Name] = frozenset()
        self.calls: list[tuple[int, int]] = []

    def prefilled(self) -> tuple[int, float]:
        return round(10 * self.tokens_s), 10.0

    async def prefill(
        self, ids: Sequence[int], prefix: Sequence[torch.Tensor], on_block: Callable[..., None], *,
        prompt_tokens: int = 0, cache_salt: str = "",
    ) -> None:  # fmt: skip
        assert (prompt_tokens, cache_salt) == (len(IDS), "public")
        first, end = len(prefix), len(ids) // LAYOUT.block_tokens
        self.calls.append((first, end))
        for index in range(first, end):
            await asyncio.sleep(LAYOUT.block_tokens / self.tokens_s)
            on_block(index, block_of(VALUES[index]))


def loader(asker: Station, engine: SlowEngine) -> KvLoader:
    return KvLoader(asker.kv, engine)


def asker_of(asker: Station, *holders: Station) -> KvAsker:
    return KvAsker(asker.signer, asker.host.hint(asker.signer), identities(*holders))


@pytest.mark.parametrize(
    ("tokens_s", "goodput", "computed"),
    [(1e3, 1e9, 0), (1e3, 3e6, 32), (1e3, 3e4, 64), (10.0, None, 0)],
    ids=["quick network", "as quick as the engine", "slow network", "unknown network"],
)
def test_head_is_computed_while_the_tail_is_fetched(tokens_s: float, goodput: float | None, computed: int) -> None:
    """A block has 49 kB and 16 tokens: 1,000 tokens a second are worth 3 MB/s."""

    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        spread(VALUES, p, a, b)
        engine = SlowEngine(tokens_s)
        if goodput is not None:
            asker.kv.estimates.goodput.add(goodput, asyncio.get_running_loop().time())
            asker.kv.blocks.content_bytes = 49152
        loaded = await loader(asker, engine).load(IDS, asker_of(asker, p, a, b))
        if computed == 64:  # the stream computes it, without blocks
            assert (len(loaded.blocks), loaded.sources.recomputed, engine.calls) == (0, 64, [])
            assert asker.host.counters["kv_plans_without_fetch"] == 1
            return
        assert right(list(loaded.blocks), VALUES)
        assert loaded.sources.recomputed == pytest.approx(computed, abs=1)
        assert loaded.sources.named == 64 - loaded.sources.recomputed
        assert engine.calls == ([(0, loaded.sources.recomputed)] if computed else [])
        counters = asker.host.counters
        assert counters["kv_plans"] == 1 and counters["kv_plan_outcome_us"] > 0
        assert set(loaded.holders) == set(map(ndn.to_uri, identities(p, a, b)))
        if computed:  # both at the same time: no longer than the computing
            assert counters["kv_plan_outcome_us"] == pytest.approx(loaded.sources.recomputed * 16_000, rel=0.05)

    in_network(work)


@pytest.mark.parametrize("lost", [None, 0, 40])
def test_layers_are_there_before_the_blocks_are(lost: int | None) -> None:
    """One block's last segments are given up by its producer after it was found: what is before it counts."""

    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        p.hold(*VALUES)
        layers: list[tuple[int, int]] = []
        kv = loader(asker, SlowEngine(1e6, layers="on"))
        loaded = await kv.load(IDS, asker_of(asker, p))
        assert loaded.arriving is not None and len(loaded.blocks) == 64
        assert asker.host.counters["kv_plans_by_layers"] == 1
        if lost is not None:
            p.server.store.remove(p.kv.blocks.name(VALUES[lost]))
            asker.fetcher._config = replace(asker.fetcher._config, deadline_s=0.6)
            asker.fetcher._pulls._config = asker.fetcher._config

        async for count in loaded.arriving.layers():
            layers.append((count, asker.fetcher.stats.received))
            good = [block[:count] for block in loaded.blocks]
            assert all(torch.equal(block, block_of(value)[:count]) for block, value in zip(good, VALUES, strict=True))
        done = kv.complete()
        there = 64 if lost is None else lost
        assert right(list(done.blocks), VALUES[:there])
        assert (done.sources.named, done.sources.recomputed) == (there, 64 - there)
        assert len(done.names) == there and asker.host.counters["kv_blocks_fetched"] >= there
        if lost is None:
            counts = [count for count, _ in layers]
            assert counts == sorted(counts) and counts[0] < counts[-1] == LAYOUT.layers - 1
            first = next(received for count, received in layers if count)
            assert first <= asker.fetcher.stats.received - 64, "the first layer waited for the last ones"

    in_network(work, fetch=FetchConfig(window_limit=64))


@pytest.mark.parametrize("at", [3, 5_000, 45_000])
def test_a_layer_that_somebody_altered_is_fetched_again(at: int) -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        p.hold(*VALUES[:8])
        kv = loader(asker, SlowEngine(1e6, layers="on"))
        loaded = await kv.load(IDS[: 8 * 16], asker_of(asker, p))
        name, number = p.kv.blocks.name(VALUES[5]), at // 8000
        left = [1]

        def alter(wire: bytes) -> bytes:
            packet = lp.decode_lp(wire)
            if left[0] and packet.fragment[:1] == b"\x06" and data_name(packet.fragment).startswith(name):
                if data_name(packet.fragment).endswith(ndn.segment(number)):
                    left[0] = 0
                    changed = bytearray(packet.fragment)
                    changed[-100] ^= 1
                    packet.fragment = bytes(changed)
                    return lp.encode_lp(packet)
            return wire

        asker.link.tamper_down = alter
        assert loaded.arriving is not None
        async for _ in loaded.arriving.layers():
            pass
        done = kv.complete()
        assert left == [0] and asker.fetcher.bad_packets == 1
        assert right(list(done.blocks), VALUES[:8])

    in_network(work)


def test_a_signed_block_of_another_shape_is_refused_while_it_arrives() -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        p.hold(*VALUES[:4])
        name = p.kv.blocks.name(VALUES[2])
        p.server.store.remove(name)
        content = bytearray(encode_block(block_of(VALUES[2]), FORMAT))
        content[8] ^= 1  # other dimensions, the same length
        p.server.publish(name, bytes(content), p.signer)
        kv = loader(asker, SlowEngine(1e6, layers="on"))
        loaded = await kv.load(IDS[: 4 * 16], asker_of(asker, p))
        assert loaded.arriving is not None
        heard = [count async for count in loaded.arriving.layers()]
        done = kv.complete()
        assert right(list(done.blocks), VALUES[:2]) and not any(heard)
        assert asker.host.counters["kv_blocks_refused"] >= 1

    in_network(work)


def test_a_tail_that_fails_leaves_what_is_before_it() -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        p.hold(*VALUES[:40])
        a.claim_everything()
        asker.kv.estimates.goodput.add(3e6, asyncio.get_running_loop().time())
        asker.kv.blocks.content_bytes = 49152
        loaded = await loader(asker, SlowEngine(1e3)).load(IDS, asker_of(asker, p, a))
        assert right(list(loaded.blocks), VALUES[:40])
        assert loaded.sources.recomputed == pytest.approx(32 + 24, abs=1)

    in_network(work)


class SlowPrefill(NamedFunction[PrefillRequest]):
    """Publishes a block every 50 ms, all promised at once, and notes how many the asker had when the last was made."""

    function = "prefill"
    role = "prefill"
    request_type = PrefillRequest
    patience_s = Prefill.patience_s
    subject = ("model", MODEL)

    def __init__(self, station: Station, asker: Station) -> None:
        self._station = station
        self._asker = asker
        self.there_at_the_end = 0
        self.queue = 0

    def queue_length(self) -> int:
        return self.queue

    async def run(self, request: PrefillRequest, job: Job) -> Record:
        station, wanted = self._station, VALUES[request.have : len(request.blocks)]
        for value in wanted:
            station.server.promise(station.kv.blocks.name(value))
        for value in wanted:
            await asyncio.sleep(0.05)
            station.hold(value)
        self.there_at_the_end = self._asker.host.counters["kv_blocks_fetched"]
        return PrefillReport(len(VALUES), len(wanted))


async def with_prefill(asker: Station, p: Station, queue: int = 0) -> SlowPrefill:
    function = SlowPrefill(p, asker)
    function.queue = queue
    producer = Producer(p.host, p.keychain, p.registrar)
    await producer.begin()
    await producer.offer(function, p.signer)
    return function


def test_blocks_are_fetched_while_prefill_makes_the_next() -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        function = await with_prefill(asker, p)
        a.hold(*VALUES[:42])
        asker.kv.estimates.elsewhere(100, 10.0, asyncio.get_running_loop().time())  # the first is no measurement
        loaded = await loader(asker, SlowEngine(1e3)).load(SHORTER, asker_of(asker, a))
        assert right(list(loaded.blocks), VALUES[:56])
        assert (loaded.sources.named, loaded.sources.prefilled, loaded.sources.recomputed) == (42, 14, 0)
        assert function.there_at_the_end == 42 + 13
        assert asker.kv.estimates.remote.value(asyncio.get_running_loop().time()) == pytest.approx(320, rel=0.2)

    in_network(work)


def test_a_prefill_producer_with_a_long_queue_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ndn_infer.kv.plan.MOST_PATIENCE_S", 60.0)  # its answer decides, however slow this machine is

    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        await with_prefill(asker, p, queue=40)
        engine = SlowEngine(1e3)
        asker.kv.estimates.remote.add(1e3, asyncio.get_running_loop().time())
        loaded = await loader(asker, engine).load(SHORTER, asker_of(asker))
        assert (len(loaded.blocks), loaded.sources.recomputed) == (0, 56)
        assert asker.host.counters["prefill_too_busy"] == 1

    in_network(work)


def test_among_others_no_producer_with_the_same_engine_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks would come from here, through a forwarder. Once another engine was heard of, producers are asked."""
    monkeypatch.setattr("ndn_infer.kv.plan.MOST_PATIENCE_S", 60.0)

    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        await with_prefill(asker, p)
        engine, counters = SlowEngine(1e3), asker.host.counters
        engine.known_as = frozenset({asker.signer.identity, p.signer.identity})
        loaded = await loader(asker, engine).load(SHORTER, asker_of(asker), crowded=lambda: True)
        assert (len(loaded.blocks), loaded.sources.recomputed, counters["prefill_not_asked"]) == (0, 56, 1)
        asker.kv.estimates.another(asyncio.get_running_loop().time())
        loaded = await loader(asker, engine).load(SHORTER, asker_of(asker), crowded=lambda: True)
        assert (len(loaded.blocks), loaded.sources.prefilled, counters["prefill_not_asked"]) == (56, 56, 1)

    in_network(work)


@pytest.mark.parametrize("same", [True, False])
def test_alone_a_producer_is_asked_and_known_by_its_engine(monkeypatch: pytest.MonkeyPatch, same: bool) -> None:
    monkeypatch.setattr("ndn_infer.kv.plan.MOST_PATIENCE_S", 60.0)

    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        await with_prefill(asker, p)
        engine, now = SlowEngine(1e3), asyncio.get_running_loop().time
        engine.known_as = frozenset({asker.signer.identity, p.signer.identity} if same else {asker.signer.identity})
        assert asker.kv.estimates.only_here(now())
        loaded = await loader(asker, engine).load(SHORTER, asker_of(asker))
        assert loaded.sources.prefilled == 56
        assert asker.kv.estimates.only_here(now()) is same

    in_network(work)


def test_the_first_of_many_computes_here_once_the_others_came() -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        await with_prefill(asker, p)
        engine, looks = SlowEngine(1e3), [True, False]  # alone when it looks first
        engine.known_as = frozenset({asker.signer.identity, p.signer.identity})
        loaded = await loader(asker, engine).load(SHORTER, asker_of(asker), crowded=lambda: not looks.pop(0))
        assert (len(loaded.blocks), loaded.sources.recomputed, looks) == (0, 56, [])

    in_network(work)


def test_a_holder_that_was_started_again_tells_and_uses_what_its_store_has() -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        p.hold(*VALUES[:6])
        for station in (p, a):  # as after a restart with a store on disk: nothing but the store is left
            station.kv = KvConnector(station.host, MODEL, FORMAT)
            station.kv.answer_holders(station.signer)
        assert [version > 0 for version in await asker.kv.discovery.ask(p.identity, VALUES[:8])] == [True] * 6 + [
            False
        ] * 2
        found = await p.kv.find_prefix(VALUES[:8])
        assert right(found.tensors, VALUES[:6]) and found.local == 6
        assert p.host.counters["kv_blocks_from_store"] == 6
        assert await asker.kv.discovery.ask(a.identity, VALUES[:8]) == [0] * 8

    in_network(work)
