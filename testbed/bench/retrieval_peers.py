"""Our index of vectors beside usearch's graph (HNSW, 8 bits), over the same vectors and the same questions in one run.

Owns: what is measured of both, alike. Must not know: where vectors come from.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ndn_infer.corpus.array_file import open_arrays, write_arrays
from ndn_infer.corpus.index import VectorIndex, Vectors, index_arrays
from ndn_infer.errors import EngineUnavailable
from ndn_infer.testbed.bench.memory import resident_mb

TOP: Final = 5
_CHUNK: Final = 50_000


@dataclass(frozen=True, slots=True)
class IndexCost:
    """`recall`: of the TOP of an exact search in 32 bits, those in the index's TOP. `memory_mb`: what the process has
    more of, pages of a mapped file included, once the index was opened from its file and asked."""

    build_s: float
    file_mb: float
    open_s: float
    p50_ms: float
    p99_ms: float
    recall: float
    memory_mb: float


def usearch_index() -> Callable[..., Any]:
    """usearch's class of indexes. Raises EngineUnavailable where it is not installed."""
    try:
        from usearch.index import Index
    except ImportError as error:
        raise EngineUnavailable(
            f"usearch, which this is compared with, cannot be loaded ({error})",
            hint="pip install usearch, or leave it out with --no-peers",
        ) from error
    made: Callable[..., Any] = Index
    return made


def side_by_side(vectors: Vectors, queries: Vectors, folder: Path) -> dict[str, dict[str, float]]:
    """Of vectors of length 1, one a passage; `folder` gets both files. Raises EngineUnavailable."""
    make = usearch_index()
    exact = exact_best(vectors, queries, TOP)
    return {
        "ndn-infer": asdict(_ours(vectors, queries, exact, folder / "ours.bin")),
        "usearch": asdict(_theirs(make, vectors, queries, exact, folder / "theirs.bin")),
    }


def exact_best(vectors: Vectors, queries: Vectors, count: int) -> list[set[int]]:
    """The places of the nearest to each query, in 32 bits."""
    best_scores = np.full((len(queries), count), -2.0, np.float32)
    best = np.zeros((len(queries), count), np.int64)
    for start in range(0, len(vectors), _CHUNK):
        part = queries @ vectors[start : start + _CHUNK].T
        numbers = np.broadcast_to(np.arange(start, start + part.shape[1]), part.shape)
        scores, places = np.hstack((best_scores, part)), np.hstack((best, numbers))
        keep = np.argpartition(-scores, count, axis=1)[:, :count]
        best_scores, best = np.take_along_axis(scores, keep, 1), np.take_along_axis(places, keep, 1)
    return [set(map(int, row)) for row in best]


def _ours(vectors: Vectors, queries: Vectors, exact: list[set[int]], path: Path) -> IndexCost:
    began = time.perf_counter()
    count = len(vectors)
    write_arrays(path, {"n": count}, index_arrays(vectors, np.ones(count, np.float32), np.arange(count + 1)))
    built, before = time.perf_counter(), resident_mb()
    index = VectorIndex.of(open_arrays(path)[1])
    opened = time.perf_counter() - built
    times, recall = _asked(lambda query: {place for place, _ in index.best(query, TOP)}, queries, exact)
    return _index_cost(built - began, opened, times, recall, resident_mb() - before, path)


def _theirs(
    make: Callable[..., Any], vectors: Vectors, queries: Vectors, exact: list[set[int]], path: Path
) -> IndexCost:  # fmt: skip
    began = time.perf_counter()
    index = make(ndim=vectors.shape[1], metric="cos", dtype="i8")
    index.add(np.arange(len(vectors)), vectors)
    index.save(str(path))
    built = time.perf_counter()
    del index
    before, opening = resident_mb(), time.perf_counter()
    index = make(ndim=vectors.shape[1], metric="cos", dtype="i8")
    index.view(str(path))  # mapped, as ours is
    opened = time.perf_counter() - opening
    times, recall = _asked(lambda query: set(map(int, index.search(query, TOP).keys)), queries, exact)
    return _index_cost(built - began, opened, times, recall, resident_mb() - before, path)


def _index_cost(
    build_s: float, open_s: float, times: list[float], recall: float, memory_mb: float, path: Path
) -> IndexCost:
    p50, p99 = (float(np.percentile(times, part)) for part in (50, 99))
    return IndexCost(build_s, path.stat().st_size / 1e6, open_s, p50, p99, recall, memory_mb)


def _asked(
    search: Callable[[Vectors], set[int]], queries: Vectors, exact: list[set[int]]
) -> tuple[list[float], float]:  # fmt: skip
    times, found = [], []
    for query in queries:
        began = time.perf_counter()
        found.append(search(query))
        times.append(1000 * (time.perf_counter() - began))
    return times, float(np.mean([len(have & want) / len(want) for have, want in zip(found, exact, strict=True)]))
