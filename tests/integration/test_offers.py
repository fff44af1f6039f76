"""Offers over a real forwarder core: published, looked at, chosen by; whoever cannot answer costs a detour and nothing
else. Producers whose routes are not announced are reached by hint."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from ndn_infer import clock, ndn
from ndn_infer.apps.offers import as_json, print_offers
from ndn_infer.errors import Busy, CallError
from ndn_infer.namespace import asks_prefix
from ndn_infer.offers.live import offers as looking
from ndn_infer.offers.live.offers import Offers, Where
from ndn_infer.offers.live.publishing import OfferGroup
from ndn_infer.records.offer import OFFER, OfferedFunction, OfferQuery, ProducerOffer
from ndn_infer.transport.calls.direct import DirectAsk
from ndn_infer.transport.link.detour import Detour
from tests.harness import NET, Node, role
from tests.offer_kit import book_of
from tests.offer_kit import offer as made_up
from tests.offer_world import CONFIG, NAMES, SUBJECT, World, ask, offer_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with offer_world(tmp_path / "keys") as world:
        yield world


async def test_roles_are_looked_for_from_the_first_call_on_that_they_answer(world: World) -> None:
    """A node that is named without a role is asked for each role; those that it has not are refused anew each time."""
    node = await world.asker(pull=(ndn.to_uri(ndn.prefix(role("tokenize", node="a"), -1)),))
    offers = world.offered[-1]
    await offers.ready("generate")
    assert offers.asked == 2
    await offers.ready("tokenize")
    assert offers.asked == 2, "the last look is young"
    asked = {"lookup": 3, "embed": 4, "prefill": 5, "detokenize": 5, "act.0-9": 6, "generate": 6}
    for function, count in asked.items():
        await offers.ready(function)
        assert offers.asked == count, function
    assert node.endpoint.connected


async def test_an_offer_is_asked_for_below_its_identity_and_its_process(world: World) -> None:
    made = await world.produce("a")
    asker = await world.asker()
    for prefix in (role("tokenize", node="a"), made.hint):
        told = await asker.caller.direct.ask(DirectAsk(prefix, OFFER, OfferQuery()), ProducerOffer)
        offer = told.record
        assert told.signed_by.identity == role("tokenize", node="a") == ndn.from_uri(offer.identity)
        assert offer.functions == (OfferedFunction("tokenize", *SUBJECT),) and offer.free == offer.places > 0
        assert ndn.from_uri(offer.hint) == made.hint and offer.until_us > clock.wall_us()
        assert (offer.prefill_tps, offer.prompt_s, offer.call_s) == (0.0, 0.0, 0.0), "nothing was measured"


async def test_producers_with_a_route_to_their_identity_alone_are_found_and_share_calls(world: World) -> None:
    for name in NAMES:
        await world.produce(name)
    asker = await world.asker()
    answers = Counter([await ask(asker, f"{number}") for number in range(60)])
    assert set(answers) == set(NAMES) and max(answers.values()) < 45


async def test_where_no_route_leads_to_a_name_whoever_offers_something_is_asked(world: World) -> None:
    await world.produce("a")
    node = await Node(world.network, world.keychain, CONFIG).open()
    world.nodes.append(node)
    node.endpoint.detour = Detour(beginning=5)
    node.validator.add_certificates(*world.keychain.certificates())
    pulled = replace(CONFIG, offers=replace(CONFIG.offers, pull=(ndn.to_uri(role("tokenize", node="a")),)))
    offers = Offers(Where.of(NET, node.endpoint, node.validator, pulled))
    world.offered.append(offers)
    (source,) = node.endpoint.detour.whereabouts
    assert list(source(NET)) == []
    await offers.look()
    assert list(source(NET)) == [role("tokenize", node="a")]


async def test_equal_calls_of_different_callers_go_to_one_producer(world: World) -> None:
    producers = [await world.produce(name) for name in NAMES]
    askers = [await world.asker() for _ in range(6)]
    answers = await asyncio.gather(*(ask(asker, "the same") for asker in askers))
    assert len(set(answers)) == 1
    assert sum(one.function.done for one in producers) == 1


@pytest.mark.parametrize(
    "error", [Busy("full", retry_after_s=5.0), CallError("x", code="wrong-codec"), CallError("x", code="not-private")],
    ids=lambda error: error.code,
)  # fmt: skip
async def test_who_cannot_answer_costs_one_more_question(world: World, error: CallError) -> None:
    producers = {name: await world.produce(name) for name in ("a", "b")}
    asker = await world.asker()
    first = await ask(asker, "x")
    other = "b" if first == "a" else "a"
    producers[first].function.fails = error
    began = clock.monotonic()
    answers = [await ask(asker, f"{number}") for number in range(20)]
    assert set(answers) == {other} and clock.monotonic() - began < 5.0, "no pauses"
    assert producers[first].function.done <= 2, "once, and then not before it has time"


async def test_who_is_gone_without_a_word_costs_its_patience_once(world: World) -> None:
    producers = {name: await world.produce(name) for name in ("a", "b")}
    asker = await world.asker()
    first = await ask(asker, "x")
    for link in producers[first].links:
        link.receiver = lambda packets: None  # it hears nothing any more
    answers = [await ask(asker, f"{number}") for number in range(12)]
    assert set(answers) == {"b" if first == "a" else "a"}
    assert len(world.offered[-1].book.identities(clock.monotonic())) == 1


async def test_without_offers_the_network_leads_to_somebody(world: World) -> None:
    made = await world.produce("a", announced=True)
    for prefix in (role("tokenize", node="a"), made.hint):
        made.endpoint.detach(asks_prefix(prefix))
    asker = await world.asker()
    assert await ask(asker, "x") == "a" and not list(world.offered[-1].entries())


async def test_when_all_are_busy_the_call_waits_for_the_first_that_has_time(world: World) -> None:
    made = await world.produce("a")
    asker = await world.asker()
    made.function.fails = Busy("full", retry_after_s=0.3)
    asyncio.get_running_loop().call_later(0.2, setattr, made.function, "fails", None)
    assert await ask(asker, "x") == "a"
    assert made.function.done in (2, 3)


async def test_an_offer_of_what_its_key_may_not_answer_is_left_out(world: World) -> None:
    made = await world.produce("a")
    asker = await world.asker()
    offers = world.offered[-1]
    await offers.look()
    (entry,) = offers.entries()
    told = await asker.caller.direct.ask(DirectAsk(made.hint, OFFER, OfferQuery()), ProducerOffer)
    more = replace(
        entry.offer, made_us=entry.offer.made_us + 1_000_000, functions=(
            OfferedFunction("generate", *SUBJECT), OfferedFunction("tokenize", *SUBJECT), OfferedFunction("/", "x", "")
        ),
    )  # fmt: skip
    taken = offers.take(more, told.signed_by)
    assert taken is not None and [one.function for one in taken.offer.functions] == ["tokenize"]


async def test_named_producers_are_looked_at_and_nothing_is_asked_while_nobody_calls(world: World) -> None:
    await world.produce("a")
    asker = await world.asker(pull=(ndn.to_uri(NET + ndn.from_uri("/home/a")),), refresh_s=0.2)
    offers = world.offered[-1]
    assert offers.asked == 0
    await ask(asker, "x")
    first = offers.asked
    assert first >= 2, "roles of the node, and the process that has a route"
    await asyncio.sleep(0.5)
    assert offers.asked == first
    await ask(asker, "y")
    await offers.settled()
    assert first < offers.asked < 2 * first, "roles that are not there are left alone for a while"


async def test_a_look_is_in_no_calls_way_unless_it_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "LATER_S", 3600.0)
    await world.produce("a")
    asker = await world.asker(refresh_s=0.1)
    offers = world.offered[-1]
    await ask(asker, "x")
    first = offers.asked
    await asyncio.sleep(0.1)
    await ask(asker, "y")
    assert first == offers.asked == 1, "the first call waits for a look, the second one does not"
    await offers.settled()
    assert offers.asked == 2


async def test_a_role_is_asked_when_the_process_that_has_a_route_is_dead(world: World) -> None:
    """As after a restart below an operator's routes: they name a process that is no more, and not the new one."""
    made = await world.produce("a")
    await made.registrar.unregister(made.hint)
    left = await Node(world.network, world.keychain, CONFIG).open()
    world.nodes.append(left)
    await left.registrar.register(role("tokenize", node="a") + ndn.from_uri("/instance/0123456789abcdef"))
    await world.asker()
    offers = world.offered[-1]
    await offers.look()
    (entry,) = offers.entries()
    assert entry.hint == made.hint and offers.asked == 2
    await offers.look()
    assert offers.asked == 4


async def test_in_doubt_a_call_looks_again_whatever_the_age_of_the_last_look(world: World) -> None:
    await world.produce("a")
    asker = await world.asker(refresh_s=60.0)
    offers = world.offered[-1]
    await ask(asker, "x")
    await ask(asker, "y")
    first = offers.asked
    offers.doubt()
    await ask(asker, "z")
    await asyncio.sleep(0.1)
    assert first == 1 and offers.asked == 2


async def test_who_was_lost_is_asked_again_when_nobody_else_is_left(world: World) -> None:
    made, asker = await world.produce("a"), await world.asker(refresh_s=60.0)
    offers = world.offered[-1]
    await ask(asker, "x")
    offers.book.gone(made.hint, clock.monotonic() - 10.0)
    await asyncio.gather(ask(asker, "y"), ask(asker, "z"))
    assert offers.asked == 3, "of two calls one asks, its process and its identity"
    assert [entry.gone_since for entry in offers.entries()] == [None]


async def test_offers_spread_in_the_group_and_nobody_is_asked_for_them(world: World) -> None:
    made = await world.produce("a")
    signer = made.keychain.signer_for(role("tokenize", node="a"))
    made.validator.add_certificates(*made.keychain.certificates())
    asker = await world.asker()
    theirs = Offers(Where.of(NET, made.endpoint, made.validator, CONFIG))
    published = OfferGroup(theirs, registrar=made.registrar, me=made.hint, signer=signer)
    heard = OfferGroup(world.offered[-1], registrar=asker.registrar)
    try:
        await heard.open()
        await published.open(lambda: made.producer.offered(signer))
        for _ in range(400):
            if list(world.offered[-1].entries()):
                break
            await asyncio.sleep(0.05)
    finally:
        await published.close()
        await heard.close()
    (entry,) = world.offered[-1].entries()
    assert entry.hint == made.hint and world.offered[-1].asked == 0


def test_the_table_is_for_people_and_says_what_is_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    book = book_of(made_up("n1"), made_up("n2", prefill_tps=0.0, decode_tps=0.0, prompt_s=0.0, free=0, queue=3))
    print_offers(sorted(book.entries(0.0), key=lambda entry: entry.hint), {"ab" * 32: "smollm2"})
    head, first, second, alias = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["producer", "functions", "free", "queue"] and alias.split() == ["ab" * 8, "smollm2"]
    assert first.split()[:7] == ["home/n1/decode", "generate", "+private", "of", "abababab", "8/8", "0"]
    assert second.split()[5:10] == ["0/8", "3", "-", "-", "-"]
    print_offers([], {})
    assert "ndn-infer produce" in capsys.readouterr().out
    (entry,) = book_of(made_up("n1", prefill_tps=0.0)).entries(0.0)
    assert as_json(entry)["prefill_tokens_a_second"] is None and as_json(entry)["decode_tokens_a_second"] == 30.0
