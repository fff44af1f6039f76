"""Rows of decoded tokens on a GPU: all of them in one batch, and the step recorded as a graph and played again.

Owns: memory that a step's inputs always have, attention of all rows together, the recordings. Must not know: what
weights are stored as, prompts, sampling, streams.

A GPU computes an operator of a small model in 2 us and needs 10 to be told of it; a step of SmolLM2-135M has 800 of
them. A recording (CUDA graph) is told once. It holds for fixed shapes, so rows and the tokens that they see are rounded
up: further rows repeat the first one, further tokens are masked out. What a row is given beside its own therefore
follows from its company, and its last bits may too: on a GPU nothing else is promised (docs/engine.md).

Attention is plain products, which spread the tokens that a row sees over all of the GPU. torch's fused kernel goes
through them one after another: on an H200 SmolLM2-135M decoded 187 tokens/s after 1,024 tokens with it, 372 without.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from ndn_infer.engine.decoded_rows import Hidden, Row, TurnedRows, through
from ndn_infer.engine.kv_cache import KvCache, KvPages
from ndn_infer.engine.model_config import ModelConfig
from ndn_infer.engine.rotary import RotaryTables
from ndn_infer.engine.weights import Layer

_LEAST_SEEN: Final = 256
_MOST_GATHERED: Final = 256 << 20
"""Bytes of KV that are laid side by side for a layer; a larger step is computed row by row (decoded_rows.py)."""
_RECORDED_FROM: Final = 3
"""A shape is computed so often before it is recorded: libraries settle in the first calls, and most shapes of a short
answer do not come again."""
_MOST_RECORDINGS: Final = 64


class DeviceRows:
    """The steps of one model. Used from one thread, under torch.inference_mode."""

    def __init__(self, config: ModelConfig, layers: Sequence[Layer], embedding: Tensor, rotary: RotaryTables) -> None:
        self._config, self._layers, self._embedding, self._rotary = config, layers, embedding, rotary
        self._steps: dict[tuple[int, int], _ShapedStep] = {}
        self._pages: KvPages | None = None
        self._pool: Any = None

    def __call__(self, batch: Sequence[Row]) -> Tensor | None:
        """As Llama.rows, without advancing; None where these rows are not for it."""
        pages = batch[0][0].pages
        if isinstance(batch[0][0], KvCache) or self._pages not in (None, pages):
            return None  # pages that grow are others in the next step
        self._pages = pages
        places = [cache.length + at for cache, tokens in batch for at in range(len(tokens))]
        rows, extent = _rounded(len(places)), _extent(max(places) + 1)
        if rows * extent * pages.layout.nbytes // (pages.layout.layers * pages.layout.block_tokens) > _MOST_GATHERED:
            return None
        step = self._steps.get((rows, extent))
        if step is None:
            step = self._steps[rows, extent] = _ShapedStep(self._config, pages, rows, extent)
        step.fill(batch, places, self._rotary)
        return self._run(step)[: len(places)]

    def _run(self, step: _ShapedStep) -> Tensor:
        step.uses += 1
        if step.recording is not None:
            step.recording.replay()
        elif step.uses < _RECORDED_FROM or not self._records():
            return step.compute(self._layers, self._embedding)
        else:
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            recording = torch.cuda.CUDAGraph()
            with torch.cuda.graph(recording, pool=self._pool, capture_error_mode="thread_local"):
                step.result = step.compute(self._layers, self._embedding)
            step.recording = recording
            recording.replay()
        assert step.result is not None
        return step.result

    def _records(self) -> bool:
        recorded = sum(step.recording is not None for step in self._steps.values())
        return self._embedding.device.type == "cuda" and recorded < _MOST_RECORDINGS


def _rounded(count: int) -> int:
    """Up to a power of two."""
    return 1 << (count - 1).bit_length()


def _extent(tokens: int) -> int:
    """Up to a power of two or three quarters of one, at least _LEAST_SEEN."""
    whole = max(_rounded(tokens), _LEAST_SEEN)
    return whole * 3 // 4 if _LEAST_SEEN < whole and tokens <= whole * 3 // 4 else whole


class _ShapedStep:
    """`rows` rows, each of which sees `extent` tokens at most: inputs, always in the same memory."""

    def __init__(self, config: ModelConfig, pages: KvPages, rows: int, extent: int) -> None:
        self._config, self._pages, self._rows = config, pages, rows
        self._blocks = -(-extent // pages.layout.block_tokens)
        self._numbers = torch.zeros(rows, 3 + self._blocks, dtype=torch.int64, device=pages.device)
        self._turns: Tensor | None = None
        self.uses = 0
        self.recording: torch.cuda.CUDAGraph | None = None
        self.result: Tensor | None = None

    def fill(self, batch: Sequence[Row], places: list[int], rotary: RotaryTables) -> None:
        """Of each row the token, its place, where its KV goes, and its sequence's blocks."""
        size, zero, rows, at = self._pages.layout.block_tokens, self._pages.blocks, [], 0
        for cache, tokens in batch:
            for token in tokens:
                place = places[at]
                table = cache.table[: place // size + 1]
                slot = table[-1] * size + place % size
                rows.append([token, place, slot, *table, *[zero] * (self._blocks - len(table))])
                at += 1
        more = self._rows - len(rows)
        self._numbers.copy_(torch.tensor(rows + rows[:1] * more))
        turns = rotary.at([*places, *places[:1] * more])
        if self._turns is None:
            self._turns = torch.empty_like(turns)
        self._turns.copy_(turns)

    def compute(self, layers: Sequence[Layer], embedding: Tensor) -> Tensor:
        """Hidden states [rows, hidden] after all layers."""
        assert self._turns is not None
        tokens, places, slots = self._numbers[:, :3].unbind(1)
        turned = TurnedRows(self._config, self._turns)
        by_head = turned.keys.transpose(0, 1), turned.values.transpose(0, 1)
        queries, table = turned.queries.squeeze(2), self._numbers[:, 3:].flatten()
        _, kv_heads, shared, size = queries.shape
        masks = {window: self._mask(places, window) for window in set(self._config.windows)}

        def attend(layer: int) -> Tensor:
            self._pages.write(layer, slots, *by_head)
            keys, values = self._pages.read(layer, table).view(2, kv_heads * self._rows, -1, size)
            scaled = (queries * size**-0.5).transpose(0, 1).reshape(-1, shared, size)
            scores = torch.bmm(scaled, keys.transpose(1, 2))
            scores.view(kv_heads, self._rows, shared, -1).add_(masks[self._config.windows[layer]])
            out = torch.bmm(torch.softmax(scores, -1), values).view(kv_heads, self._rows, -1)
            return out.transpose(0, 1).reshape(self._rows, -1)

        return through(layers, Hidden(F.embedding(tokens, embedding), self._config.norm_eps), turned, attend)

    def _mask(self, places: Tensor, window: int) -> Tensor:
        """[rows, 1, tokens], 0 or minus infinity: each row sees itself and those before it, of `window` at most."""
        tokens = torch.arange(self._blocks * self._pages.layout.block_tokens, device=places.device)
        hidden = tokens > places[:, None]
        if window:
            hidden |= tokens <= places[:, None] - window
        mask = torch.zeros(hidden.shape, dtype=self._pages.layout.dtype, device=places.device)
        return mask.masked_fill_(hidden, float("-inf"))[:, None]
