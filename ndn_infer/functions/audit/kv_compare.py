"""Whether a KV block is one that honest computing gives.

Owns: this one comparison. Must not know: names, packets, who signed, how KV is computed.

KV of the same tokens is computed in several honest ways: as a prompt, as an answer token by token, or after blocks of
others that were computed in another of these ways. In bf16 they differ, and only like this (torch 2.13, measured on
640 tokens of SmolLM2-135M in 9 pairs of ways; docs/audit.md):

- the first layer is equal bit for bit: it follows from each token alone, and rows are independent (linear.py);
- once a layer of a token differs, all later ones do, as the difference stays in the residual stream;
- of a layer that differs at least 21 % of a token's numbers differ, not one of them alone;
- no number is off by more than 0.16 of the largest one beside it (of its head).

A block that breaks one of these was computed from something else, or changed afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

LEAST_SHARE: Final = 0.05
MOST_OFF: Final = 0.5


@dataclass(frozen=True, slots=True)
class KvDifference:
    """`layer` and `token` (of the block) where it shows, and how many numbers differ in all. `off`: the largest
    difference there, as a share of the largest number of its head. `proven`: no honest way gives it."""

    layer: int
    token: int
    numbers: int
    off: float
    words: str
    proven: bool = True
    whole: bool = False
    """Only the whole block shows it; else the numbers of that token in that layer do."""


def compare(published: Tensor, computed: Tensor) -> KvDifference | None:
    """Blocks [layers, 2, kv_heads, tokens, head_dim] of the same tokens; None where they are equal bit for bit."""
    differs = published.view(torch.uint8) != computed.view(torch.uint8)
    differs = differs.view(*published.shape, -1).any(-1)
    if not bool(differs.any()):
        return None
    share = differs.float().mean(dim=(1, 2, 4))  # [layers, tokens]
    wide, numbers = computed.float(), int(differs.sum())
    off = (published.float() - wide).abs() / wide.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30)
    off = torch.nan_to_num(off, nan=1e9, posinf=1e9).amax(dim=(1, 2, 4))

    def found(where: Tensor, words: str, *, proven: bool = True, whole: bool = False) -> KvDifference:
        layer, token = (int(number) for number in where.nonzero()[0])
        return KvDifference(layer, token, numbers, float(off[layer, token]), words, proven, whole)

    some = share > 0
    if bool(some[0].any()):
        first = torch.zeros_like(some)
        first[0] = some[0]
        return found(first, "its first layer is not that of these tokens and this model")
    if bool((off > MOST_OFF).any()):
        return found(off > MOST_OFF, f"a number is off by more than {MOST_OFF:g} of the largest beside it")
    later_equal = some & (torch.flip(torch.cummin(torch.flip(some.int(), [0]), 0).values, [0]) == 0)
    if bool(later_equal.any()):
        return found(later_equal, "a layer differs, and a later one does not", whole=True)
    if bool((some & (share < LEAST_SHARE)).any()):
        return found(some & (share < LEAST_SHARE), "too few numbers of a layer differ", whole=True)
    return found(some, "its last bits are those of another way of computing it", proven=False)
