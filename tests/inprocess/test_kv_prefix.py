"""The longest prefix of KV over several holders, through the real forwarder core. In virtual time, so that round trips
are exact."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from ndn_infer import clock, ndn, records
from ndn_infer.config import FetchConfig
from ndn_infer.kv import search
from ndn_infer.kv.discovery import LEAST_PATIENCE_S
from ndn_infer.kv.holders import HOLDS, LED_S, MAX_HOLDS, SILENT_S, TAG_BYTES, Holdings
from ndn_infer.namespace import asks_prefix, blocks_prefix
from ndn_infer.ndn.name import METADATA
from ndn_infer.records import CallAnswer
from ndn_infer.wire.manifest import ABSENT_FRESHNESS_MS
from tests.harness import NET
from tests.kv_kit import MODEL, ROUND_TRIP_S, Station, identities, in_network, right, since, spread, values_of


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


def test_a_holder_tells_the_version_that_it_has_now() -> None:
    """Of a block that it told of before, that left its store, and that was published again."""

    async def work(asker: Station, p: Station, a: Station, b: Station) -> None:
        values = values_of(2)
        tags, query = [value[:TAG_BYTES] for value in values], p.kv.blocks.subject.query(values)
        p.hold(*values)
        first = p.kv.published.versions_of(tags, query)
        assert all(first) and p.kv.published.versions_of(tags, query) == first
        p.forget(values[0])
        assert p.kv.published.versions_of(tags, query) == [0, first[1]]
        await asyncio.sleep(0.001)
        p.hold(values[0])
        again = p.kv.published.versions_of(tags, query)
        assert again[0] > first[0] and again[1] == first[1]
        p.server.publish(p.kv.blocks.name(values[1]), b"x", p.signer)
        assert p.kv.published.versions_of(tags, query)[1] > first[1]

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
