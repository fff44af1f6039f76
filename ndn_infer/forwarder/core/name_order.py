"""Names in canonical order, for look-ups by prefix.

Owns: a sorted set of byte strings in chunks, so that adding and removing cost a few microseconds at any size. The bytes
of a name sort in NDN's canonical order as long as types and lengths stay below 253 (NDN Packet Format 0.3, section
2.1); names below one prefix are neighbours in any case. Must not know: packets.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from typing import Final

from ndn_infer.ndn.name import Name

CHUNK_NAMES: Final = 512


class NameOrder:
    def __init__(self) -> None:
        self._chunks: list[list[Name]] = []
        self._lasts: list[Name] = []

    def add(self, name: Name) -> None:
        """`name` must not be in the set."""
        if not self._chunks:
            self._chunks, self._lasts = [[name]], [name]
            return
        at = min(bisect_left(self._lasts, name), len(self._chunks) - 1)
        chunk = self._chunks[at]
        insort(chunk, name)
        self._lasts[at] = chunk[-1]
        if len(chunk) > 2 * CHUNK_NAMES:
            self._chunks[at : at + 1] = [chunk[:CHUNK_NAMES], chunk[CHUNK_NAMES:]]
            self._lasts[at : at + 1] = [chunk[CHUNK_NAMES - 1], chunk[-1]]

    def add_all(self, names: Iterable[Name]) -> None:
        """None of `names` may be in the set, or come twice. Many at once cost a tenth of `add` for each."""
        fresh, first, at = sorted(names), 0, 0
        if not self._chunks and fresh:
            self._chunks, self._lasts = [[]], [fresh[0]]
        while first < len(fresh):
            at = min(bisect_left(self._lasts, fresh[first], at), len(self._chunks) - 1)
            last = at == len(self._chunks) - 1
            end = len(fresh) if last else bisect_right(fresh, self._lasts[at], first)
            at += self._mix(at, fresh[first:end])
            first = end

    def _mix(self, at: int, names: list[Name]) -> int:
        """Put sorted names into one chunk; how many chunks it has become."""
        whole = self._chunks[at] + names
        whole.sort()  # two sorted runs: they are merged
        step = len(whole) if len(whole) <= 2 * CHUNK_NAMES else CHUNK_NAMES
        parts = [whole[place : place + step] for place in range(0, len(whole), step)]
        self._chunks[at : at + 1] = parts
        self._lasts[at : at + 1] = [part[-1] for part in parts]
        return len(parts)

    def remove(self, name: Name) -> None:
        """Raises KeyError when `name` is not in the set."""
        at = bisect_left(self._lasts, name)
        if at < len(self._chunks):
            chunk = self._chunks[at]
            place = bisect_left(chunk, name)
            if place < len(chunk) and chunk[place] == name:
                del chunk[place]
                if chunk:
                    self._lasts[at] = chunk[-1]
                else:
                    del self._chunks[at], self._lasts[at]
                return
        raise KeyError(name)

    def below(self, prefix: Name) -> Iterator[Name]:
        """The names that start with `prefix`, in order. The set must not change meanwhile."""
        at = bisect_left(self._lasts, prefix)
        start = bisect_left(self._chunks[at], prefix) if at < len(self._chunks) else 0
        for chunk in self._chunks[at:]:
            for place in range(start, len(chunk)):
                if not chunk[place].startswith(prefix):
                    return
                yield chunk[place]
            start = 0
