"""The vector index: which passages lie nearest to a question, by the vectors of their windows.

Owns: the search, exact or by clusters, and the arrays that it takes. Must not know: texts, embedders, files.

A passage's score is the mean of two cosines: of its best window, and of the whole passage (the mean of its windows by
length). Up to EXACT_ROWS windows all are compared, in 32 bits. Above, vectors are bytes with a scale for each row, and
a search looks at the windows of the PROBES clusters nearest to the question (clusters.py) and scores their passages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ndn_infer.corpus.clusters import SAMPLED, assign, centres, cluster_count
from ndn_infer.errors import DamagedCache

EXACT_ROWS: Final = 50_000
PROBES: Final = 48
CANDIDATES: Final = 400
"""Windows whose passages are scored, where clusters are searched."""
_CHUNK: Final = 16_384

Vectors = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """`windows` and `passages` are rows of float32, or of int8 with scales; `bounds[i]` to `bounds[i + 1]` are the
    windows of passage i. With clusters, windows are kept in their order: `place[row]` is where a window stands."""

    windows: npt.NDArray[Any]
    passages: npt.NDArray[Any]
    bounds: Places
    scales: Vectors
    passage_scales: Vectors
    clusters: Vectors
    cluster_bounds: Places
    order: npt.NDArray[np.int32]
    place: npt.NDArray[np.int32]

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> VectorIndex:
        """The index in these arrays (of a file). Raises DamagedCache where a place is none."""
        try:
            index = cls(*(arrays[name] for name in _NAMES))
        except KeyError as error:
            raise DamagedCache(f"the index lacks {error}") from error
        rows, count = len(index.windows), len(index.passages)
        bounded = (
            len(index.bounds) == count + 1 and index.bounds[0] == 0 and index.bounds[-1] == rows
            and bool((np.diff(index.bounds) > 0).all())
        )  # fmt: skip
        if not count or not bounded or (len(index.clusters) and not index._clusters_fit(rows)):
            raise DamagedCache("the index is damaged: places that are none")
        return index

    def _clusters_fit(self, rows: int) -> bool:
        return (
            len(self.cluster_bounds) == len(self.clusters) + 1 and self.cluster_bounds[0] == 0
            and self.cluster_bounds[-1] == rows and len(self.order) == len(self.place) == rows
            and 0 <= int(self.order.min()) and int(self.order.max()) < rows
            and 0 <= int(self.place.min()) and int(self.place.max()) < rows
        )  # fmt: skip

    @property
    def width(self) -> int:
        return int(self.windows.shape[1])

    def best(self, vector: Vectors, count: int) -> list[tuple[int, float]]:
        """At most `count` passages as (place, score in [-1, 1]), best first, equal ones by place. Raises ValueError
        when `vector` is not float32 [width], finite and not zero."""
        asked = checked_vector(vector, self.width)
        near = (
            np.arange(len(self.passages)) if not len(self.clusters) else self._near(asked, max(CANDIDATES, 4 * count))
        )
        scores = self.scores(asked, near)
        ranked = np.lexsort((near, -scores))[: max(count, 0)]
        return [(int(near[at]), float(scores[at])) for at in ranked]

    def scores(self, asked: Vectors, passages: Places) -> Vectors:
        """Of these passages; `asked` has length 1."""
        whole = self._cosines(self.passages, self.passage_scales, passages, asked)
        counts = self.bounds[passages + 1] - self.bounds[passages]
        starts = np.cumsum(counts) - counts
        rows = np.repeat(self.bounds[passages] - starts, counts) + np.arange(int(counts.sum()))
        if len(self.clusters):
            rows = self.place[rows].astype(np.int64)
        parts = self._cosines(self.windows, self.scales, rows, asked)
        best = np.maximum.reduceat(parts, starts) if len(starts) else parts
        found: Vectors = np.clip((whole + best) / 2, -1, 1).astype(np.float32)
        return found

    def _near(self, asked: Vectors, count: int) -> Places:
        """Passages of the windows nearest to the question, in the clusters that are searched."""
        lists = np.argsort(-(self.clusters @ asked), kind="stable")[:PROBES]
        kept_rows, kept_scores = [], []
        for number in lists:
            start, end = int(self.cluster_bounds[number]), int(self.cluster_bounds[number + 1])
            kept_rows.append(np.arange(start, end))
            kept_scores.append((self.windows[start:end].astype(np.float32) @ asked) * self.scales[start:end])
        rows, scores = np.concatenate(kept_rows), np.concatenate(kept_scores)
        if len(rows) > count:
            rows = rows[np.argpartition(-scores, count)[:count]]
        owners: Places = np.unique(np.searchsorted(self.bounds, self.order[rows], side="right") - 1)
        return owners

    def _cosines(self, matrix: npt.NDArray[Any], scales: Vectors, rows: Places, asked: Vectors) -> Vectors:
        whole = len(rows) == len(matrix) and not len(self.clusters)
        found: Vectors = (matrix if whole else matrix[rows]).astype(np.float32, copy=False) @ asked
        return found * scales[rows] if len(scales) else found


_NAMES: Final = (
    "windows", "passages", "bounds", "scales", "passage_scales", "clusters", "cluster_bounds", "order", "place"
)  # fmt: skip


def index_arrays(windows: Vectors, weights: Vectors, bounds: Places, clusters: Vectors | None = None) -> Arrays:
    """The arrays of an index of window vectors [n, d], of length 1. `weights[i]` is how much window i counts in its
    passage. `clusters` are those of an index before, which serve as long as their number fits."""
    passages = _passages(windows, weights, bounds)
    empty: Arrays = {"clusters": np.empty((0, windows.shape[1]), np.float32), "cluster_bounds": np.empty(0, np.int64)}
    none = np.empty(0, np.float32)
    if len(windows) <= EXACT_ROWS:
        places: Arrays = {"order": np.empty(0, np.int32), "place": np.empty(0, np.int32)}
        return {"windows": windows, "passages": passages, "bounds": bounds, "scales": none, "passage_scales": none,
                **empty, **places}  # fmt: skip
    found = _clustered(windows, clusters)
    number = assign(windows, found)
    order = np.argsort(number, kind="stable").astype(np.int32)
    place = np.empty_like(order)
    place[order] = np.arange(len(order), dtype=np.int32)
    rows, scales = as_bytes(windows, order)
    short, passage_scales = as_bytes(passages, np.arange(len(passages)))
    counts = np.bincount(number, minlength=len(found))
    return {
        "windows": rows, "passages": short, "bounds": bounds, "scales": scales, "passage_scales": passage_scales,
        "clusters": found, "cluster_bounds": np.concatenate(([0], np.cumsum(counts))), "order": order, "place": place,
    }  # fmt: skip


def _clustered(windows: Vectors, before: Vectors | None) -> Vectors:
    count = cluster_count(len(windows))
    if before is not None and count / 2 <= len(before) <= count * 2:
        return before
    sample = np.linspace(0, len(windows) - 1, min(len(windows), count * SAMPLED)).astype(np.int64)
    return centres(np.asarray(windows[sample], np.float32), count)


def as_bytes(vectors: Vectors, order: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int8], Vectors]:
    """Rows in this order as int8, and what each is multiplied with."""
    rows, scales = np.empty(vectors.shape, np.int8), np.empty(len(vectors), np.float32)
    for start in range(0, len(order), _CHUNK):
        part = vectors[order[start : start + _CHUNK]]
        scale = np.maximum(np.abs(part).max(axis=1), 1e-12) / 127
        rows[start : start + _CHUNK] = np.rint(part / scale[:, None])
        scales[start : start + _CHUNK] = scale
    return rows, scales


def original_rows(arrays: Mapping[str, npt.NDArray[Any]], rows: Places) -> Vectors:
    """Window vectors of an index as they were given to it, but for what bytes lose."""
    if not len(arrays["clusters"]):
        return np.asarray(arrays["windows"][rows], np.float32)
    places = arrays["place"][rows]
    found: Vectors = arrays["windows"][places].astype(np.float32) * arrays["scales"][places][:, None]
    return found


def _passages(windows: Vectors, weights: Vectors, bounds: Places) -> Vectors:
    found = np.empty((len(bounds) - 1, windows.shape[1]), np.float32)
    for start, end in _spans(len(bounds) - 1):
        first, last = int(bounds[start]), int(bounds[end])
        sums = np.add.reduceat(windows[first:last] * weights[first:last, None], bounds[start:end] - first, axis=0)
        found[start:end] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return found


def _spans(count: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, _CHUNK):
        yield start, min(start + _CHUNK, count)


def checked_vector(vector: Vectors, width: int) -> Vectors:
    """The vector with length 1. Raises ValueError."""
    if vector.dtype != np.float32 or vector.shape != (width,):
        raise ValueError(f"expected float32 of width {width}, got {vector.dtype} of shape {vector.shape}")
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or not length:
        raise ValueError("a vector is zero, or holds NaN or infinity")
    unit: Vectors = vector / np.float32(length)
    return unit
