"""Many fixed texts looked for at once in a text that comes character by character (Aho and Corasick, 1975).

Owns: the automaton, and how much of a needle has begun at the end of what came. Must not know: what needles are for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _NeedleNode(Generic[T]):
    depth: int
    next: dict[str, _NeedleNode[T]] = field(default_factory=dict)
    fail: _NeedleNode[T] | None = None
    ends: list[tuple[int, T]] = field(default_factory=list)
    """Lengths of the needles that end here, and what they are for."""


class Needles(Generic[T]):
    """`needles`: what each is for, by its text."""

    def __init__(self, needles: Mapping[str, T]) -> None:
        self.root: _NeedleNode[T] = _NeedleNode(0)
        self.longest = max(map(len, needles), default=0)
        for text, what in needles.items():
            if text:
                self._insert(text, what)
        self._link()

    def _insert(self, text: str, what: T) -> None:
        node = self.root
        for depth, char in enumerate(text, 1):
            node = node.next.setdefault(char, _NeedleNode(depth))
        node.ends.append((len(text), what))

    def _link(self) -> None:
        """Where to go on from when a character does not fit."""
        waiting = deque(self.root.next.values())
        for node in waiting:
            node.fail = self.root
        while waiting:
            node = waiting.popleft()
            for char, child in node.next.items():
                child.fail = self.step(node.fail or self.root, char)
                child.ends += child.fail.ends
                waiting.append(child)

    def step(self, node: _NeedleNode[T], char: str) -> _NeedleNode[T]:
        """The state after one more character: its `depth` characters are the beginning of a needle, and no more are."""
        here: _NeedleNode[T] | None = node
        while here is not None:
            if (found := here.next.get(char)) is not None:
                return found
            here = here.fail
        return self.root
