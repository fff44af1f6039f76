"""decode: the `generate` call. A prompt in, a signed stream of tokens out, KV by name in between.

Owns: the order of a generation: KV of the prompt first (kv/load.py), then the engine's tokens into the answer
(answer_stream.py), and the publishing of new KV blocks. Must not know: how KV is computed, found or fetched, what a
stream of tokens looks like.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndn_infer import clock, ndn
from ndn_infer.engine.engine import StepOutput, Stream
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.errors import NdnInferError
from ndn_infer.functions.answer_costs import AnswerCosts, ChargedEngine
from ndn_infer.functions.answer_meter import AnswerCounts
from ndn_infer.functions.answer_records import AnswerRecords, PromptState
from ndn_infer.functions.answer_stream import AnswerStream, Report
from ndn_infer.functions.audit.made_answers import MadeBook
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.functions.capacity import CallTimes, Capacity
from ndn_infer.functions.engine_host import EngineHost
from ndn_infer.functions.generation import check_request, sampling_params, text_of
from ndn_infer.functions.grammar_check import GrammarCheck
from ndn_infer.functions.open_answers import OpenAnswers
from ndn_infer.functions.receipts import prompt_tokens, receipt_of
from ndn_infer.kv.arriving import ArrivingBlocks
from ndn_infer.kv.connector import KvConnector
from ndn_infer.kv.holders import MAX_HINTS, holders_in
from ndn_infer.kv.host import KvAsker
from ndn_infer.kv.load import KvLoader, LoadedKv
from ndn_infer.namespace import blocks_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.records import GenerateRequest, Progress
from ndn_infer.records.codec import most_bytes
from ndn_infer.records.grammar import MAX_GRAMMAR_BYTES
from ndn_infer.records.receipt import PromptTokens, Receipt
from ndn_infer.records.sampling import Sampling
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import PUBLIC
from ndn_infer.transport.objects.live_stream import LiveStream

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Generation:
    """One answer in the making. `stream` is the engine's."""

    request: GenerateRequest
    params: Sampling
    job: Job
    connector: KvConnector
    answer: AnswerStream
    loader: KvLoader
    costs: AnswerCosts
    shares_decoded: bool
    stream: Stream | None = None
    began: float = 0.0
    """When its turn came."""
    loaded: float = 0.0
    """When the KV that is had from elsewhere was there."""
    imported: int = 0
    """Blocks that it began with."""
    published: int = 0
    prompt: PromptTokens = PromptTokens()
    """By source, once there is a token."""
    wanted: bool = False
    """Whether it was begun."""

    @property
    def asked(self) -> tuple[int, ...]:
        """The prompt without what was answered already. Its KV is loaded by name; that of the answer is computed here,
        row by row, as it was computed first: under one name KV may lie that a prompt gave, with other last bits."""
        return self.request.prompt[: len(self.request.prompt) - self.request.answered]

    def progress(self) -> Progress:
        """Where it is; the engine's thread writes what is read here, a number at a time."""
        block = self.connector.blocks.block_tokens
        total = len(self.asked) // block
        if not self.wanted:
            return Progress("queued")
        if self.answer.ids:
            return Progress("decode")
        if self.stream is None:
            return Progress("prefill", 0, self.loader.blocks_here, total)
        if not self.stream.table:
            return Progress("queued")
        return Progress("prefill", 0, min(self.stream.length // block, total), total)


class Generate(NamedFunction[GenerateRequest]):
    function = "generate"
    role = "decode"
    request_type = GenerateRequest
    streams = True
    private = True
    max_request_bytes = most_bytes(GenerateRequest)

    def __init__(self, model: str, folder: Path, engine: EngineHost) -> None:
        self.subject = ("model", model)
        self._folder = folder
        self._engine = engine
        self._tokenizer: ChatTokenizer | None = None
        self._times = CallTimes()
        self._answers = OpenAnswers(engine.most_answers)
        self._grammars = GrammarCheck()
        self._made = MadeBook(model)
        self._records = AnswerRecords()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: Host, signer: Signer) -> None:
        self._tokenizer = await asyncio.to_thread(ChatTokenizer.load, self._folder)
        await self._engine.start(host, signer)
        self._made.answer(host, signer)
        self.take_at_most(4 * self._engine.context_tokens + MAX_GRAMMAR_BYTES)

    async def close(self) -> None:
        await self._answers.close()
        await self._records.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._engine.close()

    def serves(self, net: Name) -> tuple[Name, ...]:
        return (blocks_prefix(net, self.subject[1], "kv"), blocks_prefix(net, self.subject[1], "tokens"))

    def engine_class(self) -> str:
        return str(self._engine.engine_class)

    def first_event_s(self, request: GenerateRequest) -> float:
        """The prompts that are before it, and its own, at the speed measured; what is had by name comes sooner."""
        return (self._answers.tokens_before() + len(request.prompt)) * self._engine.speeds().prefill_s

    def capacity(self) -> Capacity:
        return self._engine.capacity(self._times)

    def queue_length(self) -> int:
        return self._answers.queued

    def in_work(self) -> int:
        return len(self._answers) - self._answers.queued

    async def run(self, request: GenerateRequest, job: Job) -> LiveStream:
        assert self._tokenizer is not None and self._engine.engine is not None
        connector = self._engine.connector(job.host, job.domain)
        limits, engine = self._engine.engine.model_config, self._engine.engine_class
        check_request(request, limits, engine)
        params = sampling_params(request, limits, self._tokenizer.eos_ids)
        self._engine.engine.refuse_if_busy()
        await self._grammars.ready(params.grammar, self._engine.engine.grammars)
        text = await text_of(request, self._tokenizer)
        self._engine.engine.refuse_if_busy()
        self._answers.admit()
        counts = AnswerCounts.of(job.host, self.subject[1], request)
        out = job.open_stream()
        pace = self._answers.pace(job.host.config.producer.event_ms)
        answer = AnswerStream(request, self._tokenizer, out, pace, counts, text)
        costs = AnswerCosts()
        loader = KvLoader(connector, ChargedEngine(self._engine, costs))
        generation = _Generation(request, params, job, connector, answer, loader, costs, engine.decodes_as_prompts)
        answer.progress = generation.progress
        answer.on_away = lambda: self._pause(generation, True)
        answer.on_back = lambda: self._pause(generation, False)
        answer.receipt = lambda: self._receipt(generation)
        answer.on_told = lambda: self._records.follow(answer, job, self._prompt_state(generation))
        self._answers.start(answer, lambda: self._generate(generation))
        return out

    async def _generate(self, generation: _Generation) -> None:
        """From KV to the last token."""
        loop, worker = asyncio.get_running_loop(), self._engine.worker
        await self._answers.wait_wanted(generation.answer)
        generation.wanted, began = True, clock.monotonic()
        generation.began = began
        generation.answer.meter.turn()
        try:
            loaded = await self._load(generation)
            generation.published = len(loaded.blocks)
            if loaded.arriving is None:
                self._note(generation, loaded)
                await self._start(generation, loaded.blocks)
            else:
                await self._start_while_arriving(generation, loaded.blocks, loaded.arriving)
            await generation.answer.wait_ended()
        finally:
            if generation.job.domain is PUBLIC:
                self._made.note(generation.answer.out)
            if generation.answer.ids:
                self._times.whole.measured(1, clock.monotonic() - began)
            if generation.stream is not None:  # after the exports, which ask for their turn as soon as this returns
                generation.job.host.counters["engine_blocks_prefilled"] += generation.stream.blocks_prefilled
                loop.call_soon(worker.cancel, generation.stream)

    async def _load(self, generation: _Generation) -> LoadedKv:
        """KV of the prompt, where that is sooner had than computed; none where logits of all its tokens are wanted."""
        loader, asked = generation.loader, generation.asked
        if generation.params.score_prompt:
            return await loader.leave(asked)
        return await loader.load(
            asked, _asker(generation.job), resumed=generation.request.answered > 0, crowded=self._answers.crowded
        )  # fmt: skip

    async def _start(
        self, generation: _Generation, blocks: Sequence[torch.Tensor], *, arriving: bool = False
    ) -> Stream:
        request = generation.request
        generation.stream = await self._engine.worker.generate(
            request.prompt, generation.params, blocks,
            lambda output: self._on_step(generation, output), near=not generation.connector.blocks.format.exact,
            cache_salt=generation.job.domain.label, arriving=arriving, answered=request.answered,
        )  # fmt: skip
        generation.costs.of(generation.stream.spent)
        if generation.answer.away:
            self._pause(generation, True)
        return generation.stream

    def _pause(self, generation: _Generation, paused: bool) -> None:
        """What nobody reads is not computed."""
        if generation.stream is not None:
            self._engine.worker.pause(generation.stream, paused)

    async def _start_while_arriving(
        self, generation: _Generation, blocks: Sequence[torch.Tensor], arriving: ArrivingBlocks
    ) -> None:
        """The stream computes layer after layer as they come. When some blocks do not, another one begins with those
        that did: there is no token yet."""
        worker, engine = self._engine.worker, self._engine.engine
        assert engine is not None
        stream = await self._start(generation, blocks, arriving=True)
        async with aclosing(arriving.layers()) as layers:
            async for count in layers:
                worker.supply(stream, count)
        loaded = generation.loader.complete()
        generation.published = len(loaded.blocks)
        self._note(generation, loaded)
        if len(loaded.blocks) == len(blocks):
            worker.supply(stream, engine.model_config.layers)
        else:
            worker.cancel(stream)
            await self._start(generation, loaded.blocks)

    def _note(self, generation: _Generation, loaded: LoadedKv) -> None:
        """For the report: where KV came from."""
        tail_tokens = max(len(generation.asked) % generation.connector.blocks.block_tokens, 1)
        holders = (ndn.to_uri(generation.job.signer.identity), *loaded.holders)
        sources = replace(loaded.sources, tail_tokens=tail_tokens)
        generation.answer.report = Report(sources, loaded.names[:8], holders[:MAX_HINTS], loaded.origins)
        generation.loaded = clock.monotonic()
        generation.imported = len(loaded.blocks)
        generation.answer.meter.loaded()

    def _receipt(self, generation: _Generation) -> Receipt:
        sources, blocks = generation.answer.report.sources, generation.connector.blocks
        arrived = (sources.named + sources.prefilled) * blocks.content_bytes
        costs = self._engine.costs
        return receipt_of(
            str(self._engine.engine_class), generation.prompt, generation.costs.sum(),
            bytes_in=len(generation.job.wire) + arrived, meter=costs.energy_source,
        )  # fmt: skip

    def _prompt_state(self, generation: _Generation) -> PromptState:
        blocks, values = generation.connector.blocks, generation.loader.values
        count = len(generation.asked) // blocks.block_tokens
        held = len(generation.answer.report.origins)
        return PromptState(values[:count], [blocks.uri(value) for value in values[:held]])

    # ------------------------------------------------------------ tokens out

    def _note_first(self, generation: _Generation, stream: Stream) -> None:
        """For the meter, before the first token."""
        meter, block = generation.answer.meter, generation.connector.blocks.block_tokens
        blocks = len(generation.asked) // block
        meter.waited_s = stream.waited_s
        shared = max(blocks - generation.imported - stream.blocks_prefilled, 0)
        sources = generation.answer.report.sources
        generation.prompt = prompt_tokens(len(generation.request.prompt), sources, block, shared)
        meter.prompt_from(generation.prompt)

    def _on_step(self, generation: _Generation, output: StepOutput) -> None:
        """One token, or the end."""
        answer, finish = generation.answer, output.finished or ""
        if answer.ended:
            return
        generation.stream = output.stream  # the first step may be here before `generate` returned
        generation.costs.of(output.stream.spent)
        if finish.startswith("error"):
            answer.fail(finish)
            return
        answer.tell_prompt(output.scores)
        if output.token_id < 0:
            return
        if not answer.ids:
            self._note_first(generation, output.stream)
            now = clock.monotonic()
            self._times.first_token.measured(1, now - generation.began)
            log.info(
                "first token after %.3f s: KV %.3f s, engine %.3f s, %d tokens of the answer before it",
                now - generation.began, generation.loaded - generation.began, now - generation.loaded,
                generation.request.answered,
            )  # fmt: skip
        answer.push(output.token_id, output.logprob, output.top, finish)
        try:
            self._publish_new_blocks(generation)
        except Exception:  # the answer does not depend on it
            log.exception("new KV blocks cannot be published")

    def _publish_new_blocks(self, generation: _Generation) -> None:
        """KV of blocks completed while decoding: the next turn finds them by name, wherever it runs. Where decoding
        reads other weights than prompts are computed with, only blocks of the prompt: the names of KV are shared with
        engines that read the model's own."""
        blocks, prompt, made = generation.connector.blocks, generation.request.prompt, generation.answer.ids
        block = blocks.block_tokens
        if not generation.shares_decoded:
            prompt, made = generation.asked, []
        computed = len(prompt) + max(len(made) - 1, 0)  # KV of the newest token is not there yet
        if (generation.published + 1) * block > computed:
            return  # most tokens complete no block
        ids, values = [*prompt, *made[:-1]], generation.loader.values
        while (generation.published + 1) * block <= len(ids):
            index = generation.published
            generation.published += 1
            if index == len(values):
                parent = values[-1] if values else b""
                values.append(blocks.extend(parent, ids[index * block : (index + 1) * block]))
            value = values[index]
            task = asyncio.get_running_loop().create_task(self._publish_block(generation, index, value))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _publish_block(self, generation: _Generation, index: int, value: bytes) -> None:
        stream: Any = generation.stream
        connector = generation.connector
        if stream is None or connector.blocks.at_hand(value) is not None:
            return
        try:
            block = await self._engine.worker.run(lambda engine: engine.export_block(stream, index))
        except NdnInferError as error:
            log.debug("block %d is gone: %s", index, error)
            return
        connector.published.publish(value, block, generation.job.signer)


def _asker(job: Job) -> KvAsker:
    return KvAsker(job.signer, job.hint, holders_in(job.host.net, job.envelope.advice))
