"""Reading a live stream: Interests kept ahead, segments verified and opened, in order; and whether its producer lives.

Owns: the shell of wire.stream's reader, who is believed about a stream, questions for its progress. Must not know: what
a stream is about, calls.

The answer to a call names the stream, so the key that signed the answer is the only one that may speak of the stream:
a segment or a progress record by another key is rejected and asked for again past caches, whatever the trust schema
allows that key. No Data ends a stream but its own last segment: a producer that does not hold it any more sends a Nack.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Final, NamedTuple

from ndn_infer import clock, ndn, records
from ndn_infer.config import FetchConfig
from ndn_infer.errors import BadPacket, BadRecord, KeyNotAllowed, Timeout, TrustError
from ndn_infer.ndn.lp import REASON_NO_ROUTE
from ndn_infer.ndn.name import PROGRESS, Name
from ndn_infer.ndn.packet import CONTENT_NACK, Data, decode_data, encode_interest
from ndn_infer.records import Progress
from ndn_infer.security.domains import DomainEpoch
from ndn_infer.security.validator import Validated, Validator
from ndn_infer.transport.link.endpoint import Arrival, Endpoint, Pending
from ndn_infer.transport.objects.ledger import Came, Ledger, source_of
from ndn_infer.wire import again
from ndn_infer.wire.rhythm import Rhythm
from ndn_infer.wire.segments import InterestTemplate
from ndn_infer.wire.stream import StreamReader

log = logging.getLogger(__name__)

OnProgress = Callable[[Progress], None]

NEWS: Final = -1
"""In place of a segment's number: the question for progress."""


class _Event(NamedTuple):
    """What came for a segment, or for NEWS: a packet, or a Nack with its reason."""

    number: int
    wire: bytes = b""
    arrival: Arrival | None = None
    reason: int = 0


class StreamPull:
    """One reading of the stream `name`, whose answer was `signed_by`. `contents` reads it, once."""

    def __init__(
        self, endpoint: Endpoint, validator: Validator, name: Name, signed_by: Validated, *, config: FetchConfig,
        hints: tuple[Name, ...] = (), epoch: DomainEpoch | None = None, ledger: Ledger | None = None,
        on_progress: OnProgress | None = None, rtt_s: float = 0.0,
    ) -> None:  # fmt: skip
        """`epoch` opens what a private call's producer sealed. `on_progress` hears what the producer says of itself
        while no segment comes. `rtt_s`: how long its answer to the call took, 0 where a cache gave it."""
        self._endpoint = endpoint
        self._validator = validator
        self._name = name
        self._key_name = signed_by.key_name
        self._hints = hints
        self._epoch = epoch
        self._ledger = ledger
        self._on_progress = on_progress
        self._reader = StreamReader(
            clock.monotonic(), ahead=config.stream_ahead, idle_s=config.stream_idle_s, rhythm=Rhythm(rtt_s)
        )
        self._came: deque[_Event] = deque()
        self._awaited: asyncio.Future[None] | None = None
        self._lifetime_ms = round(self._reader.lifetime_s * 1000)
        self._template = InterestTemplate(name, hints=hints, lifetime_ms=self._lifetime_ms, fresh=True)
        self._pending: dict[int, Pending] = {}
        self._refused: set[int] = set()
        self._asked_at: dict[int, float] = {}
        self._news_at = 0

    async def contents(self) -> AsyncGenerator[bytes]:
        """Contents of the segments, verified and opened, in order. Raises Timeout when the producer neither sends nor
        lives, SealBroken."""
        number = 0
        try:
            while not self._reader.done:
                for content in await self._next():
                    yield self._open(self._name + ndn.segment(number), content)
                    number += 1
        finally:
            for pending in self._pending.values():
                self._endpoint.forget(pending)

    async def _next(self) -> list[bytes]:
        """Wait for the next event; returns contents that are ready (possibly none)."""
        event = await self._event()
        if event is None:
            return []
        if event.arrival is None:
            self._take_refusal(event.number, nowhere=event.reason == REASON_NO_ROUTE)
            return []
        try:
            return await self._accept(event.number, event.wire, event.arrival)
        except (TrustError, BadPacket, BadRecord) as error:
            what = "progress" if event.number == NEWS else f"segment {event.number}"
            log.warning("rejected %s of %s: %s", what, ndn.to_uri(self._name), error)
            if self._ledger is not None:
                self._ledger.refused(self._asked(event.number), error, self._how(event.number, event.wire))
            self._refused.add(event.number)
            if event.number != NEWS:
                self._reader.on_refused(event.number, clock.monotonic())
            return []

    async def _event(self) -> _Event | None:
        """Send what is due and wait for what comes. None: it is time to look again. Raises Timeout."""
        if self._came:  # what is here already comes before any judgement of silence
            return self._came.popleft()
        now, reader = clock.monotonic(), self._reader
        if not self._endpoint.connected:
            reader.cut_off(now)
        for number in reader.due(now):
            self._send(number)
        if reader.stalled(now):
            raise Timeout(f"the stream {ndn.to_uri(self._name)} stopped", hint="its producer may have died; ask again")
        if reader.wants_news(now):
            for number in (NEWS, *reader.due(now)):
                self._send(number)
        await self._something(reader.next_wake(now) - now)
        return self._came.popleft() if self._came else None

    async def _something(self, within_s: float) -> None:
        """Until something comes, or so many seconds have passed. It runs for each event, so with one future and one
        timer and no more."""
        loop = asyncio.get_running_loop()
        awaited = self._awaited = loop.create_future()
        timer = loop.call_later(max(0.0, within_s), _wake, awaited)
        try:
            await awaited
        finally:
            timer.cancel()
            self._awaited = None

    def _take(self, event: _Event) -> None:
        self._came.append(event)
        if self._awaited is not None:
            _wake(self._awaited)

    # ------------------------------------------------------------ what came

    def _take_refusal(self, number: int, *, nowhere: bool) -> None:
        now = clock.monotonic()
        if number != NEWS:
            self._reader.on_refused(number, now, nowhere=nowhere)
        elif nowhere:
            self._reader.on_no_news(now)

    async def _accept(self, number: int, wire: bytes, arrival: Arrival) -> list[bytes]:
        asked = self._asked(number)
        inner = again.unwrap_named(wire, asked, prefix=number == NEWS) if number in self._refused else wire
        data = decode_data(inner)
        signed_by = self._validator.try_validate(data) or await self._validator.validate(data)
        if signed_by.key_name != self._key_name:
            ours, theirs = ndn.to_uri(self._key_name), ndn.to_uri(signed_by.key_name)
            raise KeyNotAllowed(f"{ndn.to_uri(data.name)} is signed by {theirs}, the answer to the call by {ours}")
        if data.content_type == CONTENT_NACK:
            raise BadPacket(f"{ndn.to_uri(data.name)} denies a segment; producers do not sign such")
        if number == NEWS:
            self._take_news(data)
            return []
        final = None if data.final_block is None else ndn.component_number(data.final_block, ndn.SEGMENT)
        if self._ledger is not None:
            how = self._how(number, data.wire)
            self._ledger.used(data.name, source_of(arrival, self._name), signed_by, how)
        self._asked_at.pop(number, None)
        self._pending.pop(number, None)
        return self._reader.on_segment(number, data.content, final=final, now=clock.monotonic())

    def _how(self, number: int, wire: bytes) -> Came:
        return Came(wire, self._asked_at.get(number, 0.0))

    def _take_news(self, data: Data) -> None:
        """A progress record, when it is newer than the last one: an old one may be played back."""
        said_at = ndn.last_version(data.name)
        if said_at <= self._news_at:
            return
        content = self._open(data.name, data.content)
        progress = records.decode(Progress, content) if content else None
        self._news_at = said_at
        self._reader.on_news(clock.monotonic())
        if progress is not None and self._on_progress is not None:
            self._on_progress(progress)

    def _open(self, name: Name, content: bytes) -> bytes:
        return content if self._epoch is None else self._epoch.open_event(name, content)

    # ------------------------------------------------------------ asking

    def _asked(self, number: int) -> Name:
        return self._name + (PROGRESS if number == NEWS else ndn.segment(number))

    def _send(self, number: int) -> None:
        old = self._pending.pop(number, None)
        if old is not None:
            self._endpoint.forget(old)
        self._asked_at.setdefault(number, clock.monotonic())
        name, prefix = self._asked(number), number == NEWS
        again_now = number in self._refused  # a cache would give the bad one again
        if again_now:
            name, prefix = again.question(name, os.urandom(again.NONCE_BYTES)), False
        pending = self._pending[number] = Pending(
            name, prefix,
            lambda wire, _, arrival: self._take(_Event(number, wire, arrival)),
            lambda reason: self._take(_Event(number, reason=reason)),
        )  # fmt: skip
        if prefix or again_now:
            wire, _ = encode_interest(
                name, nonce=os.urandom(4), can_be_prefix=prefix, must_be_fresh=not again_now, hints=self._hints,
                lifetime_ms=self._lifetime_ms,
            )  # fmt: skip
        else:
            wire = self._template.make(number)
        self._endpoint.send_interest(wire, pending)


def _wake(awaited: asyncio.Future[None]) -> None:
    if not awaited.done():
        awaited.set_result(None)
