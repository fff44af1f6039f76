"""Statistics of scores: intervals of one score, and whether two scores of the same items differ.

Owns: Wilson's interval, the percentile bootstrap, McNemar's exact test. Pure and deterministic: anybody who has the
outcomes computes the same numbers. Must not know: what was scored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

LEVEL: Final = 0.95
RESAMPLES: Final = 2000
SEED: Final = 20261126
_CHUNK: Final = 1 << 21
"""Random numbers that are held at once."""


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high` with confidence `level`, by `method`: "wilson" or "bootstrap"."""

    method: str
    low: float
    high: float
    level: float = LEVEL


def mean(values: Sequence[float]) -> float:
    """0 of nothing."""
    return math.fsum(values) / len(values) if values else 0.0


def interval_of(values: Sequence[float]) -> Interval:
    """Of the mean: Wilson's where every value is 0 or 1, else the bootstrap's."""
    if all(value in (0.0, 1.0) for value in values):
        return wilson(sum(value == 1.0 for value in values), len(values))
    return Interval("bootstrap", *_percentiles(bootstrap_means(values)))


def wilson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a proportion (Wilson, JASA 22, 1927); 0 to 1 of nothing."""
    if not n:
        return Interval("wilson", 0.0, 1.0, level)
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, z2 = successes / n, z * z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    return Interval("wilson", low, 1.0 if successes == n else min(1.0, middle + half), level)


def bootstrap_means(values: Sequence[float], resamples: int = RESAMPLES, seed: int = SEED) -> list[float]:
    """Means of samples of `values` with replacement, in rising order (Efron, 1979). The generator is PCG64 with this
    seed, of whose raw numbers the remainder by n is taken, so that versions of numpy do not matter."""
    n = len(values)
    if not n:
        return [0.0] * resamples
    source, known, means = np.random.PCG64(seed), np.asarray(values, dtype=np.float64), []
    rows = max(1, _CHUNK // n)
    for begin in range(0, resamples, rows):
        count = min(rows, resamples - begin)
        picks = source.random_raw(count * n).reshape(count, n) % np.uint64(n)
        means.extend((known[picks].sum(axis=1) / n).tolist())
    return sorted(means)


def _percentiles(ordered: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    cut = round((1 - level) / 2 * len(ordered))
    return ordered[cut], ordered[len(ordered) - 1 - cut]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two scores of the same `n` items. `a_only` and `b_only` are items that only one of them got right (their value
    above one half); `p_value` is McNemar's exact one of these; `difference` is mean(b) - mean(a), with the paired
    bootstrap's interval."""

    n: int
    score_a: float
    score_b: float
    both: int
    neither: int
    a_only: int
    b_only: int
    p_value: float
    difference: float
    interval: Interval


def compare(a: Sequence[float], b: Sequence[float]) -> Comparison:
    """`a[i]` and `b[i]` are values of one item."""
    right = [(one > 0.5, other > 0.5) for one, other in zip(a, b, strict=True)]
    a_only, b_only = right.count((True, False)), right.count((False, True))
    differences = [other - one for one, other in zip(a, b, strict=True)]
    interval = Interval("bootstrap", *_percentiles(bootstrap_means(differences)))
    return Comparison(
        len(right), mean(a), mean(b), right.count((True, True)), right.count((False, False)), a_only, b_only,
        mcnemar(a_only, b_only), mean(differences), interval,
    )  # fmt: skip


def mcnemar(a_only: int, b_only: int) -> float:
    """The two-sided exact probability of a split at least as uneven, where both ways are equally likely (McNemar,
    Psychometrika 12, 1947)."""
    n, less = a_only + b_only, min(a_only, b_only)
    term = total = 1
    for k in range(1, less + 1):
        term = term * (n - k + 1) // k
        total += term
    # A ratio of integers: 2 ** n is beyond floats from n = 1024 on.
    return min(1.0, float(_ratio(2 * total, n)))


def _ratio(numerator: int, exponent: int) -> float:
    """numerator / 2 ** exponent."""
    extra = max(0, numerator.bit_length() - 64)
    return math.ldexp(numerator >> extra, extra - exponent)
