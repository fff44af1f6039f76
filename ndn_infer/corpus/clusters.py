"""Clusters of vectors, so that a search looks at the rows near a query and not at all of them (an inverted file, IVF).

Owns: k-means over directions, and which cluster a row belongs to. Must not know: files, passages. Deterministic: equal
rows make equal clusters.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]

ROUNDS: Final = 8
SAMPLED: Final = 48
"""Rows of a cluster that its centre is found from."""
_CHUNK: Final = 16_384


def cluster_count(rows: int) -> int:
    """About the square root: then as many centres are compared as a few clusters have rows."""
    return max(1, math.isqrt(rows))


def centres(sample: Matrix, count: int) -> Matrix:
    """`count` unit vectors [count, d] that the rows of `sample` (unit vectors, at least `count`) lie near."""
    draw = np.random.default_rng(0)
    found = sample[draw.choice(len(sample), count, replace=False)].copy()
    for _ in range(ROUNDS):
        nearest = assign(sample, found)
        sums = np.zeros_like(found)
        np.add.at(sums, nearest, sample)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        empty = lengths[:, 0] < 1e-6
        sums[empty] = sample[draw.choice(len(sample), int(empty.sum()))]
        lengths[empty] = np.linalg.norm(sums[empty], axis=1, keepdims=True)
        found = (sums / lengths).astype(np.float32)
    return found


def assign(rows: Matrix, centred: Matrix) -> npt.NDArray[np.int32]:
    """For each row the centre that it is nearest to, by cosine."""
    found = np.empty(len(rows), np.int32)
    for start in range(0, len(rows), _CHUNK):
        found[start : start + _CHUNK] = (rows[start : start + _CHUNK] @ centred.T).argmax(axis=1)
    return found
