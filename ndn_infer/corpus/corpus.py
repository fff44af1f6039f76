"""A corpus: the passages of a folder and the indexes that find them.

Owns: the corpus digest, the cache of indexes, and how a question is looked up. Must not know: which model embeds, how a
ranking orders (ranking.py), names, the network.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ndn_infer.corpus.array_file import open_arrays, write_arrays
from ndn_infer.corpus.build import Embedder, Texts, build_arrays
from ndn_infer.corpus.folder import read_passages
from ndn_infer.corpus.index import Arrays, VectorIndex
from ndn_infer.corpus.journal import Journal
from ndn_infer.corpus.late import TokenIndex
from ndn_infer.corpus.lineage import Lineage
from ndn_infer.corpus.passages import CorpusPassage
from ndn_infer.corpus.ranking import ORDERS, Indexes, IndexQuery, Ranking, resolved
from ndn_infer.corpus.words import WordIndex
from ndn_infer.errors import DamagedCache, StorageError

RECIPE: Final = "ndn-infer corpus 2"
"""Names how passages become rows. Change it with windows() or readers: cached indexes depend on them."""
INDEX_FILE: Final = "index.bin"

_ABANDONED_AFTER_S: Final = 24 * 3600.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScoredPassage:
    """One passage found; `score` is a cosine in [-1, 1], `rank` what the corpus ordered it by."""

    passage: CorpusPassage
    score: float
    rank: float


@dataclass(frozen=True, slots=True)
class Corpus:
    """Passages and their indexes. `digest` is the corpus' identity, the same on every machine; see corpus_digest."""

    digest: str
    embedder_id: str
    ranking: Ranking
    passages: tuple[CorpusPassage, ...]
    indexes: Indexes

    @classmethod
    def open(
        cls, folder: Path, cache_dir: Path, *, embedder: Embedder, embedder_id: str, ranking: str = "vectors"
    ) -> Corpus:
        """The corpus of the files below `folder`. Its index comes from `<cache_dir>/corpora/<digest>/` or, the first
        time, from the embedder; then it is cached there, and takes the place of the index that the folder had before:
        only windows that this one lacks are embedded. A build that is interrupted goes on where it was. Several
        processes may open the same corpus at once: each writes a whole index and the last one stays. A damaged index
        is made again.

        `embedder_id` must name the embedding model's weights, not an alias: indexes are kept per id. `ranking` is one
        of RANKINGS or "auto". Raises what read_passages raises; ValueError for another ranking, or one whose vectors
        the embedder has not; StorageError when the cache cannot be written; ModelError when the embedder answers with
        another shape; whatever it raises; EngineUnavailable without a package that the ranking takes.
        """
        passages = read_passages(folder, cache_dir)
        by = resolved(ranking, len(passages))
        if by == "rerank" and embedder.tokens is None:
            raise ValueError("late interaction takes an embedder of tokens")
        digest = corpus_digest(passages, embedder_id, by)
        corpora = Path(cache_dir) / "corpora"
        place, lineage = _make_place(corpora / digest), Lineage.of(corpora, folder, embedder_id, tokens=by == "rerank")
        facts = {"recipe": RECIPE, "embedder": embedder_id, "tokens": by == "rerank"}
        texts = Texts.of(passages)
        found = _cached(place / INDEX_FILE, facts, b"".join(texts.keys))
        if found is None:
            with Journal(lineage.journal, facts) as journal:
                before = _cached(corpora / lineage.newest() / INDEX_FILE, facts)
                chosen = embedder if by == "rerank" else Embedder(embedder.vectors, None, embedder.progress)
                arrays = build_arrays(texts, chosen, journal, before.arrays if before is not None else None)
                found = _Index.of(arrays, facts)
                write_arrays(place / INDEX_FILE, facts, arrays)
                journal.remove()
            _log.info("corpus %s: %d passages, %d windows", digest[:12], len(passages), len(texts.windows))
        lineage.replace(digest)
        words = WordIndex([f"{item.title}\n{item.text}" for item in passages]) if by != "vectors" else None
        return cls(digest, embedder_id, by, passages, Indexes(found.vectors, words, found.tokens))

    def lookup(self, asked: IndexQuery, k: int, *, min_score: float = -1.0) -> list[ScoredPassage]:
        """At most `k` passages with a score of at least `min_score`, best first, equal ones in corpus order. `asked`
        is from the same embedder; raises ValueError for anything else."""
        found = self.indexes.ranked(asked, k, self.ranking)
        return [
            ScoredPassage(self.passages[item.place], item.score, item.rank) for item in found if item.score >= min_score
        ]


def corpus_digest(passages: tuple[CorpusPassage, ...], embedder_id: str, ranking: Ranking) -> str:
    """SHA-256, in hex, over RECIPE, the embedder's id, the ranking as ORDERS names it, and source, title, text, index
    and page of every passage in order, each preceded by its length in bytes. Nothing of the machine, the folder's own
    place or the time goes into it."""
    hasher = hashlib.sha256()
    fields = [RECIPE, embedder_id, ORDERS[ranking]]
    for passage in passages:
        fields += (passage.source, passage.title, passage.text, str(passage.index), str(passage.page))
    for field in fields:
        raw = field.encode("utf-8", "surrogateescape")
        hasher.update(len(raw).to_bytes(8, "big") + raw)
    return hasher.hexdigest()


@dataclass(frozen=True, slots=True)
class _Index:
    """What an index file holds, its places checked."""

    arrays: Arrays
    vectors: VectorIndex
    tokens: TokenIndex | None

    @classmethod
    def of(cls, arrays: Arrays, facts: Mapping[str, object]) -> _Index:
        """Raises DamagedCache."""
        vectors = VectorIndex.of(arrays)
        if len(arrays.get("keys", ())) != len(vectors.windows):
            raise DamagedCache("the index is damaged: its windows have other keys")
        windows, passages = len(vectors.windows), len(vectors.passages)
        return cls(arrays, vectors, TokenIndex.of(arrays, windows, passages) if facts["tokens"] else None)


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


def _cached(path: Path, facts: dict[str, object], keys: bytes | None = None) -> _Index | None:
    """A cached index, or None when there is none, it is damaged, of other facts, or not of the windows
    that have these keys; the reason is logged."""
    if not path.is_file():
        return None
    try:
        said, arrays = open_arrays(path)
        if said != facts:
            return None
        index = _Index.of(arrays, facts)
    except (DamagedCache, StorageError) as error:
        _log.warning("%s; it is made again", error)
        return None
    if keys is not None and (len(arrays["keys"]) * 16 != len(keys) or arrays["keys"].tobytes() != keys):
        _log.warning("%s is of other passages; it is made again", path)
        return None
    return index
