"""The keys and values of one sequence.

Owns: the buffer, its growth, blocks in and out. Must not know: attention, names, who computed a block.

A block is [layers, 2, kv_heads, block_tokens, head_dim] in the model's dtype: K then V, K with rotary positions
applied. The buffer has the same order of dimensions, so a block is one copy each way.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ndn_infer.errors import BadRecord, ModelError

_LEAST_CAPACITY = 256


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


class KvCache:
    """Keys and values of the first `length` tokens. Used from one thread."""

    def __init__(self, shape: KvShape, device: torch.device, *, capacity: int = _LEAST_CAPACITY) -> None:
        self.shape = shape
        self.length = 0
        self._device = device
        self._buffer = self._allocate(capacity)

    @property
    def capacity(self) -> int:
        return int(self._buffer.shape[3])

    def reserve(self, length: int) -> None:
        """Make room for `length` tokens; at least doubles, so that growing costs little in the long run."""
        if length <= self.capacity:
            return
        grown = self._allocate(max(length, 2 * self.capacity))
        grown[:, :, :, : self.length] = self._buffer[:, :, :, : self.length]
        self._buffer = grown

    def append(self, layer: int, keys: Tensor, values: Tensor, extent: int) -> tuple[Tensor, Tensor]:
        """Store keys and values of new tokens of one layer; returns those of tokens 0 to `extent`.

        keys, values: [kv_heads, n, head_dim]. Returned: views [kv_heads, extent, head_dim], zeros where no token is
        yet. `length` does not change until `advance`, which is called once for all layers. Room must be reserved.
        """
        end = self.length + keys.shape[1]
        buffer = self._buffer[layer]
        buffer[0, :, self.length : end] = keys
        buffer[1, :, self.length : end] = values
        return buffer[0, :, :extent], buffer[1, :, :extent]

    def advance(self, count: int) -> None:
        """All layers have stored `count` new tokens."""
        self.length += count

    def rewind(self, length: int) -> None:
        """Forget all tokens from `length` on; they will be computed again."""
        self.length = min(self.length, max(length, 0))

    def import_block(self, index: int, block: Tensor) -> None:
        """Append block `index`, which must be the next one. Raises BadRecord (shape, dtype or order)."""
        size = self.shape.block_tokens
        if tuple(block.shape) != self.shape.block or block.dtype != self.shape.dtype:
            wanted = f"{self.shape.dtype} {list(self.shape.block)}"
            raise BadRecord(f"KV block {index} is {block.dtype} {list(block.shape)}, not {wanted}")
        if index * size != self.length:
            raise BadRecord(f"KV block {index} does not follow the {self.length} tokens before it")
        self.reserve(self.length + size)
        self._buffer[:, :, :, self.length : self.length + size] = block
        self.length += size

    def export_block(self, index: int) -> Tensor:
        """A copy of block `index` on the CPU, [layers, 2, kv_heads, block_tokens, head_dim], contiguous.

        Raises ModelError when its tokens are not all computed.
        """
        size = self.shape.block_tokens
        if index < 0 or (index + 1) * size > self.length:
            raise ModelError(f"KV block {index} is not computed: {self.length} tokens are")
        block = self._buffer[:, :, :, index * size : (index + 1) * size]
        return torch.empty(self.shape.block, dtype=self.shape.dtype).copy_(block)

    def _allocate(self, capacity: int) -> Tensor:
        shape = (self.shape.layers, 2, self.shape.kv_heads, capacity, self.shape.head_dim)
        return torch.zeros(shape, dtype=self.shape.dtype, device=self._device)
