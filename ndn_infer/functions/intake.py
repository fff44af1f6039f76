"""From an Interest to a request that may become work: who asks, what, and where the request is.

Owns: the cheap checks, in their order, and the pulling of requests that are still at their caller. Must not know: what
work goes on, seats, answers.

Nothing is looked up before it is known who asks for what: a private call is opened before any work is looked for, a
shared one must not be what private callers seal. Then a request that is still at its caller is pulled; only then the
call is given to the desk, which may begin work.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine, Hashable
from dataclasses import replace
from typing import Any, Final, Protocol

from ndn_infer import records
from ndn_infer.errors import BadRecord, CallError, MissingKey, NdnInferError
from ndn_infer.functions.base import Host, NamedFunction
from ndn_infer.functions.replies import Replies
from ndn_infer.functions.work import MAX_WAITING, ReceivedCall, WorkKey
from ndn_infer.namespace import Call, CallClass, function_prefix
from ndn_infer.records import Envelope
from ndn_infer.security.domains import PUBLIC, Domain, DomainEpoch, is_sealed_request, parse_request
from ndn_infer.transport.link.endpoint import ReceivedInterest

DECODED_HERE_BYTES: Final = 16 << 10
"""Larger requests are decoded in a thread."""


class Desk(Protocol):
    """Where calls go that were looked at (function_server.py)."""

    def from_known(self, asked: ReceivedCall, key: WorkKey, domain: Domain) -> bool: ...

    def admit(self, asked: ReceivedCall, key: WorkKey, domain: Domain, plain: bytes) -> None: ...


class Intake:
    """Of the calls of one function."""

    def __init__(self, function: NamedFunction[Any], host: Host, replies: Replies, desk: Desk) -> None:
        self._function = function
        self._host = host
        self._replies = replies
        self._desk = desk
        self._prefix = function_prefix(host.net, *function.subject, function.function)
        self._pulling: dict[tuple[object, ...], list[ReceivedCall]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def on_request(self, request: ReceivedInterest) -> None:
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
            asked = ReceivedCall(request, call, envelope, who)
            if call.call_class == CallClass.SHARED:
                self._with_request(asked)
            else:
                self._prove_private(asked)
        except NdnInferError as error:
            self._replies.refuse(request, who, error)

    def _prove_private(self, asked: ReceivedCall) -> None:
        """A private call: who asks is proved before anything is pulled or opened."""
        access = self._host.access
        if access is None or not self._function.private:
            raise CallError(f"{self._function.function} accepts no private calls here", code="not-private")
        signed = access.askers.known(asked.request.interest)
        if signed is None:
            self._spawn(asked, self._prove_newcomer(asked))
        else:
            self._with_request(replace(asked, caller=signed.identity, who=("key", signed.identity)))

    async def _prove_newcomer(self, asked: ReceivedCall) -> None:
        assert self._host.access is not None
        signed = await self._host.access.askers.newcomer(asked.request.interest, asked.who)
        self._with_request(replace(asked, caller=signed.identity, who=("key", signed.identity)))

    # ------------------------------------------------------------ the request

    def _with_request(self, asked: ReceivedCall) -> None:
        """On with the request of the envelope; or with that of the caller, unless the work is known without it."""
        if asked.envelope.request:
            self._opened(asked, asked.envelope.request)
        elif asked.caller or not self._desk.from_known(asked, WorkKey(asked.call), PUBLIC):
            self._pull_soon(asked)

    def _pull_soon(self, asked: ReceivedCall) -> None:
        """Pull a request from where this asker says it is; whoever else asks for the work says so for itself."""
        key = (asked.call, asked.who, asked.envelope.sources, asked.envelope.caller)
        waiting = self._pulling.get(key)
        if waiting is None:
            self._pulling[key] = [asked]
            self._spawn(asked, self._pull(key, asked))
        elif len(waiting) < MAX_WAITING:
            waiting.append(asked)

    async def _pull(self, key: tuple[object, ...], asked: ReceivedCall) -> None:
        envelope = asked.envelope
        try:
            wire = await self._host.inputs.pull(
                asked.call.request, envelope.sources, envelope.caller, asked.who,
                max_bytes=self._function.max_request_bytes,
            )  # fmt: skip
        except NdnInferError as error:
            for waiting in self._pulling.pop(key):
                self._replies.refuse(waiting.request, waiting.who, error)
            return
        finally:
            arrived = self._pulling.pop(key, [])
        for waiting in arrived:
            try:
                self._opened(waiting, wire)
            except NdnInferError as error:
                self._replies.refuse(waiting.request, waiting.who, error)

    def _opened(self, asked: ReceivedCall, wire: bytes) -> None:
        """`wire` has the digest in the name. Raises BadRecord, TrustError, CallError."""
        if not asked.caller:
            if is_sealed_request(wire):
                raise BadRecord("a sealed request in a shared call")
            record = None
            if len(wire) <= DECODED_HERE_BYTES:  # rubbish takes no seat
                record = records.decode(self._function.request_type, wire)
            self._desk.admit(replace(asked, wire=wire, record=record), WorkKey(asked.call), PUBLIC, wire)
            return
        asked = replace(asked, wire=wire)
        access = self._host.access
        assert access is not None
        sealed = parse_request(wire)
        try:
            self._admit_private(asked, *access.open_request(self._prefix, asked.caller, sealed))
        except MissingKey:
            if access.renew is None:
                raise
            self._spawn(asked, self._renew(asked, wire, sealed.domain))

    async def _renew(self, asked: ReceivedCall, wire: bytes, label: str) -> None:
        """An epoch that is new to us: its key is looked for, as a caller of this network asks in it."""
        access = self._host.access
        assert access is not None
        await access.look_for(label)
        self._admit_private(asked, *access.open_request(self._prefix, asked.caller, parse_request(wire)))

    def _admit_private(self, asked: ReceivedCall, epoch: DomainEpoch, plain: bytes) -> None:
        self._desk.admit(asked, WorkKey(asked.call, epoch.label, asked.caller), epoch, plain)

    def _spawn(self, asked: ReceivedCall, work: Coroutine[Any, Any, None]) -> None:
        """A step that waits for others; what goes wrong in it is a refusal."""

        async def run() -> None:
            try:
                await work
            except NdnInferError as error:
                self._replies.refuse(asked.request, asked.who, error)

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
