"""The work of one function: a call that was looked at -> seat -> run -> signed answer.

Owns: one run for equal work however many ask (single flight), seats, acknowledgements of long work. Must not know: how
an Interest becomes a request (intake.py), how answers are signed (replies.py), what the function computes, prefixes and
certificates (producer.py).

Answers, acknowledgements and errors are sealed as the work is.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from ndn_infer import ndn, records
from ndn_infer.errors import BadRecord, Busy, CallError, NdnInferError, PromptError, UsageError
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.functions.intake import DECODED_HERE_BYTES, Intake
from ndn_infer.functions.replies import Replies
from ndn_infer.functions.work import MAX_WAITING, Answers, Asked, Work, WorkKey
from ndn_infer.ndn.name import Name
from ndn_infer.records import Answer, Envelope, Record
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import PUBLIC, Domain
from ndn_infer.transport.link.endpoint import Request
from ndn_infer.transport.objects.live_stream import LiveStream
from ndn_infer.wire.shares import Seat, Seats

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
        self._seats = Seats(host.config.producer.queue_limit)
        self._work: dict[WorkKey, Work] = {}
        self._answers = Answers()
        self._replies = Replies(host, signer)
        self._intake = Intake(function, host, self._replies, self)
        self.on_request = self._intake.on_request

    @property
    def identity(self) -> Name:
        return self._signer.identity

    @property
    def running(self) -> int:
        return len(self._work) + self.function.in_work()

    # ------------------------------------------------------------ work

    def admit(self, asked: Asked, key: WorkKey, domain: Domain, plain: bytes) -> None:
        """Answer from what is known, join what runs, or begin: all under the whole key of the work."""
        if not self.from_known(asked, key, domain):
            self._begin(asked, key, domain, plain)

    def from_known(self, asked: Asked, key: WorkKey, domain: Domain) -> bool:
        """Answer from what is remembered, or join what runs; whether there was either."""
        answer, work = self._answers.get(key), self._work.get(key)
        if answer is not None and self._still_good(answer, asked.envelope):
            self._host.counters["calls"] += 1
            self._replies.reply(asked.request, answer, domain)
        elif work is not None:
            self._host.counters["calls"] += 1
            self._join(work, asked.request)
        else:
            return False
        return True

    def _still_good(self, answer: Answer, envelope: Envelope) -> bool:
        """An answer that names a result is good while the result is in the store, and the caller could read it."""
        if not answer.result:
            return True
        return envelope.salt == 0 and self._host.server.holds(ndn.from_uri(answer.result))

    def _join(self, work: Work, request: Request) -> None:
        if work.acknowledged is not None:
            self._replies.reply(request, work.acknowledged, work.domain)
        elif len(work.waiting) < MAX_WAITING:
            work.waiting.append(request)

    def _begin(self, asked: Asked, key: WorkKey, domain: Domain, plain: bytes) -> None:
        self._host.counters["calls"] += 1
        seat = Seat(self._seats, asked.who, known=bool(asked.caller))
        if not seat.take():
            self._host.counters["refused_busy"] += 1
            error = Busy(f"{self.function.function} is at its limit of calls; try again later")
            self._replies.fail(asked.request, Answer(code=error.code, error=str(error)), domain, asked.who)
            return
        log.info("%s: call %s, %s", self.function.function, key.call.request[:8], "private" if key.caller else "shared")
        work = self._work[key] = Work(key, domain, asked.envelope, seat, waiting=[asked.request])
        work.task = asyncio.get_running_loop().create_task(self._run(work, plain))

    async def _run(self, work: Work, plain: bytes) -> None:
        function = self.function
        acknowledge = asyncio.get_running_loop().call_later(function.patience_s, self._acknowledge, work)
        try:
            answer = await self._answer(work, plain)
        except CallError as error:
            answer = Answer(code=error.code, error=str(error))
        except (UsageError, PromptError, BadRecord) as error:
            answer = Answer(code="bad-request", error=str(error))
        except NdnInferError as error:
            log.warning("%s failed: %s", function.function, error)
            answer = Answer(code="failed", error=f"{error.kind}: {error}")
        except Exception as error:  # a defect must reach its caller as an answer, and the operator as a traceback
            log.exception("%s failed", function.function)
            answer = Answer(code="internal", error=f"{type(error).__name__} in {function.function}")
        finally:
            acknowledge.cancel()
            work.seat.give()
        self._finish(work, answer)

    async def _answer(self, work: Work, plain: bytes) -> Answer:
        domain, server = work.domain, self._host.server
        request = await self._decode(plain)
        host = self._host if domain is PUBLIC else self._tenants_host
        job = Job(host, work.key.call, work.envelope, self._signer, domain, work.seat)
        result = await self.function.run(request, job)
        if isinstance(result, LiveStream):
            if not result.closed:  # an engine's places are shared as seats are: nobody has all of them
                result.on_closed = work.seat.hand_over().give
            queue = self.function.queue_length()
            return Answer(result=ndn.to_uri(result.name), hint=self._hint, stream=True, queue=queue)
        value = records.encode(result)
        if len(value) <= INLINE_ANSWER_BYTES and work.acknowledged is None:
            return Answer(value=value, hint=self._hint)
        base = self._result(work)
        packets = server.publish(base, domain.seal(base, value), self._signer)
        return Answer(result=ndn.to_uri(packets.manifest.name), hint=self._hint)

    async def _decode(self, plain: bytes) -> Record:
        if len(plain) <= DECODED_HERE_BYTES:
            return records.decode(self.function.request_type, plain)
        return await asyncio.to_thread(records.decode, self.function.request_type, plain)

    def _result(self, work: Work) -> Name:
        return work.key.call.result().to_name(self._host.net)

    def _acknowledge(self, work: Work) -> None:
        """Work takes longer than callers should wait: tell them where the result will be."""
        base = self._result(work)
        self._host.server.promise(base)
        work.acknowledged = Answer(
            result=ndn.to_uri(base), hint=self._hint, queue=self.function.queue_length()
        )  # fmt: skip
        for request in work.waiting:
            self._replies.reply(request, work.acknowledged, work.domain)
        work.waiting.clear()

    def _finish(self, work: Work, answer: Answer) -> None:
        del self._work[work.key]
        if not answer.code:
            self._answers.put(work.key, answer)
        elif work.acknowledged is not None:
            self._host.counters["failed"] += 1
            self._host.server.break_promise(self._result(work), self._signer)
        said = f"{answer.code}: {answer.error}" if answer.code else "done"
        log.info("%s: call %s, %s", self.function.function, work.key.call.request[:8], said)
        for request in work.waiting:
            if answer.code:
                self._replies.fail(request, answer, work.domain, work.seat.who)
            else:
                self._replies.reply(request, answer, work.domain)

    async def close(self) -> None:
        await self._intake.close()
        tasks = [work.task for work in self._work.values() if work.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.function.close()
