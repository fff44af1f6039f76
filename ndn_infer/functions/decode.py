"""decode: the `generate` call. A prompt in, a signed stream of tokens out, KV by name in between.

Owns: the order of a generation: KV of the prompt first (kv_gather.py), then the stream's events, and the publishing of
new KV blocks. Must not know: how KV is computed, found or fetched.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndn_infer import name as ndn
from ndn_infer import records
from ndn_infer.engine.engine import StepOutput, Stream
from ndn_infer.engine.tokenizer import ChatTokenizer, StopMatcher, StreamDecoder
from ndn_infer.errors import NdnInferError
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.functions.engine_host import EngineHost
from ndn_infer.functions.generation import check_request, sampling_params, text_of
from ndn_infer.functions.kv_gather import Gathered, KvGatherer, Later
from ndn_infer.functions.kv_holders import MAX_HINTS
from ndn_infer.functions.kv_plane import KvPlane
from ndn_infer.functions.token_events import TokenEvents
from ndn_infer.name import Name
from ndn_infer.namespace import blocks_prefix
from ndn_infer.records import GenerateRequest, KvSources, TokenEvent, TokenLogprobs
from ndn_infer.security.crypto import Signer
from ndn_infer.transport.live_stream import LiveStream

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Generation:
    """One stream in the making."""

    request: GenerateRequest
    job: Job
    plane: KvPlane
    out: LiveStream
    decoder: StreamDecoder
    stops: StopMatcher
    events: TokenEvents
    sources: KvSources = field(default_factory=KvSources)
    kv_names: tuple[str, ...] = ()
    kv_holders: tuple[str, ...] = ()
    timer: asyncio.TimerHandle | None = None
    ids: list[int] = field(default_factory=list)
    stream: Stream | None = None
    published: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Generate(NamedFunction[GenerateRequest]):
    function = "generate"
    role = "decode"
    request_type = GenerateRequest
    private = True

    def __init__(self, model: str, folder: Path, engine: EngineHost) -> None:
        self.subject = ("model", model)
        self._folder = folder
        self._engine = engine
        self._tokenizer: ChatTokenizer | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: Host, signer: Signer) -> None:
        self._tokenizer = await asyncio.to_thread(ChatTokenizer.load, self._folder)
        await self._engine.start(host, signer)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._engine.close()

    def serves(self, net: Name) -> tuple[Name, ...]:
        return (blocks_prefix(net, self.subject[1], "kv"), blocks_prefix(net, self.subject[1], "tokens"))

    def queue_length(self) -> int:
        return self._engine.worker.waiting

    async def run(self, request: GenerateRequest, job: Job) -> LiveStream:
        assert self._tokenizer is not None and self._engine.engine is not None
        plane = self._engine.plane(job.host, job.domain)
        check_request(request, self._engine.engine.model_config, plane.shape.dtype)
        self._engine.engine.refuse_if_busy()
        out = job.open_stream()
        events = TokenEvents(job.host.config.producer.event_ms / 1000)
        generation = _Generation(request, job, plane, out, *text_of(request, self._tokenizer), events)
        task = asyncio.get_running_loop().create_task(self._generate(generation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return out

    async def _generate(self, generation: _Generation) -> None:
        """From KV to the last token. Whatever goes wrong ends the stream with words, never in silence."""
        try:
            gatherer = KvGatherer(self.subject, generation.plane, self._engine)
            gathered = await gatherer.gather(generation.request.prompt, generation.job)
            generation.published = len(gathered.blocks)
            if gathered.later is None:
                self._note(generation, gathered)
                await self._start(generation, gathered.blocks)
            else:
                await self._start_while_arriving(generation, gathered.blocks, gathered.later)
            await generation.done.wait()
        except NdnInferError as error:
            self._end(generation, "error", str(error))
        except Exception as error:
            log.exception("generation failed")
            self._end(generation, "error", f"{type(error).__name__} in generate")

    async def _start(
        self, generation: _Generation, blocks: Sequence[torch.Tensor], *, arriving: bool = False
    ) -> Stream:
        assert self._tokenizer is not None and self._engine.engine is not None
        request, limits = generation.request, self._engine.engine.model_config
        generation.stream = await self._engine.worker.generate(
            request.prompt, sampling_params(request, limits, self._tokenizer.eos_ids), blocks,
            lambda output: self._on_step(generation, output), near=not generation.plane.shape.exact,
            cache_salt=generation.job.domain.label, arriving=arriving, answered=request.answered,
        )  # fmt: skip
        return generation.stream

    async def _start_while_arriving(
        self, generation: _Generation, blocks: Sequence[torch.Tensor], later: Later
    ) -> None:
        """The stream computes layer after layer as they come. When some blocks do not, another one begins with those
        that did: there is no token yet."""
        worker, engine = self._engine.worker, self._engine.engine
        assert engine is not None
        stream = await self._start(generation, blocks, arriving=True)
        gathered = await later(lambda layers: worker.supply(stream, layers))
        generation.published = len(gathered.blocks)
        self._note(generation, gathered)
        if len(gathered.blocks) == len(blocks):
            worker.supply(stream, engine.model_config.layers)
        else:
            worker.cancel(stream)
            await self._start(generation, gathered.blocks)

    def _note(self, generation: _Generation, gathered: Gathered) -> None:
        """For the report: where KV came from."""
        tail_tokens = max(len(generation.request.prompt) % generation.plane.shape.block_tokens, 1)
        generation.sources = replace(gathered.sources, tail_tokens=tail_tokens)
        generation.kv_names = gathered.names
        generation.kv_holders = (ndn.to_uri(generation.job.hint), *gathered.holders)

    # ------------------------------------------------------------ tokens out

    def _on_step(self, generation: _Generation, output: StepOutput) -> None:
        """One token, or the end."""
        if generation.out.closed:
            return
        generation.stream = output.stream  # the first step may be here before `generate` returned
        finish = output.finished or ""
        if finish.startswith("error"):
            self._end(generation, "error", finish)
            return
        assert self._tokenizer is not None
        generation.job.host.counters["tokens_decoded"] += 1
        generation.ids.append(output.token_id)
        text = generation.decoder.push(output.token_id)
        if finish:
            text += generation.decoder.finish()
        emit, stopped = generation.stops.push(text)
        if stopped or finish:
            tail = "" if stopped else generation.stops.finish()
            self._end(generation, "stop" if stopped else finish, "", emit + tail, output)
        else:
            logprobs, now = _logprobs(generation.request, output), asyncio.get_running_loop().time()
            self._send(generation, generation.events.add(output.token_id, emit, logprobs, now))
            self._publish_new_blocks(generation)

    def _send(self, generation: _Generation, event: TokenEvent | None) -> None:
        """An event, if there is one; what waits for the next token waits for a bounded time."""
        if event is not None:
            generation.out.append(records.encode(event))
        loop, due_at = asyncio.get_running_loop(), generation.events.due_at
        if due_at is not None and generation.timer is None:
            generation.timer = loop.call_at(due_at, self._send_late, generation)

    def _send_late(self, generation: _Generation) -> None:
        generation.timer = None
        now, due_at = asyncio.get_running_loop().time(), generation.events.due_at
        if not generation.out.closed:
            late = due_at is not None and due_at <= now
            self._send(generation, generation.events.take(now) if late else None)

    def _end(
        self, generation: _Generation, finish: str, error: str, text: str = "", last: StepOutput | None = None
    ) -> None:
        """The last event of the stream, with the report of where KV came from."""
        if generation.out.closed:
            return
        if generation.stream is not None:
            if not error:
                self._publish_new_blocks(generation)
            # After the exports, which ask for their turn as soon as this returns.
            asyncio.get_running_loop().call_soon(self._engine.worker.cancel, generation.stream)
        waiting = generation.events.take(0.0) or TokenEvent(())
        if generation.timer is not None:
            generation.timer.cancel()
        event = TokenEvent(
            waiting.ids + (() if last is None else (last.token_id,)),
            waiting.text + text,
            finish=finish,
            error=error,
            kv=generation.sources,
            prompt_tokens=len(generation.request.prompt),
            kv_names=generation.kv_names[:8],
            kv_holders=generation.kv_holders[:MAX_HINTS],
            logprobs=waiting.logprobs + (() if last is None else _logprobs(generation.request, last)),
        )
        engine = self._engine.engine
        assert engine is not None
        generation.job.host.counters["engine_blocks_prefilled"] = engine.counters.blocks_prefilled
        generation.out.append(records.encode(event), final=True)
        if error:
            generation.job.host.counters["failed"] += 1
        generation.done.set()

    def _publish_new_blocks(self, generation: _Generation) -> None:
        """KV of blocks completed while decoding: the next turn finds them by name, wherever it runs."""
        plane = generation.plane
        computed = len(generation.request.prompt) + len(generation.ids) - 1  # KV of the newest token is not there yet
        if (generation.published + 1) * plane.shape.block_tokens > computed:
            return  # most tokens complete no block
        ids = [*generation.request.prompt, *generation.ids[:-1]]
        while (generation.published + 1) * plane.shape.block_tokens <= len(ids):
            index = generation.published
            generation.published += 1
            value = plane.chain(ids[: (index + 1) * plane.shape.block_tokens])[-1]
            task = asyncio.get_running_loop().create_task(self._publish_block(generation, index, value))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _publish_block(self, generation: _Generation, index: int, value: bytes) -> None:
        stream: Any = generation.stream
        plane = generation.plane
        if stream is None or plane.local(value) is not None:
            return
        try:
            block = await self._engine.worker.run(lambda engine: engine.export_block(stream, index))
        except NdnInferError as error:
            log.debug("block %d is gone: %s", index, error)
            return
        plane.publish(value, block, generation.job.signer)


def _logprobs(request: GenerateRequest, output: StepOutput) -> tuple[TokenLogprobs, ...]:
    """What an event tells about its token, when the caller asked for it."""
    return (TokenLogprobs(output.logprob, output.top),) if request.sampling.logprobs else ()
