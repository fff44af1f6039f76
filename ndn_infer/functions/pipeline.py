"""generate, on a node that holds the last layers only: the stages before it compute the others.

Owns: the order of a generation over stages: the prompt piece by piece, then token by token. Must not know: how a step
is computed or pulled (stage_host.py), where the other stages are, what a stream of tokens looks like.

To callers it is the `generate` of any decode producer, and the tokens are the same: the logits are those of the whole
model bit for bit, and choices are made by seed and position.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from ndn_infer.engine.grammar import Grammars, TokenMatcher
from ndn_infer.engine.sampler import Choice, Floats, TokenHistory, pick, told_of
from ndn_infer.engine.scoring import PromptScorer
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.errors import CallError, UsageError
from ndn_infer.functions.answer_log import admitting, record_call, recorded
from ndn_infer.functions.answer_meter import AnswerCounts
from ndn_infer.functions.answer_records import AnswerRecords, PromptState
from ndn_infer.functions.answer_stream import AnswerStream, Report
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.functions.generation import check_request, sampling_params, text_of
from ndn_infer.functions.grammar_check import GrammarCheck
from ndn_infer.functions.open_answers import OpenAnswers
from ndn_infer.functions.receipts import receipt_of
from ndn_infer.functions.stage_costs import StageCosts
from ndn_infer.functions.stage_host import StageHost, Then
from ndn_infer.functions.stage_steps import NO_KV, Step
from ndn_infer.records import GenerateRequest, KvSources, Progress
from ndn_infer.records.codec import most_bytes
from ndn_infer.records.grammar import MAX_GRAMMAR_BYTES
from ndn_infer.records.receipt import PromptTokens, Receipt
from ndn_infer.records.sampling import Sampling
from ndn_infer.security.crypto import Signer
from ndn_infer.transport.objects.live_stream import LiveStream


@dataclass(slots=True)
class _Generation:
    """One answer in the making."""

    request: GenerateRequest
    params: Sampling
    host: Host
    answer: AnswerStream
    tokens: list[int] = field(default_factory=list)
    """Prompt and answer."""
    matcher: TokenMatcher | None = None
    """Where the answer stands in its grammar."""
    parent: bytes = b""
    seated: bool = False
    steps_done: int = 0
    steps: int = 0
    """Of the prompt."""
    scorer: PromptScorer | None = None
    scores: list[Choice] = field(default_factory=list)
    """Of tokens of the prompt, not told yet."""
    spent: StageCosts = field(default_factory=StageCosts)

    @property
    def asked(self) -> int:
        """Tokens that are computed as a prompt: those after them were answered already, and are computed row by row, as
        they were the first time."""
        return len(self.request.prompt) - self.request.answered

    @property
    def made(self) -> int:
        return len(self.tokens) - len(self.request.prompt)

    def scoring(self, step: Step) -> Then | None:
        """What is done with a step's hidden states where the prompt's tokens are told with their probabilities."""
        scorer = self.scorer
        if scorer is None or scorer.complete:
            return None
        return lambda stage, hidden: self.scores.extend(scorer.scores(stage, hidden, step.start))

    def take_scores(self) -> list[Choice]:
        scores, self.scores = self.scores, []
        return scores

    def choose(self, logits: Floats, history: TokenHistory | None) -> int:
        """The next token, from its logits [vocab]."""
        allowed = self.matcher.allowed() if self.matcher is not None else None
        token = pick(logits, self.params, len(self.tokens), history, allowed)
        if self.matcher is not None:
            self.matcher.accept(token)
        return token

    def progress(self) -> Progress:
        if self.made:
            return Progress("decode")
        return Progress("prefill", 0, self.steps_done, self.steps) if self.seated else Progress("queued")


class GenerateOverStages(NamedFunction[GenerateRequest]):
    function = "generate"
    role = "decode"
    request_type = GenerateRequest
    streams = True
    max_request_bytes = most_bytes(GenerateRequest)

    def __init__(self, folder: Path, stages: StageHost) -> None:
        self.subject = ("model", stages.model)
        self._folder = folder
        self._stages = stages
        self._tokenizer: ChatTokenizer | None = None
        self._grammars: Grammars | None = None
        self._grammar_check = GrammarCheck()
        self._records = AnswerRecords()
        self._seats = asyncio.Semaphore(stages.config.max_streams)
        self._answers = OpenAnswers(stages.config.max_streams + stages.config.queue_limit)

    async def start(self, host: Host, signer: Signer) -> None:
        self._tokenizer = await asyncio.to_thread(ChatTokenizer.load, self._folder)
        stage = await self._stages.start()
        self.take_at_most(4 * stage.whole.context_length + MAX_GRAMMAR_BYTES)
        self._grammars = Grammars(self._folder, stage.whole.vocab_size)
        if not stage.ends:
            text = f"layers {stage.first}-{stage.last} of {stage.whole.layers} give no tokens"
            raise UsageError(text, hint=f"offer stage:{stage.first}-{stage.last} here, and decode with the last layers")

    async def close(self) -> None:
        await self._answers.close()
        await self._stages.close()

    def engine_class(self) -> str:
        return str(self._stages.engine_class)

    def queue_length(self) -> int:
        return self._answers.queued

    def in_work(self) -> int:
        return self._answers.in_work

    async def run(self, request: GenerateRequest, job: Job) -> LiveStream:
        assert self._tokenizer is not None
        whole = self._stages.stage.whole
        check_request(request, whole, self._stages.engine_class)
        params = sampling_params(request, whole, self._tokenizer.eos_ids)
        await self._grammar_check.ready(params.grammar, self._grammars)
        text = await text_of(request, self._tokenizer)
        logged = await record_call(job, request)
        with admitting(logged):
            self._answers.admit()
        counts = AnswerCounts.of(job.host, self.subject[1], request)
        out, pace = job.open_stream(), self._answers.pace(job.host.config.producer.event_ms)
        answer = AnswerStream(request, self._tokenizer, out, pace, counts, text)
        answer.report = Report(KvSources(tail_tokens=len(request.prompt)))
        generation = _Generation(request, params, job.host, answer, list(request.prompt))
        if params.grammar is not None and self._grammars is not None:
            answered = request.prompt[len(request.prompt) - request.answered :]
            generation.matcher = self._grammars.matcher(params.grammar, answered)
        if params.score_prompt:
            generation.scorer = PromptScorer(request.prompt, params.logprobs)
        answer.progress = generation.progress
        answer.receipt = lambda: self._receipt(generation, len(job.wire))
        answer.on_told = lambda: self._records.follow(answer, job, PromptState)
        self._answers.start(answer, lambda: recorded(logged, answer, self._generate(generation)))
        return out

    async def _generate(self, generation: _Generation) -> None:
        """From the prompt to the last token."""
        await self._answers.wait_wanted(generation.answer)
        try:
            await self._seat(generation)
            generation.answer.meter.turn()
            await self._tokens(generation)
        finally:
            self._leave_seat(generation)

    def _receipt(self, generation: _Generation, request_bytes: int) -> Receipt:
        """Of this node; beside it what the stages before say that they took."""
        prompt = PromptTokens(computed=len(generation.request.prompt)) if generation.made else PromptTokens()
        made = receipt_of(self.engine_class(), prompt, generation.spent.own, bytes_in=request_bytes)
        return replace(made, stages=generation.spent.told())

    async def _seat(self, generation: _Generation) -> None:
        """A place among those who compute; who is not read waits without one."""
        if generation.answer.away:
            self._leave_seat(generation)
            await generation.answer.wait_read()
        if not generation.seated:
            await self._seats.acquire()
            generation.seated = True

    def _leave_seat(self, generation: _Generation) -> None:
        if generation.seated:
            generation.seated = False
            self._seats.release()

    async def _tokens(self, generation: _Generation) -> None:
        logits = await self._prompt(generation)
        generation.answer.meter.prompt_from(PromptTokens(computed=len(generation.request.prompt)))
        asked, tokens = generation.asked, generation.tokens
        history = TokenHistory(tokens[:asked], tokens[asked:]) if generation.params.needs_history else None
        while True:
            told = logits.numpy()
            token = generation.choose(told, history)
            finish = self._take(generation, token)
            start, cutter = len(tokens) - 1, self._stages.cutter
            step = cutter.step(tokens[-1:], start, asked, generation.parent)
            async with self._inputs(generation, step, last=bool(finish)) as inputs:
                if generation.answer.push(*told_of(told, token, generation.params.logprobs), finish):
                    return
                await self._seat(generation)
                if history is not None:
                    history.add(token)
                logits = await self._step(generation, step, inputs)

    @asynccontextmanager
    async def _inputs(
        self, generation: _Generation, step: Step, *, last: bool
    ) -> AsyncIterator[asyncio.Task[Tensor] | None]:  # fmt: skip
        """What a step takes, asked of the stages before: they compute while its token is told. None where it may be
        that nobody wants the step."""
        if last or generation.answer.away or generation.params.stop:
            yield None
            return
        pull = self._stages.pull(step, generation.tokens, generation.host, generation.spent)
        inputs = asyncio.ensure_future(pull)
        for _ in range(2):  # turns of the event loop: it begins in the first one, and packets leave at the end of it
            await asyncio.sleep(0)
        try:
            yield inputs
        finally:
            if not inputs.done():
                inputs.cancel()
                await asyncio.gather(inputs, return_exceptions=True)
            elif not inputs.cancelled():
                inputs.exception()  # whoever waited for it was told

    async def _prompt(self, generation: _Generation) -> Tensor:
        """Logits after the prompt. While a piece is computed here, the stages before compute the next one."""
        host, tokens = generation.host, generation.tokens
        cutter = self._stages.cutter
        steps = cutter.joined(cutter.steps(tokens, generation.asked))
        pulls: list[asyncio.Task[Tensor]] = []
        generation.steps = len(steps)

        def pull_next() -> None:
            if len(pulls) < len(steps):
                pull = self._stages.pull(steps[len(pulls)], tokens, host, generation.spent)
                pulls.append(asyncio.ensure_future(pull))

        pull_next()
        try:
            for number, step in enumerate(steps):
                await asyncio.wait({pulls[number]})
                pull_next()
                await self._seat(generation)
                logits = await self._step(generation, step, pulls[number])
                generation.steps_done = number + 1
                generation.answer.tell_prompt(generation.take_scores())
        finally:
            for pull in pulls:
                pull.cancel()
            await asyncio.gather(*pulls, return_exceptions=True)
        return logits

    async def _step(self, generation: _Generation, step: Step, inputs: asyncio.Task[Tensor] | None = None) -> Tensor:
        """Logits after one step; the steps before are computed again where their KV was lost."""
        began = time.perf_counter()
        try:
            logits = await self._stages.compute(
                step, generation.tokens, generation.host, inputs=inputs, then=generation.scoring(step),
                spent=generation.spent,
            )  # fmt: skip
        except CallError as error:
            if error.code != NO_KV:
                raise
            then = generation.scoring(step)
            logits = await self._stages.compute(
                step, generation.tokens, generation.host, then=then, spent=generation.spent
            )
        generation.parent = step.value
        counters = generation.host.counters
        counters["steps"] += 1
        counters["steps_us"] += round((time.perf_counter() - began) * 1e6)
        return logits

    def _take(self, generation: _Generation, token: int) -> str:
        """One more token; why it is the last one, or ""."""
        params, whole, matcher = generation.params, self._stages.stage.whole, generation.matcher
        generation.tokens.append(token)
        if token in params.stop_ids or (matcher is not None and token in matcher.ends):
            return "stop"
        if generation.made >= params.max_tokens or len(generation.tokens) >= whole.context_length:
            return "length"
        return ""
