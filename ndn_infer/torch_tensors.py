"""Torch tensors as the tensors that travel (tensors.py), and back.

Owns: which torch dtype is which dtype on the wire, and the bytes of a tensor. Must not know: what the numbers mean.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from ndn_infer.tensors import RawTensor

WIRE_DTYPES: Final = {
    torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16", torch.int8: "i8", torch.int32: "i32",
    torch.int64: "i64",
}  # fmt: skip
"""Of RawTensor, by torch's own."""


def raw_of(tensor: Tensor) -> RawTensor:
    """Bit for bit, row-major; shares the tensor's memory where it lies so on the CPU."""
    memory = tensor.contiguous().cpu().view(torch.uint8).numpy().data.cast("B")
    return RawTensor(WIRE_DTYPES[tensor.dtype], tuple(tensor.shape), memory)
