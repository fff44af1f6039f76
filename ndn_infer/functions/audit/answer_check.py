"""An answer of others, computed again with an engine of ours.

Owns: the order of a check: tokens exactly, or by margins and then exactly where these are large; text and end always.
Must not know: how an answer is fetched, verdicts, who published it.

Exact within one engine class on the CPU, for greedy and seeded answers with penalties, bias, grammars, stop strings,
log probabilities, and continuations. A sampled check in one class reads the answer as a prompt, a fraction of the cost,
and computes exactly what looks wrong: what it calls a fault is exact too. Across classes margins are all there is.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from ndn_infer.engine.engine import Engine, StepOutput, Stream
from ndn_infer.engine.published import DIFFERS, AnswerReading, Difference, PublishedAnswer
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.engine_class import EngineClass
from ndn_infer.errors import ModelError
from ndn_infer.evidence.verdict import EXACT, MARGIN
from ndn_infer.functions.audit.margins import looks_wrong, suspicion
from ndn_infer.functions.audit.published_events import PublishedEvents, right_text
from ndn_infer.functions.engine_worker import EngineWorker
from ndn_infer.functions.generation import check_request, sampling_params
from ndn_infer.records import GenerateRequest
from ndn_infer.records.sampling import Sampling

NOT_EXACT: Final = ("cuda", "mps")
"""Machines on which rows of several tokens have other bits than single ones."""


@dataclass(frozen=True, slots=True)
class AuditSample:
    """Which part is checked: `share` of it, drawn by `seed`."""

    share: float = 1.0
    seed: int = 0

    def of(self, count: int) -> list[int]:
        """So many of range(count), one at least where there is any, in order."""
        wanted = min(math.ceil(self.share * count), count)
        return sorted(random.Random(self.seed).sample(range(count), wanted))


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

    async def check(self, request: GenerateRequest, said: PublishedEvents, sample: AuditSample) -> AnswerFinding:
        """Raises PromptError, UsageError for a request that no engine of this model answers, ModelError."""
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
            finding = await self._tokens(request, params, said, sample, finding)
        finding.seconds = await self._worker.run(_engine_seconds) - before
        return finding if finding.kind else await self._text(request, params, said, finding)

    # ------------------------------------------------------------ tokens

    async def _tokens(
        self,
        request: GenerateRequest,
        params: Sampling,
        said: PublishedEvents,
        sample: AuditSample,
        finding: AnswerFinding,
    ) -> AnswerFinding:
        exact = finding.method == EXACT
        if exact and sample.share >= 1.0:
            return await self._exactly(request, params, said, finding)
        positions = sample.of(len(said.ids))
        margins = await self._read(request, params, said, positions)
        finding = replace(finding, checked=len(positions))
        same = EngineClass.parse(request.engine).prompts == self._class.prompts if exact else False
        finding.suspicion = suspicion(list(margins.values()))
        wrong = looks_wrong(margins, greedy=params.temperature == 0.0, same_class=exact and same)
        if wrong is None:
            return finding
        if exact:
            upto = replace(said, ids=said.ids[: wrong.upto + 1], told=said.told[: wrong.upto + 1])
            confirmed = await self._exactly(request, params, upto, replace(finding, checked=0))
            return replace(confirmed, checked=max(confirmed.checked, len(positions)))
        index = wrong.position
        token = Difference(index, said.ids[index], -1, min(margins[index], 1e9))
        return finding.fault("token", token, wrong.words, proven=False)

    async def _exactly(
        self, request: GenerateRequest, params: Sampling, said: PublishedEvents, finding: AnswerFinding
    ) -> AnswerFinding:
        """Every token of `said`, in order, until one is wrong."""
        if request.sampling.logprobs and len(said.told) != len(said.ids):
            words = "log probabilities were asked for, and not every token has one"
            return finding.fault("logprob", Difference(len(said.told), -1, -1), words)
        told = said.told if request.sampling.logprobs else ()
        published = PublishedAnswer(said.ids, told)

        def begin(engine: Engine) -> Stream:
            return engine.start_check(
                request.prompt, params, published, cache_salt="audit", answered=request.answered
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

    async def _read(
        self, request: GenerateRequest, params: Sampling, said: PublishedEvents, positions: list[int]
    ) -> dict[int, float]:
        readings: list[AnswerReading] = []
        ids = said.ids[: positions[-1] + 1]

        def begin(engine: Engine) -> Stream:
            stream, reading = engine.start_reading(request.prompt, params, ids, positions, answered=request.answered)
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
