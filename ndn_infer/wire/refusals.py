"""Which refused packets are worth a line in a log: the first of each object and reason, now and then one more.

Owns: that decision, and the count between two lines. Pure: `now` is passed in. Must not know: packets, logs.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ndn_infer.ndn.name import Name

AGAIN_S: Final = 60.0
MOST: Final = 256
"""Objects and reasons that are remembered."""


class Refusals:
    """Of one puller. A line for each packet would let a hostile link fill the disk."""

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[Name, str], tuple[float, int]] = OrderedDict()
        """When the last line was, and how many packets since."""

    def take(self, subject: Name, reason: str, now: float) -> int | None:
        """A packet of `subject` was refused. None: it is only counted. Else it is told, with the number of those
        since the line before."""
        key = subject, reason
        told_at, more = self._told.get(key, (now - AGAIN_S, 0))
        if now - told_at < AGAIN_S:
            self._told[key] = told_at, more + 1
            return None
        self._told[key] = now, 0
        self._told.move_to_end(key)
        while len(self._told) > MOST:
            self._told.popitem(last=False)
        return more
