"""Pulling: Interests out and Data in through one congestion-controlled window.

Owns: driving wire.puller over an endpoint (one timer, no decisions of its own): single packets that somebody judges
(`Want`), and the segments of whole objects (`SegmentPull`), which share the window. Must not know: what an object is,
who may sign, what the bytes mean.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ndn_infer import ndn
from ndn_infer.config import FetchConfig
from ndn_infer.errors import BadPacket, Nacked, NdnInferError, Timeout, TrustError
from ndn_infer.ndn.lp import REASON_NO_ROUTE, REASON_TEXT
from ndn_infer.ndn.name import METADATA, Name
from ndn_infer.ndn.packet import encode_interest
from ndn_infer.transport.link.endpoint import Arrival, Endpoint, Pending
from ndn_infer.wire.congestion import CubicWindow
from ndn_infer.wire.puller import Failure, Key, Puller, PullStats
from ndn_infer.wire.refusals import Refusals
from ndn_infer.wire.segment_runs import SegmentRun
from ndn_infer.wire.segments import InOrder, Segments

log = logging.getLogger(__name__)

DISTRUST_ATTEMPTS: Final = 3
"""How often a packet that does not verify is asked for again."""
STREAM_AHEAD: Final = 1024
"""Segments wanted ahead of a reader that takes them in order: 8 MB wait for it at most."""

_KEYS_A_PULL: Final = 1 << 20


@dataclass(slots=True, eq=False)
class Want:
    """One packet wanted through the window. `accept` raises TrustError or BadPacket to have it asked for again."""

    name: Name
    accept: Callable[[bytes, Arrival], None]
    future: asyncio.Future[None]
    can_be_prefix: bool = False
    must_be_fresh: bool = False
    hints: tuple[Name, ...] = ()
    refusals: int = 0
    final: bool = False
    """Whether the first "no route" ends it; else Nacks are survived as the window says."""
    pending: Pending | None = field(default=None)


class SegmentPull:
    """One object's segments on their way. `future` is done when all are there, or with the first failure."""

    def __init__(self, loop: PullLoop, segments: Segments, first_key: int) -> None:
        self.segments = segments
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.progress: Callable[[], None] | None = None
        """Called after packets that arrived together have been taken."""
        self.first_key = first_key
        self.touched = False
        """Whether something arrived since the window was moved last."""
        self._loop = loop
        self._refusals: dict[int, int] = {}

    def on_segment(self, number: int, wire: bytes, arrival: Arrival) -> None:
        """Part of exchange.Numbered."""
        loop = self._loop
        try:
            wanted = self.segments.accept(number, wire)
        except (TrustError, BadPacket) as error:
            loop.endpoint.stats.refused += 1
            loop.tell_refused(self.segments.prefix, error)
            loop.on_refused(self.segments.name(number), error, bytes(wire))
            self._refuse(number, error)
            return
        if not wanted:
            loop.puller.duplicate()
            return
        if arrival.face_id is not None and arrival.from_content_store:
            self.segments.from_content_store += 1
        self._touch()
        if arrival.marked:
            loop.marked(self.first_key + number)
        else:
            loop.arrived.append(self.first_key + number)

    def on_run(self, run: SegmentRun, arrival: Arrival) -> int:
        """Part of exchange.Numbered."""
        numbers = self.segments.accept_run(run)
        if numbers:
            if arrival.face_id is not None and arrival.from_content_store:
                self.segments.from_content_store += len(numbers)
            first = self.first_key
            self._loop.arrived.extend([first + number for number in numbers])
            self._touch()
        return len(numbers)

    def _touch(self) -> None:
        if not self.touched:
            self.touched = True
            self._loop.touch(self)

    def on_refusal(self, number: int, reason: int) -> None:
        """Part of exchange.Numbered: a Nack."""
        self._loop.nacked(self.first_key + number, reason)

    def fail(self, failure: Failure) -> None:
        if not self.future.done():
            number = int(failure.key) - self.first_key  # type: ignore[call-overload]
            self.future.set_exception(_error_of(failure, self.segments.name(number)))

    def _refuse(self, number: int, error: NdnInferError) -> None:
        self._refusals[number] = self._refusals.get(number, 0) + 1
        if self._refusals[number] <= DISTRUST_ATTEMPTS:
            self._loop.refused(self.first_key + number)
        elif not self.future.done():
            self.future.set_exception(error)


class PullLoop:
    """Runs one Puller over one endpoint. All wants of all objects share its window."""

    def __init__(self, endpoint: Endpoint, config: FetchConfig) -> None:
        self.endpoint = endpoint
        self._config = config
        self._loop = asyncio.get_running_loop()
        window = CubicWindow(size=float(config.window_initial), limit=float(config.window_limit))
        self.puller = Puller(window=window)
        self.on_refused: Callable[[Name, NdnInferError, bytes], None] = lambda name, error, wire: None
        """Hears of packets that were not believed: the name asked for, why, and their bytes."""
        self._pulls: dict[int, SegmentPull] = {}
        self._touched: list[SegmentPull] = []
        self.arrived: list[Key] = []
        """Keys of good segments that arrived since then."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._pumping = False
        self._pump_due = False
        self._next_pull = 1
        self._refusals = Refusals()
        self._counted = (0, 0)
        """Packets sent again and timeouts that the endpoint knows of."""

    @property
    def stats(self) -> PullStats:
        return self.puller.stats

    @property
    def round_trip_s(self) -> float | None:
        """Smoothed; None before the first answer."""
        return self.puller.rtt.smoothed_s

    @property
    def window(self) -> float:
        return self.puller.window.size

    # ------------------------------------------------------------ single packets

    def want(self, want: Want) -> None:
        self.puller.want(want, self._loop.time() + self._config.deadline_s)

    def drop(self, want: Want) -> None:
        self.puller.forget(want)
        if want.pending is not None:
            self.endpoint.forget(want.pending)

    # ------------------------------------------------------------ segments

    def pull(self, segments: Segments) -> SegmentPull:
        """Begin with all missing segments. End it with `leave`, whatever happened."""
        pull = self.open(segments)
        self.extend(pull, sorted(segments.missing))
        return pull

    def open(self, segments: Segments) -> SegmentPull:
        """Like `pull`, asking for nothing yet: `extend` does."""
        pull = SegmentPull(self, segments, self._next_pull * _KEYS_A_PULL)
        self._pulls[self._next_pull] = pull
        self._next_pull += 1
        self.endpoint.numbered.attach(segments.prefix, pull)
        return pull

    def extend(self, pull: SegmentPull, numbers: list[int]) -> None:
        """Ask for these numbers too."""
        first = pull.first_key
        self.puller.want_all([first + number for number in numbers], self._loop.time() + self._config.deadline_s)
        if pull.segments.complete and not pull.future.done():
            pull.future.set_result(None)
        self.pump_soon()

    def leave(self, pull: SegmentPull) -> None:
        """Forget a pull; what is still on its way is nobody's."""
        del self._pulls[pull.first_key // _KEYS_A_PULL]
        self.endpoint.numbered.detach(pull.segments.prefix, pull)
        for number in pull.segments.missing:
            self.puller.forget(pull.first_key + number)
        if not pull.future.done():
            pull.future.cancel()
        elif not pull.future.cancelled():
            pull.future.exception()  # seen: whoever left early does not ask

    def touch(self, pull: SegmentPull) -> None:
        """Something arrived for `pull`."""
        self._touched.append(pull)
        self.pump_soon()

    def marked(self, key: int) -> None:
        self.puller.on_data(key, marked=True, now=self._loop.time())

    def nacked(self, key: int, reason: int) -> None:
        self.puller.on_nack(key, reason, self._loop.time())
        self.pump_soon()

    def tell_refused(self, subject: Name, error: NdnInferError) -> None:
        """To the log: one line for each `subject` and kind of error, the rest are counted."""
        more = self._refusals.take(subject, error.kind, self._loop.time())
        if more is not None:
            since = f" ({more} more since the last such line)" if more else ""
            log.warning("refused a packet of %s: %s%s", ndn.to_uri(subject), error, since)

    def refused(self, key: int) -> None:
        self.puller.refused(key, self._loop.time())
        self.pump_soon()

    # ------------------------------------------------------------ sending and timing

    def pump_soon(self) -> None:
        """`pump`, once for all packets that arrive together."""
        if not self._pump_due:
            self._pump_due = True
            self.endpoint.after_packets(self.pump)

    def pump(self) -> None:
        """Send what is due, fail what is given up, and come back in time."""
        self._pump_due = False
        if self._pumping:  # an answer that arrives while sending (an in-process link) is counted when we are done
            self._loop.call_soon(self.pump)
            return
        self._pumping = True
        now = self._loop.time()
        if self.arrived:
            self.puller.on_many(self.arrived, now)
            self.arrived = []
        self.puller.on_timer(now)
        self._send_all(self.puller.due(now))
        self._count()
        if self.puller.failures:
            failures, self.puller.failures = self.puller.failures, []
            for failure in failures:
                self._fail(failure)
        self._pumping = False
        self._arm(now)
        touched, self._touched = self._touched, []
        for pull in touched:
            pull.touched = False
            if pull.segments.complete and not pull.future.done():
                pull.future.set_result(None)
            if pull.progress is not None:
                pull.progress()

    def _count(self) -> None:
        mine, all_ = self.puller.stats, self.endpoint.stats
        all_.retransmitted += mine.retransmitted - self._counted[0]
        all_.timeouts += mine.timeouts - self._counted[1]
        self._counted = mine.retransmitted, mine.timeouts

    def _send_all(self, keys: list[Key]) -> None:
        """Interests for the segments of one object, which mostly stand together, are made together."""
        packed, count, at = [], 0, 0
        while at < len(keys):
            key, begin = keys[at], at
            at += 1
            if type(key) is not int:
                assert isinstance(key, Want)
                self._send(key)
                continue
            pull = self._pulls[key // _KEYS_A_PULL]
            first, last = pull.first_key, pull.first_key + _KEYS_A_PULL
            while at < len(keys) and type(other := keys[at]) is int and first <= other < last:
                at += 1
            packed.append(pull.segments.interests([number - first for number in keys[begin:at]]))  # type: ignore[operator]
            count += at - begin
        if packed:
            self.endpoint.send_packed(b"".join(packed), count)

    def _arm(self, now: float) -> None:
        """A timer that goes off too early costs less than one that is set anew at every packet."""
        wake = self.puller.next_wake()
        if wake is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return
        if self._timer is not None:
            if now < self._timer_at <= wake:
                return
            self._timer.cancel()
        self._timer_at = wake
        self._timer = self._loop.call_at(wake, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.pump()

    def _send(self, want: Want) -> None:
        if want.pending is not None:
            self.endpoint.forget(want.pending)
        want.pending = Pending(
            want.name,
            want.can_be_prefix,
            lambda wire, _, arrival: self._on_data(want, wire, arrival),
            lambda reason: self._on_nack(want, reason),
        )
        wire, _ = encode_interest(
            want.name,
            nonce=os.urandom(4),
            can_be_prefix=want.can_be_prefix,
            must_be_fresh=want.must_be_fresh,
            hints=want.hints,
            lifetime_ms=self._config.lifetime_ms,
        )
        self.endpoint.send_interest(wire, want.pending)

    def _on_data(self, want: Want, wire: bytes, arrival: Arrival) -> None:
        now = self._loop.time()
        try:
            want.accept(wire, arrival)
        except (TrustError, BadPacket) as error:
            want.refusals += 1
            self.tell_refused(_object_of(want.name), error)
            self.on_refused(want.name, error, wire)
            if want.refusals > DISTRUST_ATTEMPTS:
                self.puller.forget(want)
                if not want.future.done():
                    want.future.set_exception(error)
            else:
                self.puller.refused(want, now)
        else:
            if self.puller.on_data(want, marked=arrival.marked, now=now) and not want.future.done():
                want.future.set_result(None)
        self.pump_soon()

    def _on_nack(self, want: Want, reason: int) -> None:
        if want.final and reason == REASON_NO_ROUTE:
            self.puller.forget(want)
            if not want.future.done():
                want.future.set_exception(_error_of(Failure(want, "nack", reason), want.name))
        else:
            self.puller.on_nack(want, reason, self._loop.time())
        self.pump_soon()

    def _fail(self, failure: Failure) -> None:
        key = failure.key
        if isinstance(key, Want):
            if key.pending is not None:
                self.endpoint.forget(key.pending)
            if not key.future.done():
                key.future.set_exception(_error_of(failure, key.name))
        else:
            assert isinstance(key, int)
            pull = self._pulls.get(key // _KEYS_A_PULL)
            if pull is not None:
                pull.fail(failure)


def _object_of(name: Name) -> Name:
    """Whose metadata a packet is asked for, whatever comes after that; else the name itself."""
    parts = ndn.components(name)
    return b"".join(parts[: parts.index(METADATA)]) if METADATA in parts else name


def _error_of(failure: Failure, name: Name) -> NdnInferError:
    uri = ndn.to_uri(name)
    if failure.reason == "nack":
        text = REASON_TEXT.get(failure.nack_reason, str(failure.nack_reason))
        return Nacked(f"{text} for {uri}", reason=failure.nack_reason)
    return Timeout(f"no answer for {uri}")


class StreamedPull:
    """The segments of one object in order, as they arrive, for a reader that may be slower than the network."""

    def __init__(self, loop: PullLoop, segments: Segments, *, ahead: int = STREAM_AHEAD) -> None:
        self._loop = loop
        self._order = sorted(segments.missing)
        self._ahead = ahead
        self._pull = loop.open(segments)
        self._in_order = InOrder(segments, self._order[0] if self._order else 0)
        self._asked = 0
        self._taken = 0
        self._news = asyncio.Event()
        self._pull.progress = self._news.set
        self._pull.future.add_done_callback(lambda _: self._news.set())
        self._ask()

    def _ask(self) -> None:
        upto = min(self._taken + self._ahead, len(self._order))
        if upto > self._asked:
            self._loop.extend(self._pull, self._order[self._asked : upto])
            self._asked = upto

    async def next(self) -> list[bytes | memoryview]:
        """The contents that come next, at least one; none at the end. Raises what ended the pull."""
        while self._taken < len(self._order):
            ready = self._in_order.take()
            if ready:
                self._taken += len(ready)
                self._ask()
                return ready
            future = self._pull.future
            if future.done() and future.exception() is not None:
                await future
            self._news.clear()
            await self._news.wait()
        return []

    def close(self) -> None:
        self._loop.leave(self._pull)
