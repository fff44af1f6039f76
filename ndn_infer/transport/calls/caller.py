"""Calling named functions: request in, verified answer out, wherever it was computed.

Owns: requests on their way out (sealed, or published where they are large), results too large or too slow for the
answer, and live streams. Must not know: what any function does, how an answer is had (asking.py).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from ndn_infer import clock, ndn, records
from ndn_infer.config import CallConfig, FetchConfig
from ndn_infer.errors import (
    BadRecord,
    MissingKey,
    NetworkError,
)
from ndn_infer.namespace import Call, CallClass, function_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.records import CallAnswer, Record, StreamEvent
from ndn_infer.security.access import Access
from ndn_infer.security.domains import PUBLIC, Domain, most_sealed
from ndn_infer.security.validator import Validated, Validator
from ndn_infer.telemetry.spans import Span, current, ending, within
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.calls.asking import Answered, Asking, PreparedCall
from ndn_infer.transport.calls.call_span import client_span
from ndn_infer.transport.calls.candidates import Candidate, Chooser, Order
from ndn_infer.transport.calls.direct import Direct
from ndn_infer.transport.calls.inputs import Inputs, PublishedInput
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.objects.ledger import Ledger
from ndn_infer.transport.objects.stream_pull import OnProgress, StreamPull
from ndn_infer.wire.call import CallEvent, CallMachine, CallState

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)

LEAST_FETCH_S: Final = 2.0
"""For a result whose name came in the last moment."""


class ResultLost(NetworkError):
    """An answer named a result that its producer no longer has, or gave up."""


@dataclass(frozen=True, slots=True)
class RunningStream:
    """`name` with version; `key_name`: the key that alone may speak of it, as the schema lets it; `hints` lead to its
    producer; `domain`: the label of the tenant domain it is sealed in."""

    name: Name
    key_name: Name
    hints: tuple[Name, ...] = ()
    domain: str = PUBLIC.label


class Caller:
    """Makes calls over one endpoint. `net` is the network's root name."""

    def __init__(
        self,
        endpoint: Endpoint,
        validator: Validator,
        fetcher: Fetcher,
        net: Name,
        *,
        config: CallConfig,
        fetch: FetchConfig,
        ledger: Ledger | None = None,
        inputs: Callable[[], Inputs | None] = lambda: None,
        access: Access | None = None,
        chooser: Chooser | None = None,
    ) -> None:
        """`inputs` gives the publisher of requests too large for an Interest, when this caller has a key for that;
        `access` is what private calls need; `chooser` says whom to ask first: without it the network leads to
        somebody."""
        self._chooser = chooser
        self.direct = Direct(endpoint, validator)
        self._asking = Asking(endpoint, validator, ledger=ledger, chooser=chooser)
        self._inputs = inputs
        self._access = access
        self._endpoint = endpoint
        self._validator = validator
        self._fetcher = fetcher
        self._net = net
        self._config = config
        self._fetch = fetch
        self._ledger = ledger

    async def call(
        self, ask: Ask, result: type[R], *, on_answer: Callable[[Answered], None] = lambda answered: None
    ) -> R:
        """Call and return the result record, fetched and verified. `on_answer` gets every answer that was believed,
        before its result is fetched. Raises CallError with the producer's own words, Timeout, Nacked, or a TrustError;
        for a private call MissingKey too."""
        with within(client_span(ask)):
            return await self._call(self._machine(ask), await self._prepare(ask, current()), result, on_answer)

    async def _call(
        self, machine: CallMachine, question: PreparedCall, result: type[R], on_answer: Callable[[Answered], None]
    ) -> R:
        while True:
            answered = await self._asking.ask(machine, question)
            on_answer(answered)
            if not answered.answer.result:
                return records.decode(result, answered.answer.value)
            try:
                content = await self._result_object(answered, machine.give_up_at, records.most_bytes(result))
            except NetworkError as error:
                await self._asking.lost(machine, question, answered, error)
                continue
            machine.on(CallEvent.RESULT_COMPLETE, clock.monotonic())
            return records.decode(result, content)

    async def stream(
        self, ask: Ask, event: type[R], *, on_progress: OnProgress | None = None,
        on_answer: Callable[[Answered], None] = lambda answered: None,
    ) -> AsyncGenerator[tuple[R, Answered]]:  # fmt: skip
        """Call a function that answers with a stream; yields its verified events in order. Raises as `call` does.

        `on_progress` is called with what the producer says of its progress while no event comes (in the queue, in the
        prompt), about once a second; `on_answer` gets every answer, before its stream is read. The key that signed the
        answer is the only one that may speak of the stream.
        When the stream is lost, or breaks off (StreamEvent.broken), before anything of it was seen the call is made
        again, past every cache; afterwards ResultLost is raised (a continuation elsewhere is another request).
        """
        machine, span = self._machine(ask), client_span(ask)
        with ending(span):
            question = await self._prepare(ask, span)
            started = False
            while machine.state is not CallState.DONE:
                answered = await self._asking.ask(machine, question)
                if not answered.answer.stream:
                    raise BadRecord(f"{ask.function} answered without a stream")
                on_answer(answered)
                try:
                    async with aclosing(self._pull(answered, on_progress).contents()) as contents:
                        async for content in contents:
                            told = records.decode(event, content)
                            if broken := _broken(told):
                                raise ResultLost(broken)
                            started = True
                            yield told, answered
                except NetworkError as error:
                    if started:
                        self._asking.broke(question, answered)
                        raise
                    await self._asking.lost(machine, question, answered, error)
                    continue
                machine.on(CallEvent.RESULT_COMPLETE, clock.monotonic())

    async def start(self, ask: Ask) -> Answered:
        """Call, and return the first answer: done, or elsewhere while work goes on. Raises as `call` does."""
        with within(client_span(ask)):
            question = await self._prepare(ask, current())
            return await self._asking.ask(self._machine(ask), replace(question, started=True))

    def read(self, running: RunningStream) -> StreamPull:
        """A stream that was named by the answer to somebody else's call. Raises MissingKey for a domain without a key
        here."""
        epoch = None if running.domain == PUBLIC.label else self._private().epoch(running.domain)
        return StreamPull(
            self._endpoint, self._validator, running.name, Validated(running.key_name, b"", ""), config=self._fetch,
            hints=running.hints, epoch=epoch, ledger=self._ledger,
        )  # fmt: skip

    # ------------------------------------------------------------ asking

    def _machine(self, ask: Ask) -> CallMachine:
        give_up_at = clock.monotonic() + self._config.deadline_s
        return CallMachine(give_up_at, max_attempts=self._config.attempts, salt=ask.salt)

    async def _prepare(self, ask: Ask, span: Span | None) -> PreparedCall:
        encoded, kind, epoch, access = records.encode(ask.request), CallClass.SHARED, None, None
        if ask.domain != PUBLIC.label:
            access = self._private()
            kind, epoch = CallClass.PRIVATE, access.epoch(ask.domain)
            prefix = function_prefix(self._net, *ask.subject, ask.function)
            encoded = access.seal_request(epoch, prefix, encoded)
            await self._introduce()
        call = Call(*ask.subject, ask.function, kind, hashlib.sha256(encoded).hexdigest())
        inline, caller = encoded, ask.caller
        sources: tuple[str, ...] = ()
        if len(encoded) > self._config.inline_bytes:
            published = await self._publish(encoded)
            inline, sources, caller = b"", (published.source,), published.hint

        async def candidates(settled: bool) -> Sequence[Candidate]:
            """Those at the hints of the call and nobody else; else whom the chooser names."""
            if ask.at or self._chooser is None:
                return (Candidate(ask.at),) if ask.at else ()
            return await self._chooser.candidates(call, ask.request, settled=settled)

        if ask.first:
            order = Order((Candidate((ask.first,)),), led=True)
        else:
            order = Order(await candidates(False), only=bool(ask.at))
        return PreparedCall(
            call, call.to_name(self._net), inline, sources, caller, ask.advice, order, candidates, epoch, access, span,
            ask.evidence, ask.context,
        )  # fmt: skip

    def domain(self, label: str) -> Domain:
        """The domain of this label, as private calls use it. Raises MissingKey."""
        return PUBLIC if label == PUBLIC.label else self._private().epoch(label)

    def _private(self) -> Access:
        if self._access is None:
            raise MissingKey(
                "a private call is signed, and this program has no key for that",
                hint="make one with 'ndn-infer keys issue', or ask in the public domain",
            )
        return self._access

    async def _introduce(self) -> None:
        """Whoever is asked privately fetches the certificate of the key that asks."""
        inputs = self._inputs()
        if inputs is not None:
            await inputs.announce()

    async def _publish(self, encoded: bytes) -> PublishedInput:
        """A large request, which the call then only names."""
        inputs = self._inputs()
        if inputs is None:
            raise MissingKey(
                f"a request of {len(encoded)} bytes does not fit an Interest, and there is no key to publish it with"
            )
        return await inputs.publish(encoded)

    # ------------------------------------------------------------ results elsewhere

    def _hints(self, answer: CallAnswer) -> tuple[Name, ...]:
        return (ndn.from_uri(answer.hint),) if answer.hint else ()

    async def _result_object(self, answered: Answered, give_up_at: float, most: int) -> bytes:
        answer, epoch = answered.answer, answered.epoch
        base, hints = _base_of(ndn.from_uri(answer.result)), self._hints(answer)
        left_s = max(give_up_at - clock.monotonic(), LEAST_FETCH_S)
        found = await self._fetcher.await_object(base, hints=hints, deadline_s=left_s)
        if found.manifest is None:
            raise ResultLost(f"the producer no longer has {answer.result}")
        fetched = await self._fetcher.collect(found, most=most_sealed(most), hints=hints)
        return fetched.content if epoch is None else epoch.open(base, fetched.content)

    def _pull(self, answered: Answered, on_progress: OnProgress | None) -> StreamPull:
        answer = answered.answer
        return StreamPull(
            self._endpoint, self._validator, ndn.from_uri(answer.result), answered.signed_by, config=self._fetch,
            hints=self._hints(answer), epoch=answered.epoch, ledger=self._ledger, on_progress=on_progress,
            rtt_s=answered.rtt_s,
        )  # fmt: skip


def _broken(told: object) -> str:
    return told.broken if isinstance(told, StreamEvent) else ""


def _base_of(result: Name) -> Name:
    """The base name of a result, which has a version only when it is made already."""
    return ndn.split_version(result)[0]
