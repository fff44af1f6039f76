"""The longest prefix of KV over several holders, through the real forwarder core. In virtual time, so that round trips
are exact."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from ndn_infer import chain, clock, ndn, records
from ndn_infer.config import FetchConfig
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.functions.prefill import Prefill
from ndn_infer.functions.producer import Producer
from ndn_infer.kv import search
from ndn_infer.kv.codec import encode_block
from ndn_infer.kv.connector import KvConnector
from ndn_infer.kv.discovery import LEAST_PATIENCE_S
from ndn_infer.kv.holders import HOLDS, LED_S, MAX_HOLDS, SILENT_S, Holdings
from ndn_infer.kv.host import KvAsker
from ndn_infer.kv.load import KvLoader
from ndn_infer.namespace import asks_prefix, blocks_prefix
from ndn_infer.ndn import lp
from ndn_infer.ndn.name import METADATA, Name
from ndn_infer.records import CallAnswer, Record
from ndn_infer.records.prefill import PrefillReport, PrefillRequest
from ndn_infer.testbed.virtual.loop import run_virtual
from ndn_infer.wire.manifest import ABSENT_FRESHNESS_MS
from ndn_infer.wire.peek import data_name
from tests.harness import NET
from tests.kv_kit import FORMAT, LAYOUT, MODEL, ONE_WAY_S, Station, block_of, identities, stations, values_of

ROUND_TRIP_S = 2 * ONE_WAY_S


def in_network(work: Callable[..., Awaitable[Any]], **options: Any) -> None:
    async def whole() -> None:
        async with stations(**options) as made:
            await work(*made)

    run_virtual(whole)


def right(tensors: list[torch.Tensor], values: list[bytes]) -> bool:
    return len(tensors) == len(values) and all(map(torch.equal, tensors, map(block_of, values)))


def spread(values: list[bytes], p: Station, a: Station, b: Station) -> None:
    """Prefill has the prompt of the first turn, two decode nodes what they added in theirs."""
    p.hold(*values[:40])
    a.hold(*values[40:60])
    b.hold(*values[60:])


async def since(began: float) -> float:
    return asyncio.get_running_loop().time() - began


def test_blocks_of_three_holders_are_found_in_one_round_trip() -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        values = values_of(64)
        spread(values, p, a, b)
        began = asyncio.get_running_loop().time()
        located = await asker.kv.locate(values, identities(p, a, b))
        assert located.held == 64
        assert await since(began) == pytest.approx(ROUND_TRIP_S, rel=0.01)
        found = await asker.kv.fetcher.fetch(located)
        assert right(found.tensors, values)
        assert set(found.holders) == set(identities(p, a, b))
        assert asker.host.counters["kv_claims_false"] == 0

    in_network(work)


def test_whoever_knows_no_holder_finds_what_the_network_leads_to_and_learns() -> None:
    """The absent answers of p hide a and b; blocks that p signed make p known."""

    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        values = values_of(64)
        spread(values, p, a, b)
        assert right((await asker.kv.find_prefix(values)).tensors, values[:40])
        other = values_of(3, "another prompt")
        p.hold(*other)
        asked = p.host.counters["kv_holdings_told"]
        assert right((await asker.kv.find_prefix(other)).tensors, other)
        assert p.host.counters["kv_holdings_told"] == asked + 1

    in_network(work)


@pytest.mark.parametrize("known", [True, False])
def test_a_long_prefix_of_one_holder_takes_few_questions(known: bool) -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        values = values_of(256)
        p.hold(*values)
        asked, began = p.asked, asyncio.get_running_loop().time()
        located = await asker.kv.locate(values, identities(p) if known else ())
        assert located.held == 256
        assert await since(began) == pytest.approx(ROUND_TRIP_S * (1 if known else 2), rel=0.01)
        assert p.asked - asked <= search.FIRST + 1

    in_network(work)


def test_hints_are_for_holders_that_names_of_blocks_do_not_lead_to() -> None:
    """And for those they led to a while ago: p is away now, the network leads to nobody, and a hint finds it."""

    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        values, book, now = values_of(60), asker.kv.discovery.holders, asyncio.get_running_loop().time
        p.hold(*values[:40])
        a.hold(*values[40:])
        assert right((await asker.kv.find_prefix(values, identities(a))).tensors, values)
        assert book.way(p.identity, now()) == () and book.way(a.identity, now()) == (a.identity,)
        assert book.way(p.identity, now() + LED_S) == (p.identity,)
        more = values_of(60, "other")
        p.hold(*more)
        await p.registrar.unregister(blocks_prefix(NET, MODEL, "kv"))
        assert right((await asker.kv.find_prefix(more, identities(p))).tensors, more)
        assert asker.host.counters["kv_claims_false"] == 0
        assert book.way(p.identity, now()) == (p.identity,), "the next block is asked for with a hint at once"

    in_network(work, anycast=("p",))


def test_a_long_prefix_that_only_caches_have_is_found() -> None:
    """Its producer is gone; a window that grows fourfold comes to 200 blocks in three round trips and its patience."""

    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        values = values_of(200)
        p.hold(*values)
        assert right((await b.kv.find_prefix(values)).tensors, values)
        await p.registrar.unregister(p.identity)
        p.forget(*values)
        began = asyncio.get_running_loop().time()
        assert (await asker.kv.locate(values)).held == 200
        assert await since(began) < 1.0

    in_network(work, anycast=("p",))


def test_holders_are_found_under_their_own_names_alone() -> None:
    """A forwarder may grant a producer no prefix but its identity; and the one it leads to says "absent" to all."""

    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        values = values_of(20)
        a.hold(*values[:9])
        b.hold(*values[9:])
        found = await asker.kv.find_prefix(values, identities(a, b))
        assert right(found.tensors, values) and found.named == 20

    in_network(work, anycast=("p",))


def test_an_absent_answer_at_the_same_moment_hides_nothing() -> None:
    """Somebody else keeps asking p for the same blocks, so that its "absent" passes the forwarder all the time."""

    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        values = values_of(12)
        a.hold(*values)

        async def pester() -> None:
            while True:
                await asyncio.gather(*(b.kv.discovery.discover(value) for value in values))
                await asyncio.sleep(0.0005)

        pestering = asyncio.ensure_future(pester())
        await asyncio.sleep(0.1)
        assert right((await asker.kv.find_prefix(values, identities(a))).tensors, values)
        pestering.cancel()
        await asyncio.gather(pestering, return_exceptions=True)

    in_network(work, anycast=("p",))


def test_a_gap_ends_the_prefix_whatever_comes_after() -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        values = values_of(30)
        p.hold(*values[:10])
        a.hold(*values[11:])
        located = await asker.kv.locate(values, identities(a))
        assert located.held == 10
        found = await asker.kv.fetcher.fetch(located)
        assert right(found.tensors, values[:10])

    in_network(work)


def test_a_liar_costs_a_trip_and_is_not_asked_again() -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        values = values_of(24)
        p.hold(*values[:16])
        a.claim_everything()
        found = await asker.kv.find_prefix(values, identities(a))
        assert right(found.tensors, values[:16])  # also where the false claim came before the honest answer
        assert asker.host.counters["kv_claims_false"] >= 8
        asked = a.asked
        assert right((await asker.kv.find_prefix(values, identities(a))).tensors, values[:16])
        assert a.asked == asked

    in_network(work)


@pytest.mark.parametrize("what", ["everything", "segments"])
def test_a_holder_behind_a_cut_link_is_asked_again_soon(what: str) -> None:
    """Nothing came of what it claims. That is no lie."""

    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        values = values_of(4)
        a.hold(*values)
        located = await asker.kv.locate(values, identities(a))
        assert located.held == 4
        a.links[-1].tamper_up = lambda wire: None if what == "everything" or METADATA not in wire else wire
        assert (await asker.kv.fetcher.fetch(located)).tensors == []
        assert asker.host.counters["kv_claims_false"] == 4
        a.links[-1].tamper_up = None
        await asyncio.sleep(SILENT_S)
        assert asker.kv.discovery.holders.to_ask(identities(a), clock.monotonic()) == [a.identity]
        assert right((await asker.kv.find_prefix(values, identities(a))).tensors, values)

    in_network(work, anycast=("p",), fetch=FetchConfig(deadline_s=2.0))


def test_a_liar_who_answers_first_hides_nobody() -> None:
    """The search ends with its claim, before the network's own holder has answered."""

    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        values = values_of(24)
        p.hold(*values[:16])
        a.claim_everything()
        began = asyncio.get_running_loop().time()
        located = await asker.kv.locate(values, identities(a))
        assert located.held == 24 and await since(began) < ROUND_TRIP_S / 2
        assert right((await asker.kv.fetcher.fetch(located)).tensors, values[:16])

    in_network(work, near=("asker", "a"))


def test_an_honest_holder_beside_a_liar_is_used() -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        values = values_of(24)
        b.hold(*values)
        a.claim_everything()
        assert right((await asker.kv.find_prefix(values, identities(a, b))).tensors, values)

    in_network(work)


def test_a_silent_holder_is_not_waited_for_where_others_have_it_all() -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        values = values_of(10)
        p.hold(*values)
        a.say_nothing()
        began = asyncio.get_running_loop().time()
        assert (await asker.kv.locate(values, identities(a))).held == 10
        assert await since(began) == pytest.approx(ROUND_TRIP_S, rel=0.01)
        more = values_of(12)
        assert (await asker.kv.locate(more, identities(a))).held == 10  # now it has to be waited for
        asked = a.asked
        assert (await asker.kv.locate(more, identities(a))).held == 10
        assert a.asked == asked

    in_network(work)


def test_silence_is_believed_soon_about_a_block_that_somebody_waits_for_here() -> None:
    """NFD says nothing to an Interest whose name is pending from elsewhere, and which it could send back there alone: a
    prefill producer that looks for blocks which its caller awaits from it would wait for a whole search's patience."""

    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        for station in (p, a, b):
            station.server.answer(blocks_prefix(NET, MODEL, "kv"), lambda request: None)
        (value,), (other,) = values_of(1), values_of(1, "another prompt")
        name = asker.kv.blocks.name(value)
        asker.server.promise(name)
        waiting = asyncio.ensure_future(b.fetcher.await_object(name, hints=(asker.identity,), deadline_s=30))
        await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        assert (await asker.kv.locate([value])).held == 0
        assert await since(began) <= LEAST_PATIENCE_S
        began = asyncio.get_running_loop().time()
        assert (await asker.kv.locate([other])).held == 0
        assert await since(began) == pytest.approx(4 * asker.kv.discovery.patience_s(), rel=0.01)
        asker.hold(value)
        assert (await waiting).manifest is not None

    in_network(work)


@pytest.mark.parametrize("round_trip_s", [0.02, 0.3, 0.6])
def test_what_somebody_waits_for_here_is_found_however_far_its_holder_is(round_trip_s: float) -> None:
    """Silence is believed soon, and not before an answer can be there."""

    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        known, value = values_of(2)
        p.hold(known, value)
        p.say_nothing()  # to questions: what it has is found under its own name or not at all
        assert right((await asker.kv.find_prefix([known])).tensors, [known])
        assert asker.fetcher.round_trip_s == pytest.approx(round_trip_s, rel=0.1)
        name = asker.kv.blocks.name(value)
        asker.server.promise(name)
        waiting = asyncio.ensure_future(b.fetcher.await_object(name, hints=(asker.identity,), deadline_s=30))
        await asyncio.sleep(1)
        assert (await asker.kv.locate([value])).held == 1
        waiting.cancel()

    in_network(work, delay_s=round_trip_s / 2)


def test_what_left_the_store_is_not_claimed() -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        values = values_of(6)
        a.hold(*values)
        a.forget(*values[4:])
        assert right((await asker.kv.find_prefix(values, identities(a))).tensors, values[:4])
        assert asker.host.counters["kv_claims_false"] == 0

    in_network(work)


def test_nobody_is_there() -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        values = values_of(5)
        for station in (p, a, b):
            station.link.close()
        assert (await asker.kv.find_prefix(values, identities(p, a, b))).tensors == []

    in_network(work)


def test_more_blocks_than_a_question_takes() -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        values = values_of(MAX_HOLDS + 40)
        assert await asker.kv.discovery.ask(a.identity, values) == [0] * len(values)
        a.hold(values[MAX_HOLDS - 1], values[MAX_HOLDS])
        await asyncio.sleep(2 * ABSENT_FRESHNESS_MS / 1000)  # caches repeat an answer so long
        versions = await asker.kv.discovery.ask(a.identity, values)
        assert [number for number, version in enumerate(versions) if version] == [MAX_HOLDS - 1, MAX_HOLDS]

    in_network(work)


def test_a_prefix_of_several_questions_takes_no_longer_than_one_of_one() -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        values = values_of(2 * MAX_HOLDS + 40)
        p.hold(*values)
        asked, began = p.asked, asyncio.get_running_loop().time()
        assert (await asker.kv.locate(values)).held == len(values)
        assert await since(began) == pytest.approx(2 * ROUND_TRIP_S, rel=0.01)
        assert p.asked - asked <= search.FIRST + 3

    in_network(work)


def test_questions_that_are_none_get_no_answer_and_do_no_harm() -> None:
    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        chance = random.Random(4)
        values = values_of(3)
        a.hold(*values)
        good = records.encode(asker.kv.discovery.subject.query(values[:1]))
        prefix = asks_prefix(a.identity)

        async def said(topic: bytes, parameters: bytes) -> CallAnswer:
            data, _ = await asker.endpoint.express(
                prefix + topic, must_be_fresh=True, lifetime_ms=60, parameters=parameters
            )  # fmt: skip
            return records.decode(CallAnswer, data.content)

        for number in range(300):
            wire = bytearray(good)
            for _ in range(chance.randrange(1, 4)):
                wire[chance.randrange(len(wire))] = chance.randrange(256)
            parameters = bytes(wire[: chance.randrange(len(wire))]) if number % 2 else bytes(wire)
            try:
                answer = await said(ndn.generic(HOLDS), parameters)
            except Exception as error:
                assert type(error).__name__ in ("Timeout", "Nacked"), error
            else:
                assert answer.code or len(records.decode(Holdings, answer.value).versions) % 8 == 0
        other = records.encode(replace(asker.kv.discovery.subject.query(values[:1]), model="cd" * 32))
        holds = ndn.generic(HOLDS)
        for topic, parameters in ((ndn.generic("x"), good), (holds + holds, good), (holds, other)):
            with pytest.raises(Exception, match="no route|No"):
                await said(topic, parameters)
        assert right((await asker.kv.find_prefix(values, identities(a))).tensors, values)

    in_network(work)


# ---------------------------------------------------------------- what is made of it for one prompt

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
