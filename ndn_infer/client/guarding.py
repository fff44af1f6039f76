"""An answer under a policy: its stream and the verdict stream beside it, read side by side.

Owns: the calls of a guard, which verdict streams are read and when another one is asked for. Must not know: what a
verdict allows (guard/enforcement.py decides), how a text is judged.

A guard is never trusted to filter: what is not covered by a verdict that was verified here does not leave this module.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

from ndn_infer import clock, ndn
from ndn_infer.errors import Blocked, NdnInferError, Unjudged
from ndn_infer.guard.covered import digest_of_texts
from ndn_infer.guard.enforcement import BLOCKED, EXPIRED, FILTERED, UNJUDGED, Demand, Enforcer, PolicyStop
from ndn_infer.guard.policy import GuardPolicy
from ndn_infer.guard.text_verdict import redacted
from ndn_infer.records import TokenEvent
from ndn_infer.records.guard import (
    BLOCK,
    JUDGE,
    REDACT,
    SCREEN,
    SUBJECT,
    JudgeRequest,
    ScreenRequest,
    TextVerdict,
    VerdictEvent,
)
from ndn_infer.security.domains import PUBLIC
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.calls.asking import Answered
from ndn_infer.transport.calls.caller import Caller

log = logging.getLogger(__name__)

TRIES: Final = 3
"""So many verdict streams of one answer at most, where one expired or its guard was lost."""
AHEAD: Final = 64
"""Events of answer and guard that wait for whoever reads."""

Told = tuple[TokenEvent, Answered]


@dataclass(frozen=True, slots=True)
class DemandedPolicy:
    """`wire`: its canonical form; `hint` (URI): where a guard fetches it, if it has to."""

    policy: GuardPolicy
    wire: bytes
    hint: str = ""

    def demand(self) -> Demand:
        policy = self.policy
        return Demand(policy.digest, policy.hold_back, policy.wait_s, policy.guards)


@dataclass(slots=True)
class Guarding:
    """One reader's guard calls. `domain`: the label of the tenant domain it asks in."""

    demanded: DemandedPolicy
    caller: Caller
    domain: str = PUBLIC.label

    async def screen(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        """The texts of a prompt, as the policy lets them be asked. Raises Blocked, Unjudged."""
        policy = self.demanded.policy
        try:
            async with asyncio.timeout(policy.wait_s):
                verdict, by = await self._text_verdict(texts)
        except NdnInferError as error:
            raise Unjudged(f"policy {policy.name}: no guard judges the prompt: {error}") from error
        except TimeoutError as error:
            words = f"policy {policy.name}: no verdict on the prompt came within {policy.wait_s:g} s"
            raise Unjudged(words) from error
        return self._screened(verdict, by, texts)

    async def _text_verdict(self, texts: tuple[str, ...]) -> tuple[TextVerdict, str]:
        """And whose; another one where it has expired."""
        by, request = [""], ScreenRequest(self.demanded.policy.digest, texts, self._given())
        for attempt in range(2):
            ask = self._ask(SCREEN, request, attempt)
            verdict = await self.caller.call(
                ask, TextVerdict, on_answer=lambda told: by.append(ndn.to_uri(told.signed_by.identity))
            )
            if verdict.until_us > clock.wall_us():
                break
        return verdict, by[-1]

    def _screened(self, verdict: TextVerdict, by: str, texts: tuple[str, ...]) -> tuple[str, ...]:
        policy = self.demanded.policy
        if (verdict.policy, verdict.digest) != (policy.digest, digest_of_texts(texts)):
            raise Unjudged(f"policy {policy.name}: a guard answered with the verdict on another prompt")
        if policy.guards and by not in policy.guards:
            raise Unjudged(f"policy {policy.name}: {by} is none of its guards")
        if verdict.until_us <= clock.wall_us():
            raise Unjudged(f"policy {policy.name}: the verdict on the prompt has expired")
        if verdict.action == BLOCK:
            rules = ", ".join(verdict.rules)
            raise Blocked(f"policy {policy.name} blocks this prompt: {rules}", rules=verdict.rules)
        return redacted(texts, verdict.redactions) if verdict.action == REDACT else texts

    def _ask(self, function: str, request: JudgeRequest | ScreenRequest, attempt: int) -> Ask:
        """`attempt`: beyond 0 past every cache."""
        salt = secrets.randbits(53) if attempt else 0
        return Ask(SUBJECT, function, request, self.domain, caller=self.demanded.hint, evidence=False, salt=salt)

    def _given(self) -> bytes:
        return self.demanded.wire if self.domain != PUBLIC.label else b""

    def judge(self, answered: Answered, before: str, attempt: int) -> AsyncGenerator[tuple[VerdictEvent, Answered]]:
        """A verdict stream of the answer that `answered` names."""
        answer = answered.answer
        request = JudgeRequest(
            self.demanded.policy.digest, answer.result, ndn.to_uri(answered.signed_by.key_name), answer.hint, before,
            self._given(),
        )  # fmt: skip
        return self.caller.stream(self._ask(JUDGE, request, attempt), VerdictEvent)


@dataclass(slots=True)
class GuardedAnswer:
    """An answer's streams, one after the other where it breaks off. `ids` and `text`: what was shown, not redacted;
    `stops`: the stop strings that were asked for."""

    guarding: Guarding
    stops: tuple[str, ...] = ()
    ids: list[int] = field(default_factory=list)
    text: str = ""
    stop: PolicyStop | None = None
    """Why no more is shown, where a rule is hit."""

    async def shown(self, read: Callable[[Callable[[Answered], None]], AsyncGenerator[Told]]) -> AsyncGenerator[Told]:
        """Of the stream that `read` reads (it is given what hears of each answer to the call), what verdicts cover. The
        last event of one that is blocked has FILTERED as its `finish`. Raises Unjudged, and what reading raises."""
        async with aclosing(_SideBySide(self, read).shown()) as told:
            async for one in told:
                yield one

    def took(self, event: TokenEvent) -> None:
        """This event of the stream may be shown, as it came."""
        self.ids.extend(event.ids)
        self.text += event.text


@dataclass(frozen=True, slots=True)
class _Ended:
    """Of one of both streams; `error`: why it broke off."""

    stream: int
    """-1: the answer; else which of the verdict streams that were read."""
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _Verdict:
    event: VerdictEvent
    by: str
    stream: int


def _failure(event: TokenEvent) -> TokenEvent:
    """Words of the producer about itself. What else such an event has is of the answer, and no verdict covers it."""
    return TokenEvent((), finish="error", error=event.error, code=event.code)


class _SideBySide:
    """One stream of the answer and its verdicts."""

    def __init__(
        self, guarded: GuardedAnswer, read: Callable[[Callable[[Answered], None]], AsyncGenerator[Told]]
    ) -> None:
        self._guarded, self._read = guarded, read
        self._demand = replace(guarded.guarding.demanded.demand(), stops=guarded.stops)
        self._before = guarded.text
        self._came: asyncio.Queue[Told | _Verdict | _Ended] = asyncio.Queue(AHEAD)
        self._enforcer: Enforcer | None = None
        self._answered: Answered | None = None
        self._pending: list[TokenEvent] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._attempt = -1
        """Which verdict stream of this answer's stream is read."""
        self._stream = -1
        """Which one of all: whatever others said that still waits in `_came` does not count."""
        self._verdicts: asyncio.Task[None] | None = None

    async def shown(self) -> AsyncGenerator[Told]:
        self._start(self._read_answer())
        try:
            while True:
                came = await self._next()
                for event in self._take(came):
                    assert self._answered is not None
                    yield event, self._answered
                enforcer = self._enforcer
                if enforcer is not None and enforcer.complete:
                    return
                if enforcer is not None and enforcer.stopped is not None and not self._again(enforcer.stopped):
                    async for event in self._stopped(enforcer.stopped):
                        assert self._answered is not None
                        yield event, self._answered
                    return
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _next(self) -> Told | _Verdict | _Ended | None:
        """What comes next; None: it is time that a verdict came."""
        due = self._enforcer.due_at() if self._enforcer is not None else None
        try:
            async with asyncio.timeout(None if due is None else max(0.0, due - clock.monotonic())):
                return await self._came.get()
        except TimeoutError:
            if self._enforcer is not None:
                self._enforcer.tick(clock.monotonic())
            return None

    def _take(self, came: Told | _Verdict | _Ended | None) -> list[TokenEvent]:
        match came:
            case None:
                return []
            case _Verdict(verdict, by, stream):
                if stream != self._stream or self._enforcer is None:
                    return []
                return self._show(self._enforcer.on_verdict(verdict, by, clock.monotonic(), clock.wall_us()))
            case _Ended(stream, error):
                return self._take_end(stream, error)
            case (event, answered):
                return self._take_event(event, answered)

    def _take_event(self, event: TokenEvent, answered: Answered) -> list[TokenEvent]:
        if event.finish == "error":
            self._enforcer_of(answered).complete = True
            return [_failure(event)]
        enforcer = self._enforcer_of(answered)
        self._pending.append(event)
        return self._show(enforcer.on_event(event, clock.monotonic(), clock.wall_us()))

    def _enforcer_of(self, answered: Answered) -> Enforcer:
        """That of the stream whose events come; a call that is made again before its first event names another."""
        if self._enforcer is None or self._enforcer.answer != answered.answer.result:
            self._enforcer, self._answered = Enforcer(self._demand, answered.answer.result), answered
            self._pending.clear()
            self._judge(0)
        return self._enforcer

    def _show(self, events: list[TokenEvent]) -> list[TokenEvent]:
        for _ in events:
            self._guarded.took(self._pending.pop(0))
        return events

    def _take_end(self, stream: int, error: Exception | None) -> list[TokenEvent]:
        if stream < 0:
            if error is not None:
                raise error
            return []
        if stream == self._stream and self._enforcer is not None:
            self._enforcer.on_guard_gone(f"the guard is gone: {error}" if error else "the guard's verdicts ended")
        return []

    # ------------------------------------------------------------ guards

    def _again(self, stop: PolicyStop) -> bool:
        """Whether another verdict stream was asked for."""
        if stop.reason not in (EXPIRED, UNJUDGED) or self._attempt + 1 >= TRIES:
            return False
        log.info("asking for another verdict: %s", stop.words)
        assert self._enforcer is not None
        self._enforcer.another_guard()
        self._judge(self._attempt + 1)
        return True

    async def _stopped(self, stop: PolicyStop) -> AsyncIterator[TokenEvent]:
        policy = self._guarded.guarding.demanded.policy
        if stop.reason != BLOCKED:
            raise Unjudged(f"policy {policy.name}: {stop.words}; nothing more is shown")
        self._guarded.stop = stop
        yield TokenEvent((), finish=FILTERED)

    def _judge(self, attempt: int) -> None:
        """Read another verdict stream, and the one before no further."""
        assert self._answered is not None
        if self._verdicts is not None:
            self._verdicts.cancel()
        self._attempt, self._stream = attempt, self._stream + 1
        verdicts = self._guarded.guarding.judge(self._answered, self._before, attempt)
        self._verdicts = self._start(self._read_verdicts(verdicts, self._stream))

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        self._tasks.append(asyncio.get_running_loop().create_task(work))
        return self._tasks[-1]

    async def _read_answer(self) -> None:
        try:
            async with aclosing(self._read(self._hears)) as events:
                async for one in events:
                    await self._came.put(one)
            await self._came.put(_Ended(-1))
        except Exception as error:
            await self._came.put(_Ended(-1, error))

    def _hears(self, answered: Answered) -> None:
        """The answer's stream is named: a guard can begin to read it."""
        if answered.answer.stream:
            self._enforcer_of(answered)

    async def _read_verdicts(self, verdicts: AsyncGenerator[tuple[VerdictEvent, Answered]], stream: int) -> None:
        try:
            async with aclosing(verdicts):
                async for verdict, told in verdicts:
                    await self._came.put(_Verdict(verdict, ndn.to_uri(told.signed_by.identity), stream))
                    if verdict.last:
                        return
            await self._came.put(_Ended(stream))
        except Exception as error:
            await self._came.put(_Ended(stream, error))
