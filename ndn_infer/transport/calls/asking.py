"""Asking: Interests for one call, to one candidate after another, until one of them gives an answer.

Owns: what is outside the request in an Interest, what each answer, refusal and silence means for whom is asked next.
Must not know: how requests are made, what results are (caller.py), how candidates are found (offers/).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from ndn_infer import clock, ndn, records
from ndn_infer.errors import BadPacket, BadRecord, LeftOut, Nacked, NdnInferError, NetworkError, TrustError
from ndn_infer.namespace import Call
from ndn_infer.ndn.lp import REASON_CONGESTION
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import Data
from ndn_infer.records import CallAnswer, CallTrace, Envelope
from ndn_infer.records.codes import BUSY, UNABLE
from ndn_infer.security.access import Access
from ndn_infer.security.domains import DomainEpoch, is_sealed
from ndn_infer.security.validator import Validated, Validator
from ndn_infer.telemetry.spans import Span
from ndn_infer.transport.calls.candidates import CANNOT_CODES, Candidate, Chooser, Order, Outcome, Said
from ndn_infer.transport.calls.failures import failed
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.objects.ledger import Came, Ledger, source_of
from ndn_infer.wire.call import CallEvent, CallMachine, CallState
from ndn_infer.wire.pace import deadline_ms


@dataclass(frozen=True, slots=True)
class Answered:
    """A verified answer and where it came from. `epoch` is that of a private call; `rtt_s` how long it took, 0 when a
    cache of this machine had it; `how` it came is for the ledger."""

    answer: CallAnswer
    signed_by: Validated
    source: str
    epoch: DomainEpoch | None = None
    rtt_s: float = 0.0
    how: Came = field(default=Came(), repr=False)

    @property
    def hint(self) -> Name:
        """What leads to whoever answered; b"" when the answer does not say so, or names somebody else."""
        return _own_hint(self.answer.hint, self.signed_by.identity) if self.answer.hint else b""


@lru_cache(maxsize=1024)
def _own_hint(text: str, identity: Name) -> Name:
    """A producer says the same in each of its answers."""
    try:
        hint = ndn.from_uri(text)
    except NdnInferError:
        return b""
    return hint if hint.startswith(identity) else b""


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """What every try of a call has in common. `request` is empty when `sources` have it; `order`: who is asked, and
    `candidates` gives whom to ask in another round, with True after what is being looked for; `epoch` and `access` are
    those of a private call."""

    call: Call
    name: Name
    request: bytes
    sources: tuple[str, ...]
    caller: str
    advice: tuple[str, ...]
    order: Order
    candidates: Callable[[bool], Awaitable[Sequence[Candidate]]]
    epoch: DomainEpoch | None = None
    access: Access | None = None
    span: Span | None = None
    """Of a call that is traced."""
    evidence: bool = True
    context: str = ""
    started: bool = False
    """Whether what it starts goes on after the answer, for as long as somebody wants some of it."""


class Asking:
    """Asks over one endpoint. `chooser` hears what became of each candidate, `ledger` which answers were used."""

    def __init__(
        self, endpoint: Endpoint, validator: Validator, *, ledger: Ledger | None, chooser: Chooser | None
    ) -> None:
        self._endpoint = endpoint
        self._validator = validator
        self._ledger = ledger
        self._chooser = chooser

    async def ask(self, machine: CallMachine, question: PreparedCall) -> Answered:
        """The first answer that is one, of the first candidate that gives it. Raises CallError in the words of the last
        one asked, Timeout, Nacked, or a TrustError."""
        while True:
            machine.ask()
            try:
                answered = await self._ask_once(question, _envelope(machine, question))
            except (TrustError, BadPacket, BadRecord, NetworkError) as error:
                await self._go_on(machine, question, error, self._unused(question, error))
                continue
            said = self._used(question, answered)
            if said.outcome is Outcome.ANSWERED:
                answered = await self._sooner(machine, question, answered, said) or answered
                _take(machine, answered.answer)
                return answered
            await self._go_on(machine, question, failed(answered.answer), said.outcome, said.back_s)

    def _unused(self, question: PreparedCall, error: NdnInferError) -> Outcome:
        """What it means that nothing came, or nothing to be believed; all that keep count of answers hear it."""
        outcome = _outcome_of(error)
        if self._ledger is not None and outcome is Outcome.DISTRUSTED:
            self._ledger.refused(question.name, error)
        self._heard(question, Said(outcome))
        return outcome

    def _used(self, question: PreparedCall, answered: Answered) -> Said:
        """What an answer says, which all that keep count of answers hear."""
        answer = answered.answer
        if question.span is not None:
            question.span.attributes["ndn.source"] = answered.source
        if self._ledger is not None:
            self._ledger.used(question.name, answered.source, answered.signed_by, answered.how)
        back_s = answer.retry_after_ms / 1000
        said = Said(_outcome_in(answer), answered.hint, answered.rtt_s, back_s, answer.queue)
        self._heard(question, said)
        return said

    async def _sooner(
        self, machine: CallMachine, question: PreparedCall, answered: Answered, said: Said
    ) -> Answered | None:
        """The answer of another candidate, where that one begins sooner than who has just taken the call on behind
        others: in a crowd all choose alike by the same offers, and only their places differ. Who took it on computes
        nothing for an answer that nobody reads. None when there is no such one, or it does not take the call. One move
        a call: a queue is not worth more."""
        if self._chooser is None or not answered.answer.stream or not said.queue:
            return None
        other = self._chooser.elsewhere(question.call, said)
        if other is None or not question.order.on_to(other):
            return None
        machine.ask()
        try:
            found = await self._ask_once(question, _envelope(machine, question))
        except (TrustError, BadPacket, BadRecord, NetworkError) as error:
            self._unused(question, error)
            return None
        takes = self._used(question, found).outcome is Outcome.ANSWERED and found.answer.stream
        return found if takes and not found.answer.code else None

    async def lost(self, machine: CallMachine, question: PreparedCall, answered: Answered, error: NetworkError) -> None:
        """The result of an answer broke off before anything of it was used: the call is made again, of the next
        candidate, past every cache. Raises `error` when that was tried often enough."""
        self.broke(question, answered)
        if machine.on(CallEvent.RESULT_LOST, clock.monotonic()) is CallState.FAILED:
            raise error
        if not question.order.passed(Outcome.LOST):
            question.order.again(0.0)
            question.order.renew(await question.candidates(False))

    def broke(self, question: PreparedCall, answered: Answered) -> None:
        """A result broke off: whoever chooses next should know."""
        self._heard(question, Said(Outcome.LOST, answered.hint))

    def _heard(self, question: PreparedCall, said: Said) -> None:
        if self._chooser is not None:
            self._chooser.heard(question.call, question.order.now, said)

    async def _go_on(
        self, machine: CallMachine, question: PreparedCall, error: NdnInferError, outcome: Outcome, back_s: float = 0.0
    ) -> None:
        """To the next candidate at once, or after a pause to all that may yet answer, and those that were heard of
        meanwhile. Raises `error` when there is nobody, or no time left. Work that is only to be started is asked for
        twice where no route leads: who starts it can do it, too."""
        order, event = question.order, CallEvent.NEXT
        pause_s: float | None = 0.0
        if another := not order.passed(outcome, back_s):
            event, pause_s = CallEvent.NO_ANSWER, order.again(machine.pause_s())
        if pause_s is None and order.others(await question.candidates(True)):
            event, pause_s, another = CallEvent.NEXT, 0.0, False
        nowhere = question.started and outcome is Outcome.REFUSED and order.rounds > 1
        if pause_s is None or nowhere:
            machine.on(CallEvent.ERROR, clock.monotonic())
            raise error
        if outcome is Outcome.DISTRUSTED:
            event = CallEvent.DISTRUSTED
        then = clock.monotonic() + (pause_s if outcome is Outcome.BUSY else 0.0)
        if machine.on(event, then) is CallState.FAILED:
            raise error
        await asyncio.sleep(pause_s)
        if another:
            order.renew(await question.candidates(False))

    async def _ask_once(self, question: PreparedCall, parameters: bytes) -> Answered:
        name, candidate, epoch = question.name, question.order.now, question.epoch
        began = clock.monotonic()
        lifetime_ms = round(candidate.patience_s * 1000)
        if epoch is None:
            data, arrival = await self._endpoint.express(
                name, must_be_fresh=True, lifetime_ms=lifetime_ms, parameters=parameters, hints=candidate.at
            )
        else:
            assert question.access is not None
            wire, full = question.access.sign(name, parameters, hints=candidate.at, lifetime_ms=lifetime_ms)
            data, arrival = await self._endpoint.exchange(wire, full, lifetime_s=candidate.patience_s)
        rtt_s = 0.0 if arrival.from_content_store else clock.monotonic() - began
        signed_by = await self._validator.validate(data)
        if self._chooser is not None and (why := self._chooser.refuses(signed_by.identity)):
            raise LeftOut(f"{ndn.to_uri(signed_by.identity)} is left out: {why}", hint="'ndn-infer audit --faults'")
        how = Came(data.wire, began)
        return Answered(_open(data, epoch), signed_by, source_of(arrival), epoch, rtt_s, how)


def _envelope(machine: CallMachine, question: PreparedCall) -> bytes:
    trace = None if question.span is None else question.span.context
    deadline = 0 if question.started else deadline_ms(machine.give_up_at - clock.monotonic())
    return records.encode(
        Envelope(
            question.request, question.sources, question.caller, machine.salt, question.advice, deadline,
            question.order.turn, None if trace is None else CallTrace(trace.trace_id, trace.span_id),
            question.evidence, question.context,
        )
    )  # fmt: skip


def _take(machine: CallMachine, answer: CallAnswer) -> None:
    now = clock.monotonic()
    if answer.code:
        machine.on(CallEvent.ERROR, now)
        raise failed(answer)
    machine.on(CallEvent.ELSEWHERE if answer.result else CallEvent.VALUE, now)


def _outcome_of(error: NdnInferError) -> Outcome:
    """Of asking without an answer that can be used."""
    if isinstance(error, TrustError | BadPacket | BadRecord):
        return Outcome.DISTRUSTED
    if isinstance(error, Nacked):
        return Outcome.BUSY if error.reason == REASON_CONGESTION else Outcome.REFUSED
    return Outcome.SILENT


def _outcome_in(answer: CallAnswer) -> Outcome:
    if answer.code == BUSY:
        return Outcome.BUSY
    if answer.code in UNABLE:
        return Outcome.UNABLE
    return Outcome.CANNOT if answer.code in CANNOT_CODES else Outcome.ANSWERED


def _open(data: Data, epoch: DomainEpoch | None) -> CallAnswer:
    """The answer in verified Data. That to a private call is sealed, unless it only says why there is none: a producer
    without the key cannot seal. Raises BadRecord, SealBroken."""
    if epoch is None:
        return records.decode(CallAnswer, data.content)
    if is_sealed(data.content):
        return records.decode(CallAnswer, epoch.open_answer(data.name, data.content))
    answer = records.decode(CallAnswer, data.content)
    if not answer.code or answer.value or answer.result:
        raise BadRecord(f"{ndn.to_uri(data.name)}: a private call was answered in clear")
    return answer
