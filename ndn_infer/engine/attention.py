"""Attention over a prompt that is computed in pieces, with the numbers of a prompt computed at once.

Owns: masks and shapes for torch's scaled_dot_product_attention, and for plain matrix products where these are quicker.
Must not know: layers, caches, weights.

Two ways. In bf16 on a CPU, with grouped heads: ProductPlan, two matrix products and a softmax, which take a third of
the time of torch's fused kernel (2.6 against 7.8 ms for 256 rows and 2,048 keys of SmolLM2; torch 2.13, AVX-512).
Scores are rounded to bf16, as transformers' own "eager" attention does; the KL divergence from fp32 is the same
(1.19e-3 against 1.18e-3). How many keys a row is given follows from its place alone, so its numbers depend neither on
how the prompt is cut nor on how long it is. With AMX the order of addition depends on the number of rows as well: there
every product has those of _FIXED_TOKENS tokens, and zeros fill the last one (instructions.py).

Else AttentionPlan, the fused kernel. transformers computes a prompt in one causal call. Cutting it into chunks, or
importing the KV of its beginning, is the same mathematics, but torch's CPU kernel then rounds otherwise: in bf16 one
number in ten thousand differs by its last bit, which later layers blow up to 0.25 in a logit and so to another token at
a near tie. The causes, found by experiment (torch 2.13, aten/native/cpu/FlashAttentionKernel.cpp) and each undone here:

- the leading dimension of the kernel's scratch matrix is min(512, number of keys), and the matrix library sums in
  another order for some of them: so a chunk is given as many keys as the whole prompt has, those to come masked out
  (whole groups of 512 masked keys change nothing and are left away);
- the last tile of queries is as high as what remains of the prompt, and a tile of one row takes another routine, in
  fp32 one of two rows still another; from LEAST_ROWS on the height changes nothing: so the queries of the last chunk
  are padded in front until their last tile is as high as that of the whole prompt, or both are at least so high;
- products of a matrix with fewer than 8 rows take other routines as well: such a chunk begins LEAST_ROWS before the end
  (engine.py), and computes a few tokens a second time.

With this, bf16 on the CPU is equal bit for bit however a prompt is cut, and to transformers; fp32 but for single rows
(1e-7).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.bias import causal_lower_right

from ndn_infer.engine.instructions import amx

LEAST_ROWS = 8
"""Tokens of a prompt to compute together at least."""

_SMALL_EXTENTS = (64, 128)
_EXTENT = 256
"""By products, a row is given the keys up to the next multiple of this, or of the small ones."""

_FIXED_TOKENS = 64

_KEY_SPLIT = 512
_QUERY_TILE = 32  # of calls with fewer than 192 queries; longer ones take 64 and 256 (see _last_tile)


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """How to call the kernel for tokens `start` to `end` of a sequence; the same for all layers."""

    extent: int
    """Keys and values to hand over, counted from token 0: at least those up to `end`; later ones must be finite."""
    pad: int = 0
    """Rows of zeros to put before the queries."""
    causal: bool = False
    mask: Tensor | None = None
    """[pad + count, extent - first], 0 or minus infinity, or None; on a GPU the name of such a mask, which its kernel
    does not read from memory."""
    first: int = 0
    """Keys and values before this one are left away: none of the queries sees them."""

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """queries [heads, count, head_dim], keys and values [kv_heads, extent, head_dim] -> like queries."""
        if self.first:
            keys, values = keys[:, self.first :], values[:, self.first :]
        if self.pad:
            queries = F.pad(queries, (0, 0, self.pad, 0))
        out = F.scaled_dot_product_attention(
            queries.unsqueeze(0),
            keys.unsqueeze(0),
            values.unsqueeze(0),
            attn_mask=self.mask,
            is_causal=self.causal,
            scale=queries.shape[-1] ** -0.5,
            enable_gqa=queries.shape[0] != keys.shape[0],
        ).squeeze(0)
        return out[:, self.pad :]


@dataclass(frozen=True, slots=True)
class ProductPlan:
    """As AttentionPlan, by plain matrix products, for heads that share keys in groups."""

    extent: int
    """Keys and values to hand over; those after the last row must be finite."""
    masks: tuple[tuple[int, int, int, Tensor], ...]
    """Groups of rows that are given equally many keys: first and last + 1 of the rows, keys before the first row, and
    what is added to the scores of the keys from there on, [rows or more, keys], 0 or minus infinity. Rows of zeros are
    computed where there are more."""

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """queries [heads, count, head_dim], keys and values [kv_heads, extent, head_dim] -> like queries."""
        scaled = queries * queries.shape[-1] ** -0.5
        groups = [self._group(scaled[:, first:end], keys, values, at, mask) for first, end, at, mask in self.masks]
        return torch.cat(groups, 1) if len(groups) > 1 else groups[0]

    @staticmethod
    def _group(queries: Tensor, keys: Tensor, values: Tensor, at: int, mask: Tensor) -> Tensor:
        kv_heads, rows, (count, more) = keys.shape[0], queries.shape[1], mask.shape
        extent = at + more
        if count > rows:
            queries = F.pad(queries, (0, 0, 0, count - rows))
        scores = torch.bmm(queries.reshape(kv_heads, -1, queries.shape[-1]), keys[:, :extent].transpose(1, 2))
        scores.view(-1, count, extent)[..., at:] += mask
        torch.softmax(scores, -1, out=scores)
        return torch.bmm(scores, values[:, :extent]).view(queries.shape)[:, :rows]


def attend_one(query: Tensor, keys: Tensor, values: Tensor, scale: float, *, grouped: bool) -> Tensor:
    """One token: query [kv_heads, 1, heads / kv_heads, head_dim], keys and values [kv_heads, 1, n, head_dim] that it
    sees -> like query.

    `grouped`: the heads that share keys are rows of one query. Else each head is a call of its own inside the kernel,
    as in transformers, bit for bit; that takes seven times as long at 1,024 tokens. In bf16 a few calls in a hundred
    differ between the two, by a last bit.
    """
    if grouped and query.device.type == "cpu":  # what scaled_dot_product_attention comes to, without its choices
        return torch._scaled_dot_product_flash_attention_for_cpu(query, keys, values, scale=scale)[0]
    if grouped:
        return F.scaled_dot_product_attention(query, keys, values, scale=scale)
    heads = query.reshape(1, -1, 1, query.shape[-1])
    keys, values = keys.transpose(0, 1), values.transpose(0, 1)
    return F.scaled_dot_product_attention(heads, keys, values, scale=scale, enable_gqa=True).view(query.shape)


def first_seen(place: int, window: int) -> int:
    """The first token that a token at `place` sees; `window` 0: all before it."""
    return max(place + 1 - window, 0) if window else 0


def by_products(dtype: torch.dtype, device: torch.device, *, grouped: bool) -> bool:
    """Whether prompts of a model are computed by ProductPlan, where no window hides keys."""
    return grouped and dtype == torch.bfloat16 and device.type == "cpu"


@dataclass(frozen=True, slots=True)
class AttentionKind:
    """How a layer attends: each token to the last `window` (0: all). `grouped`: not the numbers of transformers where
    others are quicker to compute."""

    dtype: torch.dtype
    device: torch.device
    window: int = 0
    grouped: bool = False


def plan_prompt(start: int, count: int, total: int, kind: AttentionKind) -> AttentionPlan | ProductPlan:
    """Tokens `start` to `start + count` of a prompt of `total` tokens."""
    end, dtype, device, window = start + count, kind.dtype, kind.device, kind.window
    if window and total > window:
        return _plan_window(start, end, window, dtype=dtype, device=device)
    if by_products(dtype, device, grouped=kind.grouped):
        return _plan_products(start, end, dtype)
    if start == 0 and end == total:
        return AttentionPlan(end, causal=count > 1)
    if device.type != "cpu":  # on a GPU no kernel takes a mask for heads that share keys, but one takes this
        return AttentionPlan(end, mask=causal_lower_right(count, end))
    extent = min(total, -(-end // _KEY_SPLIT) * _KEY_SPLIT)
    pad = _padding(count, total) if end == total else 0
    rows = torch.arange(start - pad, end, device=device).clamp(min=0)
    hidden = torch.arange(extent, device=device) > rows[:, None]
    mask = torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))
    return AttentionPlan(extent, pad=pad, mask=mask)


def _plan_products(start: int, end: int, dtype: torch.dtype) -> ProductPlan:
    masks, first, fixed = [], start, _FIXED_TOKENS if amx() else 0
    while first < end:
        extent = next((size for size in _SMALL_EXTENTS if first < size), (first // _EXTENT + 1) * _EXTENT)
        last = min(extent, end, first + (fixed or end))
        hidden = torch.arange(first, extent) > torch.arange(first, first + fixed if fixed else last)[:, None]
        mask = torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, float("-inf"))
        masks.append((first - start, last - start, first, mask))
        first = last
    return ProductPlan(extent, tuple(masks))


def _plan_window(start: int, end: int, window: int, *, dtype: torch.dtype, device: torch.device) -> AttentionPlan:
    first = max(start + 1 - window, 0)
    rows = torch.arange(start, end, device=device)[:, None]
    keys = torch.arange(first, end, device=device)
    hidden = (keys > rows) | (keys <= rows - window)
    mask = torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))
    return AttentionPlan(end, mask=mask, first=first)


def _padding(count: int, total: int) -> int:
    """Rows to put before the last `count` of a prompt of `total` tokens."""
    height = _last_tile(total)
    return next(pad for pad in itertools.count() if _last_tile(count + pad) == height)


def _last_tile(queries: int) -> int:
    """Height of the last tile in a call with so many queries, as far as it matters."""
    tile = 32 if queries < 192 else 64 if queries < 768 else 256
    return min(queries % tile or tile, LEAST_ROWS)


def kv_class(end: int, total: int) -> int:
    """What the last bits of a prompt's KV depend on beside the tokens: two prompts with equal first `end` tokens and
    equal classes have equal KV for these. From 512 keys on the kernel's scratch has one size, so only what lies in the
    last tile of queries follows the whole length; below, all of it does (measured: from 193 to 399 tokens)."""
    if total < _KEY_SPLIT or end > total - total % _QUERY_TILE:
        return total
    return _KEY_SPLIT
