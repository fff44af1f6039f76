"""Streams of a gateway over a real forwarder core, from a producer that the test holds in its hand: what the page is
told of their end, and what is left of them when they are over."""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from ndn_infer import records
from ndn_infer.client import Client
from ndn_infer.config import GatewayConfig
from ndn_infer.gateway.answers import recording
from ndn_infer.gateway.answers.book import AnswerBook
from ndn_infer.gateway.answers.recorded import recorded
from ndn_infer.gateway.exchange import Exchange, HttpRoute
from ndn_infer.gateway.forms.chat import ChatForm
from ndn_infer.gateway.forms.form import Head
from ndn_infer.gateway.sampling import ChoiceOptions
from ndn_infer.gateway.served import Served
from ndn_infer.gateway.server import GatewayServer
from ndn_infer.gateway.service import Prepared, Service
from ndn_infer.gateway.streaming import answer_stream
from ndn_infer.gateway.tenants import Tenants
from ndn_infer.records import ModelRecord, Sampling, TokenEvent
from tests.harness import NET
from tests.inprocess.test_streams import SUBJECT, World, breaks, event, until, world, write

MODEL = ModelRecord("some", SUBJECT[1], "causal-lm", "LlamaForCausalLM", 512, 49_152)
KEPT = 4
"""Answers in the book."""


@dataclass
class Gate:
    world: World
    session: ClientSession
    book: AnswerBook

    async def ask(self, number: int) -> tuple[int, list[Any]]:
        """Status, and the events of the answer to the prompt of this one token."""
        async with self.session.post("/asked", json={"number": number}) as answer:
            text = await answer.text()
        lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
        return answer.status, [line if line == "[DONE]" else json.loads(line) for line in lines]


@asynccontextmanager
async def gate(folder: Path) -> AsyncIterator[Gate]:
    """A server with one path, which streams what the network answers."""
    async with world(folder) as made, Client(made.reader.joined) as client:
        book = AnswerBook(NET, KEPT)

        async def asked(exchange: Exchange) -> web.StreamResponse:
            conversation = client.conversation()
            conversation.ledger.witness = recording.witness()
            options = ChoiceOptions(Sampling(max_tokens=64), stream=True)
            answer = conversation.generate(MODEL, (exchange.document["number"],), options.sampling)
            form = ChatForm(Head("00" * 16, 1, "some", "fp"), options)
            return await answer_stream(exchange.request, Prepared(form, options, [answer], lambda tokens: None), 5.0)

        route = recorded(HttpRoute("POST", "/asked", asked, body=True), book)
        service = object.__new__(Service)
        service._domain, service.spend = (lambda: "public"), (lambda tokens: None)
        config = GatewayConfig(listen="127.0.0.1:0", ready_s=0.0, drain_s=0.05)
        server = GatewayServer(Served(service, str), config, Tenants(), [route])
        await server.open()
        try:
            async with ClientSession(server.url.removesuffix("v1")) as session:
                yield Gate(made, session, book)
        finally:
            await server.close()


@pytest.mark.parametrize(("code", "status", "told"), [("failed", 500, "failed"), ("bad-request", 400, None)])
async def test_an_error_within_a_stream_is_a_failed_answer(
    tmp_path: Path, code: str, status: int, told: str | None
) -> None:
    async with gate(tmp_path) as g:
        work = asyncio.ensure_future(g.ask(1))
        stream = await g.world.function.opened()
        await write(stream, 0, 2)
        stream.append(breaks(code), failed=True)
        http, events = await work
        assert http == 200 and events[-1] == "[DONE]" and events[-2]["error"]["code"] == told
        (record,) = g.book.of("")
        assert (record.state, record.status) == ("failed", status)


async def test_a_stream_that_broke_off_goes_on_at_whoever_answers(tmp_path: Path) -> None:
    """The client sees one answer."""
    async with gate(tmp_path) as g:
        work = asyncio.ensure_future(g.ask(1))
        stream = await g.world.function.opened()
        await write(stream, 0, 2)
        stream.append(breaks("unreachable"), failed=True)
        again = await g.world.function.opened(2)
        await write(again, 3, 4)
        again.append(records.encode(TokenEvent((5,), "5", "stop")), final=True)
        _, events = await work
        text = "".join(one["choices"][0]["delta"].get("content") or "" for one in events[:-1])
        assert text == "0 1 2 3 4 5" and (record := next(g.book.of(""))).state == "done" and record.status == 200


def held() -> Counter[str]:
    """Objects of the gateway and of clients that are there, by class."""
    gc.collect()
    mine = ("ndn_infer.gateway", "ndn_infer.client", "ndn_infer.transport.calls", "ndn_infer.transport.objects.stream")
    names = (f"{type(one).__module__}.{type(one).__name__}" for one in gc.get_objects())
    return Counter(name for name in names if name.startswith(mine))


async def test_nothing_is_left_of_answers_that_are_over(tmp_path: Path) -> None:
    """Whole ones, failed ones, and those whose clients left: what is kept is the book's, which is bounded."""
    async with gate(tmp_path) as g:

        async def answers(first: int, last: int) -> Counter[str]:
            for number in range(first, last):
                work = asyncio.ensure_future(g.ask(number))
                stream = await g.world.function.opened(number)
                stream.append(event(0))
                if number % 3 == 1:
                    work.cancel()
                    await asyncio.gather(work, return_exceptions=True)
                    await until(lambda: next(g.book.of("")).state == "left")
                    stream.abandon()
                    continue
                failed = number % 3 == 2
                end = breaks("failed") if failed else records.encode(TokenEvent((1,), "x", "stop"))
                stream.append(end, final=True, failed=failed)
                await work
            return held()

        before = await answers(1, 3 * KEPT + 1)
        after = await answers(3 * KEPT + 1, 9 * KEPT + 1)
        grown = {kind: (before[kind], count) for kind, count in after.items() if count > before[kind] + KEPT}
        assert not grown and len(list(g.book.of(""))) == KEPT
        assert after["ndn_infer.client.conversation.Conversation"] <= 2
