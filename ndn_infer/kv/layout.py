"""What a block of KV looks like in memory: the layout that engines write and kv/ names, moves and checks.

Owns: this one shape. Must not know: names, codecs, pages of an engine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ndn_infer.errors import BadRecord


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """Every block of a model is [layers, 2, kv_heads, block_tokens, head_dim] of `dtype`: keys, then values."""

    layers: int
    kv_heads: int
    head_dim: int
    block_tokens: int
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        return (self.layers, 2, self.kv_heads, self.block_tokens, self.head_dim)

    @property
    def nbytes(self) -> int:
        """Of a block in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def check(self, index: int, block: Tensor) -> None:
        """Raises BadRecord when `block`, the block `index` of a sequence, has another shape or dtype."""
        if tuple(block.shape) != self.shape or block.dtype != self.dtype:
            wanted = f"{self.dtype} {list(self.shape)}"
            raise BadRecord(f"KV block {index} is {block.dtype} {list(block.shape)}, not {wanted}")
