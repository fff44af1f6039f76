"""The functions of a virtual network: `tokenize`, `prefill` and `generate` over the model without floats (model.py).

Owns: the same records, streams, names, counters and answers as the product's functions, so that callers and the network
in between cannot tell. Whether prefill is asked, and how long it is waited for, is the product's (kv/plan.py). Not the
product's: what is in a KV block, the search for its holders, and that a prefill producer pulls the tokens of its
blocks. Must not know: nodes, time (it passes in model.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ndn_infer import chain, clock, ndn
from ndn_infer.engine.answer_text import StopMatcher, StreamDecoder, resume
from ndn_infer.errors import CallError, NdnInferError, PromptError, UsageError
from ndn_infer.functions.answer_meter import AnswerCounts
from ndn_infer.functions.answer_stream import AnswerStream, Report
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.functions.capacity import Capacity
from ndn_infer.functions.open_answers import OpenAnswers
from ndn_infer.kv.plan import Costs, patience_s
from ndn_infer.namespace import KvBlock, blocks_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.records import GenerateRequest, KvSources, Progress, Record, TokenizeRequest, Tokens
from ndn_infer.records.grammar import BAD_GRAMMAR
from ndn_infer.records.prefill import PrefillReport, PrefillRequest
from ndn_infer.security.crypto import Signer
from ndn_infer.testbed.virtual.model import (
    CONTEXT,
    EOS,
    MODEL,
    Continuation,
    VirtualEngine,
    WordTokenizer,
    block_content,
)
from ndn_infer.transport.calls.ask import Ask
from ndn_infer.transport.objects.live_stream import LiveStream

CODEC: Final = "hash"
LAYERS: Final = "0-29"
PREFILL_WAIT_S: Final = 10.0
LEAST_PATIENCE_S: Final = 0.5
DISCOVERY_ROUND_TRIPS: Final = 32
SUBJECT: Final = ("model", MODEL)
TOKENIZER: Any = WordTokenizer()


class ModelTokenize(NamedFunction[TokenizeRequest]):
    function = "tokenize"
    role = "tokenize"
    request_type = TokenizeRequest
    subject = SUBJECT

    async def run(self, request: TokenizeRequest, job: Job) -> Record:
        text = request.text or TOKENIZER.template(message.content for message in request.messages)
        ids = TOKENIZER.encode(text)
        if not ids:
            raise PromptError("nothing to tokenize: the prompt is empty")
        job.host.counters["tokens_out"] += len(ids)
        return Tokens(tuple(ids))


class _OfEngine(NamedFunction[Any]):
    subject = SUBJECT

    def __init__(self, engine: VirtualEngine) -> None:
        self._engine = engine
        self._block_tokens = 0

    async def start(self, host: Host, signer: Signer) -> None:
        self._block_tokens = host.config.engine.block_tokens

    def capacity(self) -> Capacity:
        return self._engine.capacity(CODEC, self._block_tokens, self.in_work())

    def serves(self, net: Name) -> tuple[Name, ...]:
        return (blocks_prefix(net, MODEL, "kv"),)

    def _base(self, job: Job, value: bytes) -> Name:
        return KvBlock(MODEL, job.domain.label, CODEC, value.hex(), LAYERS).to_name(job.host.net)

    def _publish(self, job: Job, value: bytes) -> None:
        base = self._base(job, value)
        self._engine.held.add(value)
        if base not in job.host.server.store:
            job.host.server.publish(base, block_content(value, self._engine.speed.block_bytes), job.signer)
            job.host.counters["kv_blocks_published"] += 1


class ModelPrefill(_OfEngine):
    function = "prefill"
    role = "prefill"
    request_type = PrefillRequest
    patience_s = 0.01

    def queue_length(self) -> int:
        return self._engine.waiting

    async def run(self, request: PrefillRequest, job: Job) -> Record:
        if request.codec != CODEC:
            raise CallError(f"this producer computes {CODEC}, not {request.codec}", code="wrong-codec")
        values = [bytes.fromhex(block) for block in request.blocks[request.have :]]
        for value in values:
            job.host.server.promise(self._base(job, value))
        computed = 0
        try:
            for value in values:
                if value not in self._engine.held:
                    await self._engine.prefill(request.block_tokens)
                    computed += 1
                self._publish(job, value)
        finally:
            for value in values:
                job.host.server.break_promise(self._base(job, value), job.signer)
        job.host.counters["prefill_blocks_computed"] += computed
        return PrefillReport(len(request.blocks), computed)


@dataclass(slots=True)
class _VirtualGeneration:
    request: GenerateRequest
    job: Job
    answer: AnswerStream
    begun: bool = False
    seated: bool = False
    blocks_done: int = 0
    blocks: int = 0

    def progress(self) -> Progress:
        if self.answer.ids:
            return Progress("decode")
        return Progress("prefill", 0, self.blocks_done, self.blocks) if self.begun else Progress("queued")


class ModelGenerate(_OfEngine):
    function = "generate"
    role = "decode"
    streams = True
    request_type = GenerateRequest

    def __init__(self, engine: VirtualEngine) -> None:
        super().__init__(engine)
        self._answers = OpenAnswers(engine.speed.seats + engine.speed.queue)

    async def close(self) -> None:
        await self._answers.close()

    def queue_length(self) -> int:
        return self._answers.queued

    def in_work(self) -> int:
        return len(self._answers) - self._answers.queued

    async def run(self, request: GenerateRequest, job: Job) -> LiveStream:
        if not request.prompt or len(request.prompt) >= CONTEXT or request.answered >= len(request.prompt):
            raise PromptError(f"a prompt of {len(request.prompt)} tokens")
        if request.sampling.grammar is not None:
            raise CallError("a model without floats takes no grammars", code=BAD_GRAMMAR)
        self._answers.admit()
        counts = AnswerCounts.of(job.host, self.subject[1], request)
        answered, stops = request.prompt[len(request.prompt) - request.answered :], request.sampling.stop
        text = resume(TOKENIZER, stops, answered) if answered else (StreamDecoder(TOKENIZER), StopMatcher(stops))
        out, pace = job.open_stream(), self._answers.pace(job.host.config.producer.event_ms)
        answer = AnswerStream(request, TOKENIZER, out, pace, counts, text)
        generation = _VirtualGeneration(request, job, answer)
        answer.progress = generation.progress
        self._answers.start(answer, lambda: self._generate(generation))
        return out

    async def _generate(self, generation: _VirtualGeneration) -> None:
        await self._answers.wait_wanted(generation.answer)
        began = clock.monotonic()
        try:
            await self._seat(generation)
            generation.begun, began = True, clock.monotonic()
            await self._load(generation)
            self._engine.times.first_token.measured(1, clock.monotonic() - began)
            await self._tokens(generation)
        finally:
            self._leave_seat(generation)
            if generation.answer.ids:
                self._engine.times.whole.measured(1, clock.monotonic() - began)

    async def _seat(self, generation: _VirtualGeneration) -> None:
        """A place among those who compute; who is not read waits without one."""
        if generation.answer.away:
            self._leave_seat(generation)
            await generation.answer.wait_read()
        if not generation.seated:
            await self._engine.seats.acquire()
            generation.seated = True

    def _leave_seat(self, generation: _VirtualGeneration) -> None:
        if generation.seated:
            generation.seated = False
            self._engine.seats.release()

    async def _tokens(self, generation: _VirtualGeneration) -> None:
        request, answer, job = generation.request, generation.answer, generation.job
        model, ids = Continuation(request.prompt, request.sampling), list(request.prompt)
        block = job.host.config.engine.block_tokens
        values = chain.chain(ids, block)
        while not answer.ended:
            await self._seat(generation)
            await self._engine.step()
            token, logprob = model.next()
            ids.append(token)
            last = len(answer.ids) + 1 >= max(1, request.sampling.max_tokens) or len(ids) >= CONTEXT
            answer.push(token, logprob, (), "stop" if token == EOS else "length" if last else "")
            if (len(values) + 1) * block < len(ids):  # KV of the newest token is not there yet
                parent = values[-1] if values else chain.seed(block)
                values.append(chain.extend(parent, ids[len(values) * block : (len(values) + 1) * block]))
                self._publish(job, values[-1])

    # ------------------------------------------------------------ KV of the prompt

    async def _load(self, generation: _VirtualGeneration) -> None:
        """At hand, by name, from prefill, or computed here: in this order."""
        job, engine = generation.job, self._engine
        block = job.host.config.engine.block_tokens
        values = chain.chain(generation.request.prompt, block)
        generation.blocks = len(values)
        local = next((at for at, value in enumerate(values) if value not in engine.held), len(values))
        generation.blocks_done = local
        named = await self._fetch(generation, values[local:])
        prefilled = 0
        if local + named < len(values):
            prefilled = await self._from_prefill(generation, values, local + named)
        here = len(values) - local - named - prefilled
        tail = len(generation.request.prompt) - len(values) * block
        await engine.prefill(here * block + max(tail, 1))
        for value in values[len(values) - here :]:
            self._publish(job, value)
        generation.blocks_done = len(values)
        counters = job.host.counters
        counters["kv_blocks_local"] += local
        counters["kv_blocks_named"] += named
        counters["kv_blocks_from_prefill"] += prefilled
        counters["kv_blocks_fetched"] += named + prefilled
        counters["prefill_blocks_computed"] += here
        sources = KvSources(local=local, named=named, prefilled=prefilled, recomputed=here, tail_tokens=max(tail, 1))
        generation.answer.report = Report(sources, holders=(ndn.to_uri(job.signer.identity),))

    async def _fetch(self, generation: _VirtualGeneration, values: Sequence[bytes]) -> int:
        """How many of the first blocks came by name. The first one tells whether there are any."""
        if not values or not await self._one(generation, values[0]):
            return 0
        began = clock.monotonic()
        rest = await asyncio.gather(*(self._one(generation, value) for value in values[1:]))
        came = 1 + next((at for at, came in enumerate(rest) if not came), len(rest))
        self._engine.fetched((came - 1) * self._block_tokens, clock.monotonic() - began)
        return came

    async def _one(self, generation: _VirtualGeneration, value: bytes) -> bool:
        fetcher, base = generation.job.host.fetcher, self._base(generation.job, value)
        try:
            async with asyncio.timeout(max(LEAST_PATIENCE_S, DISCOVERY_ROUND_TRIPS * (fetcher.round_trip_s or 0.125))):
                found = await fetcher.discover(base)
            if found.manifest is None:
                return False
            fetched = await fetcher.collect(found, most=self._engine.speed.block_bytes)
        except (NdnInferError, TimeoutError):
            return False
        return self._keep(value, fetched.content)

    def _keep(self, value: bytes, content: bytes) -> bool:
        if bytes(content) != block_content(value, len(content)):
            return False
        self._engine.held.add(value)
        return True

    async def _from_prefill(self, generation: _VirtualGeneration, values: Sequence[bytes], have: int) -> int:
        """Have the rest computed elsewhere, and take it as it appears; how much of it came."""
        job, engine, missing = generation.job, self._engine, len(values) - have
        block = job.host.config.engine.block_tokens
        costs = Costs(engine.speed.block_bytes, block, prefill=engine.speed.prefill_tokens_s)
        if not engine.estimates.ask_elsewhere(missing, costs, clock.monotonic()):
            job.host.counters["prefill_not_asked"] += 1
            return 0
        request = PrefillRequest(tuple(value.hex() for value in values), have, block, CODEC)
        ask = Ask(SUBJECT, "prefill", request, caller=ndn.to_uri(job.hint))
        began = clock.monotonic()
        try:
            async with asyncio.timeout(patience_s(missing, costs)):
                answered = await job.host.caller.start(ask)
        except (NdnInferError, TimeoutError):
            engine.estimates.unanswered(clock.monotonic())
            job.host.counters["prefill_unavailable"] += 1
            return 0
        hint = ndn.from_uri(answered.answer.hint)
        came = await asyncio.gather(*(self._await(generation, value, hint) for value in values[have:]))
        count = next((at for at, done in enumerate(came) if not done), len(came))
        engine.estimates.elsewhere(count * block, clock.monotonic() - began, clock.monotonic())
        return count

    async def _await(self, generation: _VirtualGeneration, value: bytes, hint: Name) -> bool:
        fetcher, base = generation.job.host.fetcher, self._base(generation.job, value)
        try:
            found = await fetcher.await_object(base, hints=(hint,), deadline_s=PREFILL_WAIT_S)
            if found.manifest is None:
                return False
            fetched = await fetcher.collect(found, most=self._engine.speed.block_bytes, hints=(hint,))
        except NdnInferError:
            return False
        generation.blocks_done += 1
        return self._keep(value, fetched.content)


ROLES: Final = ("tokenize", "prefill", "decode")


def functions_of(role: str, engine: VirtualEngine) -> list[NamedFunction[Any]]:
    """What a producer of this role offers. Raises UsageError for roles that no virtual node has."""
    if role == "tokenize":
        return [ModelTokenize()]
    if role == "prefill":
        return [ModelPrefill(engine)]
    if role == "decode":
        return [ModelGenerate(engine)]
    raise UsageError(f"no node in virtual time has the role {role!r}")
