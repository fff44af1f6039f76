"""guard: judges answers while they are made, and prompts before they are computed, under policies that readers name.

Owns: both functions. Must not know: how a text is judged (guard/), what a reader does with a verdict. It reads an
answer by its name as any reader does, and publishes its verdicts as the result of the call; it filters nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from ndn_infer import clock, ndn, records
from ndn_infer.errors import BadName, NdnInferError, UsageError
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.functions.guard.models import NetworkModels
from ndn_infer.functions.guard.open_verdicts import OpenVerdicts
from ndn_infer.functions.guard.policies import ReadyPolicies
from ndn_infer.guard.answer_judge import AnswerJudge
from ndn_infer.guard.judge import PolicyRules
from ndn_infer.guard.patterns import patterns_in_time
from ndn_infer.guard.policy import ANSWER, PROMPT
from ndn_infer.guard.secrets import secret_forms
from ndn_infer.guard.text_verdict import verdict_on_texts
from ndn_infer.namespace import Result
from ndn_infer.records import TokenEvent
from ndn_infer.records.guard import JUDGE, SCREEN, SUBJECT, JudgeRequest, ScreenRequest, TextVerdict, VerdictEvent
from ndn_infer.security.crypto import Signer
from ndn_infer.transport.calls.caller import RunningStream
from ndn_infer.transport.calls.failures import code_of
from ndn_infer.transport.objects.live_stream import LiveStream


class JudgeAnswers(NamedFunction[JudgeRequest]):
    function = JUDGE
    role = "guard"
    request_type = JudgeRequest
    streams = True
    private = True

    def __init__(self, policies: ReadyPolicies) -> None:
        self.subject = SUBJECT
        self._policies = policies
        self._models: NetworkModels | None = None
        self._open = OpenVerdicts(0)

    async def start(self, host: Host, signer: Signer) -> None:
        self._models = NetworkModels(host)
        self._open = OpenVerdicts(host.config.guard.answers)
        await asyncio.to_thread(secret_forms)

    async def close(self) -> None:
        await self._open.close()

    def in_work(self) -> int:
        return len(self._open)

    async def run(self, request: JudgeRequest, job: Job) -> LiveStream:
        running = _running(request, job)
        self._open.admit()
        rules = await self._policies.rules(request.policy, request.given, ANSWER, job)
        with patterns_in_time():
            judge = await asyncio.to_thread(AnswerJudge, rules, request.answer, request.before)
        self._open.admit()  # others came while this one was made ready
        stream = job.open_stream()
        job.host.counters["answers_judged"] += 1
        self._open.start(stream, lambda read: self._judge(_Judging(judge, rules, running, job), stream, read))
        return stream

    async def _judge(self, judging: _Judging, stream: LiveStream, read: asyncio.Event) -> None:
        judge = judging.judge
        try:
            async with aclosing(judging.job.host.caller.read(judging.running).contents()) as contents:
                async for content in contents:
                    await read.wait()
                    verdict = await self._next(judging, records.decode(TokenEvent, content))
                    if verdict is not None:
                        _tell(stream, verdict, judging.job)
                    if judge.over:
                        return
            _tell(stream, judge.failed(clock.wall_us(), "the answer ended without saying why"), judging.job)
        except NdnInferError as error:
            _tell(stream, judge.failed(clock.wall_us(), f"{error.kind}: {error}", code_of(error)), judging.job)

    async def _next(self, judging: _Judging, event: TokenEvent) -> VerdictEvent | None:
        """What one more event of the answer gives rise to."""
        judge = judging.judge
        with patterns_in_time():
            text, verdict = await asyncio.to_thread(_pushed, judge, event, clock.wall_us())
        if text is None:
            return verdict
        assert self._models is not None
        found = await self._models.hits(judging.rules, text, judging.job.domain.label)
        with patterns_in_time():
            return await asyncio.to_thread(judge.verdict, clock.wall_us(), found)


class _Judging:
    """One answer that is being judged."""

    __slots__ = ("job", "judge", "rules", "running")

    def __init__(self, judge: AnswerJudge, rules: PolicyRules, running: RunningStream, job: Job) -> None:
        self.judge, self.rules, self.running, self.job = judge, rules, running, job


def _pushed(judge: AnswerJudge, event: TokenEvent, now_us: int) -> tuple[str | None, VerdictEvent | None]:
    """The text that models are to be asked about, or what can be said without them. Patterns take their time."""
    judge.push(event.ids, event.text, last=bool(event.finish))
    text = judge.due()
    return text, judge.verdict(now_us) if text is None else None


def _tell(stream: LiveStream, verdict: VerdictEvent, job: Job) -> None:
    if not stream.closed:
        job.host.counters[f"verdicts_{verdict.action}"] += 1
        stream.append(records.encode(verdict), final=verdict.last, failed=bool(verdict.error))


def _running(request: JudgeRequest, job: Job) -> RunningStream:
    """The answer that is to be judged. Raises UsageError for a name that is none."""
    try:
        name, key = ndn.from_uri(request.answer), ndn.from_uri(request.key)
        hints = (ndn.from_uri(request.hint),) if request.hint else ()
    except BadName as error:
        raise UsageError(f"this is no name: {error}") from error
    base, version = ndn.split_version(name)
    found = Result.parse(job.host.net, base)
    if version is None or found is None or (found.subject_kind, found.function) != ("model", "generate"):
        raise UsageError("what is judged is a stream of 'generate', by name and version")
    return RunningStream(name, key, hints, job.domain.label)


class ScreenTexts(NamedFunction[ScreenRequest]):
    function = SCREEN
    role = "guard"
    request_type = ScreenRequest
    private = True

    def __init__(self, policies: ReadyPolicies) -> None:
        self.subject = SUBJECT
        self._policies = policies
        self._models: NetworkModels | None = None

    async def start(self, host: Host, signer: Signer) -> None:
        self._models = NetworkModels(host)

    def units(self, request: ScreenRequest) -> float:
        """Hundreds of characters."""
        return sum(1 + len(text) / 100 for text in request.texts)

    async def run(self, request: ScreenRequest, job: Job) -> TextVerdict:
        assert self._models is not None
        rules = await self._policies.rules(request.policy, request.given, PROMPT, job)
        whole = await self._models.hits(rules, "\n".join(request.texts), job.domain.label) if rules.whole else []
        with patterns_in_time():
            verdict = await asyncio.to_thread(verdict_on_texts, rules, request.texts, whole, clock.wall_us())
        job.host.counters[f"prompts_{verdict.action}"] += 1
        return verdict
