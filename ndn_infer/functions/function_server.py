"""The calls of one function: Interest -> call -> who asks -> request -> seat -> run -> signed answer.

Owns: that order, one run for equal work however many ask (single flight), acknowledgements of long work, refusals. Must
not know: what the function computes, prefixes and certificates (producer.py).

Cheap checks come first, and nothing is looked up before it is known who asks for what: a private call is opened before
any work is looked for, a shared one must not be what private callers seal. Then a request that is still at its caller
is pulled; only then the call takes a seat. Answers, acknowledgements and errors are sealed as the work is.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Coroutine, Hashable
from dataclasses import replace
from typing import Any, Final

from ndn_infer import ndn, records
from ndn_infer.errors import BadRecord, Busy, CallError, MissingKey, NdnInferError, PromptError, TrustError, UsageError
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.functions.work import MAX_WAITING, Answers, Asked, Work, WorkKey
from ndn_infer.namespace import Call, CallClass, function_prefix
from ndn_infer.ndn.lp import REASON_CONGESTION
from ndn_infer.ndn.name import Name
from ndn_infer.records import Answer, Envelope, Record
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import PUBLIC, Domain, DomainEpoch, is_sealed_request, parse_request
from ndn_infer.transport.link.endpoint import Request
from ndn_infer.transport.objects.live_stream import LiveStream
from ndn_infer.wire.shares import Allowance, Seat, Seats

log = logging.getLogger(__name__)

INLINE_ANSWER_BYTES: Final = 6000
DONE_FRESHNESS_MS: Final = 3_600_000
RESULT_FRESHNESS_MS: Final = 600_000
ERROR_FRESHNESS_MS: Final = 10
REFUSALS: Final = (20.0, 50.0)
"""So many answers a second, and at once, that only say what is wrong are signed for one asker; a Nack, which costs
nothing, has to do beyond that."""
DECODED_HERE_BYTES: Final = 16 << 10
"""Larger requests are decoded in a thread."""


class FunctionServer:
    """Answers the calls of one function."""

    def __init__(self, function: NamedFunction[Any], host: Host, signer: Signer) -> None:
        self.function = function
        self._host = host
        self._tenants_host = host.for_tenants()
        self._signer = signer
        self._hint = ndn.to_uri(host.hint(signer))
        self._prefix = function_prefix(host.net, *function.subject, function.function)
        self._seats = Seats(host.config.producer.queue_limit)
        self._refusals = Allowance(*REFUSALS)
        self._work: dict[WorkKey, Work] = {}
        self._answers = Answers()
        self._pulling: dict[tuple[object, ...], list[Asked]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def identity(self) -> Name:
        return self._signer.identity

    @property
    def running(self) -> int:
        return len(self._work) + self.function.in_work()

    # ------------------------------------------------------------ who asks

    def on_request(self, request: Request) -> None:
        """An Interest below this function's prefix."""
        interest = request.interest
        parsed = Call.parse_prefix(self._host.net, interest.name)
        if parsed is None or interest.parameters is None:
            return  # not a call: silence costs an attacker's Interest nothing but its own lifetime
        call = parsed[0]
        who: Hashable = ("face", request.face_id)
        try:
            envelope = records.decode(Envelope, interest.parameters)
            if envelope.request and hashlib.sha256(envelope.request).hexdigest() != call.request:
                raise BadRecord("the name does not carry the digest of the request")
            if not envelope.request and not envelope.sources:
                raise BadRecord("neither a request nor a source of it")
            if request.face_id is None:
                who = ("caller", envelope.caller)
            asked = Asked(request, call, envelope, who)
            if call.call_class == CallClass.SHARED:
                self._with_request(asked)
            else:
                self._private(asked)
        except NdnInferError as error:
            self._refuse(request, who, error)

    def _private(self, asked: Asked) -> None:
        """A private call: who asks is proved before anything is pulled or opened."""
        access = self._host.access
        if access is None or not self.function.private:
            raise CallError(f"{self.function.function} accepts no private calls here", code="not-private")
        signed = access.askers.known(asked.request.interest)
        if signed is None:
            self._spawn(asked, self._prove(asked))
        else:
            self._with_request(replace(asked, caller=signed.identity, who=("key", signed.identity)))

    async def _prove(self, asked: Asked) -> None:
        assert self._host.access is not None
        signed = await self._host.access.askers.newcomer(asked.request.interest, asked.who)
        self._with_request(replace(asked, caller=signed.identity, who=("key", signed.identity)))

    # ------------------------------------------------------------ the request

    def _with_request(self, asked: Asked) -> None:
        """On with the request of the envelope; or with that of the caller, unless the work is known without it."""
        if asked.envelope.request:
            self._opened(asked, asked.envelope.request)
        elif asked.caller or not self._from_known(asked, WorkKey(asked.call), PUBLIC):
            self._pull_soon(asked)

    def _pull_soon(self, asked: Asked) -> None:
        """Pull a request from where this asker says it is; whoever else asks for the work says so for itself."""
        key = (asked.call, asked.who, asked.envelope.sources, asked.envelope.caller)
        waiting = self._pulling.get(key)
        if waiting is None:
            self._pulling[key] = [asked]
            self._spawn(asked, self._pull(key, asked))
        elif len(waiting) < MAX_WAITING:
            waiting.append(asked)

    async def _pull(self, key: tuple[object, ...], asked: Asked) -> None:
        envelope = asked.envelope
        try:
            wire = await self._host.inputs.pull(
                asked.call.request, envelope.sources, envelope.caller, asked.who,
                max_bytes=self.function.max_request_bytes,
            )  # fmt: skip
        except NdnInferError as error:
            for waiting in self._pulling.pop(key):
                self._refuse(waiting.request, waiting.who, error)
            return
        finally:
            arrived = self._pulling.pop(key, [])
        for waiting in arrived:
            try:
                self._opened(waiting, wire)
            except NdnInferError as error:
                self._refuse(waiting.request, waiting.who, error)

    def _opened(self, asked: Asked, wire: bytes) -> None:
        """`wire` has the digest in the name. Raises BadRecord, TrustError, CallError."""
        if not asked.caller:
            if is_sealed_request(wire):
                raise BadRecord("a sealed request in a shared call")
            if len(wire) <= DECODED_HERE_BYTES:
                records.decode(self.function.request_type, wire)  # rubbish takes no seat
            self._admit(asked, WorkKey(asked.call), PUBLIC, wire)
            return
        access = self._host.access
        assert access is not None
        sealed = parse_request(wire)
        try:
            self._admit_private(asked, *access.open_request(self._prefix, asked.caller, sealed))
        except MissingKey:
            if access.renew is None:
                raise
            self._spawn(asked, self._renew(asked, wire, sealed.domain))

    async def _renew(self, asked: Asked, wire: bytes, label: str) -> None:
        """An epoch that is new to us: its key is looked for, as a caller of this network asks in it."""
        access = self._host.access
        assert access is not None
        await access.look_for(label)
        self._admit_private(asked, *access.open_request(self._prefix, asked.caller, parse_request(wire)))

    def _admit_private(self, asked: Asked, epoch: DomainEpoch, plain: bytes) -> None:
        self._admit(asked, WorkKey(asked.call, epoch.label, asked.caller), epoch, plain)

    # ------------------------------------------------------------ work

    def _admit(self, asked: Asked, key: WorkKey, domain: Domain, plain: bytes) -> None:
        """Answer from what is known, join what runs, or begin: all under the whole key of the work."""
        if not self._from_known(asked, key, domain):
            self._begin(asked, key, domain, plain)

    def _from_known(self, asked: Asked, key: WorkKey, domain: Domain) -> bool:
        """Answer from what is remembered, or join what runs; whether there was either."""
        answer, work = self._answers.get(key), self._work.get(key)
        if answer is not None and self._still_good(answer, asked.envelope):
            self._host.counters["calls"] += 1
            self._reply(asked.request, answer, domain)
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
            self._reply(request, work.acknowledged, work.domain)
        elif len(work.waiting) < MAX_WAITING:
            work.waiting.append(request)

    def _begin(self, asked: Asked, key: WorkKey, domain: Domain, plain: bytes) -> None:
        self._host.counters["calls"] += 1
        seat = Seat(self._seats, asked.who, known=bool(asked.caller))
        if not seat.take():
            self._host.counters["refused_busy"] += 1
            error = Busy(f"{self.function.function} is at its limit of calls; try again later")
            self._fail(asked.request, Answer(code=error.code, error=str(error)), domain, asked.who)
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
            self._reply(request, work.acknowledged, work.domain)
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
                self._fail(request, answer, work.domain, work.seat.who)
            else:
                self._reply(request, answer, work.domain)

    # ------------------------------------------------------------ answers

    def _reply(self, request: Request, answer: Answer, domain: Domain) -> None:
        """An answer of work of this domain, sealed where that is a tenant's."""
        freshness_ms = DONE_FRESHNESS_MS if answer.value else RESULT_FRESHNESS_MS
        if answer.code:
            freshness_ms = ERROR_FRESHNESS_MS
        name, content = request.interest.name, records.encode(answer)
        if isinstance(domain, DomainEpoch):
            content = domain.seal_answer(name, content)
        wire = self._signer.sign_data(name, content, freshness_ms=freshness_ms)
        self._host.counters["answers"] += 1
        request.reply(wire)

    def _refuse(self, request: Request, who: Hashable, error: NdnInferError) -> None:
        """Why a call does not get as far as work: in clear, as nobody can seal without the key. It tells nothing but
        what is wrong with this Interest."""
        code, text = "bad-request", str(error)
        if isinstance(error, CallError):
            code = error.code
        elif isinstance(error, MissingKey):
            code, text = "unknown-domain", f"{error}; {ndn.to_uri(self.identity)} is not a member of the domain"
        elif not isinstance(error, BadRecord | TrustError):
            log.error("cannot look at a call: %s", error)
            code, text = "failed", "this producer cannot read its keys"
        self._host.counters[_REFUSED.get(code, "refused")] += 1
        log.debug("refused a call: %s", error)
        self._fail(request, Answer(code=code, error=text), PUBLIC, who)

    def _fail(self, request: Request, answer: Answer, domain: Domain, who: Hashable) -> None:
        """An answer that says why there is none; for somebody who gets many of them, a Nack."""
        if self._refusals.spend(who, time.monotonic()):
            self._reply(request, answer, domain)
        else:
            request.refuse(REASON_CONGESTION)

    def _spawn(self, asked: Asked, work: Coroutine[Any, Any, None]) -> None:
        """A step that waits for others; what goes wrong in it is a refusal."""

        async def run() -> None:
            try:
                await work
            except NdnInferError as error:
                self._refuse(asked.request, asked.who, error)

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        tasks = [*self._tasks, *(work.task for work in self._work.values() if work.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.function.close()


_REFUSED: Final = {"unknown-domain": "refused_domain", "busy": "refused_busy"}
