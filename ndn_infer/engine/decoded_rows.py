"""Rows of decoded tokens through the layers, with as few operators as torch needs.

Owns: the order of operations for rows that each go on from a sequence of their own, and what is laid out for them once
a step. Must not know: what weights are stored as, prompts, sampling, streams.

Beside the products of a small model an operator is done in a microsecond or two, most of which are its call, so their
number decides. Views of memory that all layers use alike are made once a step, and results go to memory that is there.
Numbers and rounding are those of llama.py, bit for bit (tests/unit/test_engine_rows.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ndn_infer.engine.attention import attend_one, first_seen
from ndn_infer.engine.kv_cache import KvSequence
from ndn_infer.engine.model_config import ModelConfig
from ndn_infer.engine.weights import Layer

Row = tuple[KvSequence, Sequence[int]]
"""A sequence and its next tokens, each of which is a row."""


class TurnedRows:
    """Queries, keys and values of a step's rows, in memory that every layer uses again."""

    def __init__(self, config: ModelConfig, turns: Tensor) -> None:
        """`turns`: [n, 2, 2, head_dim / 2], as RotaryTables.at gives them."""
        self._config = config
        count, heads, turned = turns.shape[0], config.heads, config.heads + config.kv_heads
        self._shape = (count, turned + config.kv_heads, 1, *turns.shape[2:])
        self._turns = turns.new_ones(count, turned + config.kv_heads, *turns.shape[1:])  # values are not turned
        self._turns[:, :turned] = turns[:, None]
        self._products = torch.empty_like(self._turns)
        self._kept, self._crossed = (self._products[:, :turned, kind].unbind(2) for kind in (0, 1))
        result = turns.new_empty(count, turned, *turns.shape[2:])
        self._halves = result.unbind(2)
        by_head = result.view(count, turned, config.head_dim)
        self.queries = by_head[:, :heads].view(count, config.kv_heads, 1, -1, config.head_dim)
        """[n, kv_heads, 1, heads / kv_heads, head_dim]"""
        self.keys = by_head[:, heads:]
        """[n, kv_heads, head_dim], and the values."""
        self.values = self._products[:, turned:, 0].flatten(2)

    def fill(self, mixed: Tensor, head_norm: Tensor | None) -> None:
        """From queries, keys and values as they come out of their product [n, (heads + 2 * kv_heads) * head_dim]. The
        numbers are those of rotary.rotate."""
        if head_norm is not None:
            mixed = self._normed(mixed, head_norm)
        torch.mul(mixed.view(self._shape), self._turns, out=self._products)
        (kept, kept_more), (crossed, crossed_more), (first, second) = self._kept, self._crossed, self._halves
        torch.add(kept, crossed_more, out=first)
        torch.add(kept_more, crossed, out=second)

    def _normed(self, mixed: Tensor, weight: Tensor) -> Tensor:
        by_head = mixed.view(mixed.shape[0], -1, self._config.head_dim)
        turned = by_head[:, : weight.shape[0]]
        normed = weight.squeeze(1) * F.rms_norm(turned, turned.shape[-1:], None, self._config.norm_eps)
        return torch.cat((normed, by_head[:, weight.shape[0] :]), 1)


class RowAttention:
    """Attention of a step's rows, each to its own sequence: a call of its own, so that no row depends on another."""

    def __init__(self, config: ModelConfig, batch: Sequence[Row], rows: TurnedRows, *, grouped: bool) -> None:
        """`grouped` as in attention.attend_one."""
        self._rows, self._grouped, self._scale = rows, grouped, config.head_dim**-0.5
        self._pages = batch[0][0].pages
        self._queries = rows.queries.unbind(0)
        slots = [slot for cache, tokens in batch for slot in cache.slots(len(tokens))]
        self._slots = torch.tensor(slots, device=self._pages.device)
        self._place = self._pages.place(slots[0]) if len(slots) == 1 else None
        self._by_head = rows.keys.transpose(0, 1), rows.values.transpose(0, 1)
        self._seen = [_seen(config, cache, len(tokens)) for cache, tokens in batch]

    def __call__(self, layer: int) -> Tensor:
        """[n, heads * head_dim], after the rows' own keys and values are stored."""
        if self._place is not None:
            keys, values = self._place[layer]
            keys.copy_(self._rows.keys[0])
            values.copy_(self._rows.values[0])
        else:
            self._pages.write(layer, self._slots, *self._by_head)
        seen = [both for of_layer in self._seen for both in of_layer(layer)]
        out = [
            attend_one(query, keys, values, self._scale, grouped=self._grouped)
            for query, (keys, values) in zip(self._queries, seen, strict=True)
        ]
        return (torch.cat(out) if len(out) > 1 else out[0]).view(len(out), -1)


Seen = Callable[[int], Sequence[tuple[Tensor, Tensor]]]
"""Keys and values [kv_heads, 1, n, head_dim] that each of a sequence's rows sees in a layer."""


def _seen(config: ModelConfig, cache: KvSequence, count: int) -> Seen:
    pages, table = cache.pages, cache.run(cache.length + count)
    places = range(cache.length, cache.length + count)
    if isinstance(table, range):
        span = pages.span(table).unsqueeze(3)
        rows = [_by_layer(config, span, place) for place in places]
        return lambda layer: [row[layer] for row in rows]

    def gathered(layer: int) -> list[tuple[Tensor, Tensor]]:
        keys, values = pages.read(layer, table).unsqueeze(2)
        seen = [slice(first_seen(place, config.windows[layer]), place + 1) for place in places]
        return [(keys[:, :, those], values[:, :, those]) for those in seen]

    return gathered


def _by_layer(config: ModelConfig, span: Tensor, place: int) -> list[tuple[Tensor, Tensor]]:
    """What a row at `place` sees in each layer of `span` [layers, 2, kv_heads, 1, n, head_dim]."""
    pairs = {}
    for window in set(config.windows):
        keys, values = span[..., first_seen(place, window) : place + 1, :].unbind(1)
        pairs[window] = list(zip(keys.unbind(0), values.unbind(0), strict=True))
    return [pairs[window][layer] for layer, window in enumerate(config.windows)]


class Hidden:
    """The hidden states of rows between layers, [n, hidden]: what layers add, and what they read, normalised."""

    def __init__(self, states: Tensor, eps: float) -> None:
        self.states = states
        self._shape, self._eps = states.shape[1:], eps

    def add(self, more: Tensor) -> None:
        self.states = self.states + more

    def normed(self, weight: Tensor) -> Tensor:
        """transformers rounds to the model's dtype before it multiplies by the weights, torch's kernel after."""
        return weight * F.rms_norm(self.states, self._shape, None, self._eps)


def through(layers: Sequence[Layer], hidden: Hidden, rows: TurnedRows, attention: Callable[[int], Tensor]) -> Tensor:
    """Hidden states [n, hidden] after `layers`, the first of which has the number 0. `attention` as RowAttention."""
    for index, layer in enumerate(layers):
        rows.fill(layer.qkv(hidden.normed(layer.input_norm)), layer.head_norm)
        hidden.add(layer.o(attention(index)))
        gate, up = layer.gate_up(hidden.normed(layer.post_norm))
        hidden.add(layer.down(F.silu(gate, inplace=True) * up))
    return hidden.states
