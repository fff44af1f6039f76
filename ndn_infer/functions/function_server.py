"""The work of one function: a call that was looked at -> seat -> run -> signed answer.

Owns: one run for equal work however many ask (single flight), acknowledgements of long work, its end when nobody waits.
Must not know: how an Interest becomes a request (intake.py), who gets a seat (admission.py), how answers are signed
(replies.py), what the function computes, prefixes and certificates (producer.py).

Answers, acknowledgements and errors are sealed as the work is.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any, Final

from ndn_infer import clock, ndn, records
from ndn_infer.errors import Busy
from ndn_infer.functions.admission import Admission, Load
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.functions.call_log import recorded_call
from ndn_infer.functions.call_spans import CallSpans
from ndn_infer.functions.intake import DECODED_HERE_BYTES, Intake
from ndn_infer.functions.lifetime import ACKNOWLEDGED_S, DEADLINE, Lifetime
from ndn_infer.functions.replies import Replies
from ndn_infer.functions.result_records import ResultRecords
from ndn_infer.functions.work import MAX_WAITING, Answers, Failures, ReceivedCall, Work, WorkKey
from ndn_infer.metrics import catalogue as m
from ndn_infer.ndn.name import Name
from ndn_infer.records import CallAnswer, Envelope, Record
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import PUBLIC, Domain
from ndn_infer.telemetry.spans import within
from ndn_infer.transport.calls.failures import failure
from ndn_infer.transport.objects.live_stream import LiveStream

log = logging.getLogger(__name__)

INLINE_ANSWER_BYTES: Final = 6000


class FunctionServer:
    """Answers the calls of one function."""

    def __init__(self, function: NamedFunction[Any], host: Host, signer: Signer) -> None:
        self.function = function
        self._host = host
        self._tenants_host = host.for_tenants()
        self._signer = signer
        self._hint = ndn.to_uri(host.hint(signer))
        self._admission = Admission(host.config.producer.queue_limit, function.unit_s)
        self._work: dict[WorkKey, Work] = {}
        self._answers = Answers()
        self._failures = Failures()
        self._spans = CallSpans(host.tracer, host.net)
        self._replies = Replies(host, signer)
        self._records = ResultRecords()
        self._intake = Intake(function, host, self._replies, self)
        self.on_request = self._intake.on_request

    @property
    def identity(self) -> Name:
        return self._signer.identity

    @property
    def running(self) -> int:
        return len(self._work) + self.function.in_work()

    def load(self) -> Load:
        """What this function has to do now."""
        admission, queue = self._admission, self.function.queue_length()
        return Load(queue, self.running, admission.seats.free, admission.wait_s(), admission.pace.unit_s)

    # ------------------------------------------------------------ work

    def admit(self, asked: ReceivedCall, key: WorkKey, domain: Domain, plain: bytes) -> None:
        """Answer from what is known, join what runs, or begin: all under the whole key of the work."""
        if not self.from_known(asked, key, domain):
            self._begin(asked, key, domain, plain)

    def from_known(self, asked: ReceivedCall, key: WorkKey, domain: Domain) -> bool:
        """Answer from what is remembered, or join what runs; whether there was either."""
        answer, work = self._answers.get(key), self._work.get(key)
        if answer is not None and self._still_good(answer, asked.envelope):
            self._replies.reply(asked.request, answer, domain)
        elif work is not None:
            self._join(work, asked)
        elif asked.envelope.salt and (failed := self._failures.get(key, clock.monotonic())) is not None:
            self._replies.fail(asked.request, failed, domain, asked.who)
        else:
            return False
        self._spans.shared(asked, key)
        self._host.counters["calls"] += 1
        return True

    def _still_good(self, answer: CallAnswer, envelope: Envelope) -> bool:
        """An answer that names a result is good while the result is in the store, and the caller could read it."""
        if not answer.result:
            return True
        return envelope.salt == 0 and self._host.server.holds(ndn.from_uri(answer.result))

    def _join(self, work: Work, asked: ReceivedCall) -> None:
        work.lifetime.asked(asked.envelope.deadline_ms)
        if work.acknowledged is not None:
            self._replies.reply(asked.request, work.acknowledged, work.domain)
        elif len(work.waiting) < MAX_WAITING:
            work.waiting.append(asked.request)

    def _begin(self, asked: ReceivedCall, key: WorkKey, domain: Domain, plain: bytes) -> None:
        function, request = self.function.function, asked.request
        self._host.counters["calls"] += 1
        seat = self._admission.seat(asked.who, known=bool(asked.caller), hop=request.face_id)
        if seat is None:
            self._host.counters["refused_busy"] += 1
            error = Busy(f"{function} is at its limit of calls; try again later")
            self._replies.fail(request, self._admission.refusal(error), domain, asked.who)
            return
        log.info("%s: call %s, %s", function, key.call.request[:8], "private" if key.caller else "shared")
        lifetime = Lifetime(lambda reason: self._leave(work, reason), lambda: self._wanted_until(work))
        work = Work(
            key, domain, asked.envelope, seat, lifetime, waiting=[request], began=clock.monotonic(),
            before=max(len(self._work), self.function.queue_length()), span=self._spans.begun(asked, key),
            wire=asked.wire, record=asked.record,
        )  # fmt: skip
        self._work[key] = work
        lifetime.asked(asked.envelope.deadline_ms)
        work.task = asyncio.get_running_loop().create_task(self._run(work, plain))

    def _wanted_until(self, work: Work) -> float:
        return self._host.server.wanted_until((self._result(work), *work.promised))

    def _leave(self, work: Work, reason: str) -> None:
        """Nobody waits for it: nobody computes it."""
        work.ended = reason
        self._host.counters[f"ended_{reason}"] += 1
        if work.task is not None:
            work.task.cancel()

    async def _run(self, work: Work, plain: bytes) -> None:
        function = self.function
        try:
            with within(work.span):
                answer = await self._answer(work, plain)
        except Busy as error:
            answer = self._admission.refusal(error)
        except asyncio.CancelledError:
            if not work.ended:
                raise
            answer = CallAnswer(code=DEADLINE, error=f"nobody waits for this call of {function.function} any more")
        except Exception as error:  # a defect must reach its caller as an answer, and the operator as a traceback
            answer = failure(error, function.function)
        finally:
            work.lifetime.close()
            work.seat.give()
        self._finish(work, answer)

    async def _answer(self, work: Work, plain: bytes) -> CallAnswer:
        domain, server, function = work.domain, self._host.server, self.function
        request = work.record or await self._decode(plain)
        host = self._host if domain is PUBLIC else self._tenants_host
        job = Job(
            host, work.key.call, work.envelope, self._signer, domain, work.seat, work.promised, work.wire,
            work.key.caller, work.afterwards,
        )  # fmt: skip
        if function.streams:
            work.before, work.estimate_s = function.queue_length(), function.first_event_s(request)
        else:
            self._acknowledge_later(work, request)
        result = await recorded_call(job, request, function.run(request, job))
        if isinstance(result, LiveStream):
            if not result.closed:  # an engine's places are shared as seats are: nobody has all of them
                seat = work.seat.hand_over()
                result.on_closed = seat.give
                result.on_paused = lambda paused: seat.give() if paused else seat.take()
            estimate_ms = round(work.estimate_s * 1000)
            name = ndn.to_uri(result.name)
            return CallAnswer(result=name, hint=self._hint, stream=True, queue=work.before, estimate_ms=estimate_ms)
        value = records.encode(result)
        engine = function.engine_class()
        if len(value) <= INLINE_ANSWER_BYTES and work.acknowledged is None:
            work.afterwards.append(partial(self._records.follow, job, value, engine))
            return CallAnswer(value=value, hint=self._hint)
        base = self._result(work)
        packets = server.publish(base, domain.seal(base, value), self._signer)
        self._records.follow(job, value, engine, packets.manifest.version)
        return CallAnswer(result=ndn.to_uri(packets.manifest.name), hint=self._hint)

    async def _decode(self, plain: bytes) -> Record:
        if len(plain) <= DECODED_HERE_BYTES:
            return records.decode(self.function.request_type, plain)
        return await asyncio.to_thread(records.decode, self.function.request_type, plain)

    def _result(self, work: Work) -> Name:
        return work.key.call.result().to_name(self._host.net)

    def _acknowledge_later(self, work: Work, request: Record) -> None:
        """Soon where the work is long by estimate, else when it turns out to be."""
        work.units = self.function.units(request)
        work.estimate_s = self._admission.estimate_s(work.units)
        long = work.estimate_s > self.function.quick_s
        work.lifetime.acknowledge_in(
            ACKNOWLEDGED_S if long else self.function.patience_s, lambda: self._acknowledge(work)
        )

    def _acknowledge(self, work: Work) -> None:
        """Work takes longer than callers should wait: tell them where the result will be, and when."""
        base = self._result(work)
        self._host.server.promise(base)
        work.lifetime.acknowledged()
        work.acknowledged = CallAnswer(
            result=ndn.to_uri(base), hint=self._hint, queue=work.before, estimate_ms=round(work.estimate_s * 1000)
        )
        for request in work.waiting:
            self._replies.reply(request, work.acknowledged, work.domain)
        work.waiting.clear()

    def _finish(self, work: Work, answer: CallAnswer) -> None:
        del self._work[work.key]
        if answer.code:
            self._failed(work, answer)
        else:
            self._answers.put(work.key, answer)
        for request in work.waiting:
            if answer.code:
                self._replies.fail(request, answer, work.domain, work.seat.who)
            else:
                self._replies.reply(request, answer, work.domain)
        if not answer.code:
            self._admission.finished(work.units, work.began, others=len(self._work))
        # packets leave at the end of the event loop's turn: what comes after them holds nobody up
        asyncio.get_running_loop().call_soon(self._settle, work, answer)

    def _failed(self, work: Work, answer: CallAnswer) -> None:
        self._admission.failed(work.units, others=len(self._work))
        if work.acknowledged is not None:
            self._host.counters["failed"] += 1
            if not work.ended:
                self._failures.put(work.key, answer, clock.monotonic())
            self._host.server.break_promise(self._result(work), self._signer)

    def _settle(self, work: Work, answer: CallAnswer) -> None:
        """What is left to do when those who waited have their answer."""
        for action in work.afterwards:
            try:
                action()
            except Exception:
                log.exception("%s: after a call", self.function.function)
        if not answer.code and not self.function.streams:
            taken_s = clock.monotonic() - work.began
            self._host.meters.observe(m.CALL_SECONDS, taken_s, self.function.function)
        said = f"{answer.code}: {answer.error}" if answer.code else "done"
        log.info("%s: call %s, %s", self.function.function, work.key.call.request[:8], said)

    async def close(self) -> None:
        await self._intake.close()
        tasks = [work.task for work in self._work.values() if work.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.function.close()
