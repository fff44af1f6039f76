"""Whether anybody reads a live stream, as far as its producer can know.

Owns: what counts as a sign of a reader, when a stream pauses for want of one, and when it ends. Must not know: packets,
streams' contents, clocks (`now` is passed in).

Interests for a stream (for a segment that is there, for one to come, for progress) are the only sign: several readers
behind a forwarder are one Interest here, and a reader served by a cache on the way asks for what is not made yet. A
reader keeps asking while it waits (wire.stream.LIFETIME_S), so one that left is noticed READ_S after its last
Interest. An Interest that may wait longer counts until it expires, within bounds: other clients refresh less often.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

READ_S: Final = 1.3
"""An Interest says that somebody reads for this long, and longer if it lives longer,"""

MOST_READ_S: Final = 5.0
"""but no longer than this: its lifetime is a stranger's word."""

FIRST_READ_S: Final = 5.0
"""The caller has to learn the stream's name before it can ask for anything."""

KEPT_S: Final = 30.0
"""How long a stream that has begun waits, paused, for a reader to come back: as long as readers are patient.
Unless its producer says otherwise."""

KEPT_UNBEGUN_S: Final = 5.0
"""The same before its first event, when little is lost: in the queue, in the prompt."""


class Readers(Enum):
    PRESENT = auto()
    AWAY = auto()
    GONE = auto()


@dataclass(slots=True)
class Readership:
    """Of one stream, opened at `now`. `begun` is set once there is something that a reader may have seen."""

    now: float
    begun: bool = False
    kept_s: float = KEPT_S
    """As KEPT_S; before the first event no longer than this either."""
    _until: float = 0.0
    _found: bool = False
    """Whether somebody has asked at all."""

    def __post_init__(self) -> None:
        self._until = self.now + FIRST_READ_S

    def asked(self, now: float, expires: float) -> None:
        """An Interest came, which its sender takes back at `expires`."""
        earlier, self._found = self._until if self._found else 0.0, True
        self._until = max(earlier, now + READ_S, min(expires, now + MOST_READ_S))

    def look(self, now: float) -> Readers:
        """Whether to go on, to pause, or to end for good."""
        if now < self._until:
            return Readers.PRESENT
        return Readers.AWAY if now < self._gone_at else Readers.GONE

    def next_change(self, now: float) -> float:
        """When `look` says something else, if nobody asks."""
        return self._until if now < self._until else self._gone_at

    @property
    def _gone_at(self) -> float:
        return self._until + (self.kept_s if self.begun else min(self.kept_s, KEPT_UNBEGUN_S))
