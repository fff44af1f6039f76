"""Questions to one identity, under its own name: a record in, a signed record out.

Owns: both sides of such a question: its Interest, signed or not, who may wait, the answer and how errors come back.
Must not know: what is asked (status, holdings, offers, commands to a repo), routes.

A question is an Interest `<identity>/ask/<topic>`, or `<identity>/instance/<instance>/ask/<topic>` for one process of
several, with a record as its parameters. Its answer is Data of the same name by that identity's key, whose content is
an Answer with the reply as its value. Nothing is kept: caches have an answer for as long as its topic says.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from ndn_infer import clock, ndn, records
from ndn_infer.errors import BadRecord, Busy, CallError, NdnInferError, Timeout, TrustError
from ndn_infer.namespace import asks_prefix
from ndn_infer.ndn.lp import REASON_CONGESTION, REASON_NO_ROUTE
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import Data
from ndn_infer.records import CallAnswer, R, Record, Reply
from ndn_infer.security.askers import Askers
from ndn_infer.security.crypto import Signer
from ndn_infer.security.validator import Validated, Validator
from ndn_infer.transport.calls.failures import failed, failure
from ndn_infer.transport.link.endpoint import Endpoint, ReceivedInterest
from ndn_infer.transport.objects.serve import Server
from ndn_infer.wire.shares import Allowance

Q = TypeVar("Q", bound=Record)

MAX_WORKING: Final = 64
"""Questions of a process that are being answered and wait for something; those after them get a Nack."""
ERROR_FRESHNESS_MS: Final = 10
REFUSED: Final = "refused"
"""Code of an answer: whoever signed the question may not ask it."""
FAILURES: Final = (20.0, 50.0)
"""Answers a second, and at once, that only say what is wrong, for one neighbour; beyond that a Nack has to do."""


@dataclass(frozen=True, slots=True)
class DirectAsk:
    """A question to the identity or instance `to`. With a `signer` it is signed; what the signer may ask is up to the
    trust schema. It is sent `attempts` times, while there is no answer within `lifetime_ms`."""

    to: Name
    topic: str
    request: Record
    signer: Signer | None = None
    lifetime_ms: int = 1000
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Told(Generic[R]):
    """A verified reply, and whose it is."""

    record: R
    signed_by: Validated


class Direct:
    """Asks such questions over one endpoint."""

    def __init__(self, endpoint: Endpoint, validator: Validator) -> None:
        self._endpoint = endpoint
        self._validator = validator

    async def ask(self, question: DirectAsk, reply: type[R]) -> Told[R]:
        """Raises CallError with what the answer says, BadRecord, Timeout, Nacked, a TrustError."""
        for attempt in range(1, question.attempts + 1):
            try:
                data = await self._send(question)
                break
            except Timeout:
                if attempt == question.attempts:
                    raise
        signed_by = await self._validator.validate(data)
        answer = records.decode(CallAnswer, data.content)
        if answer.code:
            raise failed(answer)
        return Told(records.decode(reply, answer.value), signed_by)

    async def _send(self, question: DirectAsk) -> Data:
        name = asks_prefix(question.to) + ndn.generic(question.topic)
        parameters, signer, lifetime_ms = records.encode(question.request), question.signer, question.lifetime_ms
        if signer is None:
            data, _ = await self._endpoint.express(
                name, must_be_fresh=True, lifetime_ms=lifetime_ms, parameters=parameters
            )  # fmt: skip
            return data
        # every try is a new question: a signed Interest is taken once
        wire, asked = signer.sign_interest(
            name, parameters, nonce=secrets.token_bytes(4), signature_nonce=secrets.token_bytes(8),
            time_ms=clock.wall_ms(), must_be_fresh=True, lifetime_ms=lifetime_ms,
        )  # fmt: skip
        data, _ = await self._endpoint.exchange(wire, asked, lifetime_s=lifetime_ms / 1000)
        return data


# ---------------------------------------------------------------- the side that answers


@dataclass(frozen=True, slots=True)
class Topic(Generic[Q]):
    """What can be asked. `handler` gets the request, and who signed it where it must be `signed`; it returns, or
    awaits, the reply, or None where the question is for another handler of this topic. What it raises is an answer with
    a code. Caches keep a reply for `freshness_ms`, which may depend on the reply."""

    name: str
    request: type[Q]
    handler: Callable[[Q, Validated | None], Reply | None | Awaitable[Reply | None]]
    signed: bool = False
    freshness_ms: int | Callable[[Any], int] = 10

    def fresh_ms(self, reply: Reply | None) -> int:
        return self.freshness_ms if isinstance(self.freshness_ms, int) else self.freshness_ms(reply)


class Questions:
    """Answers questions to the identities of one process."""

    def __init__(self, server: Server, askers: Askers | None = None) -> None:
        """`askers` prove who signed; without them nothing that must be signed is answered."""
        self._server = server
        self._askers = askers
        self._topics: dict[Name, dict[str, list[Topic[Any]]]] = {}
        self._failures = Allowance(*FAILURES)
        self._tasks: set[asyncio.Task[None]] = set()
        self._working = 0

    def answer(self, topic: Topic[Any], signer: Signer, *, at: Name = b"") -> None:
        """Answer below the identity of `signer`, or below `at`, an instance of it."""
        prefix = asks_prefix(at or signer.identity)
        if prefix not in self._topics:
            self._topics[prefix] = {}
            self._server.answer(prefix, lambda asked: self._on_request(asked, prefix, signer))
        self._topics[prefix].setdefault(topic.name, []).append(topic)

    async def close(self) -> None:
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------ one question

    def _on_request(self, asked: ReceivedInterest, prefix: Name, signer: Signer) -> None:
        """What is no question gets a Nack, which costs nothing."""
        parts = ndn.components(asked.interest.name[len(prefix) :])
        word = ndn.component_value(parts[0]).decode("ascii", "replace") if len(parts) == 2 else ""
        topics = self._topics[prefix].get(word, [])
        if not topics or asked.interest.parameters is None:
            asked.refuse(REASON_NO_ROUTE)
        elif topics[0].signed:
            self._prove(asked, topics, signer)
        else:
            try:
                request = records.decode(topics[0].request, asked.interest.parameters)
            except BadRecord:
                asked.refuse(REASON_NO_ROUTE)
                return
            self._handle(asked, topics, signer, request, None)

    def _prove(self, asked: ReceivedInterest, topics: list[Topic[Any]], signer: Signer) -> None:
        """Whose key is known waits for nobody; others wait for their certificates in a crowd of their own."""
        if self._askers is None:
            asked.refuse(REASON_NO_ROUTE)
            return
        try:
            signed = self._askers.known(asked.interest)
        except TrustError as error:
            self._fail(asked, topics[0], signer, CallError(str(error), code=REFUSED))
            return
        if signed is None:
            self._spawn(self._newcomer(asked, topics, signer))
        else:
            self._proved(asked, topics, signer, signed)

    async def _newcomer(self, asked: ReceivedInterest, topics: list[Topic[Any]], signer: Signer) -> None:
        assert self._askers is not None
        try:
            signed = await self._askers.newcomer(asked.interest, asked.face_id)
        except Busy:
            asked.refuse(REASON_CONGESTION)
        except TrustError as error:
            self._fail(asked, topics[0], signer, CallError(str(error), code=REFUSED))
        except NdnInferError as error:
            self._fail(asked, topics[0], signer, error)
        else:
            self._proved(asked, topics, signer, signed)

    def _proved(self, asked: ReceivedInterest, topics: list[Topic[Any]], signer: Signer, signed: Validated) -> None:
        assert asked.interest.parameters is not None
        try:
            request = records.decode(topics[0].request, asked.interest.parameters)
        except BadRecord as error:
            self._fail(asked, topics[0], signer, error)
            return
        self._handle(asked, topics, signer, request, signed)

    def _handle(
        self,
        asked: ReceivedInterest,
        topics: list[Topic[Any]],
        signer: Signer,
        request: Record,
        signed: Validated | None,
    ) -> None:  # fmt: skip
        """By the first handler that answers; those that take time do so in a task."""
        for topic in topics:
            try:
                reply = topic.handler(request, signed)
            except Exception as error:
                self._fail(asked, topic, signer, error)
                return
            if isinstance(reply, Awaitable):
                self._wait(asked, topic, signer, reply)
                return
            if reply is not None:
                self._reply(asked, signer, CallAnswer(value=records.encode(reply)), topic.fresh_ms(reply))
                return
        asked.refuse(REASON_NO_ROUTE)

    def _wait(self, asked: ReceivedInterest, topic: Topic[Any], signer: Signer, reply: Awaitable[Reply | None]) -> None:
        async def wait() -> None:
            try:
                record = await reply
                answer = CallAnswer() if record is None else CallAnswer(value=records.encode(record))
            except Exception as error:
                self._fail(asked, topic, signer, error)
            else:
                self._reply(asked, signer, answer, topic.fresh_ms(record))
            finally:
                self._working -= 1

        if self._working >= MAX_WORKING:
            getattr(reply, "close", lambda: None)()
            asked.refuse(REASON_CONGESTION)
            return
        self._working += 1
        self._spawn(wait())

    def _reply(self, asked: ReceivedInterest, signer: Signer, answer: CallAnswer, freshness_ms: int) -> None:
        wire = signer.sign_data(asked.interest.name, records.encode(answer), freshness_ms=freshness_ms)
        asked.reply(wire)

    def _fail(self, asked: ReceivedInterest, topic: Topic[Any], signer: Signer, error: Exception) -> None:
        if self._failures.spend(asked.face_id, clock.monotonic()):
            self._reply(asked, signer, failure(error, f"question {topic.name}"), ERROR_FRESHNESS_MS)
        else:
            asked.refuse(REASON_CONGESTION)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
