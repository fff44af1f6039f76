"""Questions to one identity: what comes back, errors too, and what strangers can do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ndn_infer import ndn, records
from ndn_infer.config import Config
from ndn_infer.errors import (
    BadRecord,
    BadSignature,
    Busy,
    CallError,
    ModelError,
    Nacked,
    NdnInferError,
    PromptError,
    StoreFull,
    Timeout,
)
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.namespace import asks_prefix
from ndn_infer.records import CallAnswer, Message
from ndn_infer.records.detokenize import DetokenizeRequest, Text
from ndn_infer.security.askers import Askers
from ndn_infer.security.validator import Validated
from ndn_infer.transport.calls.direct import MAX_WORKING, DirectAsk, Questions, Topic
from tests.harness import Node, keychain_in, role

REPO = role("repo")


class Told:
    """One process with the identity of a repo, whose signed questions the trust schema knows, and one who asks."""

    def __init__(self, answering: Node, asker: Node) -> None:
        self.answering, self.asker = answering, asker
        self.questions = Questions(answering.server, Askers(answering.validator))
        self.signer = answering.keychain.signer_for(REPO)
        self.asked: list[str] = []

    def answer(self, topic: Topic[Message]) -> None:
        self.questions.answer(topic, self.signer)

    async def ask(self, topic: str, text: str = "hi", **how: object) -> str:
        question = DirectAsk(REPO, topic, Message("user", text), **how)  # type: ignore[arg-type]
        told = await self.asker.caller.direct.ask(question, Text)
        assert told.signed_by.identity == REPO
        return told.record.text


@pytest.fixture
async def told(tmp_path: Path) -> AsyncIterator[Told]:
    network, keychain = MemoryNetwork(), keychain_in(tmp_path / "keys", "repo", "user", "decode")
    answering = await Node(network, keychain, Config()).open()
    asker = await Node(network, keychain, Config()).open()
    answering.validator.add_certificates(*keychain.certificates())
    asker.validator.add_certificates(*keychain.certificates())
    await answering.registrar.start()
    await answering.registrar.register(REPO)
    world = Told(answering, asker)
    yield world
    await world.questions.close()
    await asker.close()
    await answering.close()
    network.close()


def shout(request: Message, _: Validated | None) -> Text:
    return Text(request.content.upper())


async def test_a_record_in_and_a_signed_record_out(told: Told) -> None:
    async def later(request: Message, _: Validated | None) -> Text:
        await asyncio.sleep(0.01)
        return shout(request, None)

    told.answer(Topic("shout", Message, shout))
    told.answer(Topic("later", Message, later))
    assert [await told.ask("shout"), await told.ask("later", "ho")] == ["HI", "HO"]


async def test_a_question_is_for_the_first_handler_that_answers_it(told: Told) -> None:
    told.answer(Topic("some", Message, lambda request, _: Text("one") if request.content == "1" else None))
    told.answer(Topic("some", Message, lambda request, _: Text("two") if request.content == "2" else None))
    assert [await told.ask("some", "2"), await told.ask("some", "1")] == ["two", "one"]
    with pytest.raises(Nacked):
        await told.ask("some", "3")
    with pytest.raises(Nacked):
        await told.ask("other")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CallError("no", code="odd", offered="this"), "odd", "no"),
        (Busy("later"), "busy", "later"),
        (PromptError("too much"), "bad-request", "too much"),
        (BadRecord("not so"), "bad-request", "not so"),
        (Timeout("nobody"), "unreachable", "Timeout: nobody"),
        (BadSignature("forged"), "not-trusted", "BadSignature: forged"),
        (StoreFull("no"), "no-room", "StoreFull: no"),
        (ModelError("odd"), "failed", "ModelError: odd"),
        (ValueError("a secret"), "internal", "ValueError in question wrong"),
    ],
)
async def test_errors_come_back_as_codes(told: Told, error: Exception, code: str, said: str) -> None:
    def wrong(request: Message, _: Validated | None) -> Text:
        raise error

    async def wrong_later(request: Message, _: Validated | None) -> Text:
        raise error

    told.answer(Topic("wrong", Message, wrong))
    told.answer(Topic("later", Message, wrong_later))
    for topic in ("wrong", "later"):
        with pytest.raises(CallError) as caught:
            await told.ask(topic)
        assert caught.value.code == code and str(caught.value) == said.replace("wrong", topic)
        assert caught.value.offered == getattr(error, "offered", "")


async def test_a_signed_question_is_answered_to_whom_the_schema_lets_ask(told: Told) -> None:
    """And to nobody else: not unsigned, not by another site's key, not twice."""
    seen: list[ndn.Name] = []

    def keep(request: Message, signed: Validated | None) -> Text:
        assert signed is not None
        seen.append(signed.identity)
        return Text("kept")

    told.answer(Topic("insert", Message, keep, signed=True))
    told.answer(Topic("unknown", Message, keep, signed=True))
    user = told.asker.keychain.signer_for(role("user"))
    assert await told.ask("insert", signer=user) == "kept" and seen == [role("user")]
    for topic, how in (("insert", {}), ("unknown", {"signer": user})):
        with pytest.raises(CallError) as caught:
            await told.ask(topic, **how)
        assert caught.value.code == "refused"
    with pytest.raises(CallError, match="Message") as caught:
        question = DirectAsk(REPO, "insert", DetokenizeRequest((1,)), user)
        await told.asker.caller.direct.ask(question, Text)
    assert caught.value.code == "bad-request" and seen == [role("user")]


async def test_questions_that_wait_are_bounded(told: Told) -> None:
    free, full, begun = asyncio.Event(), asyncio.Event(), 0

    async def slow(request: Message, _: Validated | None) -> Text:
        nonlocal begun
        begun += 1
        if begun == MAX_WORKING:
            full.set()
        await free.wait()
        return Text(request.content)

    told.answer(Topic("slow", Message, slow))
    numbers = [str(number) for number in range(MAX_WORKING)]
    asking = [asyncio.ensure_future(told.ask("slow", number, lifetime_ms=8000)) for number in numbers]
    await full.wait()
    with pytest.raises(Nacked):
        await told.ask("slow", "one more")
    free.set()
    assert await asyncio.gather(*asking) == numbers
    assert await told.ask("slow", "one more") == "one more"


async def test_a_question_without_an_answer_is_sent_again(told: Told) -> None:
    asked = 0

    async def late_once(request: Message, _: Validated | None) -> Text:
        nonlocal asked
        asked += 1
        await asyncio.sleep(5.0 if asked == 1 else 0.0)
        return Text(request.content)

    told.answer(Topic("late", Message, late_once))
    with pytest.raises(Timeout):
        await told.ask("late", "other", lifetime_ms=100)
    asked = 0
    assert await told.ask("late", lifetime_ms=500, attempts=3) == "hi" and asked == 2


async def test_bytes_that_are_no_question_get_no_work_done(told: Told) -> None:
    done: list[Message] = []

    def note(request: Message, _: Validated | None) -> Text:
        done.append(request)
        return Text("")

    told.answer(Topic("note", Message, note))
    dice, good = random.Random(5), records.encode(Message("user", "hello"))
    endpoint, prefix = told.asker.endpoint, asks_prefix(REPO) + ndn.generic("note")
    answered = 0
    for _ in range(200):
        wire = bytearray(good)
        for _ in range(dice.randrange(4)):
            wire[dice.randrange(len(wire))] = dice.randrange(256)
        parameters = bytes(wire[: dice.randrange(len(wire) + 1)])
        try:
            data, _arrival = await endpoint.express(prefix, must_be_fresh=True, lifetime_ms=60, parameters=parameters)
        except NdnInferError as error:
            assert isinstance(error, Nacked | Timeout)
            continue
        answered += 1
        assert not records.decode(CallAnswer, data.content).code
    assert len(done) <= answered <= 200
    with pytest.raises(Nacked):  # no parameters
        await endpoint.express(prefix, must_be_fresh=True, lifetime_ms=200)
    assert await told.ask("note") == ""


async def test_an_instance_is_asked_by_its_own_name(told: Told) -> None:
    instance = REPO + ndn.generic("instance") + ndn.generic("0a")
    told.questions.answer(Topic("shout", Message, shout), told.signer, at=instance)
    question = DirectAsk(instance, "shout", Message("user", "hi"))
    assert (await told.asker.caller.direct.ask(question, Text)).record == Text("HI")
    with pytest.raises(Nacked):
        await told.ask("shout")
