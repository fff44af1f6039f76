"""A corpus: the passages of a folder and the index that finds them.

Owns: the corpus digest, what of a passage is embedded, the cache of indexes, and how a passage is scored. Must not
know: which model embeds, names, the network.

A passage of 900 characters often answers a question in one sentence, and the vector of the whole dilutes it. So each
passage has one row per window of about WINDOW_CHARS, both with the title before them, and its score is the mean of the
query's cosine with the whole passage and with its best window. A row holds both unit vectors side by side; against the
query's vector written twice its cosine is that mean. tests/integration/test_rag_quality.py has the figures.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ndn_infer.corpus.folder import read_passages
from ndn_infer.corpus.index import VectorIndex, Vectors
from ndn_infer.corpus.passages import CorpusPassage
from ndn_infer.errors import DamagedCache, ModelError, StorageError

Embed = Callable[[list[str]], npt.NDArray[np.float32]]
"""n texts to float32 [n, d], the same d for every call."""
Progress = Callable[[int, int], None]
"""Texts embedded so far, texts in all."""

RECIPE: Final = "ndn-infer corpus 1"
"""Names how passages become rows. Change it with WINDOW_CHARS, windows() or _rows(): cached indexes depend on them."""
WINDOW_CHARS: Final = 250
INDEX_FILE: Final = "index.bin"

_BATCH: Final = 64
_ABANDONED_AFTER_S: Final = 24 * 3600.0
_WINDOW_END: Final = re.compile(r"(?<=[.!?:;])\s+|\n\n+")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScoredPassage:
    """One passage found; `score` is a cosine in [-1, 1]."""

    passage: CorpusPassage
    score: float


@dataclass(frozen=True, slots=True)
class Corpus:
    """Passages and their index. `digest` is the corpus' identity, the same on every machine; see corpus_digest."""

    digest: str
    embedder_id: str
    passages: tuple[CorpusPassage, ...]
    index: VectorIndex
    owners: npt.NDArray[np.int64]
    """owners[row] is the position in `passages` of the passage that the index row belongs to."""

    @classmethod
    def open(
        cls, folder: Path, cache_dir: Path, *, embed: Embed, embedder_id: str, progress: Progress | None = None
    ) -> Corpus:
        """The corpus of the texts below `folder`. Its index comes from `<cache_dir>/corpora/<digest>/` or, the first
        time, from `embed`; then it is cached there. Several processes may open the same corpus at once: each writes a
        whole index and the last one stays. A damaged index is made again.

        `embedder_id` must name the embedding model's weights, not an alias: indexes are kept per id. `progress` is
        called only while embedding. Raises what read_passages raises; StorageError when the cache cannot be written;
        ModelError when `embed` answers with another shape; whatever `embed` raises; EngineUnavailable without usearch.
        """
        passages = read_passages(folder, cache_dir)
        digest = corpus_digest(passages, embedder_id)
        texts = [windows(passage.text) for passage in passages]
        owners = np.repeat(np.arange(len(passages)), [len(parts) for parts in texts])
        place = _make_place(Path(cache_dir) / "corpora" / digest)
        index = _cached(place / INDEX_FILE, len(owners))
        if index is None:
            index = VectorIndex.build(_rows(passages, texts, owners, embed, progress))
            index.save(place / INDEX_FILE)
            _log.info("corpus %s: %d passages, %d rows embedded", digest[:12], len(passages), len(owners))
        return cls(digest, embedder_id, passages, index, owners)

    def lookup(self, query_vector: Vectors, k: int, *, min_score: float = -1.0) -> list[ScoredPassage]:
        """At most `k` passages with a score of at least `min_score`, best first, equal ones in corpus order.
        `query_vector` is float32 [d] from the same embedder; raises ValueError for anything else."""
        twice = np.concatenate((query_vector, query_vector))
        best: dict[int, float] = {}
        count = max(4 * k, 0)
        while count:
            found = self.index.search(twice, count)
            for row, score in found:
                best.setdefault(int(self.owners[row]), score)
            if len(best) >= k or len(found) < count:
                break
            count *= 4
        ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))
        return [ScoredPassage(self.passages[at], score) for at, score in ranked[: max(k, 0)] if score >= min_score]


def corpus_digest(passages: tuple[CorpusPassage, ...], embedder_id: str) -> str:
    """SHA-256, in hex, over RECIPE, the embedder's id and source, title, text and index of every passage in order, each
    preceded by its length in bytes. Nothing of the machine, the folder's own place or the time goes into it."""
    hasher = hashlib.sha256()
    fields = [RECIPE, embedder_id]
    for passage in passages:
        fields += (passage.source, passage.title, passage.text, str(passage.index))
    for field in fields:
        raw = field.encode("utf-8", "surrogateescape")
        hasher.update(len(raw).to_bytes(8, "big") + raw)
    return hasher.hexdigest()


def windows(text: str) -> list[str]:
    """Neighbouring sentences and paragraphs of `text` joined up to about WINDOW_CHARS, white space made single; at
    least one window. A longer sentence is a window of its own."""
    found: list[str] = []
    pending = ""
    for part in _WINDOW_END.split(text):
        sentence = " ".join(part.split())
        if pending and len(pending) + len(sentence) > WINDOW_CHARS:
            found.append(pending)
            pending = sentence
        else:
            pending = f"{pending} {sentence}".strip()
    return [*found, pending] if pending or not found else found


def _rows(
    passages: tuple[CorpusPassage, ...],
    texts: list[list[str]],
    owners: npt.NDArray[np.int64],
    embed: Embed,
    progress: Progress | None,
) -> Vectors:
    """float32 [rows, 2 d]: per window the unit vector of its passage, then that of the window."""
    inputs = [f"{passage.title}\n{passage.text}" for passage in passages]
    inputs += [
        f"{passages[owner].title}\n{text}" for owner, text in zip(owners, chain.from_iterable(texts), strict=True)
    ]
    parts: list[Vectors] = []
    for start in range(0, len(inputs), _BATCH):
        batch = inputs[start : start + _BATCH]
        parts.append(_unit(embed(batch), len(batch), parts[0].shape[1] if parts else 0))
        if progress:
            progress(start + len(batch), len(inputs))
    vectors = np.concatenate(parts)
    return np.hstack((vectors[: len(passages)][owners], vectors[len(passages) :]))


def _unit(vectors: Vectors, count: int, width: int) -> Vectors:
    """The embedder's answer, checked (width 0: any) and of length 1."""
    if vectors.ndim != 2 or len(vectors) != count or not vectors.shape[1] or (width and vectors.shape[1] != width):
        raise ModelError(f"the embedder answered {count} texts with an array of shape {vectors.shape}")
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise ModelError("the embedder answered with a vector that is zero or not finite")
    unit: Vectors = (vectors / lengths).astype(np.float32)
    return unit


def _make_place(place: Path) -> Path:
    """The corpus' cache folder, free of partial files that an interrupted run left behind long ago."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        for partial in place.glob(".*.partial"):
            with contextlib.suppress(FileNotFoundError):  # another process finished or removed it first
                if time.time() - partial.stat().st_mtime > _ABANDONED_AFTER_S:
                    partial.unlink()
    except OSError as error:
        raise StorageError(f"cannot use the cache folder {place}: {error.strerror}") from error
    return place


def _cached(path: Path, rows: int) -> VectorIndex | None:
    """The cached index, or None when there is none or it is not one of `rows` rows; the reason is logged."""
    if not path.exists():
        return None
    try:
        index = VectorIndex.load(path)
    except DamagedCache as error:
        _log.warning("%s; it is made again", error)
        return None
    if len(index) != rows:
        _log.warning("%s has %d rows instead of %d; it is made again", path, len(index), rows)
        return None
    return index
