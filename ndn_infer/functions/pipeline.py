"""generate, on a node that holds the last layers only: the stages before it compute the others.

Owns: the order of a generation over stages: the prompt piece by piece, then token by token. Must not know: how a step
is computed or pulled (stage_host.py), where the other stages are.

To callers it is the `generate` of any decode producer, and the tokens are the same: the logits are those of the whole
model bit for bit, and choices are made by seed and position.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ndn_infer import records
from ndn_infer.engine.sampler import Choice, SamplingParams, TokenHistory, choose
from ndn_infer.engine.tokenizer import ChatTokenizer, StopMatcher, StreamDecoder
from ndn_infer.errors import Busy, CallError, NdnInferError, UsageError
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.functions.generation import check_request, sampling_params, text_of
from ndn_infer.functions.stage_host import StageHost
from ndn_infer.functions.stage_steps import NO_KV, Step
from ndn_infer.records import GenerateRequest, KvSources, TokenEvent, TokenLogprobs
from ndn_infer.security.crypto import Signer
from ndn_infer.transport.live_stream import LiveStream

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Generation:
    """One stream in the making."""

    request: GenerateRequest
    params: SamplingParams
    host: Host
    out: LiveStream
    decoder: StreamDecoder
    stops: StopMatcher
    tokens: list[int] = field(default_factory=list)
    """Prompt and answer."""
    parent: bytes = b""

    @property
    def made(self) -> int:
        return len(self.tokens) - len(self.request.prompt)


class GenerateOverStages(NamedFunction[GenerateRequest]):
    function = "generate"
    role = "decode"
    request_type = GenerateRequest

    def __init__(self, folder: Path, stages: StageHost) -> None:
        self.subject = ("model", stages.model)
        self._folder = folder
        self._stages = stages
        self._tokenizer: ChatTokenizer | None = None
        self._seats = asyncio.Semaphore(stages.config.max_streams)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: Host, signer: Signer) -> None:
        self._tokenizer = await asyncio.to_thread(ChatTokenizer.load, self._folder)
        stage = await self._stages.start()
        if not stage.ends:
            text = f"layers {stage.first}-{stage.last} of {stage.whole.layers} give no tokens"
            raise UsageError(text, hint=f"offer stage:{stage.first}-{stage.last} here, and decode with the last layers")

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stages.close()

    def queue_length(self) -> int:
        return max(len(self._tasks) - self._stages.config.max_streams, 0)

    async def run(self, request: GenerateRequest, job: Job) -> LiveStream:
        assert self._tokenizer is not None
        whole, config = self._stages.stage.whole, self._stages.config
        check_request(request, whole, config.dtype)
        params = sampling_params(request, whole, self._tokenizer.eos_ids)
        if len(self._tasks) >= config.max_streams + config.queue_limit:
            raise Busy(f"{len(self._tasks)} streams run here; try again later")
        out = job.open_stream()
        decoder, stops = text_of(request, self._tokenizer)
        generation = _Generation(request, params, job.host, out, decoder, stops, list(request.prompt))
        task = asyncio.get_running_loop().create_task(self._generate(generation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return out

    async def _generate(self, generation: _Generation) -> None:
        """From the prompt to the last token. Whatever goes wrong ends the stream with words, never in silence."""
        try:
            async with self._seats:
                await self._tokens(generation)
        except NdnInferError as error:
            self._end(generation, "error", error=str(error))
        except Exception as error:
            log.exception("generation failed")
            self._end(generation, "error", error=f"{type(error).__name__} in generate")

    async def _tokens(self, generation: _Generation) -> None:
        logits = await self._prompt(generation)
        asked, tokens = len(generation.tokens) - generation.request.answered, generation.tokens
        history = TokenHistory(tokens[:asked], tokens[asked:]) if generation.params.needs_history else None
        while True:
            choice = choose(logits.numpy(), generation.params, len(generation.tokens), history)
            if self._take(generation, choice):
                return
            if history is not None:
                history.add(choice.token)
            start, cutter = len(generation.tokens) - 1, self._stages.cutter
            step = cutter.step(generation.tokens[-1:], start, len(generation.request.prompt), generation.parent)
            logits = await self._step(generation, step)

    async def _prompt(self, generation: _Generation) -> Tensor:
        """Logits after the prompt. While a piece is computed here, the stages before compute the next one."""
        host, tokens = generation.host, generation.tokens
        steps = self._stages.cutter.steps(tokens, len(tokens))
        pulls: list[asyncio.Task[Tensor]] = []

        def pull_next() -> None:
            if len(pulls) < len(steps):
                pulls.append(asyncio.ensure_future(self._stages.pull(steps[len(pulls)], tokens, host)))

        pull_next()
        try:
            for number, step in enumerate(steps):
                await asyncio.wait({pulls[number]})
                pull_next()
                logits = await self._step(generation, step, pulls[number])
        finally:
            for pull in pulls:
                pull.cancel()
            await asyncio.gather(*pulls, return_exceptions=True)
        return logits

    async def _step(self, generation: _Generation, step: Step, inputs: asyncio.Task[Tensor] | None = None) -> Tensor:
        """Logits after one step; the steps before are computed again where their KV was lost."""
        began = time.perf_counter()
        try:
            logits = await self._stages.compute(step, generation.tokens, generation.host, inputs=inputs)
        except CallError as error:
            if error.code != NO_KV:
                raise
            logits = await self._stages.compute(step, generation.tokens, generation.host)
        generation.parent = step.value
        counters = generation.host.counters
        counters["steps"] += 1
        counters["steps_us"] += round((time.perf_counter() - began) * 1e6)
        return logits

    # ------------------------------------------------------------ tokens out

    def _take(self, generation: _Generation, choice: Choice) -> bool:
        """One token; whether it was the last."""
        params, whole = generation.params, self._stages.stage.whole
        generation.tokens.append(choice.token)
        generation.host.counters["tokens_decoded"] += 1
        finish = ""
        if choice.token in params.stop_ids:
            finish = "stop"
        elif generation.made >= params.max_tokens or len(generation.tokens) >= whole.context_length:
            finish = "length"
        text = generation.decoder.push(choice.token) + (generation.decoder.finish() if finish else "")
        emit, stopped = generation.stops.push(text)
        if stopped or finish:
            tail = "" if stopped else generation.stops.finish()
            self._end(generation, "stop" if stopped else finish, emit + tail, choice)
            return True
        event = TokenEvent((choice.token,), emit, logprobs=_logprobs(params, choice))
        generation.out.append(records.encode(event))
        return False

    def _end(
        self, generation: _Generation, finish: str, text: str = "", last: Choice | None = None, error: str = ""
    ) -> None:
        """The last event of the stream."""
        event = TokenEvent(
            () if last is None else (last.token,),
            text,
            finish=finish,
            error=error,
            kv=KvSources(tail_tokens=len(generation.request.prompt)),
            prompt_tokens=len(generation.request.prompt),
            logprobs=() if last is None else _logprobs(generation.params, last),
        )
        generation.out.append(records.encode(event), final=True)
        if error:
            generation.host.counters["failed"] += 1


def _logprobs(params: SamplingParams, choice: Choice) -> tuple[TokenLogprobs, ...]:
    return (TokenLogprobs(choice.logprob, choice.top),) if params.logprobs else ()
