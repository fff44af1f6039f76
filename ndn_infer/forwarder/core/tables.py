"""A table by name prefix with longest-prefix match: what FIB and strategy choice are made of.

Owns: the look-up. Pure. Must not know: what the values mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from ndn_infer.ndn.name import Name, components

Value = TypeVar("Value")


class PrefixTable(Generic[Value]):
    """Values by name prefix. A look-up tries only those depths at which there are entries, deepest first."""

    def __init__(self) -> None:
        self._entries: dict[Name, Value] = {}
        self._counts: Counter[int] = Counter()
        self._children: Counter[Name] = Counter()
        self._depths: tuple[int, ...] = ()
        self.version = 0
        """Another number after every change."""

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, prefix: Name) -> bool:
        return prefix in self._entries

    def items(self) -> Iterator[tuple[Name, Value]]:
        return iter(self._entries.items())

    def get(self, prefix: Name) -> Value | None:
        """The value of exactly this prefix."""
        return self._entries.get(prefix)

    def longest(self, name: Name, ends: Sequence[int]) -> Value | None:
        """The value of the longest prefix of `name`; `ends` are `prefix_ends(name)`."""
        found = self.match(name, ends)
        return None if found is None else found[1]

    def match(self, name: Name, ends: Sequence[int]) -> tuple[Name, Value] | None:
        """The longest prefix of `name` that has a value, and the value; `ends` are `prefix_ends(name)`."""
        entries = self._entries
        deepest = len(ends) - 1
        for depth in self._depths:
            if depth <= deepest:
                prefix = name[: ends[depth]]
                value = entries.get(prefix)
                if value is not None:
                    return prefix, value
        return None

    def has_child(self, parent: Name) -> bool:
        """Whether there is a prefix of one component more. If not, names that have one more have the longest match of
        `parent`."""
        return parent in self._children

    def put(self, prefix: Name, value: Value) -> None:
        self.version += 1
        if prefix not in self._entries:
            self._count(prefix, 1)
        self._entries[prefix] = value

    def delete(self, prefix: Name) -> None:
        if self._entries.pop(prefix, None) is not None:
            self.version += 1
            self._count(prefix, -1)

    def _count(self, prefix: Name, change: int) -> None:
        parts = components(prefix)
        self._counts[len(parts)] += change
        self._depths = tuple(sorted((depth for depth, count in self._counts.items() if count), reverse=True))
        if parts:
            parent = prefix[: -len(parts[-1])]
            self._children[parent] += change
            if not self._children[parent]:
                del self._children[parent]
