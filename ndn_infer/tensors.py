"""Tensors as bytes: a fixed little-endian header and the raw elements, row-major.

Owns: the wire form of every tensor that travels (KV blocks, embeddings) and the table of dtypes. Must not know: torch
(numpy has no bfloat16, so elements stay bytes here; engine/ and functions/ turn them into tensors), names, packets.

Layout: magic `NDT1`, dtype code u8, rank u8, two zero bytes, rank x u32 dimensions, then exactly
product(dims) x itemsize bytes. Nothing else is accepted: no strides, no objects, no trailing bytes.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Final

from ndn_infer.errors import BadRecord

_MAGIC: Final = b"NDT1"
_CODES: Final = {"f32": 1, "bf16": 2, "f16": 3, "i8": 4, "i32": 5, "u32": 6, "i64": 7}
_NAMES: Final = {code: name for name, code in _CODES.items()}
ITEM_BYTES: Final = {"f32": 4, "bf16": 2, "f16": 2, "i8": 1, "i32": 4, "u32": 4, "i64": 8}
MAX_RANK: Final = 8
MAX_TENSOR_BYTES: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class RawTensor:
    """`payload` holds the elements, row-major, little-endian; `dtype` is a key of ITEM_BYTES."""

    dtype: str
    shape: tuple[int, ...]
    payload: bytes | bytearray | memoryview

    def __post_init__(self) -> None:
        if self.dtype not in ITEM_BYTES:
            raise BadRecord(f"unknown tensor dtype {self.dtype!r}")
        if len(self.shape) > MAX_RANK or any(not 0 <= size < 1 << 32 for size in self.shape):
            raise BadRecord(f"bad tensor shape {self.shape}")
        expected = math.prod(self.shape) * ITEM_BYTES[self.dtype]
        if expected > MAX_TENSOR_BYTES or len(self.payload) != expected:
            raise BadRecord(
                f"a {self.dtype} tensor of shape {self.shape} has {expected} bytes, not {len(self.payload)}"
            )


def encode_tensor(tensor: RawTensor) -> bytes:
    return b"".join((tensor_header(tensor.dtype, tensor.shape), tensor.payload))  # one copy, also of others' memory


def tensor_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """What stands before the elements."""
    return struct.pack(f"<4sBBxx{len(shape)}I", _MAGIC, _CODES[dtype], len(shape), *shape)


def tensor_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Length of what `encode_tensor` gives for such a tensor."""
    return 8 + 4 * len(shape) + math.prod(shape) * ITEM_BYTES[dtype]


def decode_tensor(wire: bytes | bytearray | memoryview) -> RawTensor:
    """Raises BadRecord for anything but exactly one tensor. The payload is a view: nothing is copied."""
    if len(wire) < 8 or wire[:4] != _MAGIC or wire[6:8] != b"\0\0":
        raise BadRecord("not a tensor")
    dtype, rank = _NAMES.get(wire[4]), wire[5]
    start = 8 + 4 * rank
    if dtype is None or rank > MAX_RANK or len(wire) < start:
        raise BadRecord("not a tensor of a known dtype and rank")
    shape = struct.unpack_from(f"<{rank}I", wire, 8)
    return RawTensor(dtype, shape, memoryview(wire)[start:])
