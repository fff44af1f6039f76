"""Linear maps by the precision of their weights, and what each promises about rows.

Owns: the kernels for dense, int8 and int4 weights, and quantising. Must not know: files, layers, order of operations.

A decoded token is one row of a matrix product. Whether its numbers depend on the rows beside it decides whether
batching and speculation keep a stream's tokens, so every map for decoding promises: **a row of the result depends on
that row of the input only, bit for bit, however many rows there are**. On the CPU (torch 2.13) this is what the kernels
do, found by experiment and held by tests/unit/test_engine_weights.py:

- `_weight_int8pack_mm` and `_weight_int4pack_mm_for_cpu` with bf16 rows keep the promise by themselves;
- a bf16 product (oneDNN) keeps it where the rows are at most 1,024 numbers long and the matrix has more than 4,096
  numbers. Else a single row takes another routine, which rounds otherwise;
- an fp32 product (MKL) keeps it for single rows only.

With AMX (instructions.py) the order of addition of a bf16 product follows from the number of rows. A row's place among
them and the other rows change nothing, so there every call has the same number of rows, the last one filled with zeros:
one kernel serves each row, however a prompt is cut and whatever is decoded beside it.

Where the promise does not hold, `DenseRows` computes row by row: slow for many rows, but the numbers are those of
transformers for one sequence, and dense weights are what to compare with, not what to serve many streams with.
Prompts take `Dense`, the plain product, whose numbers are those of transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ndn_infer.engine.instructions import amx

GROUP = 32
"""Numbers of a row that share an int4 scale and zero point; that of GGUF's Q4_0 and Q4_1."""

_MIDDLE = 8  # the int4 kernel computes (q - 8) * scale + zero
_INT4_OUT = 16  # it takes whole tiles of output numbers
_LARGEST_INT8 = 127
_LONGEST_TOGETHER = 1024
_SMALLEST_TOGETHER = 16**3  # torch gives products of up to so many multiplications to a routine of its own

_ROWS_OF_PROMPTS = 64
"""In a call with AMX. 256 would take half of the time, but the end of a prompt as long as a whole chunk."""
_ROWS_OF_DECODING = 16
"""In a call with AMX, where they take as long as one: they are a tile."""


class Linear(Protocol):
    """A linear map, whatever its weights are stored as."""

    def __call__(self, x: Tensor) -> Tensor:
        """x [n, in] -> [n, out], both in the model's dtype."""
        ...


class Matrix:
    """Weights [out, in] in the model's dtype, for plain products with rows.

    `packed`: a copy in the layout that oneDNN computes with, made once instead of in every product; for bf16 on a CPU
    that computes in it (`can_pack`). The numbers are the same, bit for bit. A single row takes half of the time, eight
    two thirds, 256 the same.
    """

    def __init__(self, weight: Tensor, *, packed: bool = False) -> None:
        self.out, self.long = weight.shape
        together = weight.dtype == torch.bfloat16 and self.long <= _LONGEST_TOGETHER
        together = together and weight.numel() > _SMALLEST_TOGETHER
        self._fixed = weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and amx()
        self.rows_independent = together or self._fixed or weight.device.type != "cpu"
        self._packed = packed and can_pack(weight)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None) if self._packed else weight

    def product(self, x: Tensor, bias: Tensor | None, rows: int) -> Tensor:
        """x [n, in] -> [n, out]. `rows`: of each call, where the result depends on their number."""
        if not self._fixed:
            return self._call(x, bias)
        count = x.shape[0]
        filled = F.pad(x, (0, 0, 0, -count % rows)) if count % rows else x
        parts = [self._call(part, bias) for part in torch.split(filled, rows)]
        return (torch.cat(parts) if len(parts) > 1 else parts[0])[:count]

    def _call(self, x: Tensor, bias: Tensor | None) -> Tensor:
        if not self._packed:
            return F.linear(x, self._weight, bias)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, bias, "none", [], "")
        return out


def can_pack(weight: Tensor) -> bool:
    """Whether there is a layout for oneDNN, and torch's own product of this matrix takes oneDNN as well."""
    plain = weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and weight.numel() > _SMALLEST_TOGETHER
    built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return plain and built and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Dense:
    """A matrix, or weights [out, in], and perhaps a bias [out]. Rows are not independent (module docstring)."""

    def __init__(self, weight: Tensor | Matrix, bias: Tensor | None = None) -> None:
        self._matrix = weight if isinstance(weight, Matrix) else Matrix(weight)
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return self._matrix.product(x, self._bias, _ROWS_OF_PROMPTS)


class DenseRows(Dense):
    """As `Dense`, with independent rows on the CPU."""

    def __call__(self, x: Tensor) -> Tensor:
        if self._matrix.rows_independent or x.shape[0] == 1:
            return self._rows(x)
        return torch.cat([self._rows(x[row : row + 1]) for row in range(x.shape[0])])

    def _rows(self, x: Tensor) -> Tensor:
        return self._matrix.product(x, self._bias, _ROWS_OF_DECODING)


class Int8:
    """8 bits a weight and one scale an output number; bf16 rows, which are independent."""

    def __init__(self, quantised: QuantisedInt8, bias: Tensor | None = None) -> None:
        self._values, self._scales = quantised.values, quantised.scales.to(torch.bfloat16)
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        out = torch._weight_int8pack_mm(x, self._values, self._scales)
        return out if self._bias is None else out + self._bias


class Int4:
    """4 bits a weight, scale and zero point a group of 32; bf16 rows, which are independent."""

    def __init__(self, quantised: QuantisedInt4, bias: Tensor | None = None) -> None:
        self._packed = torch._convert_weight_to_int4pack_for_cpu(quantised.values.to(torch.int32), 1)
        self._scales = torch.stack((quantised.scales.T, quantised.zeros.T), dim=-1).contiguous()
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        out = torch._weight_int4pack_mm_for_cpu(x, self._packed, GROUP, self._scales)
        return out if self._bias is None else out + self._bias


# ------------------------------------------------------------ several maps of the same rows


class Joined:
    """Several maps of the same input, results side by side: q, k and v."""

    def __init__(self, parts: Sequence[Linear]) -> None:
        self._parts = tuple(parts)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.cat([part(x) for part in self._parts], dim=-1)


class Apart:
    """Two maps of the same input, results apart: gate and up. A large prompt's results are not copied together."""

    def __init__(self, first: Linear, second: Linear) -> None:
        self._first, self._second = first, second

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._first(x), self._second(x)


class Halves:
    """One map, whose result is cut in two."""

    def __init__(self, both: Linear) -> None:
        self._both = both

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = self._both(x).chunk(2, dim=-1)
        return first, second


# ------------------------------------------------------------ quantising


@dataclass(frozen=True, slots=True)
class QuantisedInt8:
    """values [out, in] int8, scales [out] float32."""

    values: Tensor
    scales: Tensor

    def dense(self) -> Tensor:
        """float32 [out, in], exact."""
        return self.values.float() * self.scales[:, None]


@dataclass(frozen=True, slots=True)
class QuantisedInt4:
    """values [out, in] uint8 of 0 to 15; scales and zeros [out, in / 32] bf16: weight = (value - 8) * scale + zero."""

    values: Tensor
    scales: Tensor
    zeros: Tensor

    def dense(self) -> Tensor:
        """float32 [out, in], exact."""
        groups = (self.values.float() - _MIDDLE).view(*self.scales.shape, GROUP)
        return (groups * self.scales.float()[..., None] + self.zeros.float()[..., None]).view(self.values.shape)


def quantise_int8(weight: Tensor) -> QuantisedInt8:
    """Round to nearest, the largest number of each row to 127. The scales are bf16 numbers, as the kernel wants."""
    wide = weight.float()
    scales = (wide.abs().amax(dim=1) / _LARGEST_INT8).to(torch.bfloat16).float()
    scales[scales == 0] = 1.0
    values = (wide / scales[:, None]).round_().clamp_(-_LARGEST_INT8 - 1, _LARGEST_INT8)
    return QuantisedInt8(values.to(torch.int8), scales)


def quantise_int4(weight: Tensor) -> QuantisedInt4:
    """Round to nearest; the least number of each group becomes 0 and the largest 15.

    llama.cpp's Q4_1 does the same, so de-quantised Q4_1 weights get exactly the 4-bit values back that the GGUF file
    holds: there is no second quantisation, only the rounding of scale and zero point to bf16 (tests: 0.007 of a step in
    the mean, where bf16 weights are 0.005 off).
    """
    groups = weight.float().view(weight.shape[0], -1, GROUP)
    low, high = torch.aminmax(groups, dim=-1)
    scales = (high - low) / 15
    scales[scales == 0] = 1.0
    values = ((groups - low[..., None]) / scales[..., None]).round_().clamp_(0, 15).to(torch.uint8)
    zeros = low + _MIDDLE * scales
    return QuantisedInt4(values.view(weight.shape), scales.to(torch.bfloat16), zeros.to(torch.bfloat16))


def fits_int4(weight: Tensor) -> bool:
    """Whether the int4 kernel takes a matrix of this shape: whole groups, whole tiles."""
    return weight.shape[0] % _INT4_OUT == 0 and weight.shape[1] % GROUP == 0


def relative_error(weight: Tensor, dense: Tensor) -> float:
    """Root of the mean squared error over that of the weights."""
    wide = weight.float()
    return float((dense - wide).norm() / wide.norm().clamp(min=1e-30))
