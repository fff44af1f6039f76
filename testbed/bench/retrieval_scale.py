"""An index of a million passages: how long it takes to build and to search, what it takes of memory and disk, and what
it misses.

Owns: synthetic vectors, and the measurements over them. Must not know: texts: vectors are drawn around centres, as
those of texts lie in topics, with noise as strong as the centres themselves, so that clusters overlap.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ndn_infer.corpus.array_file import open_arrays, write_arrays
from ndn_infer.corpus.index import VectorIndex, Vectors, index_arrays
from ndn_infer.testbed.bench.memory import resident_mb
from ndn_infer.testbed.bench.retrieval_peers import exact_best

WIDTH: Final = 384
TOPICS: Final = 5000
QUERIES: Final = 200
TOP: Final = 10
_CHUNK: Final = 50_000


@dataclass(frozen=True, slots=True)
class Scale:
    passages: int
    build_s: float
    write_s: float
    open_s: float
    file_mb: float
    build_peak_mb: float
    serving_mb: float
    p50_ms: float
    p99_ms: float
    recall: float
    """Of the TOP passages of an exact search in 32 bits, those that the index gives in its TOP."""


def measured_scale(passages: int, folder: Path) -> Scale:
    """One window a passage. The file is left in `folder`."""
    path = folder / "index.bin"
    vectors, queries = synthetic(passages)
    started = time.perf_counter()
    arrays = index_arrays(vectors, np.ones(passages, np.float32), np.arange(passages + 1))
    built = time.perf_counter()
    write_arrays(path, {"passages": passages}, arrays)
    wrote = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    exact = exact_best(vectors, queries, TOP)
    del arrays, vectors
    before = resident_mb()
    opening = time.perf_counter()
    index = VectorIndex.of(open_arrays(path)[1])
    opened = time.perf_counter()
    times, found = [], []
    for query in queries:
        at = time.perf_counter()
        found.append({place for place, _ in index.best(query, TOP)})
        times.append(1000 * (time.perf_counter() - at))
    recall = float(np.mean([len(have & want) / TOP for have, want in zip(found, exact, strict=True)]))
    return Scale(
        passages, built - started, wrote - built, opened - opening, path.stat().st_size / 1e6, peak,
        resident_mb() - before, float(np.percentile(times, 50)), float(np.percentile(times, 99)), recall,
    )  # fmt: skip


def synthetic(passages: int) -> tuple[Vectors, Vectors]:
    """Vectors of passages and of questions, of length 1. A question lies near a passage, with noise of its own."""
    draw = np.random.default_rng(1)
    topics = draw.standard_normal((TOPICS, WIDTH), np.float32)
    vectors = np.empty((passages, WIDTH), np.float32)
    for start in range(0, passages, _CHUNK):
        part = vectors[start : start + _CHUNK]
        part[:] = topics[draw.integers(0, TOPICS, len(part))] + draw.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    near = vectors[draw.integers(0, passages, QUERIES)]
    queries = near + 0.7 * draw.standard_normal(near.shape, np.float32) / np.sqrt(np.float32(WIDTH))
    return vectors, (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
