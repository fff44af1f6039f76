"""An answer of others, computed again with an engine of ours.

Owns: the order of a check: tokens exactly, or by margins and then exactly where these are large; text and end always.
Must not know: how an answer is fetched, verdicts, who published it.

Exact within one engine class on the CPU, for greedy and seeded answers with penalties, bias, grammars, stop strings,
log probabilities, and continuations. A sampled check in one class computes some spans after KV that somebody publishes;
where there is none it reads the answer as a prompt, a fraction of the cost. What looks wrong then is computed exactly
from the first token on: what it calls a fault is exact too. Across classes margins are all there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from ndn_infer.engine.engine import Engine, StepOutput, Stream
from ndn_infer.engine.published import DIFFERS, AnswerReading, Difference, PublishedAnswer
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.engine_class import EngineClass
from ndn_infer.errors import ModelError
from ndn_infer.evidence.verdict import EXACT, MARGIN
from ndn_infer.functions.audit.margins import looks_wrong, suspicion
from ndn_infer.functions.audit.published_events import PublishedEvents, right_text
from ndn_infer.functions.audit.sample import AnswerSpan, AuditSample
from ndn_infer.functions.engine_worker import EngineWorker
from ndn_infer.functions.generation import check_request, sampling_params
from ndn_infer.records import GenerateRequest
from ndn_infer.records.sampling import Sampling
from ndn_infer.together import together

if TYPE_CHECKING:
    from torch import Tensor

SALT: Final = "audit"
"""Of KV that audits share: another sample of an answer, or of one with the same beginning, finds it."""
SPANS_AT_ONCE: Final = 4
"""Spans of 16 tokens that share the steps of the engine."""
NOT_EXACT: Final = ("cuda", "mps")
"""Machines on which rows of several tokens have other bits than single ones."""


@dataclass(slots=True)
class AnswerFinding:
    """What a check came to. `kind` is "" where nothing is wrong, else one of verdict.FAULTS; `proven`: exactly, so that
    anybody of this class finds the same. `seconds`: of computing."""

    method: str
    units: int
    checked: int = 0
    kind: str = ""
    difference: Difference = field(default=Difference(0, -1, -1))
    words: str = ""
    proven: bool = False
    suspicion: float = 0.0
    seconds: float = 0.0

    def fault(self, kind: str, difference: Difference, words: str, *, proven: bool = True) -> AnswerFinding:
        return replace(self, kind=kind, difference=difference, words=words, proven=proven)


@dataclass(frozen=True, slots=True)
class CheckedAnswer:
    """One answer: what was asked, how that samples, what was said."""

    request: GenerateRequest
    params: Sampling
    said: PublishedEvents


class AnswerCheck:
    """Checks with one engine, which `worker` runs and which is of the class `engine`."""

    def __init__(self, worker: EngineWorker, engine: EngineClass, tokenizer: ChatTokenizer) -> None:
        self._worker = worker
        self._class = engine
        self._tokenizer = tokenizer

    def exact_for(self, request: GenerateRequest) -> bool:
        """Whether this engine computes the bits of whoever answers this request."""
        machine = self._class.machine.lower()
        return (
            str(self._class) == request.engine and self._class.kv == "raw" and not machine.startswith(NOT_EXACT)
        )  # fmt: skip

    async def check(
        self, request: GenerateRequest, said: PublishedEvents, sample: AuditSample, kv: Sequence[Tensor] = ()
    ) -> AnswerFinding:
        """`kv`: blocks of prompt and answer as they are published, from the first on; a sample is computed after them
        where they reach it. Raises PromptError, UsageError for a request that no engine of this model answers,
        ModelError."""
        engine: Engine = await self._worker.run(lambda engine: engine)
        limits = engine.model_config
        check_request(replace(request, engine=str(self._class)), limits, self._class)
        params = sampling_params(request, limits, self._tokenizer.eos_ids)
        if params.grammar is not None and engine.grammars is not None:
            await asyncio.to_thread(engine.grammars.compile, params.grammar)
        exact, units = self.exact_for(request), len(said.ids)
        finding = AnswerFinding(EXACT if exact else MARGIN, units)
        room = params.max_tokens
        if units > room:
            words = f"the answer has {units} tokens, and may have {room}"
            return finding.fault("end", Difference(room, said.ids[room], -1), words)
        before = await self._worker.run(_engine_seconds)
        if units and params.max_tokens and request.sampling.max_tokens:
            checked = CheckedAnswer(request, params, said)
            finding = await self._tokens(checked, sample, finding, kv)
        finding.seconds = await self._worker.run(_engine_seconds) - before
        return finding if finding.kind else await self._text(request, params, said, finding)

    # ------------------------------------------------------------ tokens

    async def _tokens(
        self, checked: CheckedAnswer, sample: AuditSample, finding: AnswerFinding, kv: Sequence[Tensor]
    ) -> AnswerFinding:
        count = len(checked.said.ids)
        if finding.method != EXACT:
            return await self._margins(checked, sample, finding)
        if sample.share >= 1.0:
            return await self._exactly(checked, finding)
        size = await self._worker.run(lambda engine: engine.block_tokens)
        spans, prompt = sample.spans(len(checked.request.prompt), count, size), len(checked.request.prompt)
        if kv and len(kv) >= (prompt + spans[-1].first) // size:
            upto = await self._spans(checked, spans, kv, size)
            finding = replace(finding, checked=sum(span.end - span.first for span in spans))
        else:
            upto = await self._doubtful(checked, sample, finding)
            finding = replace(finding, checked=count)
        return finding if upto < 0 else await self._confirmed(checked, upto, finding)

    async def _confirmed(self, checked: CheckedAnswer, upto: int, finding: AnswerFinding) -> AnswerFinding:
        """The tokens up to `upto`, exactly and from the first on: nothing that somebody publishes is believed."""
        said = checked.said
        first = replace(said, ids=said.ids[: upto + 1], told=said.told[: upto + 1])
        confirmed = await self._exactly(replace(checked, said=first), finding)
        return replace(confirmed, checked=max(confirmed.checked, finding.checked))

    async def _spans(self, checked: CheckedAnswer, spans: list[AnswerSpan], kv: Sequence[Tensor], size: int) -> int:
        """The first token of these spans that is not what follows from the KV before it; -1 where all are."""
        room, prompt = asyncio.Semaphore(SPANS_AT_ONCE), len(checked.request.prompt)

        async def one(span: AnswerSpan) -> int:
            async with room:
                return await self._span(checked, span, kv[: (prompt + span.first) // size])

        return next((wrong for wrong in await together(map(one, spans)) if wrong >= 0), -1)

    async def _span(self, checked: CheckedAnswer, span: AnswerSpan, before: Sequence[Tensor]) -> int:
        request, params, said = checked.request, checked.params, checked.said
        published = PublishedAnswer(said.ids[span.first : span.end], said.told[span.first : span.end])
        params = replace(params, max_tokens=params.max_tokens - span.first)
        ids, answered = (*request.prompt, *said.ids[: span.first]), request.answered + span.first

        def begin(engine: Engine) -> Stream:
            return engine.start_check(ids, params, published, before, cache_salt=SALT, answered=answered)

        await self._follow(begin)
        return -1 if published.complete else span.first + published.checked

    async def _doubtful(self, checked: CheckedAnswer, sample: AuditSample, finding: AnswerFinding) -> int:
        """All tokens are looked at, which costs little more than some: up to which one they are to be computed."""
        margins = await self._read(checked, range(finding.units))
        prompts = EngineClass.parse(checked.request.engine).prompts == self._class.prompts
        wrong = looks_wrong(margins, greedy=checked.params.temperature == 0.0, same_class=prompts)
        return sample.doubtful(margins) if wrong is None else wrong.upto

    async def _margins(self, checked: CheckedAnswer, sample: AuditSample, finding: AnswerFinding) -> AnswerFinding:
        positions = sample.of(finding.units)
        margins = await self._read(checked, positions)
        finding = replace(finding, checked=len(positions), suspicion=suspicion(list(margins.values())))
        wrong = looks_wrong(margins, greedy=checked.params.temperature == 0.0, same_class=False)
        if wrong is None:
            return finding
        index = wrong.position
        token = Difference(index, checked.said.ids[index], -1, min(margins[index], 1e9))
        return finding.fault("token", token, wrong.words, proven=False)

    async def _exactly(self, checked: CheckedAnswer, finding: AnswerFinding) -> AnswerFinding:
        """Every token, in order, until one is wrong."""
        request, params, said = checked.request, checked.params, checked.said
        if request.sampling.logprobs and len(said.told) != len(said.ids):
            words = "log probabilities were asked for, and not every token has one"
            return finding.fault("logprob", Difference(len(said.told), -1, -1), words)
        told = said.told if request.sampling.logprobs else ()
        published = PublishedAnswer(said.ids, told)

        def begin(engine: Engine) -> Stream:
            return engine.start_check(
                request.prompt, params, published, cache_salt=SALT, answered=request.answered
            )  # fmt: skip

        finished = await self._follow(begin)
        finding = replace(finding, checked=min(published.checked + 1, finding.units), method=EXACT)
        if finished == DIFFERS and (wrong := published.difference) is not None:
            kind = "logprob" if wrong.what == "logprob" else "token"
            return finding.fault(kind, wrong, _words(wrong))
        finding = replace(finding, checked=published.checked)
        if not published.complete:
            wrong = Difference(published.checked, published.next_id, -1)
            return finding.fault("end", wrong, f"the answer ends after {published.checked} tokens, and here it goes on")
        return finding

    async def _read(self, checked: CheckedAnswer, positions: Sequence[int]) -> dict[int, float]:
        readings: list[AnswerReading] = []
        ids, request = checked.said.ids[: positions[-1] + 1], checked.request

        def begin(engine: Engine) -> Stream:
            stream, reading = engine.start_reading(
                request.prompt, checked.params, ids, positions, cache_salt=SALT, answered=request.answered
            )  # fmt: skip
            readings.append(reading)
            return stream

        await self._follow(begin)
        return readings[0].margins

    async def _follow(self, begin: Callable[[Engine], Stream]) -> str:
        """Run a stream to its end, and say how it ended. Raises ModelError."""
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def on_step(output: StepOutput) -> None:
            if output.finished and not done.done():
                done.set_result(output.finished)

        stream = await self._worker.follow(begin, on_step)
        try:
            finished = await done
        finally:
            self._worker.cancel(stream)
        if finished.startswith("error"):
            raise ModelError(finished)
        return finished

    # ------------------------------------------------------------ text and end

    async def _text(
        self, request: GenerateRequest, params: Sampling, said: PublishedEvents, finding: AnswerFinding
    ) -> AnswerFinding:
        """The text that these tokens have, and whether the answer ends where it must."""
        if said.finish == "error":
            return finding  # it says itself that it is not whole
        count = len(said.ids)
        end = _end(params, said) if count else "length"
        right = await right_text(request, self._tokenizer, said.ids, end)
        if right.stopped_at:
            end = "stop"
        at = Difference(max(count - 1, 0), said.ids[-1] if count else -1, -1)
        if (right.stopped_at and right.stopped_at < count) or not end:
            words = "it goes on after a stop string" if right.stopped_at else "it ends where it would go on"
            return finding.fault("end", at, words)
        if (said.finish, said.stopped_by) != (end, right.stopped_by):
            return finding.fault("end", at, f"it says that it ended by {said.finish!r}, and that was {end!r}")
        if said.text != right.text:
            return finding.fault("text", at, "its text is not that of its tokens")
        return finding


def _end(params: Sampling, said: PublishedEvents) -> str:
    """Why an engine ends after these tokens, "" where it does not; what a grammar ends is taken as said."""
    if said.ids[-1] in params.stop_ids or (params.grammar is not None and said.finish == "stop"):
        return "stop"
    return "length" if len(said.ids) >= params.max_tokens else ""


def _words(wrong: Difference) -> str:
    if wrong.what == "logprob":
        return f"what is told of token {wrong.index} is not what the model says of it"
    return f"token {wrong.index} is {wrong.published}, and must be {wrong.recomputed}; margin {wrong.margin:.4g}"


def _engine_seconds(engine: Engine) -> float:
    return engine.counters.prefill_s + engine.counters.decode_s
