"""How much one API key may ask for: requests at a time, requests and tokens a minute.

Owns: the arithmetic. Pure: `now` is passed in, seconds of a clock that only goes on. Must not know: keys, HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

AT_ONCE_S: Final = 1.0
"""When to ask again where requests at a time are the bound: nobody knows when one of them ends."""


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """0: no bound."""

    requests: int = 0
    requests_per_minute: int = 0
    tokens_per_minute: int = 0


@dataclass(slots=True)
class Bucket:
    """Fills at `per_minute`, up to what one minute gives. What is taken may leave a debt: how many tokens an answer has
    is known when they are there."""

    per_minute: int
    level: float
    at: float

    def wait_s(self, now: float) -> float:
        """Until something may be taken; 0 for now."""
        self._fill(now)
        least = min(1.0, self.per_minute)
        return 0.0 if self.level >= least else (least - self.level) * 60 / self.per_minute

    def take(self, count: int, now: float) -> None:
        self._fill(now)
        self.level -= count

    def _fill(self, now: float) -> None:
        self.level = min(self.per_minute, self.level + max(0.0, now - self.at) * self.per_minute / 60)
        self.at = now


@dataclass(slots=True)
class Quota:
    """Of one key. `working`: its requests that are in work."""

    limits: KeyLimits = KeyLimits()
    working: int = 0
    _requests: Bucket | None = field(default=None, init=False)
    _tokens: Bucket | None = field(default=None, init=False)

    def change(self, limits: KeyLimits, now: float) -> None:
        """New bounds; where they are the old ones, what was used stays used."""
        if limits != self.limits or (self._requests, self._tokens) == (None, None):
            self.limits = limits
            self._requests = _full(limits.requests_per_minute, now)
            self._tokens = _full(limits.tokens_per_minute, now)

    def begin(self, now: float) -> float:
        """A request wants to begin. 0: it does, and `end` must follow; else seconds after which to ask again."""
        if self.limits.requests and self.working >= self.limits.requests:
            return AT_ONCE_S
        waits = [bucket.wait_s(now) for bucket in (self._requests, self._tokens) if bucket is not None]
        if wait_s := max(waits, default=0.0):
            return wait_s
        if self._requests is not None:
            self._requests.take(1, now)
        self.working += 1
        return 0.0

    def end(self) -> None:
        self.working -= 1

    def spend(self, tokens: int, now: float) -> None:
        if self._tokens is not None:
            self._tokens.take(tokens, now)


def _full(per_minute: int, now: float) -> Bucket | None:
    return Bucket(per_minute, per_minute, now) if per_minute else None
