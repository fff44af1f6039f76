"""KV blocks as bytes: the codecs, each in the canonical layout whatever the engine's own layout is.

Owns: the shape and codec of a model's blocks, tensor <-> object content. Must not know: names, the network, who
computed a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from ndn_infer.errors import BadRecord
from ndn_infer.tensors import RawTensor, decode_tensor, encode_tensor

DTYPES: Final = {"bf16": torch.bfloat16, "fp32": torch.float32}
_RAW: Final = {"bf16": "bf16", "fp32": "f32"}


@dataclass(frozen=True, slots=True)
class KvShape:
    """What every block of a model looks like: [layers, 2, kv_heads, block_tokens, head_dim] of `dtype`."""

    layers: int
    kv_heads: int
    head_dim: int
    block_tokens: int
    dtype: str
    implementation: str

    @property
    def codec(self) -> str:
        return f"{self.dtype}.{self.implementation}"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.layers, 2, self.kv_heads, self.block_tokens, self.head_dim)


def encode_block(block: torch.Tensor, shape: KvShape) -> bytes:
    """Content of a KV object. `block` has shape `shape.shape` and the dtype that it names."""
    raw = block.contiguous().cpu().view(torch.uint8).numpy().tobytes()
    return encode_tensor(RawTensor(_RAW[shape.dtype], tuple(block.shape), raw))


def decode_block(content: bytes, shape: KvShape) -> torch.Tensor:
    """The tensor in a *verified* KV object. Raises BadRecord for another dtype or shape."""
    raw = decode_tensor(content)
    if raw.dtype != _RAW[shape.dtype] or raw.shape != shape.shape:
        raise BadRecord(f"a KV block of {shape.dtype} {shape.shape} was promised, {raw.dtype} {raw.shape} delivered")
    return torch.frombuffer(bytearray(raw.payload), dtype=DTYPES[shape.dtype]).reshape(shape.shape)
