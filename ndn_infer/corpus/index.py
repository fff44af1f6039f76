"""The vector index: which rows of a matrix lie nearest to a vector, by cosine.

Owns: the search structure (usearch) and its file. Must not know: passages, texts, embedders.

File: MAGIC, the SHA-256 of what follows, then usearch's own serialisation. The digest is checked before usearch sees a
byte: its native reader is not made for damaged input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ndn_infer.errors import DamagedCache, EngineUnavailable, StorageError
from ndn_infer.files import write_at_once

MAGIC: Final = b"NDNIVEC1"
EXACT_ROWS: Final = 50_000
"""Up to this many rows a search compares them all (some milliseconds); above, its graph answers approximately."""

_REBUILD_HINT: Final = "delete the file; the index is made again at the next start"
_HEADER: Final = len(MAGIC) + hashlib.sha256().digest_size

Vectors = npt.NDArray[np.float32]


class VectorIndex:
    """Rows of float32 vectors of one width. Make one with `build` or `load`; it does not change afterwards."""

    def __init__(self, native: Any) -> None:
        self._native = native

    @classmethod
    def build(cls, vectors: Vectors, ids: Sequence[int] | None = None) -> VectorIndex:
        """Index of `vectors` [n, d], n and d at least 1. Row i answers searches as ids[i] (distinct, 0 to 2^63 - 1; the
        row number when `ids` is left out). Raises ValueError for another dtype or shape, for values that are not finite
        and for rows of length zero, which have no direction; EngineUnavailable without usearch."""
        _check(vectors, 2)
        keys = np.arange(len(vectors), dtype=np.uint64) if ids is None else np.asarray(ids, dtype=np.uint64)
        if len(keys) != len(vectors) or len(np.unique(keys)) != len(keys):
            raise ValueError(f"{len(vectors)} vectors need as many distinct ids")
        native = _index_class()(ndim=vectors.shape[1], metric="cos", dtype="f32")
        native.add(keys, np.ascontiguousarray(vectors))
        return cls(native)

    @property
    def width(self) -> int:
        return int(self._native.ndim)

    def __len__(self) -> int:
        return len(self._native)

    def search(self, vector: Vectors, k: int) -> list[tuple[int, float]]:
        """The min(k, len) rows nearest to `vector` [d] as (id, cosine in [-1, 1]), best first, equal ones by id. Raises
        ValueError when `vector` is not of this index's width, not finite, or zero."""
        _check(vector, 1)
        if len(vector) != self.width:
            raise ValueError(f"a vector of width {len(vector)} for an index of width {self.width}")
        count = min(k, len(self))
        if count < 1:
            return []
        matches = self._native.search(vector, count, exact=len(self) <= EXACT_ROWS)
        scores = np.clip(1.0 - matches.distances, -1.0, 1.0)
        found = [(int(row), float(score)) for row, score in zip(matches.keys, scores, strict=True)]
        return sorted(found, key=lambda item: (-item[1], item[0]))

    def save(self, path: Path) -> None:
        """Write the index to `path` in one step: a reader sees the old file or the new one, never a part. Raises
        StorageError when the disk is full or does not permit it; then nothing is left behind."""
        body = bytes(self._native.save(None))
        write_at_once(path, MAGIC + hashlib.sha256(body).digest(), body)

    @classmethod
    def load(cls, path: Path) -> VectorIndex:
        """The index in `path`. Raises DamagedCache when its bytes are not those that `save` wrote, StorageError when it
        cannot be read (also when it does not exist), EngineUnavailable without usearch."""
        index_class = _index_class()
        try:
            wire = path.read_bytes()
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}", hint="check its permissions") from error
        body = wire[_HEADER:]
        if wire[:_HEADER] != MAGIC + hashlib.sha256(body).digest():
            raise DamagedCache(f"{path} is damaged: its checksum does not match", hint=_REBUILD_HINT)
        try:
            native = index_class.restore(body)
        except (RuntimeError, ValueError) as error:
            raise DamagedCache(f"{path} is from another version of usearch: {error}", hint=_REBUILD_HINT) from error
        if native is None or not len(native):
            raise DamagedCache(f"{path} holds no index", hint=_REBUILD_HINT)
        return cls(native)


def _check(vectors: Vectors, dimensions: int) -> None:
    if vectors.dtype != np.float32 or vectors.ndim != dimensions or not vectors.size:
        raise ValueError(f"expected float32 in {dimensions} dimensions, got {vectors.dtype} of shape {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise ValueError("a vector holds NaN or infinity")
    if not vectors.any(axis=-1).all():
        raise ValueError("a vector is zero")


def _index_class() -> Any:
    try:
        from usearch.index import Index
    except ImportError as error:
        raise EngineUnavailable(f"retrieval needs the package usearch ({error})") from error
    return Index
