"""What a function could take on now, for the offer of its producer: places, context, and speeds as they were measured.

Owns: these figures, and how long whole calls take. Must not know: how an offer travels, what is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ndn_infer.wire.pace import Pace


@dataclass(frozen=True, slots=True)
class Capacity:
    """0 is unknown; fields as of records.offer.ProducerOffer. `held` gives chain values of public blocks that are here,
    `has` says whether one of them still is."""

    codec: str = ""
    block_tokens: int = 0
    context: int = 0
    places: int = 0
    free: int = 0
    call_s: float = 0.0
    prompt_s: float = 0.0
    prefill_tps: float = 0.0
    decode_tps: float = 0.0
    fetch_tps: float = 0.0
    load: float = 0.0
    held: Callable[[], Iterable[bytes]] = tuple
    has: Callable[[bytes], bool] = lambda value: True


@dataclass(frozen=True, slots=True)
class Speeds:
    """Seconds of the engine for one token of a prompt, and for one token of all answers together; 0: not measured."""

    prefill_s: float
    decode_s: float


@dataclass(slots=True)
class CallTimes:
    """Means of late, in seconds: from the turn of a call to its first token, and how long it has its place; 0 before
    there was one."""

    first_token: Pace = field(default_factory=lambda: Pace(0.0))
    whole: Pace = field(default_factory=lambda: Pace(0.0))


@dataclass(slots=True)
class Occupied:
    """The share of time in which something worked, of late. `worked_s` and `now` only grow."""

    share: float = 0.0
    _worked_s: float = 0.0
    _at: float | None = None

    def look(self, worked_s: float, now: float) -> float:
        """The share since the last look that is at least a second ago."""
        if self._at is None:
            self._worked_s, self._at = worked_s, now
        elif now - self._at >= 1.0:
            self.share = min(max((worked_s - self._worked_s) / (now - self._at), 0.0), 1.0)
            self._worked_s, self._at = worked_s, now
        return self.share


def tokens_a_second(unit_s: float) -> float:
    """The speed at so many seconds a token; 0 stays unknown."""
    return 1 / unit_s if unit_s > 0 else 0.0
