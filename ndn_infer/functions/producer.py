"""A producer: the functions of one process, on the network.

Owns: Interest -> call -> admission -> run -> signed answer, one run per distinct request however many ask (single
flight), acknowledgements for long work, registration of prefixes, certificates, status. Must not know: what any
function computes.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

from ndn_infer import name as ndn
from ndn_infer import records
from ndn_infer.errors import (
    BadRecord,
    CallError,
    MissingKey,
    NdnInferError,
    NetworkError,
    PromptError,
    RegistrationRefused,
    TrustError,
    UsageError,
)
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.name import Name
from ndn_infer.namespace import Call, CallClass, function_prefix, results_prefix
from ndn_infer.records import Answer, Counter, Envelope, ProducerStatus
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domains import PUBLIC, Domain, DomainEpoch, parse_request
from ndn_infer.security.identity import IdentityKind, parse_identity
from ndn_infer.security.keychain import Keychain
from ndn_infer.transport.endpoint import Request
from ndn_infer.transport.live_stream import LiveStream
from ndn_infer.transport.registration import Registrar

log = logging.getLogger(__name__)

INLINE_ANSWER_BYTES: Final = 6000
DONE_FRESHNESS_MS: Final = 3_600_000
RESULT_FRESHNESS_MS: Final = 600_000
ERROR_FRESHNESS_MS: Final = 10
MAX_REMEMBERED_ANSWERS: Final = 4096


@dataclass(frozen=True, slots=True)
class _Asked:
    """A call that was looked at: `plain` is the encoded request, empty while it is still at its caller; `epoch` that of
    a private call."""

    call: Call
    envelope: Envelope
    plain: bytes
    epoch: DomainEpoch | None = None

    @property
    def domain(self) -> Domain:
        return PUBLIC if self.epoch is None else self.epoch


@dataclass(slots=True)
class _Running:
    asked: _Asked
    task: asyncio.Task[None]
    waiting: list[Request] = field(default_factory=list)
    acknowledged: Answer | None = None


class FunctionServer:
    """Answers the calls of one function."""

    def __init__(self, function: NamedFunction[Any], host: Host, signer: Signer) -> None:
        self.function = function
        self._host = host
        self._signer = signer
        self._hint = ndn.to_uri(signer.identity)
        self._running: dict[str, _Running] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._answers: OrderedDict[str, Answer] = OrderedDict()

    @property
    def identity(self) -> Name:
        return self._signer.identity

    @property
    def running(self) -> int:
        return len(self._running)

    def on_request(self, request: Request) -> None:
        """An Interest below this function's prefix."""
        name = request.interest.name
        parsed = Call.parse_prefix(self._host.net, name)
        if parsed is None or request.interest.parameters is None:
            return  # not a call: silence costs an attacker's Interest nothing but its own lifetime
        call, _ = parsed
        try:
            envelope = records.decode(Envelope, request.interest.parameters)
            if envelope.request and hashlib.sha256(envelope.request).hexdigest() != call.request:
                raise BadRecord("the name does not carry the digest of the request")
            if not envelope.request and not envelope.sources:
                raise BadRecord("neither a request nor a source of it")
        except BadRecord as error:
            self._reply(request, Answer(code="bad-request", error=str(error)))
            return
        if call.call_class == CallClass.SHARED:
            self._admit(request, _Asked(call, envelope, envelope.request))
        elif len(self._opening) < self._host.config.producer.queue_limit:
            task = asyncio.get_running_loop().create_task(self._open(request, call, envelope))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self._host.counters["refused_busy"] += 1
            self._reply(
                request, Answer(code="busy", error=f"{self.function.function} is asked too much; try again later")
            )

    async def _open(self, request: Request, call: Call, envelope: Envelope) -> None:
        """A private call: who asks is proved, and the request opened, before anything else is looked at. What goes
        wrong is said in clear, as nobody can seal without the key; it tells nothing of what was computed."""
        access = self._host.access
        try:
            if access is None or not self.function.private:
                raise CallError(f"{self.function.function} takes no private calls here", code="not-private")
            caller = await access.caller_of(request.interest)
            sealed = parse_request(await self._whole(call, envelope))
            epoch, plain = await access.open_request(self._prefix(call), caller, sealed)
        except CallError as error:
            self._reply(request, Answer(code=error.code, error=str(error)))
        except MissingKey as error:
            self._host.counters["refused_domain"] += 1
            self._reply(request, Answer(code="unknown-domain", error=f"{error}; this producer is no member"))
        except (TrustError, BadRecord, NetworkError) as error:
            self._host.counters["refused_private"] += 1
            log.warning("refused a private call: %s", error)
            self._reply(request, Answer(code="bad-request", error=str(error)))
        except NdnInferError as error:
            log.error("cannot open a private call: %s", error)
            self._reply(request, Answer(code="failed", error="this producer cannot read its keys"))
        else:
            self._admit(request, _Asked(call, envelope, plain, epoch))

    def _prefix(self, call: Call) -> Name:
        return function_prefix(self._host.net, call.subject_kind, call.subject, call.function)

    def _admit(self, request: Request, asked: _Asked) -> None:
        self._host.counters["calls"] += 1
        answer = self._answers.get(asked.call.request)
        if answer is not None and self._still_good(answer, asked.envelope):
            self._reply(request, answer, asked.epoch)
        else:
            self._join(request, asked)

    def _still_good(self, answer: Answer, envelope: Envelope) -> bool:
        """An answer that names a result is good while the result is in the store, and the caller could read it."""
        if not answer.result:
            return True
        return envelope.salt == 0 and self._host.server.holds(ndn.from_uri(answer.result))

    def _join(self, request: Request, asked: _Asked) -> None:
        call = asked.call
        running = self._running.get(call.request)
        if running is None:
            if len(self._running) >= self._host.config.producer.queue_limit:
                self._host.counters["refused_busy"] += 1
                text = f"{self.function.function} has {len(self._running)} calls waiting; try again later"
                self._reply(request, Answer(code="busy", error=text), asked.epoch)
                return
            task = asyncio.get_running_loop().create_task(self._work(asked))
            running = self._running[call.request] = _Running(asked, task)
        if running.acknowledged is not None:
            self._reply(request, running.acknowledged, asked.epoch)
        else:
            running.waiting.append(request)

    async def _work(self, asked: _Asked) -> None:
        call = asked.call
        acknowledge = asyncio.get_running_loop().call_later(self.function.patience_s, self._acknowledge, call)
        try:
            answer = await self._run(asked)
        except CallError as error:
            answer = Answer(code=error.code, error=str(error))
        except (UsageError, PromptError, BadRecord) as error:
            answer = Answer(code="bad-request", error=str(error))
        except NdnInferError as error:
            log.warning("%s failed: %s", call.function, error)
            answer = Answer(code="failed", error=f"{error.kind}: {error}")
        except Exception as error:  # a defect must reach its caller as an answer, and the operator as a traceback
            log.exception("%s failed", call.function)
            answer = Answer(code="internal", error=f"{type(error).__name__} in {call.function}")
        finally:
            acknowledge.cancel()
        self._finish(call, answer)

    async def _run(self, asked: _Asked) -> Answer:
        call, domain = asked.call, asked.domain
        plain = asked.plain or await self._whole(call, asked.envelope)
        request = records.decode(self.function.request_type, plain)
        result = await self.function.run(request, Job(self._host, call, asked.envelope, self._signer, domain))
        if isinstance(result, LiveStream):
            queue = self.function.queue_length()
            return Answer(result=ndn.to_uri(result.name), hint=self._hint, stream=True, queue=queue)
        value = records.encode(result)
        running = self._running[call.request]
        if len(value) <= INLINE_ANSWER_BYTES and running.acknowledged is None:
            return Answer(value=value, hint=self._hint)
        base = call.result().to_name(self._host.net)
        packets = self._host.server.publish(base, domain.seal(base, value), self._signer)
        return Answer(result=ndn.to_uri(packets.manifest.name), hint=self._hint)

    async def _whole(self, call: Call, envelope: Envelope) -> bytes:
        """The canonical request: in the envelope, or pulled from the caller when it is large. Raises BadRecord."""
        if envelope.request:
            return envelope.request
        hints = (ndn.from_uri(envelope.caller),) if envelope.caller else ()
        for uri in envelope.sources:
            fetched = await self._host.fetcher.fetch(ndn.from_uri(uri), hints=hints)
            if hashlib.sha256(fetched.content).hexdigest() == call.request:
                return fetched.content
        raise BadRecord("none of its sources has the request that the name of the call means")

    def _acknowledge(self, call: Call) -> None:
        """Work takes longer than callers should wait: tell them where the result will be."""
        running = self._running.get(call.request)
        if running is None or running.acknowledged is not None:
            return
        base = call.result().to_name(self._host.net)
        self._host.server.promise(base)
        running.acknowledged = Answer(
            result=ndn.to_uri(base),
            hint=self._hint,
            queue=self.function.queue_length(),
        )
        for request in running.waiting:
            self._reply(request, running.acknowledged, running.asked.epoch)
        running.waiting.clear()

    def _finish(self, call: Call, answer: Answer) -> None:
        running = self._running.pop(call.request)
        if not answer.code:
            self._answers[call.request] = answer
            while len(self._answers) > MAX_REMEMBERED_ANSWERS:
                self._answers.popitem(last=False)
        elif running.acknowledged is not None:
            self._host.counters["failed"] += 1
            self._host.server.break_promise(call.result().to_name(self._host.net), self._signer)
        for request in running.waiting:
            self._reply(request, answer, running.asked.epoch)

    def _reply(self, request: Request, answer: Answer, epoch: DomainEpoch | None = None) -> None:
        freshness_ms = DONE_FRESHNESS_MS if answer.value else RESULT_FRESHNESS_MS
        if answer.code:
            freshness_ms = ERROR_FRESHNESS_MS
        name, content = request.interest.name, records.encode(answer)
        if epoch is not None:
            content = epoch.seal_answer(name, content)
        wire = self._signer.sign_data(name, content, freshness_ms=freshness_ms)
        self._host.counters["answers"] += 1
        request.reply(wire)

    async def close(self) -> None:
        tasks = [*self._opening, *(running.task for running in self._running.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.function.close()


class Producer:
    """All functions of one process. `offer` them, `start`, and later `close`."""

    def __init__(self, host: Host, keychain: Keychain, registrar: Registrar) -> None:
        self._host = host
        self._keychain = keychain
        self._registrar = registrar
        self._servers: list[FunctionServer] = []
        self._identities: set[Name] = set()
        self._started_at = time.monotonic()

    async def begin(self) -> None:
        """Talk to the forwarder and serve the certificates that vouch for ours; before the first `offer`."""
        await self._registrar.start()
        for certificate in self._keychain.certificates():
            kind = parse_identity(self._host.net, certificate.identity)
            if kind is None or kind.kind is IdentityKind.ROLE:
                continue  # a role's certificates lie below the prefix of its own producer
            await self.offer_certificates(certificate.identity)

    async def offer_object(self, base: Name, signer: Signer) -> None:
        """Serve and announce one object that the store holds already (a catalogue record)."""
        self._host.server.serve(base, signer)
        await self._register(base)

    async def offer_certificates(self, identity: Name) -> None:
        """Serve the certificates of another role of this machine, which signed what is served here."""
        keys = identity + ndn.generic("KEY")
        if keys not in self._registrar.prefixes:
            self._host.server.answer_certificates(keys, self._keychain.certificates)
            await self._register(keys)

    async def offer(self, function: NamedFunction[Any], signer: Signer) -> None:
        """Load a function and answer its calls. Raises what its `start` raises, MissingKey, RegistrationRefused."""
        net = self._host.net
        await function.start(self._host, signer)
        server = FunctionServer(function, self._host, signer)
        self._servers.append(server)
        calls = function_prefix(net, *function.subject, function.function)
        results = results_prefix(net, *function.subject, function.function)
        self._host.server.serve(calls, signer, server.on_request)
        for prefix in (results, *function.serves(net)):
            self._host.server.serve(prefix, signer)
        await self._serve_identity(signer)
        for prefix in (calls, results, *function.serves(net)):
            await self._register(prefix)

    async def _serve_identity(self, signer: Signer) -> None:
        """The prefix every network grants: our own identity, with our certificates and status below it."""
        if signer.identity in self._identities:
            return
        self._identities.add(signer.identity)
        self._host.server.serve(signer.identity, signer)
        keys = signer.identity + ndn.generic("KEY")
        self._host.server.answer_certificates(keys, self._keychain.certificates)
        status = signer.identity + ndn.generic("status")
        self._host.server.compute(status, lambda: records.encode(self.status(signer.identity)))
        await self._registrar.register(signer.identity)

    async def _register(self, prefix: Name) -> None:
        """A zero-trust forwarder may refuse all but our own identity; callers then reach us by forwarding hint."""
        try:
            await self._registrar.register(prefix)
        except RegistrationRefused as error:
            log.warning("%s; calls must carry the forwarding hint of this producer", error)

    def status(self, identity: Name) -> ProducerStatus:
        """What the status record says now."""
        servers = [server for server in self._servers if server.identity == identity]
        counters = self._host.counters
        return ProducerStatus(
            identity=ndn.to_uri(identity),
            functions=tuple(server.function.function for server in servers),
            models=tuple(dict.fromkeys(server.function.subject[1] for server in servers)),
            offers=tuple(ndn.to_uri(prefix) for prefix in self._registrar.prefixes),
            pid=os.getpid(),
            uptime_s=round(time.monotonic() - self._started_at, 3),
            queue=sum(server.function.queue_length() for server in servers),
            running=sum(server.running for server in servers),
            counters=tuple(Counter(name, float(value)) for name, value in sorted(counters.items())),
        )

    async def close(self) -> None:
        await self._registrar.close()
        for server in self._servers:
            await server.close()
