"""Choosing the next token.

Owns: greedy and filtered sampling with randomness by counter: the number that decides position p of a stream depends on
(seed, p) alone, so any node continues a stream with the same tokens. Must not know: models, streams, batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ndn_infer.errors import UsageError


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """temperature 0 is greedy; top_k 0 and top_p 1 are off. `stop_ids` end a stream. Raises UsageError."""

    max_tokens: int
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens must be at least 1, not {self.max_tokens}")
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature must be 0 or above, not {self.temperature}")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UsageError(f"top_k must not be negative and top_p in (0, 1], not {self.top_k} and {self.top_p}")
        if not 0 <= self.seed < 1 << 64:
            raise UsageError("seed must be between 0 and 2**64 - 1")


def uniform(seed: int, position: int) -> float:
    """One number in [0, 1), a function of (seed, position): Philox 4x64 keyed by the seed, counter = position."""
    return float(np.random.Generator(np.random.Philox(key=seed, counter=position)).random())


def sample(logits: torch.Tensor, params: SamplingParams, position: int) -> tuple[int, float]:
    """Token id and its log-probability under the unfiltered model. `logits` is [vocab] float32."""
    if params.temperature == 0:
        token = int(torch.argmax(logits))
    else:
        token = _draw(logits, params, position)
    return token, float(logits[token] - torch.logsumexp(logits, 0))


def filtered(logits: torch.Tensor, params: SamplingParams) -> tuple[np.ndarray, np.ndarray]:
    """Token ids in order of falling probability and their float64 probabilities after temperature, top-k and top-p."""
    scaled = logits.double().cpu().numpy() / params.temperature
    order = np.argsort(-scaled, kind="stable")
    if params.top_k:
        order = order[: params.top_k]
    weights = np.exp(scaled[order] - scaled[order[0]])
    probabilities = weights / weights.sum()
    if params.top_p < 1:
        before = np.cumsum(probabilities) - probabilities  # the token that crosses top_p still belongs to the set
        keep = before < params.top_p
        order, probabilities = order[keep], probabilities[keep]
    return order, probabilities / probabilities.sum()


def _draw(logits: torch.Tensor, params: SamplingParams, position: int) -> int:
    order, probabilities = filtered(logits, params)
    index = int(np.searchsorted(np.cumsum(probabilities), uniform(params.seed, position), side="right"))
    return int(order[min(index, len(order) - 1)])
