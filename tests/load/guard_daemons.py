"""Producers for tests.load.guard_processes, each a process of its own: answers as they are scripted, a guard that
attacks what it says itself, and one that has no guard's key.

Run by 'ndn-infer produce --functions tests.load.guard_daemons:NAME'. Owns: these. Must not know: how they are counted.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from dataclasses import replace
from typing import Any, Final

from ndn_infer import records
from ndn_infer.functions.base import Job, NamedFunction
from ndn_infer.functions.guard.function import JudgeAnswers
from ndn_infer.functions.guard.policies import ReadyPolicies
from ndn_infer.records import GenerateRequest, TokenEvent
from ndn_infer.records.guard import ALLOW, VerdictEvent
from ndn_infer.transport.objects.live_stream import LiveStream
from tests.guard_play import answer

SUBJECT: Final = ("model", "cd" * 32)
GAP_S: Final = 0.01
ATTACKS: Final = (
    "honest", "honest", "expired", "foreign policy", "forged tokens", "forged digest", "replayed", "renamed", "swapped",
    "silent", "dies",
)  # fmt: skip
"""Of one verdict stream. A certified guard that allows what it should block is believed, so that is none of them."""


def script(number: int) -> list[TokenEvent]:
    """The events of the answer to a prompt that begins with this token."""
    return answer(random.Random(number))


class Scripted(NamedFunction[GenerateRequest]):
    function, role, request_type, streams, subject = "generate", "decode", GenerateRequest, True, SUBJECT

    def __init__(self) -> None:
        self._tasks = set[asyncio.Task[None]]()

    async def run(self, request: GenerateRequest, job: Job) -> LiveStream:
        stream = job.open_stream()
        task = asyncio.get_running_loop().create_task(self._write(stream, script(request.prompt[0])))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return stream

    async def _write(self, stream: LiveStream, events: list[TokenEvent]) -> None:
        for event in events:
            stream.append(records.encode(event), final=bool(event.finish))
            await asyncio.sleep(GAP_S)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()


class Wicked(JudgeAnswers):
    """With a guard's key. What it does to a verdict stream is drawn anew for each."""

    def __init__(self) -> None:
        super().__init__(ReadyPolicies())
        self._drawn: dict[int, tuple[str, int, list[VerdictEvent]]] = {}
        self._old: list[VerdictEvent] = []
        """Verdicts on answers before."""

    async def _next(self, judging: Any, event: TokenEvent) -> VerdictEvent | None:
        made = await super()._next(judging, event)
        key = id(judging)
        if key not in self._drawn:
            self._drawn[key] = random.choice(ATTACKS), random.randrange(4), []
        attack, at, said = self._drawn[key]
        if made is None:
            return None
        said.append(made)
        if len(said) <= at:
            return made
        if attack == "silent":
            await asyncio.Event().wait()
        if attack == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        changed = self._changed(attack, made, said)
        self._old = [*self._old[-200:], made]
        return changed

    def _changed(self, attack: str, made: VerdictEvent, said: list[VerdictEvent]) -> VerdictEvent:
        old = random.choice(self._old) if self._old else made
        match attack:
            case "expired":
                return replace(made, until_us=1)
            case "foreign policy":
                return replace(made, policy=random.randbytes(32).hex())
            case "forged tokens":
                return replace(made, tokens=made.tokens + 3, events=made.events + 1)
            case "forged digest":
                return replace(made, digest=random.randbytes(32).hex())
            case "replayed":
                return replace(old, last=made.last)
            case "renamed":
                return replace(old, answer=made.answer, last=made.last)
            case "swapped":
                return replace(said[-2] if len(said) > 1 else made, last=made.last)
        return made


class Forging(JudgeAnswers):
    """Without a guard's key: it allows everything, in the name of another role."""

    role = "embed"

    def __init__(self) -> None:
        super().__init__(ReadyPolicies())

    async def _next(self, judging: Any, event: TokenEvent) -> VerdictEvent | None:
        made = await super()._next(judging, event)
        return None if made is None else replace(made, action=ALLOW, rules=(), redactions=())
