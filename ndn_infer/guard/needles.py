"""Many fixed texts looked for at once in a text that comes character by character (Aho and Corasick, 1975).

Owns: the automaton, and how much of a needle has begun at the end of what came. Must not know: what needles are for.

A state is a number, 0 the first one; each takes 24 bytes in arrays. States with many ways on have a dict besides.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import repeat
from os.path import commonprefix
from typing import Final, Generic, TypeVar

import numpy as np

T = TypeVar("T")
ROOT: Final = 0
_MANY: Final = 4
"""Ways on from a state, from which on they are in a dict."""
_CHARACTERS: Final = 21
"""Bits of a character."""


class Needles(Generic[T]):
    """`needles`: what each is for, by its text."""

    def __init__(self, needles: Mapping[str, T]) -> None:
        self.longest = max(map(len, needles), default=0)
        self._chars, self._depths = array("I", (0,)), array("I", (0,))
        self._child, self._sibling, parents = array("i", (0,)), array("i", (0,)), array("i", (0,))
        self._ends: dict[int, T] = {}
        path, before = [ROOT], ""
        for text in sorted(filter(None, needles)):
            same = len(commonprefix((before, text)))
            del path[same + 1 :]
            self._chain(text[same:], path, parents)
            self._ends[path[-1]] = needles[text]
            before = text
        self._fail, self._found = self._links(np.frombuffer(parents, np.int32))
        self._fans = self._many(np.frombuffer(parents, np.int32))
        self._first = {self._chars[child]: child for child in self._children(ROOT)}

    def __len__(self) -> int:
        """States."""
        return len(self._chars)

    def _chain(self, text: str, path: list[int], parents: array[int]) -> None:
        """States for these characters, one behind the other, from the last one of `path` on."""
        if not text:
            return
        parent, first, size = path[-1], len(self._chars), len(text)
        self._chars.extend(map(ord, text))
        self._depths.extend(range(len(path), len(path) + size))
        self._child.extend(range(first + 1, first + size))
        self._child.append(0)
        self._sibling.append(self._child[parent])
        self._sibling.extend(repeat(0, size - 1))
        self._child[parent] = first
        parents.append(parent)
        parents.extend(range(first, first + size - 1))
        path.extend(range(first, first + size))

    def _links(self, parents: np.ndarray) -> tuple[array[int], array[int]]:
        """Where to go on from when a character does not fit, and the state on that way, itself included, where a needle
        ends (0: none). By depth: both are of states that are less deep."""
        chars, depths = np.frombuffer(self._chars, np.uint32).astype(np.int64), np.frombuffer(self._depths, np.uint32)
        fail, found = np.zeros(len(chars), np.int32), np.zeros(len(chars), np.int32)
        ends = np.fromiter(self._ends, np.int32, len(self._ends))
        found[ends] = ends
        keys = parents.astype(np.int64) << _CHARACTERS | chars
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        levels = np.argsort(depths, kind="stable")
        for level in np.split(levels, np.flatnonzero(np.diff(depths[levels])) + 1)[2:]:
            waiting, at = level, fail[parents[level]]
            while len(waiting):
                key = at.astype(np.int64) << _CHARACTERS | chars[waiting]
                place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
                fits = keys[place] == key
                fail[waiting[fits]] = order[place[fits]]
                on = ~fits & (at != ROOT)
                waiting, at = waiting[on], fail[at[on]]
            found[level] = np.where(found[level] > 0, found[level], found[fail[level]])
        return array("i", fail.tobytes()), array("i", found.tobytes())

    def _many(self, parents: np.ndarray) -> dict[int, dict[int, int]]:
        ways = np.bincount(parents[1:], minlength=1)
        many = np.flatnonzero(ways >= _MANY).tolist()
        return {node: {self._chars[child]: child for child in self._children(node)} for node in many}

    def _children(self, node: int) -> Iterator[int]:
        child = self._child[node]
        while child:
            yield child
            child = self._sibling[child]

    # ------------------------------------------------------------ looking

    def step(self, node: int, char: str) -> int:
        """The state after one more character: its `depth` characters are the beginning of a needle, and no more are."""
        code = ord(char)
        while node != ROOT:
            if (fan := self._fans.get(node)) is not None:
                child = fan.get(code, 0)
            else:
                child = self._child[node]
                while child and self._chars[child] != code:
                    child = self._sibling[child]
            if child:
                return child
            node = self._fail[node]
        return self._first.get(code, ROOT)

    def depth(self, node: int) -> int:
        return self._depths[node]

    def ends(self, node: int) -> Iterable[tuple[int, T]]:
        """Lengths of the needles that end here, the longest first, and what they are for."""
        return self._ends_at(node) if self._found[node] else ()

    def _ends_at(self, node: int) -> Iterator[tuple[int, T]]:
        while node := self._found[node]:
            yield self._depths[node], self._ends[node]
            node = self._fail[node]
