"""Tokens that travel together, in events that fit a packet.

Owns: when tokens leave, and how much of them in one event. Each event is a signed packet that three processes handle
and that a reader verifies: where an engine makes tokens quicker than anybody reads, one packet for a few of them costs
a fraction; and where nobody waits for one, none is made until somebody does. Whatever a token brings along (text that
was held back, log probabilities), no event is larger than EVENT_BYTES. Pure: `now` is passed in. Must not
know: clocks, streams, engines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ndn_infer import records
from ndn_infer.records import MAX_EVENT_TOKENS, TokenEvent, TokenLogprobs

MOST_TOKENS: Final = 32
"""Of one event."""

EVENT_BYTES: Final = 6000
"""Most bytes of an encoded event. With a seal, a long name and a signature it fits a packet, and that packet fits
another one (wire.again)."""

_FRAME_BYTES: Final = 100
"""Of an event without its contents."""

ERROR_CHARACTERS: Final = 500
MOST_NAMES: Final = 8
NAMES_BYTES: Final = 1000
"""Of each list of names in the last event: they are advice, and may be cut short."""


EVENTS_A_SECOND: Final = 80
"""Of all answers of a producer together, where `producer.event_ms` leaves them that: what events cost must not grow
with the number of those who read."""

MOST_INTERVAL_S: Final = 0.25
"""Readers see text come in pieces of this at most, however many they are; a longer `producer.event_ms` counts."""

SETTLED_S: Final = 0.5
"""After the first token of an answer: how soon it begins has been seen, and from then on"""

SETTLED: Final = 2
"""intervals are so many times as long: what an event costs does not depend on what it holds."""


@dataclass(slots=True)
class EventPace:
    """How long tokens of one answer wait for each other. `least_s`: at its beginning, where a producer makes no other,
    0: no token waits. `flowing`: the producer's answers whose tokens are read now. `begun_at`: of the first token."""

    least_s: float
    flowing: set[object] = field(default_factory=set)
    begun_at: float = float("inf")

    def interval_s(self, now: float) -> float:
        if not self.least_s:
            return 0.0
        least_s = self.least_s if now < self.begun_at + SETTLED_S else SETTLED * self.least_s
        return max(least_s, min(len(self.flowing) / EVENTS_A_SECOND, MOST_INTERVAL_S))

    def another(self, since: float, now: float) -> bool:
        """Whether `now` is in a later interval of the clock than `since`; without intervals each moment is one."""
        interval_s = self.interval_s(now)
        if not interval_s or not math.isfinite(since):
            return now > since
        return math.floor(now / interval_s) > math.floor(since / interval_s)

    def next_but_one(self, since: float) -> float:
        """When the interval after the one that follows `since` begins."""
        interval_s = self.interval_s(since)
        return (math.floor(since / interval_s) + 2) * interval_s if interval_s and math.isfinite(since) else since


@dataclass(slots=True)
class TokenPiece:
    """One token and what it brought along; of tokens that are told together the last one brings their text."""

    token: int
    text: str
    logprobs: tuple[TokenLogprobs, ...]

    @property
    def size(self) -> int:
        """More than it takes in an encoded event."""
        return 12 + len(self.text.encode()) + sum(len(records.encode(told)) for told in self.logprobs)


@dataclass(slots=True)
class TokenEvents:
    """An event leaves with the first token, then with the first one of each interval of `pace`, if it is `wanted`;
    without intervals with every token. Intervals are those of the clock, so that events of several answers leave
    together, in one write and for one wake-up of each process on their way. Nothing that is wanted waits longer than
    two of them: see `due_at`. What is not wanted waits until it is (`due`), or fills an event."""

    pace: EventPace
    _sent_at: float = float("-inf")
    _waiting: list[TokenPiece] = field(default_factory=list)
    _size: int = _FRAME_BYTES

    def add(
        self, piece: TokenPiece, now: float, *, last: bool = False, more: bool = False, wanted: bool = True
    ) -> list[TokenEvent]:  # fmt: skip
        """One more token. The events that leave now: none or one, more where it brings much text. The `last` one waits
        for `finish`; with `more` it waits for others that are added now, if they fit. `wanted`: somebody waits for the
        next event."""
        size = piece.size
        left = self.take(now) if self._size + size > EVENT_BYTES else []
        self._waiting.append(piece)
        self._size += size
        full = len(self._waiting) >= MOST_TOKENS or self._size > EVENT_BYTES
        due = full or not (more or self._waits(now, wanted))
        leaves = due and not last
        return left + self.take(now) if leaves else left

    def take(self, now: float) -> list[TokenEvent]:
        """All that waits."""
        if not self._waiting:
            return []
        self.pace.begun_at = min(self.pace.begun_at, now)
        waiting, large = self._waiting, self._size > EVENT_BYTES
        self._waiting, self._size, self._sent_at = [], _FRAME_BYTES, now
        return list(_split(waiting[0])) if large else [_event(waiting)]

    def finish(self, report: TokenEvent, now: float) -> list[TokenEvent]:
        """All that waits, then the last event of a stream: `report` has neither ids nor text of its own. Both are one
        event where they fit."""
        events, report = self.take(now), trimmed(report)
        if not events:
            return [report]
        *before, last = events
        if len(records.encode(last)) + len(records.encode(report)) <= EVENT_BYTES:
            return [*before, replace(report, ids=last.ids, text=last.text, logprobs=last.logprobs)]
        return [*events, report]

    def _waits(self, now: float, wanted: bool) -> bool:
        """Whether a token that comes now does not leave at once. The first one does, and each one without intervals."""
        if not self.pace.least_s or not math.isfinite(self._sent_at):
            return False
        return not wanted or not self.pace.another(self._sent_at, now)

    @property
    def due_at(self) -> float | None:
        """When to `take` what waits, if it is wanted, although no token came; None while nothing waits."""
        return self.pace.next_but_one(self._sent_at) if self._waiting else None

    def due(self, now: float) -> bool:
        """Whether what waits leaves now, when somebody begins to wait for it."""
        due_at = self.due_at
        return due_at is not None and (due_at <= now or self.pace.another(self._sent_at, now))


def prompt_events(told: Sequence[TokenLogprobs]) -> Iterator[TokenEvent]:
    """Log probabilities of a prompt's tokens, as many in one event as fit."""
    waiting: list[TokenLogprobs] = []
    size = _FRAME_BYTES
    for one in told:
        more = len(records.encode(one))
        if waiting and (size + more > EVENT_BYTES or len(waiting) == MAX_EVENT_TOKENS):
            yield TokenEvent((), prompt=tuple(waiting))
            waiting, size = [], _FRAME_BYTES
        waiting.append(one)
        size += more
    if waiting:
        yield TokenEvent((), prompt=tuple(waiting))


def _event(pieces: list[TokenPiece]) -> TokenEvent:
    return TokenEvent(
        tuple(piece.token for piece in pieces),
        "".join(piece.text for piece in pieces),
        logprobs=tuple(told for piece in pieces for told in piece.logprobs),
    )


def _split(piece: TokenPiece) -> Iterator[TokenEvent]:
    """A token with more text than an event holds (it was held back): pieces of the text, the token with the last."""
    room = EVENT_BYTES - _FRAME_BYTES - 12 - sum(len(records.encode(told)) for told in piece.logprobs)
    characters = max(room // 4, 1)  # of up to four bytes
    while len(piece.text) > characters:
        yield TokenEvent((), piece.text[:characters])
        piece = replace(piece, text=piece.text[characters:])
    yield _event([piece])


def trimmed(report: TokenEvent) -> TokenEvent:
    """A last event whose words and lists are short enough for a packet, and can be encoded."""
    kv = report.kv
    if kv is not None:
        kv = replace(kv, signers=kv.signers[: _fitting(tuple(signer.identity for signer in kv.signers))])
    return replace(
        report,
        error=report.error[:ERROR_CHARACTERS].encode("utf-8", "replace").decode(),
        kv=kv,
        kv_names=report.kv_names[: _fitting(report.kv_names)],
        kv_holders=report.kv_holders[: _fitting(report.kv_holders)],
    )


def _fitting(names: tuple[str, ...]) -> int:
    """How many of these fit."""
    count, room = 0, NAMES_BYTES
    for name in names[:MOST_NAMES]:
        room -= len(name.encode("utf-8", "replace")) + 20
        if room < 0:
            break
        count += 1
    return count
