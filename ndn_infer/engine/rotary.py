"""Rotary positions: which angle belongs to which position, and turning vectors by it.

Owns: the frequencies of each kind of scaling, and tables of cosines and sines. Must not know: layers, caches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ndn_infer.engine.model_config import ModelConfig


def inverse_frequencies(config: ModelConfig) -> Tensor:
    """[head_dim / 2] float32, as transformers' modeling_rope_utils computes them."""
    rope, dim = config.rope, config.head_dim
    plain: Tensor = 1.0 / (rope["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.int64).to(torch.float) / dim))
    if rope["rope_type"] == "linear":
        plain /= rope["factor"]
        return plain
    if rope["rope_type"] != "llama3":
        return plain
    factor, low, high = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    original = rope["original_max_position_embeddings"]
    wavelength = 2 * math.pi / plain
    scaled = torch.where(wavelength > original / low, plain / factor, plain)
    smooth = (original / wavelength - low) / (high - low)
    smoothed = (1 - smooth) * scaled / factor + smooth * scaled
    medium = ~(wavelength < original / high) * ~(wavelength > original / low)
    return torch.where(medium, smoothed, scaled)


class RotaryTables:
    """Cosines and sines of all positions so far, in the model's dtype; they grow when asked for more."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> None:
        self._frequencies = inverse_frequencies(config)
        self._dtype, self._device = dtype, device
        self._cos, self._sin = self._make(256)

    def rows(self, start: int, count: int) -> tuple[Tensor, Tensor]:
        """cos and sin of positions `start` to `start + count`, [count, head_dim] each, as `rotate` wants them."""
        if start + count > self._cos.shape[0]:
            self._cos, self._sin = self._make(max(start + count, 2 * self._cos.shape[0]))
        return self._cos[start : start + count], self._sin[start : start + count]

    def at(self, places: Sequence[int]) -> Tensor:
        """[n, 2, 2, head_dim / 2] of these positions, for rows of decoded tokens: what the two halves of a vector are
        multiplied by to stay where they are, and to change places. The products that meet are added: see `rotate`."""
        cos, sin = self.rows(0, max(places) + 1)
        at = torch.tensor(places, device=self._device)
        by_half = torch.stack((cos[at], sin[at]), 1).view(len(places), 2, 2, -1)
        by_half[:, 1] = by_half[:, 1].flip(1)
        return by_half

    def _make(self, count: int) -> tuple[Tensor, Tensor]:
        angles = torch.arange(count)[:, None].float() * self._frequencies
        angles = torch.cat((angles, angles), dim=-1)
        sin = angles.sin()
        sin[:, : sin.shape[1] // 2].neg_()
        return angles.cos().to(self._device, self._dtype), sin.to(self._device, self._dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [heads, n, head_dim] turned by the angles of its n positions.

    transformers negates half of `x`; here that half of the sines is negative, which is the same number for less work.
    """
    return x * cos + torch.roll(x, x.shape[-1] // 2, -1) * sin
