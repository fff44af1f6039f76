"""Keys and values, in pages.

Owns: the memory of all blocks, one sequence's view of its own, blocks in and out. Must not know: attention, names, who
computed a block, which blocks are free (kv_pool.py).

A block is [layers, 2, kv_heads, block_tokens, head_dim] in the model's dtype: K then V, K with rotary positions
applied. In memory layers and heads come first, so that one indexed copy a layer lays a sequence's blocks side by side
for the attention kernel; a block goes in or out in one copy. Measured against
one contiguous buffer a stream (SmolLM2, 1 to 16 streams of 128 to 1,024 tokens) that costs attention nothing to 3 %,
and streams with equal beginnings share memory.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ndn_infer.errors import BadRecord, ModelError

_LEAST_CAPACITY = 256

ALL_LAYERS = slice(None)


@dataclass(frozen=True, slots=True)
class KvShape:
    """What a block of this model looks like."""

    layers: int
    kv_heads: int
    head_dim: int
    block_tokens: int
    dtype: torch.dtype

    @property
    def block(self) -> tuple[int, int, int, int, int]:
        return (self.layers, 2, self.kv_heads, self.block_tokens, self.head_dim)

    @property
    def block_bytes(self) -> int:
        return self.layers * 2 * self.kv_heads * self.block_tokens * self.head_dim * self.dtype.itemsize

    def check(self, index: int, block: Tensor) -> None:
        """Raises BadRecord when `block`, the block `index` of a sequence, has another shape or dtype."""
        if tuple(block.shape) != self.block or block.dtype != self.dtype:
            wanted = f"{self.dtype} {list(self.block)}"
            raise BadRecord(f"KV block {index} is {block.dtype} {list(block.shape)}, not {wanted}")


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

    def __init__(self, shape: KvShape, device: torch.device, blocks: int) -> None:
        self.shape = shape
        self.blocks = blocks
        self.device = device
        heads, size = 2 * shape.kv_heads, shape.block_tokens
        self._memory = _zeros((shape.layers, heads, blocks + 1, size, shape.head_dim), shape.dtype, device)
        by_slot = self._memory.view(shape.layers, 2, shape.kv_heads, (blocks + 1) * size, shape.head_dim)
        self._keys, self._values = by_slot[:, 0].unbind(0), by_slot[:, 1].unbind(0)
        self._layers = self._memory.unbind(0)

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

    def read(self, layer: int, table: Tensor) -> Tensor:
        """[2, kv_heads, n, head_dim]: K and V of one layer of the blocks `table`, side by side."""
        shape = self.shape
        side_by_side = self._layers[layer].index_select(1, table)
        return side_by_side.view(2, shape.kv_heads, -1, shape.head_dim)

    def put(self, number: int, block: Tensor, layers: slice = ALL_LAYERS) -> None:
        """Some layers of a block, or all."""
        self._memory[layers, :, number] = block[layers].flatten(1, 2)

    def take(self, number: int) -> Tensor:
        """A copy of a block on the CPU, contiguous."""
        shape = self.shape
        block = torch.empty(shape.block, dtype=shape.dtype)
        block.flatten(1, 2).copy_(self._memory[:, :, number])
        return block


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
        size = self.pages.shape.block_tokens
        return [self.table[at // size] * size + at % size for at in range(self.length, self.length + count)]

    def blocks(self, extent: int) -> Tensor:
        """Numbers of the blocks that hold the first `extent` tokens; the zero block where there is none yet."""
        count = -(-extent // self.pages.shape.block_tokens)
        numbers = self.table[:count]
        return torch.tensor(numbers + [self.pages.blocks] * (count - len(numbers)), device=self.pages.device)

    def advance(self, count: int) -> None:
        """All layers have stored `count` new tokens."""
        self.length += count

    def rewind(self, length: int) -> None:
        """Forget all tokens from `length` on; they will be computed again."""
        self.length = min(self.length, max(length, 0))

    def import_block(self, index: int, block: Tensor) -> None:
        """Append block `index`, which must be the next one. Raises BadRecord (shape, dtype or order)."""
        size = self.pages.shape.block_tokens
        self.pages.shape.check(index, block)
        if index * size != self.length:
            raise BadRecord(f"KV block {index} does not follow the {self.length} tokens before it")
        self.reserve(self.length + size)
        self.pages.put(self.table[index], block)
        self.length += size

    def export_block(self, index: int) -> Tensor:
        """A copy of block `index` on the CPU, [layers, 2, kv_heads, block_tokens, head_dim], contiguous.

        Raises ModelError when its tokens are not all computed.
        """
        if index < 0 or (index + 1) * self.pages.shape.block_tokens > self.length:
            raise ModelError(f"KV block {index} is not computed: {self.length} tokens are")
        return self.pages.take(self.table[index])


class KvCache(KvSequence):
    """A sequence with pages of its own, which grow: for one that shares with nobody."""

    __slots__ = ()

    def __init__(self, shape: KvShape, device: torch.device, *, capacity: int = _LEAST_CAPACITY) -> None:
        count = -(-capacity // shape.block_tokens)
        super().__init__(KvPages(shape, device, count), list(range(count)), 0)

    @property
    def capacity(self) -> int:
        return self.pages.blocks * self.pages.shape.block_tokens

    def reserve(self, length: int) -> None:
        """Make room for `length` tokens; at least doubles, so that growing costs little in the long run."""
        if length <= self.capacity:
            return
        old = self.pages
        blocks = max(-(-length // old.shape.block_tokens), 2 * old.blocks)
        self.pages = KvPages(old.shape, old.device, blocks)
        for number in range(-(-self.length // old.shape.block_tokens)):
            self.pages.put(number, old.take(number).to(old.device))
        self.table = list(range(blocks))
