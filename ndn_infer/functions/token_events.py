"""Tokens that travel together.

Owns: when tokens leave. Each event is a signed packet that three processes handle and that a reader verifies: where an
engine makes tokens quicker than anybody reads, one packet for a few of them costs a fraction. Pure: `now` is passed in.
Must not know: clocks, streams, engines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ndn_infer.records import TokenEvent, TokenLogprobs

MOST_TOKENS: Final = 32
MOST_TOLD: Final = 4
"""Of one event, and of one with log probabilities, which take 340 bytes a token: it must fit a packet."""


@dataclass(slots=True)
class TokenEvents:
    """An event leaves with the first token, then with the first one that comes `interval_s` after the event before; 0:
    with every token. Nothing waits longer than twice that: see `due_at`."""

    interval_s: float
    _sent_at: float = float("-inf")
    _ids: list[int] = field(default_factory=list)
    _text: str = ""
    _logprobs: list[TokenLogprobs] = field(default_factory=list)

    def add(self, token: int, text: str, logprobs: tuple[TokenLogprobs, ...], now: float) -> TokenEvent | None:
        """One more token. The event that leaves now, if one does."""
        self._ids.append(token)
        self._text += text
        self._logprobs += logprobs
        full = len(self._ids) >= (MOST_TOLD if self._logprobs else MOST_TOKENS)
        return self.take(now) if full or now >= self._sent_at + self.interval_s else None

    def take(self, now: float) -> TokenEvent | None:
        """All that waits, when something does."""
        if not self._ids:
            return None
        event = TokenEvent(tuple(self._ids), self._text, logprobs=tuple(self._logprobs))
        self._ids, self._text, self._logprobs, self._sent_at = [], "", [], now
        return event

    @property
    def due_at(self) -> float | None:
        """When to `take` what waits although no token came; None while nothing waits."""
        return self._sent_at + 2 * self.interval_s if self._ids else None
