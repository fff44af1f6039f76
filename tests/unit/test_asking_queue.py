"""A call that was taken on behind others: one move to who begins sooner; where that fails it stays."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from ndn_infer import ndn
from ndn_infer.errors import CallError, NdnInferError, Timeout
from ndn_infer.namespace import Call
from ndn_infer.records import CallAnswer, Record
from ndn_infer.security.validator import Validated
from ndn_infer.transport.calls.asking import Answered, Asking, PreparedCall
from ndn_infer.transport.calls.candidates import Candidate, Order, Outcome, Said
from ndn_infer.wire.call import CallMachine, CallState

NAMES = ("a", "b")
HERE, THERE = (ndn.from_uri(f"/n/s/{name}/decode") for name in NAMES)
CALL = Call("model", "ab" * 32, "generate", "shared", "cd" * 32)
FAR = 1e9
OTHER = Candidate((THERE,))


def _stream(identity: ndn.Name, queue: int) -> CallAnswer:
    return CallAnswer(result="/r/v=1", hint=ndn.to_uri(identity), stream=True, queue=queue)


class Names:
    """A chooser that names one who begins sooner, whoever has the call; keeps what it hears."""

    def __init__(self, other: Candidate | None) -> None:
        self.other = other
        self.outcomes: list[Outcome] = []
        self.questions = 0

    async def candidates(self, call: Call, request: Record, *, settled: bool = False) -> Sequence[Candidate]:
        return ()

    def heard(self, call: Call, candidate: Candidate, said: Said) -> None:
        self.outcomes.append(said.outcome)

    def elsewhere(self, call: Call, said: Said) -> Candidate | None:
        self.questions += 1
        return self.other

    def refuses(self, identity: ndn.Name) -> str:
        return ""


class Scripted(Asking):
    """Asks nobody: answers by whom the candidate is."""

    def __init__(self, chooser: Names, answers: dict[ndn.Name, CallAnswer | NdnInferError]) -> None:
        super().__init__(cast(Any, None), cast(Any, None), ledger=None, chooser=chooser)
        self.answers = answers
        self.asked: list[ndn.Name] = []

    async def _ask_once(self, question: PreparedCall, parameters: bytes) -> Answered:
        identity = question.order.now.at[0]
        self.asked.append(identity)
        answer = self.answers[identity]
        if isinstance(answer, NdnInferError):
            raise answer
        return Answered(answer, Validated(identity + ndn.from_uri("/KEY/1"), b"", ""), "producer", rtt_s=0.01)


def _asked(
    there: CallAnswer | NdnInferError,
    *,
    queue: int = 3,
    other: Candidate | None = OTHER,
    only: bool = False,
) -> tuple[Answered, Scripted, Names]:
    order = Order([Candidate((HERE,)), Candidate((THERE,))][: 1 if only else 2], only=only)

    async def nobody(settled: bool) -> Sequence[Candidate]:
        return ()

    question = PreparedCall(CALL, ndn.from_uri("/call"), b"", (), "", (), order, nobody)
    chooser, machine = Names(other), CallMachine(FAR)
    asking = Scripted(chooser, {HERE: _stream(HERE, queue), THERE: there})
    answered = asyncio.run(asking.ask(machine, question))
    assert machine.state is CallState.READING
    return answered, asking, chooser


def test_who_begins_sooner_has_the_call_whatever_its_own_queue() -> None:
    answered, asking, chooser = _asked(_stream(THERE, 7))
    assert answered.signed_by.identity == THERE and asking.asked == [HERE, THERE]
    assert chooser.questions == 1, "one move a call"


@pytest.mark.parametrize(
    ("there", "outcome"),
    [
        (Timeout("nothing came"), Outcome.SILENT),
        (CallAnswer(code="busy", error="later", retry_after_ms=500), Outcome.BUSY),
        (CallAnswer(code="unknown-model", error="not mine"), Outcome.CANNOT),
        (CallAnswer(code="bad-request", error="no"), Outcome.ANSWERED),
        (CallAnswer(value=b"x"), Outcome.ANSWERED),
    ],
)
def test_where_that_fails_the_call_stays(there: CallAnswer | NdnInferError, outcome: Outcome) -> None:
    answered, asking, chooser = _asked(there)
    assert answered.signed_by.identity == HERE and asking.asked == [HERE, THERE]
    assert chooser.outcomes == [Outcome.ANSWERED, outcome], "and who chooses the next time knows"


@pytest.mark.parametrize(
    "how",
    [{"queue": 0}, {"other": None}, {"other": Candidate((HERE,))}, {"only": True}],
    ids=["nobody is before it", "nobody begins sooner", "the same one", "asked at one place only"],
)
def test_otherwise_nobody_else_is_asked(how: dict[str, Any]) -> None:
    answered, asking, _ = _asked(CallError("unused"), **how)
    assert answered.signed_by.identity == HERE and asking.asked == [HERE]
