"""Keys and values, in pages.

Owns: the memory of all blocks, one sequence's view of its own, blocks in and out. Must not know: attention, names, who
computed a block, which blocks are free (kv_pool.py).

A block is [layers, 2, kv_heads, block_tokens, head_dim] in the model's dtype: K then V, K with rotary positions
applied. In memory layers and heads come first, so that one indexed copy a layer lays a sequence's blocks side by side
for the attention kernel, none where they lie in a row already; a block goes in or out in one copy. Measured against
one contiguous buffer a stream (SmolLM2, 1 to 16 streams of 128 to 1,024 tokens) that costs attention nothing to 3 %,
and streams with equal beginnings share memory.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

from ndn_infer.errors import BadRecord, ModelError
from ndn_infer.kv.layout import BlockLayout

_LEAST_CAPACITY = 256
_STAGED = 8 << 20
"""Bytes of main memory through which blocks come from a GPU: it is mapped once, and known to the device."""

ALL_LAYERS = slice(None)


def _zeros(sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory that the system maps when it is first written to. torch would write its zeros; numpy would ask for pages
    of 2 MiB, of which a block uses 2 KiB here and there: the first blocks then cost hundreds of MiB, zeroed at once."""
    if device.type != "cpu":
        return torch.zeros(sizes, dtype=dtype, device=device)
    memory = mmap.mmap(-1, math.prod(sizes) * dtype.itemsize)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype).view(sizes)


class KvPages:
    """Memory of `blocks` blocks, numbered from 0, and of one more that is always zero. On the CPU the system maps what
    is written, not what is asked for. Used from one thread."""

    def __init__(self, layout: BlockLayout, device: torch.device, blocks: int) -> None:
        self.layout = layout
        self.blocks = blocks
        self.device = device
        heads, size = 2 * layout.kv_heads, layout.block_tokens
        self._memory = _zeros((layout.layers, heads, blocks + 1, size, layout.head_dim), layout.dtype, device)
        by_slot = self._memory.view(layout.layers, 2, layout.kv_heads, (blocks + 1) * size, layout.head_dim)
        self._by_slot = by_slot
        self._keys, self._values = by_slot[:, 0].unbind(0), by_slot[:, 1].unbind(0)
        self._layers = self._memory.unbind(0)
        self._staging: Tensor | None = None

    def clear(self, blocks: Sequence[int]) -> None:
        """Zero blocks that get a new owner: what is masked out is still multiplied by zero, and must be finite. Blocks
        that never had an owner are zero."""
        if blocks:
            self._memory.index_fill_(2, torch.tensor(blocks, device=self.device), 0)

    def touch(self, first: int, end: int) -> None:
        """Have the system map the memory of blocks `first` to `end` - 1, which nobody wrote to yet."""
        if self.device.type == "cpu":
            self._memory[:, :, first:end].zero_()

    def write(self, layer: int, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Keys and values [kv_heads, n, head_dim] of one layer to `slots` [n]: block * block_tokens + place in it."""
        self._keys[layer].index_copy_(1, slots, keys)
        self._values[layer].index_copy_(1, slots, values)

    def place(self, slot: int) -> list[tuple[Tensor, Tensor]]:
        """The memory itself: keys and values [kv_heads, head_dim] of one token, of each layer."""
        keys, values = self._by_slot[:, :, :, slot].unbind(1)
        return list(zip(keys.unbind(0), values.unbind(0), strict=True))

    def span(self, table: range) -> Tensor:
        """The memory itself: [layers, 2, kv_heads, n, head_dim], K and V of blocks that lie in a row."""
        size = self.layout.block_tokens
        return self._by_slot[:, :, :, table.start * size : table.stop * size]

    def read(self, layer: int, table: Tensor | range) -> Tensor:
        """[2, kv_heads, n, head_dim]: K and V of one layer of the blocks `table`, side by side. Those of a range lie so
        already: nothing is copied, and the memory itself is returned."""
        layout = self.layout
        if isinstance(table, range):
            lying = self._layers[layer][:, table.start : table.stop]
            return lying.view(2, layout.kv_heads, -1, layout.head_dim)
        side_by_side = self._layers[layer].index_select(1, table)
        return side_by_side.view(2, layout.kv_heads, -1, layout.head_dim)

    def put(self, number: int, block: Tensor, layers: slice = ALL_LAYERS) -> None:
        """Some layers of a block, or all."""
        self._memory[layers, :, number] = block[layers].flatten(1, 2)

    def take(self, number: int) -> Tensor:
        """A copy of a block on the CPU, contiguous."""
        layout = self.layout
        block = torch.empty(layout.shape, dtype=layout.dtype)
        block.flatten(1, 2).copy_(self._memory[:, :, number])
        return block

    def take_all(self, numbers: Sequence[int]) -> list[Tensor]:
        """As `take`, of several blocks: from a GPU in one transfer, as each costs half a millisecond by itself."""
        if self.device.type == "cpu" or not numbers:
            return [self.take(number) for number in numbers]
        at_once = max(_STAGED // self.layout.nbytes, 1)
        if self._staging is None:
            shape = (at_once, *self.layout.shape)
            self._staging = torch.empty(shape, dtype=self.layout.dtype, pin_memory=True)
        taken = []
        for first in range(0, len(numbers), at_once):
            chosen = torch.tensor(numbers[first : first + at_once], device=self.device)
            together = self._memory.index_select(2, chosen).permute(2, 0, 1, 3, 4)
            staged = self._staging[: len(chosen)]
            staged.flatten(2, 3).copy_(together.contiguous())
            taken += [block.clone() for block in staged]
        return taken


class KvSequence:
    """The first `length` tokens of one sequence: block `table[i]` of `pages` holds its tokens from i * block_tokens on.
    Made anew for every step; `table` must be long enough for what is appended."""

    __slots__ = ("length", "pages", "table")

    def __init__(self, pages: KvPages, table: list[int], length: int) -> None:
        self.pages = pages
        self.table = table
        self.length = length

    def reserve(self, length: int) -> None:
        """Nothing to do: whoever gave the table out has seen to it."""

    def slots(self, count: int) -> list[int]:
        """Where the next `count` tokens go."""
        size = self.pages.layout.block_tokens
        return [self.table[at // size] * size + at % size for at in range(self.length, self.length + count)]

    def blocks(self, extent: int) -> Tensor:
        """Numbers of the blocks that hold the first `extent` tokens; the zero block where there is none yet."""
        count = -(-extent // self.pages.layout.block_tokens)
        numbers = self.table[:count]
        return torch.tensor(numbers + [self.pages.blocks] * (count - len(numbers)), device=self.pages.device)

    def run(self, extent: int) -> Tensor | range:
        """As `blocks`, of tokens that have blocks; a range where these lie in a row, as those of a stream that grew
        alone."""
        numbers = self.table[: -(-extent // self.pages.layout.block_tokens)]
        first = numbers[0]
        in_a_row = numbers == list(range(first, first + len(numbers)))
        return range(first, first + len(numbers)) if in_a_row else self.blocks(extent)

    def advance(self, count: int) -> None:
        """All layers have stored `count` new tokens."""
        self.length += count

    def import_block(self, index: int, block: Tensor) -> None:
        """Append block `index`, which must be the next one. Raises BadRecord (shape, dtype or order)."""
        size = self.pages.layout.block_tokens
        self.pages.layout.check(index, block)
        if index * size != self.length:
            raise BadRecord(f"KV block {index} does not follow the {self.length} tokens before it")
        self.reserve(self.length + size)
        self.pages.put(self.table[index], block)
        self.length += size

    def export_block(self, index: int) -> Tensor:
        """A copy of block `index` on the CPU, [layers, 2, kv_heads, block_tokens, head_dim], contiguous.

        Raises ModelError when its tokens are not all computed.
        """
        if index < 0 or (index + 1) * self.pages.layout.block_tokens > self.length:
            raise ModelError(f"KV block {index} is not computed: {self.length} tokens are")
        return self.pages.take(self.table[index])


class KvCache(KvSequence):
    """A sequence with pages of its own, which grow: for one that shares with nobody."""

    __slots__ = ()

    def __init__(self, layout: BlockLayout, device: torch.device, *, capacity: int = _LEAST_CAPACITY) -> None:
        count = -(-capacity // layout.block_tokens)
        super().__init__(KvPages(layout, device, count), list(range(count)), 0)

    @property
    def capacity(self) -> int:
        return self.pages.blocks * self.pages.layout.block_tokens

    def reserve(self, length: int) -> None:
        """Make room for `length` tokens; at least doubles, so that growing costs little in the long run."""
        if length <= self.capacity:
            return
        old = self.pages
        blocks = max(-(-length // old.layout.block_tokens), 2 * old.blocks)
        self.pages = KvPages(old.layout, old.device, blocks)
        for number in range(-(-self.length // old.layout.block_tokens)):
            self.pages.put(number, old.take(number).to(old.device))
        self.table = list(range(blocks))
