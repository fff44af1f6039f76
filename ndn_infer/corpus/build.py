"""Building an index: what of a folder was embedded before is taken over, the rest is embedded in batches.

Owns: the arrays of an index file, and where they come from: the folder's index before, the journal of a build that was
interrupted, the embedder. Must not know: folders, names, how passages are ranked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ndn_infer.corpus.index import Arrays, Places, Vectors, index_arrays, original_rows
from ndn_infer.corpus.journal import Embedded, Journal
from ndn_infer.corpus.late import Matrix, TokenVectors, basis_of, frequencies, normed, shortened
from ndn_infer.corpus.passages import CorpusPassage
from ndn_infer.corpus.windows import windows
from ndn_infer.errors import ModelError

Embed = Callable[[list[str]], Vectors]
"""n texts to float32 [n, d], the same d for every call."""
EmbedTokens = Callable[[list[str]], TokenVectors]
"""n texts to the vectors of their tokens."""
Progress = Callable[[int, int], None]
"""Texts embedded so far, texts in all."""

BATCH: Final = 64
_BASIS_TEXTS: Final = 256


@dataclass(frozen=True, slots=True)
class Texts:
    """What is embedded of passages: the windows of each, with its title before them."""

    windows: list[str]
    keys: list[bytes]
    bounds: Places

    @classmethod
    def of(cls, passages: Sequence[CorpusPassage]) -> Texts:
        parts = [[f"{passage.title}\n{part}" for part in windows(passage.text)] for passage in passages]
        texts = [text for of_passage in parts for text in of_passage]
        keys = [hashlib.sha256(text.encode()).digest()[:16] for text in texts]
        return cls(texts, keys, np.cumsum([0, *map(len, parts)]).astype(np.int64))


@dataclass(frozen=True, slots=True)
class Embedder:
    """`tokens` gives more, and is asked instead of `vectors` where a ranking takes the vectors of tokens."""

    vectors: Embed
    tokens: EmbedTokens | None = None
    progress: Progress | None = None


def build_arrays(texts: Texts, embedder: Embedder, journal: Journal, before: Arrays | None) -> Arrays:
    """The arrays of an index; `before` are those of another index by the same embedder, for the same ranking. Raises
    ModelError when the embedder answers with another shape, whatever it raises, StorageError."""
    old = _rows_by_key(before) if before is not None else {}
    _embed_missing(texts, embedder, journal, old, before)
    assert journal.basis is not None
    rows = np.array([old.get(key, -1) for key in texts.keys], np.int64)
    arrays = _with_tokens(texts, journal, rows, before) if journal.basis.shape[1] else {}
    vectors = np.empty((len(rows), journal.basis.shape[0]), np.float32)
    taken = np.flatnonzero(rows >= 0)
    if before is not None and len(taken):
        vectors[taken] = original_rows(before, rows[taken])
    for at in np.flatnonzero(rows < 0):
        vectors[at] = journal.record(texts.keys[at]).vector
    weights = np.array([len(text) for text in texts.windows], np.float32)
    clusters = before["clusters"] if before is not None and len(before["clusters"]) else None
    arrays |= index_arrays(vectors, weights, texts.bounds, clusters)
    arrays["keys"] = np.frombuffer(b"".join(texts.keys), np.uint8).reshape(-1, 16)
    return arrays


def _rows_by_key(before: Arrays) -> dict[bytes, int]:
    keys = np.asarray(before["keys"])
    return {keys[row].tobytes(): row for row in range(len(keys))}


def _embed_missing(
    texts: Texts, embedder: Embedder, journal: Journal, old: Mapping[bytes, int], before: Arrays | None
) -> None:
    if before is not None and (journal.basis is None or not np.array_equal(journal.basis, _basis(before))):
        journal.begin(_basis(before))
    wanted = {key: text for key, text in zip(texts.keys, texts.windows, strict=True) if key not in old}
    todo = sorted((key for key in wanted if key not in journal), key=lambda key: (len(wanted[key]), key))
    done, total = len(wanted) - len(todo), len(wanted)
    for keys in _batches(todo, first_is_spread=journal.basis is None and embedder.tokens is not None):
        journal.add(_embedded(keys, [wanted[key] for key in keys], embedder, journal))
        done += len(keys)
        if embedder.progress:
            embedder.progress(done, total)


def _batches(todo: list[bytes], *, first_is_spread: bool) -> Iterator[list[bytes]]:
    """Of texts of like lengths; the first, which the basis is made from, of all lengths."""
    if first_is_spread and todo:
        first = todo[:: -(-len(todo) // _BASIS_TEXTS)]
        yield first
        todo = _without(todo, first)
    for start in range(0, len(todo), BATCH):
        yield todo[start : start + BATCH]


def _without(keys: list[bytes], gone: list[bytes]) -> list[bytes]:
    left = set(gone)
    return [key for key in keys if key not in left]


def _basis(before: Arrays) -> Matrix:
    basis = before.get("basis")
    return np.asarray(basis) if basis is not None else np.empty((before["windows"].shape[1], 0), np.float32)


def _embedded(keys: list[bytes], texts: list[str], embedder: Embedder, journal: Journal) -> dict[bytes, Embedded]:
    """The records of these texts. The first of all decide how wide vectors are, and the basis of tokens."""
    if embedder.tokens is None:
        vectors = _checked(embedder.vectors(texts), len(texts))
        if journal.basis is None:
            journal.begin(np.empty((vectors.shape[1], 0), np.float32))
        vectors, none = _fitting(vectors, journal), (np.empty(0, np.int32), np.empty((0, 0), np.int8))
        return {key: Embedded(vector, *none) for key, vector in zip(keys, vectors, strict=True)}
    read = embedder.tokens(texts)
    if len(read.bounds) != len(texts) + 1 or read.vectors.ndim != 2 or len(read.ids) != len(read.vectors):
        raise ModelError(f"the embedder answered {len(texts)} texts with tokens of {len(read.bounds) - 1}")
    pooled = _checked(read.pooled(), len(texts))
    if journal.basis is None:
        journal.begin(basis_of(read.vectors))
    vectors = _fitting(pooled, journal)
    assert journal.basis is not None
    short = shortened(read.vectors, journal.basis)
    spans = zip(keys, vectors, read.bounds, read.bounds[1:], strict=False)
    return {key: Embedded(vector, read.ids[at:end], short[at:end]) for key, vector, at, end in spans}


def _fitting(vectors: Vectors, journal: Journal) -> Vectors:
    """Of length 1, as wide as those before."""
    if journal.basis is None or vectors.shape[1] != len(journal.basis):
        raise ModelError(f"the embedder answered with an array of shape {vectors.shape}, and with others before")
    return normed(vectors)


def _checked(vectors: Vectors, count: int) -> Vectors:
    if vectors.ndim != 2 or len(vectors) != count or not vectors.shape[1]:
        raise ModelError(f"the embedder answered {count} texts with an array of shape {vectors.shape}")
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise ModelError("the embedder answered with a vector that is zero or not finite")
    return vectors


def _with_tokens(texts: Texts, journal: Journal, rows: Places, before: Arrays | None) -> Arrays:
    """The tokens of all windows one after another."""
    basis = journal.basis
    assert basis is not None
    parts_ids: list[npt.NDArray[Any]] = []
    parts: list[npt.NDArray[Any]] = []
    for key, row in zip(texts.keys, rows, strict=True):
        if row >= 0 and before is not None:
            start, end = int(before["token_bounds"][row]), int(before["token_bounds"][row + 1])
            parts_ids.append(before["token_ids"][start:end])
            parts.append(before["tokens"][start:end])
        else:
            record = journal.record(key)
            parts_ids.append(record.ids)
            parts.append(record.tokens)
    counts = np.array([len(ids) for ids in parts_ids], np.int64)
    ids = np.concatenate(parts_ids).astype(np.int32)
    owners = np.repeat(np.repeat(np.arange(len(texts.bounds) - 1), np.diff(texts.bounds)), counts)
    return {
        "token_bounds": np.concatenate(([0], np.cumsum(counts))), "token_ids": ids, "tokens": np.concatenate(parts),
        "basis": np.asarray(basis, np.float32), "frequency": frequencies(ids, owners),
    }  # fmt: skip
