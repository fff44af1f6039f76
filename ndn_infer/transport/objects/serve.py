"""Serving: answers Interests from the store, from streams in the making, from promises, else from a handler.

Owns: the order in which those are tried, and who waits for what. Must not know: what a call computes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from ndn_infer import clock, ndn
from ndn_infer.errors import BadPacket, Busy
from ndn_infer.ndn.lp import REASON_NO_ROUTE
from ndn_infer.ndn.name import METADATA, PROGRESS, Name
from ndn_infer.ndn.packet import Interest
from ndn_infer.security.certificate import Certificate
from ndn_infer.security.crypto import Signer
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.transport.link.endpoint import Endpoint, ReceivedInterest
from ndn_infer.transport.objects.live_stream import LiveStream, version_now
from ndn_infer.wire import again
from ndn_infer.wire.manifest import (
    LASTING_FRESHNESS_MS,
    ObjectPackets,
    absent,
    build_object,
)
from ndn_infer.wire.peek import segment_splits
from ndn_infer.wire.readership import Readers

CallHandler = Callable[[ReceivedInterest], None]

MAX_PROMISE_WAITERS = 1024
MAX_STREAMS = 1024


@dataclass(slots=True)
class _Promise:
    """An object that is being made; Interests for its metadata wait, the last of them until `wanted_until`. `make`: it
    is made when the first one comes."""

    make: Callable[[], None] | None = None
    waiting: list[ReceivedInterest] = field(default_factory=list)
    wanted_until: float = 0.0


def answering_again(handler: Callable[[ReceivedInterest, bytes], None]) -> CallHandler:
    """`handler` gets Interests, and questions past caches (wire.again) as the Interests that they stand for, with
    their nonce; its answers to those are wrapped."""

    def on_request(request: ReceivedInterest) -> None:
        asked = request.interest.name
        found = again.parse(asked)
        if found is None:
            handler(request, b"")
            return
        name, nonce = found

        def reply(wire: bytes) -> None:
            try:
                request.reply(again.wrap(asked, wire))
            except BadPacket:  # a packet of almost the largest size: nobody can carry it inside another
                request.refuse(REASON_NO_ROUTE)

        inner = Interest(name, can_be_prefix=True, must_be_fresh=True, lifetime_ms=request.interest.lifetime_ms)
        handler(request._replace(interest=inner, reply=reply, token=asked), nonce)

    return on_request


class Server:
    """Answers everything below the prefixes it was given."""

    def __init__(self, endpoint: Endpoint, store: ObjectStore) -> None:
        self._endpoint = endpoint
        self.store = store
        self._streams: dict[Name, LiveStream] = {}
        self._promises: dict[Name, _Promise] = {}
        endpoint.answer_from(store.segment, self._segment_to_come)

    def serve(
        self, prefix: Name, signer: Signer, handler: CallHandler | None = None, *, denies: bool = True
    ) -> None:  # fmt: skip
        """Answer below `prefix`: what is not stored goes to `handler`. Objects that are not here are absent, signed by
        `signer`; with `denies=False`, where others may hold what we do not, a Nack lets the forwarder ask them."""
        self._endpoint.attach(
            prefix,
            answering_again(lambda request, nonce: self._on_request(request, signer, handler, nonce, denies)),
        )

    def answer(self, prefix: Name, handler: CallHandler) -> None:
        """Give everything below `prefix` to `handler`: packets that are not made here (certificates)."""
        self._endpoint.attach(prefix, handler)

    def answer_certificates(self, prefix: Name, certificates: Callable[[], Iterable[Certificate]]) -> None:
        """Answer below `prefix` with certificates, by full name or by key name (then the first: the newest)."""

        def on_request(request: ReceivedInterest, _: bytes) -> None:
            name, below = request.interest.name, request.interest.can_be_prefix
            for certificate in certificates():
                if certificate.name == name or (below and certificate.name.startswith(name)):
                    request.reply(certificate.wire)
                    return
            request.refuse(REASON_NO_ROUTE)

        self.answer(prefix, answering_again(on_request))

    # ------------------------------------------------------------ publishing

    def publish(
        self,
        base: Name,
        content: bytes | memoryview,
        signer: Signer,
        *,
        freshness_ms: int = LASTING_FRESHNESS_MS,
        pinned: bool = False,
        version: int = 0,
        beside: Name = b"",
    ) -> ObjectPackets:
        """Cut, sign and store an object, and answer those who wait for it. `version` 0: a new one. `beside`: base name
        of another object, with which this one leaves memory."""
        packets = build_object(base, version or version_now(), content, signer.sign_data, freshness_ms=freshness_ms)
        self.put(packets, pinned=pinned, beside=beside)
        return packets

    def put(self, packets: ObjectPackets, *, pinned: bool = False, beside: Name = b"") -> None:
        """Store an object that is signed already."""
        self.store.put(packets, pinned=pinned)
        if beside:
            self.store.keep_beside(packets.base, beside)
        promise = self._promises.pop(packets.base, None)
        for request in promise.waiting if promise is not None else ():
            request.reply(packets.metadata)

    def promise(self, base: Name) -> None:
        """The object at `base` is being made: let Interests for it wait instead of calling it absent."""
        if base not in self.store:
            self._promises.setdefault(base, _Promise())

    def promise_when_asked(self, base: Name, make: Callable[[], None]) -> None:
        """As `promise`; nothing is done before an Interest comes: then `make` publishes the object, or breaks the
        promise. Whoever promises so bounds how much."""
        if base not in self.store:
            self._promises[base] = _Promise(make)

    def break_promise(self, base: Name, signer: Signer) -> None:
        """It will not be made after all: tell those who wait."""
        promise = self._promises.pop(base, None)
        for request in promise.waiting if promise is not None else ():
            request.reply(absent(base, version_now(), signer.sign_data))

    def wanted_until(self, bases: Iterable[Name]) -> float:
        """When the last Interest for one of these promised objects runs out (monotonic); 0 when there was none."""
        promises = [self._promises.get(base) for base in bases]
        return max((promise.wanted_until for promise in promises if promise is not None), default=0.0)

    def open_stream(
        self, base: Name, signer: Signer, encrypt: Callable[[Name, bytes], bytes] | None = None
    ) -> LiveStream:
        """A new stream below `base`. `encrypt` as in LiveStream. Those that nobody reads any more make room, whoever
        should have ended them. Raises Busy."""
        if len(self._streams) >= MAX_STREAMS:
            now = clock.monotonic()
            for stream in [one for one in self._streams.values() if one.readers.look(now) is Readers.GONE]:
                stream.abandon()
        if len(self._streams) >= MAX_STREAMS:
            raise Busy(f"{len(self._streams)} streams are open here; try again later")
        stream = LiveStream(base, signer, encrypt, self._end_stream)
        self._streams[stream.name] = stream
        return stream

    @property
    def streams(self) -> int:
        """Open streams, and those that failed a moment ago."""
        return len(self._streams)

    def holds(self, versioned: Name) -> bool:
        """Whether this version of an object, or this run of a stream, can still be read here and is worth it."""
        stream = self._streams.get(versioned)
        if stream is not None:
            return not stream.failed
        manifest = self.store.manifest(ndn.prefix(versioned, -1))
        return manifest is not None and manifest.name == versioned

    def _end_stream(self, stream: LiveStream, packets: ObjectPackets | None, linger_s: float) -> None:
        """Called by a stream at its end: it lives on in the store, as an object, or not at all after `linger_s`."""
        if packets is not None:
            self.put(packets)
        if linger_s:
            asyncio.get_running_loop().call_later(linger_s, self._streams.pop, stream.name, None)
        else:
            self._streams.pop(stream.name, None)

    # ------------------------------------------------------------ answering

    def _on_request(
        self, request: ReceivedInterest, signer: Signer, handler: CallHandler | None, nonce: bytes, denies: bool
    ) -> None:
        interest = request.interest
        wire = self.store.find(interest.name, can_be_prefix=interest.can_be_prefix)
        if wire is not None:
            request.reply(wire)
        elif interest.name.endswith(METADATA):
            self._on_discovery(request, signer, nonce, denies)
        elif self._on_stream(request):
            return
        elif handler is not None:
            handler(request)
        else:
            request.refuse(REASON_NO_ROUTE)

    def _on_discovery(self, request: ReceivedInterest, signer: Signer, nonce: bytes, denies: bool) -> None:
        base = request.interest.name[: -len(METADATA)]
        promise = self._promises.get(base)
        if promise is None and not denies:
            request.refuse(REASON_NO_ROUTE)
        elif promise is None:
            request.reply(absent(base, version_now(), signer.sign_data, nonce))
        elif len(promise.waiting) < MAX_PROMISE_WAITERS:
            now = clock.monotonic()
            promise.waiting = [waiter for waiter in promise.waiting if waiter.expires > now]
            promise.waiting.append(request)
            promise.wanted_until = max(promise.wanted_until, request.expires)
            if promise.make is not None:
                make, promise.make = promise.make, None
                make()

    def _segment_to_come(self, name: Name) -> CallHandler | None:
        """Who answers an Interest for a segment of a stream that is being made here."""
        for prefix, number in segment_splits(name):
            stream = self._streams.get(prefix)
            if stream is not None:
                return partial(stream.ask, number)
        return None

    def _on_stream(self, request: ReceivedInterest) -> bool:
        """Whether the Interest was for a segment, or for the progress of a stream. Those of other streams are refused
        with a Nack, never with signed Data: who else holds them we cannot know, and a denial could be played back."""
        name = request.interest.name
        last = ndn.components(name)[-1]
        if last != PROGRESS and ndn.component_type(last) != ndn.SEGMENT:
            return False
        stream = self._streams.get(name[: -len(last)])
        if stream is None:
            request.refuse(REASON_NO_ROUTE)
        elif last == PROGRESS:
            stream.ask_progress(request)
        else:
            try:
                stream.ask(ndn.component_number(last, ndn.SEGMENT), request)
            except BadPacket:
                request.refuse(REASON_NO_ROUTE)
        return True
