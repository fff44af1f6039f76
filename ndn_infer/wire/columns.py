"""Objects that are fetched side by side: the beginnings of all before the rest of any.

Owns: in which order their segments are asked for, and how far all of them have come. Pure. Must not know: windows,
sockets, what the bytes mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ndn_infer.wire.segments import Segments

STEP: Final = 4
"""Segments of one object asked for in a row: one alone would cost as much again for asking."""


class Columns:
    """`full`: so many segments, counted from the first, are there of every object, or all that it has."""

    def __init__(self, objects: Sequence[Segments]) -> None:
        self._objects = objects
        self._next = [0] * len(objects)
        self._most = max((item.count for item in objects), default=0)
        self._reached = [0] * (self._most + 1)
        """How many objects are there up to this segment."""
        self.full = 0

    def order(self) -> Iterator[tuple[int, list[int]]]:
        """(object, numbers) in the order to ask."""
        for first in range(0, self._most, STEP):
            for at, item in enumerate(self._objects):
                numbers = [number for number in range(first, first + STEP) if number in item.missing]
                if numbers:
                    yield at, numbers

    def moved(self, at: int) -> bool:
        """Object `at` took packets. Whether `full` has grown."""
        item, number = self._objects[at], self._next[at]
        while number < self._most and number not in item.missing:  # beyond its end nothing is missing
            number += 1
            self._reached[number] += 1
        self._next[at] = number
        before = self.full
        while self.full < self._most and self._reached[self.full + 1] == len(self._objects):
            self.full += 1
        return self.full > before
