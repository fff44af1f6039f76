"""Choosing the next token.

Owns: sampling parameters and the choice. Must not know: models, streams, torch.

Randomness is by counter, not by state: the number drawn for position p of a stream with seed s is Philox(key=s,
counter=p), so whoever continues a stream continues it with the identical choices. (Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", SC 2011.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ndn_infer.errors import ModelError, UsageError


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Raises UsageError when a value is out of its range."""

    max_tokens: int = 256
    """New tokens at most; at least 1."""
    temperature: float = 0.0
    """0: always the most likely token, and the next three have no effect."""
    top_k: int = 0
    """Only the k most likely tokens; 0: all."""
    top_p: float = 1.0
    """Only the most likely tokens that together have this probability; 1: all."""
    seed: int = 0
    """0 to 2^64 - 1."""
    stop_ids: tuple[int, ...] = ()
    """Tokens that end a stream (they are still put out)."""

    def __post_init__(self) -> None:
        checks = (
            (self.max_tokens >= 1, f"max_tokens must be at least 1, not {self.max_tokens}"),
            (
                math.isfinite(self.temperature) and 0.0 <= self.temperature <= 100.0,
                f"temperature must be 0 (greedy) to 100, not {self.temperature}",
            ),
            (self.top_k >= 0, f"top_k must be 0 (off) or more, not {self.top_k}"),
            (0.0 < self.top_p <= 1.0, f"top_p must be above 0 and at most 1, not {self.top_p}"),
            (0 <= self.seed < 1 << 64, f"seed must be 0 to 2^64 - 1, not {self.seed}"),
        )
        for fine, message in checks:
            if not fine:
                raise UsageError(message)


def sample(logits: NDArray[np.float32], params: SamplingParams, position: int) -> tuple[int, float]:
    """(token id, its natural log probability under the model, before temperature and filters).

    logits: [vocab] float32. position: index in the whole sequence of the token that is chosen. Raises ModelError when
    the logits are not numbers.
    """
    best = int(logits.argmax())
    peak = float(logits[best])
    if not math.isfinite(peak):
        raise ModelError("the model computed no numbers: damaged weights, or values too large for this dtype")
    shifted = logits.astype(np.float64) - peak
    log_total = math.log(float(np.exp(shifted).sum()))
    if params.temperature == 0.0:
        return best, -log_total
    ids, weights = _candidates(shifted / params.temperature, params)
    bounds = np.cumsum(weights)
    point = uniform(params.seed, position) * bounds[-1]
    chosen = int(ids[min(int(np.searchsorted(bounds, point, side="right")), len(ids) - 1)])
    return chosen, float(shifted[chosen]) - log_total


def uniform(seed: int, position: int) -> float:
    """The number in [0, 1) that belongs to a position of a stream: 53 bits of Philox."""
    return float(int(np.random.Philox(key=seed, counter=position).random_raw()) >> 11) * 2.0**-53


def _candidates(scaled: NDArray[np.float64], params: SamplingParams) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """(ids, weights) left after both filters: by falling weight, equal ones by id. Without filters: by id."""
    weights = np.exp(scaled)
    if params.top_k in (0, *range(len(weights), len(weights) + 1)) and params.top_p == 1.0:
        return np.arange(len(weights)), weights
    least = 0.0
    if 0 < params.top_k < len(weights):
        least = float(np.partition(weights, -params.top_k)[-params.top_k])
    elif params.top_p < 1.0:
        # what lies below this cannot add up to 1 - top_p, so the tokens wanted lie above; saves sorting them all
        least = float(weights.sum()) * (1.0 - params.top_p) / len(weights)
    ids = np.flatnonzero(weights >= least)
    ids = ids[np.argsort(-weights[ids], kind="stable")]
    if params.top_k:
        ids = ids[: params.top_k]
    kept = weights[ids]
    if params.top_p < 1.0:
        # with top_k the probability is that among the k, as transformers and vLLM have it
        total = float(kept.sum()) if params.top_k else float(weights.sum())
        count = int(np.searchsorted(np.cumsum(kept), params.top_p * total, side="left")) + 1
        ids, kept = ids[:count], kept[:count]
    return ids, kept
