"""Which KV block belongs to whom: the page table's books, without the pages.

Owns: numbers of blocks, how many streams hold each, which content a block is known to have, what goes first when room
is short. Must not know: tensors (kv_cache.py), streams, whose turn it is (scheduler.py).

A block is *held* (some stream refers to it), *cached* (nobody does, its content is known by a key and may be wanted
again) or *free*. Cached blocks give way, least recently released first, so callers count them as free.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence

Key = Hashable
"""Says what a block holds, bit for bit. The pool only compares keys."""


class BlockPool:
    """Blocks 0 to `blocks` - 1. Pure; every call is O(blocks asked for)."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self._fresh = 0
        self._mapped = 0
        self._returned: list[int] = []
        self._holders: dict[int, int] = {}
        self._cached: OrderedDict[int, None] = OrderedDict()
        self._by_key: dict[Key, int] = {}
        self._keys: dict[int, Key] = {}

    @property
    def used(self) -> int:
        """Blocks that streams hold; each counts once, however many hold it."""
        return len(self._holders)

    @property
    def cached(self) -> int:
        return len(self._cached)

    @property
    def fresh(self) -> int:
        """The first block that was never given out; all after it neither."""
        return self._fresh

    @property
    def free(self) -> int:
        """Blocks that `allocate` can give: all that nobody holds."""
        return self.blocks - len(self._holders)

    def map_ahead(self, count: int, at_once: int) -> range:
        """At most `at_once` of the next `count` fresh blocks, for the caller to map; each is returned once in the life
        of a pool. Empty when there are none, so a loop over this ends after `blocks` calls at most."""
        first, end = max(self._fresh, self._mapped), min(self._fresh + count, self.blocks)
        self._mapped = max(min(first + at_once, end), self._mapped)
        return range(first, self._mapped)

    def allocate(self, count: int) -> list[int]:
        """Blocks for one holder, content unknown. Raises ValueError when fewer are free: ask `free` first."""
        if not 0 <= count <= self.free:
            raise ValueError(f"{count} of {self.free} free blocks")
        taken = [self._take() for _ in range(count)]
        self._holders.update((block, 1) for block in taken)
        return taken

    def match(self, keys: Sequence[Key]) -> list[int]:
        """Blocks that hold the longest prefix of `keys`, not taken yet."""
        blocks: list[int] = []
        for key in keys:
            block = self._by_key.get(key)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def idle(self, blocks: Iterable[int]) -> int:
        """How many of these count as free now: taking them makes `free` smaller by as many."""
        return sum(block not in self._holders for block in blocks)

    def share(self, blocks: Iterable[int]) -> None:
        """Take blocks that `match` found for one more holder."""
        for block in blocks:
            self._cached.pop(block, None)
            self._holders[block] = self._holders.get(block, 0) + 1

    def register(self, block: int, key: Key) -> None:
        """The content of a held block is known from now on. When another block has the same, that one stays known."""
        if key not in self._by_key and block not in self._keys:
            self._by_key[key] = block
            self._keys[block] = key

    def find(self, key: Key) -> int | None:
        """A block with this content, held or cached."""
        return self._by_key.get(key)

    def release(self, blocks: Sequence[int]) -> None:
        """One holder goes. What nobody holds any more is cached when its content is known; the last block of a sequence
        gives way first, since without those before it it is of no use."""
        for block in reversed(blocks):
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            del self._holders[block]
            if block in self._keys:
                self._cached[block] = None
            else:
                self._returned.append(block)

    def _take(self) -> int:
        if self._returned:
            return self._returned.pop()
        if self._fresh < self.blocks:
            self._fresh += 1
            return self._fresh - 1
        block, _ = self._cached.popitem(last=False)
        del self._by_key[self._keys.pop(block)]
        return block
