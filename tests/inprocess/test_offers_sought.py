"""Who is asked for its offer again when nobody else is left, and who is not. In virtual time, over the real forwarder
core."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ndn_infer import clock, ndn
from ndn_infer.forwarder.shell.inprocess import MemoryLink
from ndn_infer.namespace import Call, CallClass
from ndn_infer.ndn.name import Name
from ndn_infer.offers.book import Answering
from ndn_infer.offers.live.chooser import OfferChooser
from ndn_infer.records import GenerateRequest, Sampling, TokenizeRequest
from ndn_infer.testbed.virtual.loop import run_virtual
from tests.harness import Node, role
from tests.offer_world import NAMES, SUBJECT, Producing, World, offer_world

CALL = Call(*SUBJECT, "tokenize", CallClass.SHARED, "0" * 64)
FRESH_S = 2.1
"""Longer than any cache gives an offer out."""


def in_world(work: Callable[[World], Awaitable[None]]) -> None:
    async def whole() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with offer_world(Path(folder)) as world:
                await work(world)

    run_virtual(whole)


class Asking:
    """One who asks, and looks at offers when nothing else says so."""

    def __init__(self, world: World) -> None:
        self.offers = world.offered[-1]
        self.chooser = OfferChooser(self.offers)

    async def candidates(self, call: Call = CALL) -> tuple[list[Name], float]:
        """Whom a call would ask, and how long that took to know."""
        began = clock.monotonic()
        found = await self.chooser.candidates(call, TokenizeRequest(text="x"))
        return [one.at[0] for one in found], clock.monotonic() - began

    def lose(self, made: Producing) -> None:
        self.offers.book.gone(made.hint, clock.monotonic())


async def asking(world: World, *nodes: str) -> Asking:
    """One who names these nodes without a role, and looks once."""
    named = tuple(ndn.to_uri(ndn.prefix(role("tokenize", node=node), -1)) for node in nodes)
    await world.asker(pull=named, refresh_s=600.0)
    return Asking(world)


def deafen(node: Node) -> list[tuple[MemoryLink, object]]:
    """It hears nothing any more."""
    heard = [(link, link.receiver) for link in node.links]
    for link in node.links:
        link.receiver = lambda packets: None
    return heard


def test_who_was_lost_a_moment_ago_and_is_back_is_asked() -> None:
    async def work(world: World) -> None:
        made = await world.produce("a")
        one = await asking(world)
        assert (await one.candidates())[0] == [made.hint]
        await asyncio.sleep(FRESH_S)
        one.lose(made)
        await asyncio.sleep(0.01)
        found, took_s = await one.candidates()
        assert found == [made.hint] and took_s < 0.1

    in_world(work)


def test_nobody_is_asked_again_for_a_call_that_none_of_them_can_answer() -> None:
    async def work(world: World) -> None:
        made = await world.produce("a")
        one = await asking(world)
        assert (await one.candidates())[0] == [made.hint]
        one.lose(made)
        deafen(made)
        asked = one.offers.asked
        for other in (replace(CALL, subject="cd" * 32), replace(CALL, call_class=CallClass.PRIVATE)):
            assert await one.candidates(other) == ([], 0.0)
        assert one.offers.asked == asked
        assert await one.candidates() == ([], pytest.approx(0.5))
        assert one.offers.asked == asked + 2, "its process and its identity"

    in_world(work)


@pytest.mark.parametrize("function", ["embed", "lookup"])
def test_roles_that_a_node_lacks_cost_a_call_nothing(function: str) -> None:
    """Whoever answers such calls is reached by the network alone: nothing is wrong."""

    async def work(world: World) -> None:
        await world.produce("a")
        one, call = await asking(world, "a"), replace(CALL, function=function)
        await one.candidates(call)
        asked = one.offers.asked
        for _ in range(3):
            await asyncio.sleep(2.0)
            assert await one.candidates(call) == ([], 0.0)
        assert one.offers.asked == asked

    in_world(work)


def test_the_silent_that_may_answer_are_asked_again_and_looked_at_when_they_are_due() -> None:
    async def work(world: World) -> None:
        made = await world.produce("a")
        heard = deafen(made)
        one = await asking(world, "a")
        await one.offers.ready("tokenize")
        await asyncio.sleep(1.5)
        asked = one.offers.asked
        assert await one.candidates(replace(CALL, function="generate")) == ([], 0.0)
        for count in (2, 4):  # the process that has a route, its role
            assert await one.candidates() == ([], pytest.approx(0.5))
            assert one.offers.asked == asked + count
            await asyncio.sleep(1.0)
        for link, receiver in heard:
            link.receiver = receiver  # type: ignore[assignment]
        one.offers.doubt()
        await one.offers.ready("tokenize")
        await one.offers.settled()
        assert [entry.hint for entry in one.offers.entries()] == [made.hint]

    in_world(work)


class Prompt(tuple[int, ...]):
    """Counts how often its chain is computed."""

    chained = 0

    def __getitem__(self, at: Any) -> Any:
        Prompt.chained += isinstance(at, slice)
        return super().__getitem__(at)


def test_the_chain_of_a_prompt_is_computed_once_however_many_are_asked() -> None:
    async def work(world: World) -> None:
        one = await asking(world)
        await lose_all(world, one)
        request = GenerateRequest(Sampling(1), prompt=Prompt(range(640)))
        found = await one.chooser.candidates(CALL, request)
        assert len(found) >= 1 and Prompt.chained == 1

    in_world(work)


def test_an_equal_call_goes_where_it_went_although_nobody_was_there_meanwhile() -> None:
    async def work(world: World) -> None:
        one = await asking(world)
        (first, *_), _ = await lose_all(world, one)
        assert (await one.candidates())[0][0] == first, "although it is the farthest"

    in_world(work)


async def lose_all(world: World, one: Asking) -> tuple[list[Name], float]:
    """Three producers are found, and all of them lost. Whom a call would have asked; the first is far away."""
    for node in NAMES:
        await world.produce(node)
    await one.offers.look()
    asked = await one.candidates()
    for entry in one.offers.entries():
        one.offers.book.answered(entry.hint, Answering(0.4 if entry.hint == asked[0][0] else 0.01), clock.monotonic())
    await asyncio.sleep(FRESH_S)
    for entry in one.offers.entries():
        one.offers.book.gone(entry.hint, clock.monotonic())
    await asyncio.sleep(0.01)
    return asked
