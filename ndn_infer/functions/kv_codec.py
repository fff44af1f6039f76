"""KV blocks as bytes: the codecs, each in the canonical layout whatever the engine's own layout is.

Owns: the shape and codec of a model's blocks, tensor <-> object content. Must not know: names, the network, who
computed a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from ndn_infer.errors import BadRecord
from ndn_infer.tensors import RawTensor, decode_tensor, encode_tensor

DTYPES: Final = {"bf16": torch.bfloat16, "fp32": torch.float32}
_RAW: Final = {"bf16": "bf16", "fp32": "f32"}
_LARGEST: Final = 127
_SCALE_BYTES: Final = 2


@dataclass(frozen=True, slots=True)
class KvShape:
    """What every block of a model looks like: [layers, 2, kv_heads, block_tokens, head_dim] of `dtype`, and the form
    (a key of CODECS) in which it travels."""

    layers: int
    kv_heads: int
    head_dim: int
    block_tokens: int
    dtype: str
    implementation: str
    form: str = "raw"

    @property
    def codec(self) -> str:
        """The component of names that says how a block is to be read."""
        prefix = "" if self.form == "raw" else f"{self.form}."
        return f"{prefix}{self.dtype}.{self.implementation}"

    @property
    def exact(self) -> bool:
        """Whether a block that travelled is bit for bit the one that was computed."""
        return self.form == "raw"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.layers, 2, self.kv_heads, self.block_tokens, self.head_dim)


class Codec(Protocol):
    """A form of blocks on the wire. `encode` takes a block of `shape.shape` and its dtype; `decode` gives such a one
    back from *verified* content, or raises BadRecord. Layers lie one after the other."""

    def encode(self, block: Tensor, shape: KvShape) -> bytes: ...

    def decode(self, content: bytes, shape: KvShape) -> Tensor: ...


class Raw:
    """The numbers themselves: what is decoded is bit for bit what was encoded."""

    def encode(self, block: Tensor, shape: KvShape) -> bytes:
        raw = block.contiguous().cpu().view(torch.uint8).numpy().tobytes()
        return encode_tensor(RawTensor(_RAW[shape.dtype], tuple(block.shape), raw))

    def decode(self, content: bytes, shape: KvShape) -> Tensor:
        raw = decode_tensor(content)
        _expect(raw, _RAW[shape.dtype], shape.shape)
        return torch.frombuffer(bytearray(raw.payload), dtype=DTYPES[shape.dtype]).reshape(shape.shape)


class Int8:
    """Eight bits a number, and a scale for each layer, K or V, head and token: the largest magnitude of its head_dim
    numbers is 127. A row is its numbers, then the scale as float16, so a block takes 66 bytes a row of 64 where bf16
    takes 128. Symmetric: keys after rotation and values lie around zero."""

    def encode(self, block: Tensor, shape: KvShape) -> bytes:
        wide = block.to(torch.float32)
        scales = (wide.abs().amax(dim=-1, keepdim=True) / _LARGEST).clamp(min=2.0**-14).to(torch.float16)
        values = (wide / scales.float()).round_().clamp_(-_LARGEST, _LARGEST).to(torch.int8)
        rows = torch.cat((values, scales.view(torch.int8)), dim=-1).contiguous().cpu()
        return encode_tensor(RawTensor("i8", tuple(rows.shape), rows.numpy().tobytes()))

    def decode(self, content: bytes, shape: KvShape) -> Tensor:
        raw = decode_tensor(content)
        _expect(raw, "i8", (*shape.shape[:-1], shape.head_dim + _SCALE_BYTES))
        rows = torch.frombuffer(bytearray(raw.payload), dtype=torch.int8).reshape(raw.shape)
        scales = rows[..., shape.head_dim :].contiguous().view(torch.float16).float()
        if not bool(torch.isfinite(scales).all()):
            raise BadRecord("a KV block has a scale that is no number")
        return (rows[..., : shape.head_dim] * scales).to(DTYPES[shape.dtype])


CODECS: Final[dict[str, Codec]] = {"raw": Raw(), "int8": Int8()}
"""Every form, by its name in the configuration."""


def encode_block(block: Tensor, shape: KvShape) -> bytes:
    """Content of a KV object."""
    return CODECS[shape.form].encode(block, shape)


def decode_block(content: bytes, shape: KvShape) -> Tensor:
    """The tensor in a *verified* KV object. Raises BadRecord for another dtype or shape."""
    return CODECS[shape.form].decode(content, shape)


def _expect(raw: RawTensor, dtype: str, shape: tuple[int, ...]) -> None:
    if raw.dtype != dtype or raw.shape != shape:
        raise BadRecord(f"a KV block of {dtype} {shape} was promised, {raw.dtype} {raw.shape} delivered")
