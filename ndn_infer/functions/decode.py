"""decode: the `generate` call. A prompt in, a signed stream of tokens out.

Owns: which requests are taken, the answers in work, and what is known of each beside its tokens: status, record, what
an auditor hears. Must not know: how tokens are computed (answer_engine.py is the contract), KV, what a stream of tokens
looks like.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from ndn_infer import clock
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.functions.answer_engine import AnswerEngine, AnswerInMaking, AnswerOrder
from ndn_infer.functions.answer_log import admitting, record_call, recorded
from ndn_infer.functions.answer_meter import AnswerCounts
from ndn_infer.functions.answer_records import AnswerRecords
from ndn_infer.functions.answer_stream import AnswerStream
from ndn_infer.functions.audit.made_answers import MadeBook
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.functions.capacity import CallTimes, Capacity
from ndn_infer.functions.generation import check_request, sampling_params, text_of
from ndn_infer.functions.grammar_check import GrammarCheck
from ndn_infer.functions.open_answers import OpenAnswers
from ndn_infer.namespace import blocks_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.records import GenerateRequest
from ndn_infer.records.codec import most_bytes
from ndn_infer.records.grammar import MAX_GRAMMAR_BYTES
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import PUBLIC
from ndn_infer.transport.objects.live_stream import LiveStream


class Generate(NamedFunction[GenerateRequest]):
    function = "generate"
    role = "decode"
    request_type = GenerateRequest
    streams = True
    private = True
    max_request_bytes = most_bytes(GenerateRequest)

    def __init__(self, model: str, folder: Path, engine: AnswerEngine) -> None:
        self.subject = ("model", model)
        self._folder = folder
        self._engine = engine
        self._tokenizer: ChatTokenizer | None = None
        self._times = CallTimes()
        self._answers = OpenAnswers(engine.most_answers)
        self._grammars = GrammarCheck()
        self._made = MadeBook(model)
        self._records = AnswerRecords()

    async def start(self, host: Host, signer: Signer) -> None:
        self._tokenizer = await asyncio.to_thread(ChatTokenizer.load, self._folder)
        await self._engine.start(host, signer)
        self._made.answer(host, signer)
        self.take_at_most(4 * self._engine.limits.context_length + MAX_GRAMMAR_BYTES)

    async def close(self) -> None:
        await self._answers.close()
        await self._engine.close()

    def serves(self, net: Name) -> tuple[Name, ...]:
        return tuple(blocks_prefix(net, self.subject[1], kind) for kind in self._engine.shares)

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
        return self._answers.in_work

    async def run(self, request: GenerateRequest, job: Job) -> LiveStream:
        assert self._tokenizer is not None
        limits = self._engine.limits
        check_request(request, limits, self._engine.engine_class)
        params = sampling_params(request, limits, self._tokenizer.eos_ids)
        self._engine.refuse_if_busy()
        await self._grammars.ready(params.grammar, self._engine.grammars)
        text = await text_of(request, self._tokenizer)
        logged = await record_call(job, request)
        with admitting(logged):
            self._engine.refuse_if_busy()
            self._answers.admit()
        counts = AnswerCounts.of(job.host, self.subject[1], request)
        out = job.open_stream()
        pace = self._answers.pace(job.host.config.producer.event_ms)
        answer = AnswerStream(request, self._tokenizer, out, pace, counts, text)
        making = self.making(AnswerOrder(request, params, job, answer, self._answers.crowded, self._times))
        answer.progress = making.progress
        answer.on_away = lambda: making.pause(True)
        answer.on_back = lambda: making.pause(False)
        answer.receipt = making.receipt
        answer.on_told = lambda: self._records.follow(answer, job, making.prompt_state)
        self._answers.start(answer, lambda: recorded(logged, answer, self._make(making, answer, job)))
        return out

    def making(self, order: AnswerOrder) -> AnswerInMaking:
        """Who makes this answer."""
        return self._engine.answer(order)

    async def _make(self, making: AnswerInMaking, answer: AnswerStream, job: Job) -> None:
        await self._answers.wait_wanted(answer)
        began = clock.monotonic()
        answer.meter.turn()
        try:
            await making.make()
        finally:
            if job.domain is PUBLIC:
                self._made.note(answer.out)
            if answer.ids:
                self._times.whole.measured(1, clock.monotonic() - began)
