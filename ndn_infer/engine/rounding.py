"""What weights of fewer bits cost: how far they are from those of the file, and what they take.

Owns: the error of rounding a model's linear maps to each precision. Must not know: how a model is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ndn_infer.engine.linear import fits_int4, quantise_int4, quantise_int8, relative_error
from ndn_infer.errors import DamagedCache

FEWER_BITS = {"int8": 8.0, "int4": 5.0}
"""Bits of a number in groups of 32, scale and zero point included (int8: a scale for each row, next to nothing)."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """Root of the mean squared error over that of the weights: in the mean over all maps of all layers, and the worst.
    `mib` is the size of these maps."""

    precision: str
    mean: float
    most: float
    mib: float


def rounding_errors(folder: Path) -> list[Rounding]:
    """For the linear maps in the layers of a prepared folder. Raises DamagedCache."""
    errors: dict[str, list[float]] = {precision: [] for precision in FEWER_BITS}
    numbers, path = 0, folder / "model.safetensors"
    try:
        with safe_open(path, framework="pt") as file, torch.inference_mode():
            for key in file.keys():
                if ".layers." in key and key.endswith("_proj.weight"):
                    weight: Tensor = file.get_tensor(key).to(torch.bfloat16)
                    numbers += weight.numel()
                    errors["int8"].append(relative_error(weight, quantise_int8(weight).dense()))
                    rounded = quantise_int4(weight) if fits_int4(weight) else quantise_int8(weight)
                    errors["int4"].append(relative_error(weight, rounded.dense()))
    except (OSError, SafetensorError, KeyError) as error:
        raise DamagedCache(f"{path} cannot be used ({type(error).__name__}: {error})") from error
    return [
        Rounding(precision, sum(found) / len(found), max(found), numbers * FEWER_BITS[precision] / 8 / 2**20)
        for precision, found in errors.items()
        if found
    ]
