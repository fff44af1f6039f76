"""An answer on its way to its readers: tokens in, a signed stream of events out.

Owns: what a stream of tokens is beside how they are made: text, stop strings, events and the timer that sends them, the
last event, pausing while nobody reads, the progress record. Must not know: engines, KV, stages, the network beyond its
LiveStream.

Whatever happens the stream ends, once: with a reason, with words, or, when nobody reads it any more, without a trace
for later callers. Code that makes tokens calls `push` and may stop when it returns True; it ends with `close`, which
does nothing to a stream that has ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from ndn_infer import clock, ndn, records
from ndn_infer.engine.answer_text import StopMatcher, StreamDecoder
from ndn_infer.engine.sampler import Choice
from ndn_infer.engine.tokenizer import ChatTokenizer
from ndn_infer.functions.answer_meter import AnswerCounts
from ndn_infer.functions.receipts import count_receipt
from ndn_infer.functions.token_events import EventPace, TokenEvents, TokenPiece, prompt_events
from ndn_infer.kv.prefix import Origin
from ndn_infer.records import GenerateRequest, KvSources, Progress, TokenEvent, TokenLogprobs
from ndn_infer.records.codes import FAILED
from ndn_infer.records.receipt import Receipt
from ndn_infer.transport.objects.live_stream import LiveStream
from ndn_infer.wire.readership import Readers

log = logging.getLogger(__name__)

MOST_TOP = 20
"""Alternatives that are told with a token."""


class PushedAt(NamedTuple):
    """When a token came, by clock.monotonic (0: now), and whether `more` tokens are pushed now, in the same turn of the
    event loop."""

    at: float = 0.0
    more: bool = False


MOMENT_S: Final = 1.0
ALONE: Final = PushedAt()


@dataclass(slots=True)
class Report:
    """What the last event says of the KV of prompt and answer."""

    sources: KvSources = KvSources()
    names: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()
    origins: tuple[Origin | None, ...] = ()
    """Of the first blocks of the prompt that were had before the engine began; None: computed here."""


class AnswerStream:
    """The answer to `request` as events of `out`.

    `on_away` and `on_back` hear that nobody reads at the moment, and that somebody does again; `on_left` that it ended
    because nobody came back; `on_told` that its last event is out, and no error. They are assigned by whoever makes the
    tokens, as are `progress` and `receipt`, which says what the answer took, without what is counted here.
    """

    def __init__(
        self, request: GenerateRequest, tokenizer: ChatTokenizer, out: LiveStream, pace: EventPace,
        counts: AnswerCounts, text: tuple[StreamDecoder, StopMatcher],
    ) -> None:  # fmt: skip
        """`pace`: that of all answers of this producer. `text`: see generation.text_of."""
        self.request = request
        self.out = out
        self.report = Report()
        self.ids: list[int] = []
        """Tokens so far."""
        self.away, self.away_since = False, 0.0
        self._began = clock.monotonic()
        self.progress: Callable[[], Progress] = lambda: Progress("decode")
        self.on_away: Callable[[], None] = _nothing
        self.on_back: Callable[[], None] = _nothing
        self.on_left: Callable[[], object] = _nothing
        self.on_told: Callable[[], object] = _nothing
        self.receipt: Callable[[], Receipt] | None = None
        self.last: TokenEvent | None = None
        """The last event, once it is out."""
        self._ended = asyncio.Event()
        self._back = asyncio.Event()
        self._read = asyncio.Event()
        self._counters = counts.counters
        self.meter = counts.meter
        self._tokenizer = tokenizer
        self._decoder, self._stops = text
        self._held: list[TokenPiece] = []
        self._events = TokenEvents(pace)
        self.pace = pace
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._told_bytes, self._digest = 0, hashlib.sha256()
        out.progress = lambda: records.encode(self.progress())
        out.on_asked = self._asked
        self._look()

    @property
    def ended(self) -> bool:
        return self.out.closed

    @property
    def digest(self) -> str:
        """SHA-256 of the events so far, one after the other, in hex."""
        return self._digest.hexdigest()

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for it, as far as it looks: who asked for it reads it within a moment, or went to
        another producer."""
        return not self.away and (self._read.is_set() or clock.monotonic() < self._began + MOMENT_S)

    async def wait_ended(self) -> None:
        await self._ended.wait()

    async def wait_reader(self) -> None:
        """Until somebody reads for the first time, or it has ended for want of that."""
        await self._read.wait()

    async def wait_read(self) -> None:
        """Until somebody reads again."""
        while self.away:
            self._back.clear()
            await self._back.wait()

    # ------------------------------------------------------------ tokens in

    def push(
        self, token: int, logprob: float, top: Sequence[tuple[int, float]], finish: str = "", when: PushedAt = ALONE
    ) -> bool:  # fmt: skip
        """One token, the last one when `finish` says why. Whether the answer has ended, which a stop string may do."""
        if self.ended:
            return True
        if not self.request.sampling.max_tokens:  # the prompt was to be computed, and nothing after it
            self._end(TokenEvent((), finish="length"))
            return True
        try:
            self._push(TokenPiece(token, "", self._told(logprob, token, top)), finish, when)
        except Exception as error:
            log.exception("an event cannot be made")
            self.fail(f"{type(error).__name__} in generate")
        return self.ended

    def tell_prompt(self, scores: Sequence[Choice]) -> None:
        """How likely the next tokens of the prompt are; all of them before the first `push`."""
        if self.ended:
            return
        try:
            for event in prompt_events([self._logprobs(*score) for score in scores]):
                self._append(event)
        except Exception as error:
            log.exception("an event cannot be made")
            self.fail(f"{type(error).__name__} in generate")

    def fail(self, error: str, code: str = FAILED) -> None:
        """End it with words, unless it has ended."""
        self._end(TokenEvent((), finish="error", error=error or "generation failed", code=code))

    def close(self) -> None:
        """Give it up without words, unless it has ended: whoever made it stops, and it can be asked for again."""
        self.meter.ended("cancelled")
        self.out.abandon()
        self._over()

    # ------------------------------------------------------------ events out

    def _push(self, piece: TokenPiece, finish: str, when: PushedAt) -> None:
        self._counters["tokens_decoded"] += 1
        self.meter.token(when.at)
        self.ids.append(piece.token)
        self._held.append(piece)
        if finish or not when.more or self.request.sampling.stop:  # what follows a stop string is not told
            self._tell_held(finish)

    def _tell_held(self, finish: str = "") -> None:
        held, self._held = self._held, []
        self.pace.flowing.add(self)
        text = self._decoder.push_all([piece.token for piece in held]) + (self._decoder.finish() if finish else "")
        emit, stopped = self._stops.push(text)
        if finish and not stopped:
            emit += self._stops.finish()
        last = stopped or bool(finish)
        *before, newest = held
        newest.text, now = emit, clock.monotonic()
        left = [event for piece in before for event in self._events.add(piece, now, more=True)]
        self._send([*left, *self._events.add(newest, now, last=last, wanted=self.out.wanted)])
        if last:
            ended = "stop" if stopped else finish
            self._end(TokenEvent((), finish=ended, stopped_by=self._stops.stopped_by))

    def _told(self, logprob: float, token: int, top: Sequence[tuple[int, float]]) -> tuple[TokenLogprobs, ...]:
        """What an event tells about its token, when the caller asked for it."""
        return (self._logprobs(token, logprob, top),) if self.request.sampling.logprobs else ()

    def _logprobs(self, token: int, logprob: float, top: Sequence[tuple[int, float]]) -> TokenLogprobs:
        text, top = self._tokenizer.token_bytes, tuple(top[:MOST_TOP])
        return TokenLogprobs(logprob, top, text(token), tuple(text(other) for other, _ in top))

    def _send(self, events: Sequence[TokenEvent]) -> None:
        """What waits for the next token waits for a bounded time, if somebody waits for it."""
        for event in events:
            self._append(event)
        due_at = self._events.due_at
        if due_at is not None and self._timer is None and self.out.wanted:
            self._timer = _call_at(due_at, self._send_late)

    def _send_late(self) -> None:
        self._timer = None
        self._send_due()

    def _send_due(self) -> None:
        """What waits, if it is time and somebody waits for it: a reader that does not ask costs no packet."""
        if self.ended or not self.out.wanted:
            return
        now = clock.monotonic()
        try:
            self._send(self._events.take(now) if self._events.due(now) else ())
        except Exception as error:
            log.exception("an event cannot be made")
            self.fail(f"{type(error).__name__} in generate")

    def _end(self, report: TokenEvent) -> None:
        """The last event, with the report of where KV came from. It cannot fail to be the last."""
        try:
            if self._held and not self.ended:  # others were to come with them
                self._tell_held()
        except Exception:
            log.exception("an event cannot be made")
        if self.ended:
            return
        self.meter.ended(report.finish)
        kv, prompt_tokens = self.report, len(self.request.prompt)
        report = replace(
            report, kv=kv.sources, prompt_tokens=prompt_tokens, kv_names=kv.names, kv_holders=kv.holders
        )  # fmt: skip
        try:
            *before, last = self._events.finish(replace(report, receipt=self._receipt()), clock.monotonic())
            for event in before:
                self._append(event)
            self._append(last, final=True, failed=bool(report.error))
        except Exception:
            log.exception("the end of an answer cannot be published")
            self._end_plainly()
        finally:
            self._counters["failed"] += self.out.failed
            self._over()
        if not self.out.failed:
            self.on_told()

    def _append(self, event: TokenEvent, *, final: bool = False, failed: bool = False) -> None:
        content = records.encode(event)
        self._digest.update(content)
        self._told_bytes += len(content)
        self.out.append(content, final=final, failed=failed)
        self.last = event if final else None

    def _receipt(self) -> Receipt | None:
        """What the answer took; counted as it is told."""
        if self.receipt is None:
            return None
        receipt = replace(self.receipt(), output_tokens=len(self.ids), bytes_out=self._told_bytes)
        count_receipt(self._counters, receipt)
        return receipt

    def _end_plainly(self) -> None:
        if not self.ended:
            event = TokenEvent((), finish="error", error="the end of the answer cannot be published")
            self.out.append(records.encode(event), failed=True)
            self.last = event

    def _over(self) -> None:
        for timer in (self._timer, self._watch):
            if timer is not None:
                timer.cancel()
        self._timer = self._watch = None
        self.pace.flowing.discard(self)
        self.away = False
        self._back.set()
        self._read.set()
        self._ended.set()

    # ------------------------------------------------------------ readers

    def _look(self) -> None:
        """Whether anybody reads. Runs when that may have changed, and while somebody reads about once a second."""
        now = clock.monotonic()
        readers = self.out.readers.look(now)
        if readers is Readers.GONE:
            self.leave()
            return
        if readers is Readers.AWAY and not self.away:
            self.away, self.away_since = True, now
            self.pace.flowing.discard(self)
            self.out.on_paused(True)
            self.on_away()
        self._watch = _call_at(self.out.readers.next_change(now), self._look)

    def leave(self) -> None:
        """End it, because nobody reads it."""
        log.info("%s has no reader: stopped after %d tokens", ndn.to_uri(self.out.name), len(self.ids))
        self._counters["abandoned"] += 1
        self.meter.ended("abandoned")
        self.close()
        self.on_left()

    def _asked(self) -> None:
        self._read.set()
        if self._watch is None:
            return
        back = self.away
        if back or self._watch.when() > self.out.readers.next_change(clock.monotonic()):  # the first one shortens it
            self._watch.cancel()
            self.away = False
            self._back.set()
            self._look()
        if back:
            self.out.on_paused(False)
            self.on_back()
        if self._events.due_at is not None:
            self._send_due()


def _call_at(when: float, action: Callable[[], None]) -> asyncio.TimerHandle:
    """`when` by clock.monotonic."""
    return asyncio.get_running_loop().call_later(max(0.0, when - clock.monotonic()), action)


def _nothing() -> None:
    pass
