"""int8 weights times rows in two halves of 8 bits, in integer sums: the head of int8 and int4 models.

Owns: this kernel, how a row is cut, and whether the machine adds exactly. Must not know: which map is the head.

torch's product of bf16 rows with int8 weights is bound by arithmetic, at 6 GB/s. Bytes times bytes take a third of the
time, and two rows about as long as one, so a row may have 16 bits: its numbers are rounded to steps, of which the
largest has 32,639, and the high and low bytes of the steps are rows of one product. Their sums are integers, exact in
whatever order they are added: a row's result depends on that row only, bit for bit, whatever the number of rows and of
threads.

The kernel is FBGEMM's. Without VNNI it adds pairs of products in 16 bits, which saturate: `sums_are_exact` asks the
kernel itself.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any, Final

import torch
from torch import Tensor

from ndn_infer.engine.linear import QuantisedInt8

_STEPS: Final = 127 * 256 + 127
_LOW: Final = 256
_LEAST: Final = 1e-30  # of a row's largest number: a row of zeros has zeros
_MIDDLE: Final = 128  # the kernel takes unsigned bytes


class SplitRows:
    """8 bits a weight and one scale an output number; rows of 16 bits."""

    def __init__(self, quantised: QuantisedInt8) -> None:
        self._packed = _packed(quantised)

    def __call__(self, x: Tensor) -> Tensor:
        """x [n, in] -> [n, out] float32. A row that is not finite gives none that is."""
        wide = x.float()
        largest = torch.linalg.vector_norm(wide, torch.inf, -1, keepdim=True).clamp_min_(_LEAST)
        steps = wide * (_STEPS / largest)
        high = (steps * (1 / _LOW)).round_()
        of_high, of_low = _product(torch.cat((high, torch.sub(steps, high, alpha=_LOW))), self._packed).chunk(2)
        return of_low.add_(of_high, alpha=_LOW).mul_(largest * (1 / _STEPS))


def can_split(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether rows of this dtype take this kernel, where weights are quantised."""
    return dtype == torch.bfloat16 and device.type == "cpu" and sums_are_exact()


@functools.cache
def sums_are_exact() -> bool:
    """Whether there is such a kernel here and its sums are exact: those of the largest bytes are."""
    weights = torch.tensor([127, -127], dtype=torch.int8)[:, None].expand(2, 64)
    bytes_ = torch.tensor([127.0, -128.0])[:, None].expand(2, 64)
    try:
        packed = _packed(QuantisedInt8(weights.contiguous(), torch.ones(2)))
        return torch.equal(_product(bytes_.contiguous(), packed), bytes_ @ weights.float().T)
    except (AttributeError, RuntimeError):  # torch was built without it
        return False


def _packed(quantised: QuantisedInt8) -> Any:
    """In the layout of the kernel."""
    zeros = torch.zeros(quantised.values.shape[0], dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # quantised tensors are deprecated; this kernel takes nothing else
        whole = torch._make_per_channel_quantized_tensor(quantised.values, quantised.scales.double(), zeros, 0)
        return torch.ops.quantized.linear_prepack(whole, None)


def _product(x: Tensor, packed: Any) -> Tensor:
    """float32 rows of -128 to 127, rounded to whole numbers, times weights: the sums as float32 times the scales."""
    out: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(x, 1.0, _MIDDLE, packed)
    return out
