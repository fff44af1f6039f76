"""KV cache of one sequence, and its blocks in canonical layout.

Owns: growing buffers of keys and values, import and export of blocks. Must not know: models, names, who computed a
block. Block layout: [layers, 2, kv_heads, block_tokens, head_dim]; dimension 1 is K (RoPE applied), then V.
"""

from __future__ import annotations

import torch

from ndn_infer.errors import BadRecord, ModelError


class KvCache:
    """Keys and values of tokens 0..length-1 of one sequence, per layer [kv_heads, capacity, head_dim]."""

    def __init__(
        self,
        layers: int,
        kv_heads: int,
        head_dim: int,
        *,
        block_tokens: int,
        dtype: torch.dtype,
        device: torch.device,
        capacity: int = 0,
    ) -> None:
        self.layers = layers
        self.kv_heads = kv_heads
        self.head_dim = head_dim
        self.block_tokens = block_tokens
        self.length = 0
        self._dtype = dtype
        self._device = device
        self._buffer = self._allocate(max(capacity, block_tokens))

    def _allocate(self, capacity: int) -> torch.Tensor:
        shape = (self.layers, 2, self.kv_heads, capacity, self.head_dim)
        return torch.empty(shape, dtype=self._dtype, device=self._device)

    @property
    def capacity(self) -> int:
        return int(self._buffer.shape[3])

    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` more; doubles, so that growing costs little per token."""
        needed = self.length + tokens
        if needed > self.capacity:
            bigger = self._allocate(max(needed, 2 * self.capacity))
            bigger[:, :, :, : self.length] = self._buffer[:, :, :, : self.length]
            self._buffer = bigger

    def append(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Write keys and values ([kv_heads, new, head_dim]) of one layer after `length`, and return all up to there.

        `length` grows once all layers have written: call `advance`.
        """
        end = self.length + keys.shape[1]
        layer_buffer = self._buffer[layer]
        layer_buffer[0, :, self.length : end] = keys
        layer_buffer[1, :, self.length : end] = values
        return layer_buffer[0, :, :end], layer_buffer[1, :, :end]

    def advance(self, tokens: int) -> None:
        self.length += tokens

    def import_block(self, index: int, block: torch.Tensor) -> None:
        """Append the block of tokens index*block_tokens onwards. Raises BadRecord for a wrong shape, dtype or order."""
        expected = (self.layers, 2, self.kv_heads, self.block_tokens, self.head_dim)
        if tuple(block.shape) != expected or block.dtype != self._dtype:
            raise BadRecord(f"a KV block of {self._dtype} {expected} is needed, not {block.dtype} {tuple(block.shape)}")
        if index * self.block_tokens != self.length:
            raise BadRecord(f"block {index} does not follow {self.length} tokens")
        self.reserve(self.block_tokens)
        self._buffer[:, :, :, self.length : self.length + self.block_tokens] = block
        self.length += self.block_tokens

    def export_block(self, index: int) -> torch.Tensor:
        """A copy of one full block. Raises ModelError when it is not complete yet."""
        start, end = index * self.block_tokens, (index + 1) * self.block_tokens
        if index < 0 or end > self.length:
            raise ModelError(f"block {index} is not complete: {self.length} tokens are cached")
        return self._buffer[:, :, :, start:end].clone()
