"""A stream in the making, at its producer.

Owns: segments as they are signed, who waits for one, progress, signs of readers, and the three ends of a stream: sealed
as an object, failed, abandoned. Must not know: what a stream is about, which names are served.

A stream's end cannot fail: whatever is wrong with the last segment or with the seal, the stream is closed afterwards
and nothing waits for it any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from ndn_infer import clock, ndn
from ndn_infer.errors import BadPacket
from ndn_infer.ndn.lp import REASON_NO_ROUTE
from ndn_infer.ndn.name import PROGRESS, Name
from ndn_infer.security.crypto import Signer
from ndn_infer.transport.link.endpoint import ReceivedInterest
from ndn_infer.wire.manifest import LASTING_FRESHNESS_MS, ObjectPackets, SentSegment, seal_stream
from ndn_infer.wire.readership import Readership
from ndn_infer.wire.stream import StreamWriter

log = logging.getLogger(__name__)

PROGRESS_FRESHNESS_MS: Final = 200
"""Progress is computed when somebody asks, and signed as often as this at most. Readers ask again after
wire.rhythm.LEAST_WAIT_S: a cache must not give them the same once more."""

FAILED_FRESHNESS_MS: Final = 10
"""Of the last segment of a stream that failed. Readers ask for fresh segments, so no cache repeats it to later ones."""

LINGER_S: Final = 10.0
"""How long the words of a stream that failed can be read. Callers are not sent to it: another call is another run."""


def version_now() -> int:
    """A fresh version: microseconds of the Unix epoch."""
    return clock.wall_us()


class LiveStream:
    """Append contents, the last one with `final`; or `abandon`. Made by Server.open_stream.

    `progress` gives the content of a progress record when somebody asks, `on_asked` hears that somebody did,
    `on_closed` that it has ended, `on_paused` that nobody reads it (True) or that somebody does again (False; whoever
    fills it says so): assign them. `readers` knows whether anybody reads.
    """

    def __init__(
        self,
        base: Name,
        signer: Signer,
        encrypt: Callable[[Name, bytes], bytes] | None,
        on_end: Callable[[LiveStream, ObjectPackets | None, float], None],
    ) -> None:
        """`encrypt` makes the content of a packet from its name and what was given (a private call's events). `on_end`
        gets the sealed object, if there is one, and how many seconds this stream is to be answered for."""
        self.base = base
        self.version = version_now()
        self.name = base + ndn.version(self.version)
        self.failed = False
        """Whether it ended otherwise than with its last content: nobody should be sent here."""
        self.readers = Readership(clock.monotonic())
        self.progress: Callable[[], bytes] = bytes
        self.on_asked: Callable[[], None] = lambda: None
        self.on_closed: Callable[[], None] = lambda: None
        self.on_paused: Callable[[bool], object] = lambda paused: None
        self._signer = signer
        self._encrypt = encrypt
        self._on_end = on_end
        self._writer: StreamWriter[ReceivedInterest] = StreamWriter()
        self._packets: list[SentSegment] = []
        self._progress_wire = b""
        self._progress_until = 0.0

    @property
    def closed(self) -> bool:
        return self._writer.closed

    @property
    def waiting(self) -> int:
        """Interests that wait for a segment."""
        return self._writer.waiting

    @property
    def wanted(self) -> bool:
        """Whether an Interest waits for what is not made yet."""
        return self._writer.wanted(clock.monotonic())

    # ------------------------------------------------------------ writing

    def append(self, content: bytes, *, final: bool = False, failed: bool = False) -> None:
        """Sign and publish the next segment; whoever waits for it gets it now. `failed`: with this, its last content,
        the stream breaks off; it can be read for a while and is kept by no store.

        Nothing happens to a stream that has ended: it may have been abandoned. Raises BadPacket for more than 8,000
        bytes; a stream whose last content that is, is abandoned first.
        """
        if self.closed:
            return
        final = final or failed
        try:
            freshness_ms = FAILED_FRESHNESS_MS if failed else LASTING_FRESHNESS_MS
            name = self.name + ndn.segment(len(self._packets))
            sealed = content if self._encrypt is None else self._encrypt(name, content)
            wire = self._sign(name, sealed, freshness_ms, final=final)
            self._packets.append(SentSegment(name, wire, len(sealed)))
        except BaseException:
            if final:
                self.abandon()
            raise
        self.readers.begun = True
        waiting = self._writer.append(wire, clock.monotonic(), final=final)
        for request in {request.token: request for request in waiting}.values():  # sent again, it is no other Interest
            request.reply(wire)
        if final:
            self.failed = failed
            self.on_closed()
            self._on_end(self, None if failed else self._seal(), LINGER_S if self.failed else 0.0)

    def _seal(self) -> ObjectPackets | None:
        try:
            return seal_stream(self.base, self.version, self._packets, self._signer.sign_data)
        except BadPacket as error:  # more segments than a manifest can list
            log.warning("%s can be read for %g s only: %s", ndn.to_uri(self.name), LINGER_S, error)
            self.failed = True
            return None

    def abandon(self) -> None:
        """End it here and now, as if this producer had been started again: readers are told that there is no route."""
        if not self.closed:
            self.failed = True
            for request in self._writer.close(clock.monotonic()):
                request.refuse(REASON_NO_ROUTE)
            self.on_closed()
            self._on_end(self, None, 0.0)

    # ------------------------------------------------------------ answering

    def ask(self, number: int, request: ReceivedInterest) -> None:
        """An Interest for a segment: it is answered now, or when the segment exists."""
        wire = self._writer.ask(number, request, request.expires)
        if wire is not None:
            request.reply(wire)
        self._asked(request)

    def ask_progress(self, request: ReceivedInterest) -> None:
        """An Interest for progress, made now: news of a stream that nobody looks at cost nothing."""
        now = clock.monotonic()
        if self.closed:
            request.refuse(REASON_NO_ROUTE)
            return
        if now >= self._progress_until:
            name = self.name + PROGRESS + ndn.version(version_now())
            said = self._progress() if self._encrypt is None else self._encrypt(name, self._progress())
            self._progress_wire = self._sign(name, said, PROGRESS_FRESHNESS_MS)
            self._progress_until = now + PROGRESS_FRESHNESS_MS / 1000
        request.reply(self._progress_wire)
        self._asked(request)

    def _progress(self) -> bytes:
        try:
            return self.progress()
        except Exception:  # it lives, all the same
            log.exception("no words for the progress of a stream")
            return b""

    def _asked(self, request: ReceivedInterest) -> None:
        if not self.closed:
            self.readers.asked(clock.monotonic(), request.expires)
            self.on_asked()

    def _sign(self, name: Name, sealed: bytes, freshness_ms: int, *, final: bool = False) -> bytes:
        last = ndn.components(name)[-1] if final else None
        return self._signer.sign_data(name, sealed, freshness_ms=freshness_ms, final_block=last)
