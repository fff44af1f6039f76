"""Answers of our own engine: KV of the prompt by name, then tokens, then new KV blocks for others.

Owns: the order of these: KV first (kv/load.py), then the engine's stream into the answer, and the publishing of new
blocks. Must not know: how KV is computed, found or fetched, what a stream of tokens looks like, calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from ndn_infer import clock, ndn
from ndn_infer.engine.engine import StepOutput, Stream
from ndn_infer.errors import NdnInferError
from ndn_infer.functions.answer_costs import AnswerCosts, ChargedEngine
from ndn_infer.functions.answer_engine import AnswerInMaking, AnswerOrder
from ndn_infer.functions.answer_records import PromptState
from ndn_infer.functions.answer_stream import PushedAt, Report
from ndn_infer.functions.base import Job
from ndn_infer.functions.engine_host import EngineHost
from ndn_infer.functions.generation import Limits
from ndn_infer.functions.receipts import prompt_tokens, receipt_of
from ndn_infer.kv.arriving import ArrivingBlocks
from ndn_infer.kv.holders import MAX_HINTS, holders_in
from ndn_infer.kv.host import KvAsker
from ndn_infer.kv.load import KvLoader, LoadedKv
from ndn_infer.kv.prefix import MAX_EXAMPLES
from ndn_infer.records import Progress
from ndn_infer.records.receipt import PromptTokens, Receipt

if TYPE_CHECKING:
    import torch

    from ndn_infer.engine.grammar import Grammars

log = logging.getLogger(__name__)


class KvAnswer:
    """As AnswerInMaking. `stream` is the engine's, once there is one."""

    def __init__(self, engine: EngineHost, order: AnswerOrder) -> None:
        self.order = order
        self.request, self.params, self.answer = order.request, order.params, order.answer
        self.connector = engine.connector(order.job.host, order.job.domain)
        self.stream: Stream | None = None
        self._engine = engine
        self._costs = AnswerCosts()
        self._loader = KvLoader(self.connector, ChargedEngine(engine, self._costs))
        self._wanted = False
        self._began = self._loaded = 0.0  # when its turn came, and when the KV that is had from elsewhere was there
        self._imported = 0  # blocks that it began with
        self._published = 0
        self._prompt = PromptTokens()  # by source, once there is a token

    @property
    def asked(self) -> tuple[int, ...]:
        """The prompt without what was answered already. Its KV is loaded by name; that of the answer is computed here,
        row by row, as it was computed first: under one name KV may lie that a prompt gave, with other last bits."""
        return self.request.prompt[: len(self.request.prompt) - self.request.answered]

    def progress(self) -> Progress:
        """Where it is; the engine's thread writes what is read here, a number at a time."""
        block = self.connector.blocks.block_tokens
        total = len(self.asked) // block
        if not self._wanted:
            return Progress("queued")
        if self.answer.ids:
            return Progress("decode")
        if self.stream is None:
            return Progress("prefill", 0, self._loader.blocks_here, total)
        if not self.stream.table:
            return Progress("queued")
        return Progress("prefill", 0, min(self.stream.length // block, total), total)

    def pause(self, paused: bool) -> None:
        """As AnswerInMaking.pause."""
        if self.stream is not None:
            self._engine.worker.pause(self.stream, paused)

    def receipt(self) -> Receipt:
        """As AnswerInMaking.receipt."""
        sources, blocks = self.answer.report.sources, self.connector.blocks
        arrived = (sources.named + sources.prefilled) * blocks.content_bytes
        return receipt_of(
            str(self._engine.engine_class), self._prompt, self._costs.sum(),
            bytes_in=len(self.order.job.wire) + arrived, meter=self._engine.costs.energy_source,
        )  # fmt: skip

    def prompt_state(self) -> PromptState:
        """As AnswerInMaking.prompt_state."""
        blocks, values = self.connector.blocks, self._loader.values
        count = len(self.asked) // blocks.block_tokens
        held = len(self.answer.report.origins)
        return PromptState(values[:count], [blocks.uri(value) for value in values[:held]])

    # ------------------------------------------------------------ from KV to the last token

    async def make(self) -> None:
        """As AnswerInMaking.make."""
        loop, worker = asyncio.get_running_loop(), self._engine.worker
        self._wanted, self._began = True, clock.monotonic()
        try:
            loaded = await self._load()
            self._published = len(loaded.blocks)
            if loaded.arriving is None:
                self._note(loaded)
                await self.start(loaded.blocks)
            else:
                await self._start_while_arriving(loaded.blocks, loaded.arriving)
            await self.answer.wait_ended()
        finally:
            if self.stream is not None:  # after the exports, which ask for their turn as soon as this returns
                self.order.job.host.counters["engine_blocks_prefilled"] += self.stream.blocks_prefilled
                loop.call_soon(worker.cancel, self.stream)

    async def _load(self) -> LoadedKv:
        """KV of the prompt, where that is sooner had than computed; none where logits of all its tokens are wanted."""
        if self.params.score_prompt:
            return await self._loader.leave(self.asked)
        resumed = self.request.answered > 0
        return await self._loader.load(
            self.asked, _asker(self.order.job), resumed=resumed, crowded=self.order.crowded
        )  # fmt: skip

    async def start(self, blocks: Sequence[torch.Tensor], *, arriving: bool = False) -> Stream:
        """Begin the engine's stream with these blocks of the prompt."""
        self.stream = await self._engine.worker.generate(
            self.request.prompt, self.params, blocks, self.on_step, near=not self.connector.blocks.format.exact,
            cache_salt=self.order.job.domain.label, arriving=arriving, answered=self.request.answered,
            pace=None if self.request.sampling.stop else self.answer.pace,
        )  # fmt: skip
        self._costs.of(self.stream.spent)
        if self.answer.away:
            self.pause(True)
        return self.stream

    async def _start_while_arriving(self, blocks: Sequence[torch.Tensor], arriving: ArrivingBlocks) -> None:
        """The stream computes layer after layer as they come. When some blocks do not, another one begins with those
        that did: there is no token yet."""
        worker, engine = self._engine.worker, self._engine.engine
        assert engine is not None
        stream = await self.start(blocks, arriving=True)
        async with aclosing(arriving.layers()) as layers:
            async for count in layers:
                worker.supply(stream, count)
        loaded = self._loader.complete()
        self._published = len(loaded.blocks)
        self._note(loaded)
        if len(loaded.blocks) == len(blocks):
            worker.supply(stream, engine.model_config.layers)
        else:
            worker.cancel(stream)
            await self.start(loaded.blocks)

    def _note(self, loaded: LoadedKv) -> None:
        """For the report: where KV came from."""
        tail_tokens = max(len(self.asked) % self.connector.blocks.block_tokens, 1)
        holders = (ndn.to_uri(self.order.job.signer.identity), *loaded.holders)
        sources = replace(loaded.sources, tail_tokens=tail_tokens)
        self.answer.report = Report(sources, loaded.names[:MAX_EXAMPLES], holders[:MAX_HINTS], loaded.origins)
        self._loaded = clock.monotonic()
        self._imported = len(loaded.blocks)
        self.answer.meter.loaded()

    # ------------------------------------------------------------ tokens out

    def _note_first(self, stream: Stream) -> None:
        """For the meter, before the first token."""
        meter, block = self.answer.meter, self.connector.blocks.block_tokens
        blocks = len(self.asked) // block
        meter.waited_s = stream.waited_s
        shared = max(blocks - self._imported - stream.blocks_prefilled, 0)
        sources = self.answer.report.sources
        self._prompt = prompt_tokens(len(self.request.prompt), sources, block, shared)
        meter.prompt_from(self._prompt)
        now = clock.monotonic()
        self.order.times.first_token.measured(1, now - self._began)
        log.info(
            "first token after %.3f s: KV %.3f s, engine %.3f s, %d tokens of the answer before it",
            now - self._began, self._loaded - self._began, now - self._loaded, self.request.answered,
        )  # fmt: skip

    def on_step(self, output: StepOutput) -> None:
        """One token, or the end."""
        answer, finish = self.answer, output.finished or ""
        if answer.ended:
            return
        self.stream = output.stream  # the first step may be here before `generate` returned
        self._costs.of(output.stream.spent)
        if finish.startswith("error"):
            answer.fail(finish)
            return
        answer.tell_prompt(output.scores)
        if output.token_id < 0:
            return
        if not answer.ids:
            self._note_first(output.stream)
        answer.push(output.token_id, output.logprob, output.top, finish, PushedAt(output.at, output.more))
        if output.more:
            return
        try:
            self._publish_new_blocks()
        except Exception:  # the answer does not depend on it
            log.exception("new KV blocks cannot be published")

    def _publish_new_blocks(self) -> None:
        """KV of blocks completed while decoding: the next turn finds them by name, wherever it runs. Where decoding
        reads other weights than prompts are computed with, only blocks of the prompt: the names of KV are shared with
        engines that read the model's own."""
        blocks, prompt, made = self.connector.blocks, self.request.prompt, self.answer.ids
        block = blocks.block_tokens
        if not self._engine.engine_class.decodes_as_prompts:
            prompt, made = self.asked, []
        computed = len(prompt) + max(len(made) - 1, 0)  # KV of the newest token is not there yet
        if (self._published + 1) * block > computed:
            return  # most tokens complete no block
        ids, values = [*prompt, *made[:-1]], self._loader.values
        while (self._published + 1) * block <= len(ids):
            index = self._published
            self._published += 1
            if index == len(values):
                parent = values[-1] if values else b""
                values.append(blocks.extend(parent, ids[index * block : (index + 1) * block]))
            task = asyncio.get_running_loop().create_task(self._publish_block(index, values[index]))
            self._engine.exports.add(task)
            task.add_done_callback(self._engine.exports.discard)

    async def _publish_block(self, index: int, value: bytes) -> None:
        stream, connector = self.stream, self.connector
        if stream is None or connector.blocks.at_hand(value) is not None:
            return
        try:
            block = await self._engine.worker.run(lambda engine: engine.export_block(stream, index))
        except NdnInferError as error:
            log.debug("block %d is gone: %s", index, error)
            return
        connector.published.publish(value, block, self.order.job.signer)


class AnsweringHost(EngineHost):
    """Our own engine as an AnswerEngine, for those functions of a process that share it."""

    shares: tuple[str, ...] = ("kv", "tokens")

    @property
    def limits(self) -> Limits:
        """As AnswerEngine.limits."""
        assert self.engine is not None
        return self.engine.model_config

    @property
    def grammars(self) -> Grammars | None:
        """As AnswerEngine.grammars."""
        assert self.engine is not None
        return self.engine.grammars

    def refuse_if_busy(self) -> None:
        """As AnswerEngine.refuse_if_busy."""
        assert self.engine is not None
        self.engine.refuse_if_busy()

    def answer(self, order: AnswerOrder) -> AnswerInMaking:
        """As AnswerEngine.answer."""
        return KvAnswer(self, order)


def _asker(job: Job) -> KvAsker:
    return KvAsker(job.signer, job.hint, holders_in(job.host.net, job.envelope.advice))
