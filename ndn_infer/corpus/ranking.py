"""Rankings: how the passages of a corpus are put in order for a question.

Owns: the four ways, and which one "auto" is. Must not know: where indexes come from, names.

- vectors: by score, the cosines of the question with a passage and its best window (index.py);
- words: by BM25 (words.py);
- fusion: by both, reciprocal ranks added (Cormack, Clarke and Buettcher 2009);
- rerank: the best of both lists, ordered by late interaction (late.py), the best window of each counting.

A passage's score is the cosine one in all of them: whether it is near enough to be shown does not depend on the
ranking. `rank` is what it was ordered by.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np

from ndn_infer.corpus.index import VectorIndex, Vectors, checked_vector
from ndn_infer.corpus.late import TokenIndex, TokenVectors
from ndn_infer.corpus.words import WordIndex

Ranking = Literal["vectors", "words", "fusion", "rerank"]
RANKINGS: Final[tuple[Ranking, ...]] = get_args(Ranking)

RERANKED_PASSAGES: Final = 20_000
"""Up to this many, a corpus that is to be ranked as "auto" keeps its tokens: about 25 KB a passage."""
BY_VECTORS: Final = 100
BY_WORDS: Final = 50
"""Passages of each list that late interaction puts in order."""
_FUSED: Final = 60
"""The constant of reciprocal rank fusion."""


def resolved(ranking: str, passages: int) -> Ranking:
    """What "auto" is for a corpus of so many passages; another ranking is itself. Raises ValueError."""
    if ranking == "auto":
        return "rerank" if passages <= RERANKED_PASSAGES else "vectors"
    for known in RANKINGS:
        if known == ranking:
            return known
    raise ValueError(f"rankings are auto, {', '.join(RANKINGS)}; not {ranking!r}")


@dataclass(frozen=True, slots=True)
class IndexQuery:
    """A question as an index takes it; `tokens` where the ranking is by them."""

    text: str
    vector: Vectors
    tokens: TokenVectors | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A passage by its place in the corpus."""

    place: int
    score: float
    rank: float


@dataclass(frozen=True, slots=True)
class Indexes:
    """What there is of a corpus: the others are None where its ranking takes none."""

    vectors: VectorIndex
    words: WordIndex | None = None
    tokens: TokenIndex | None = None

    def ranked(self, asked: IndexQuery, count: int, ranking: Ranking) -> list[Ranked]:
        """At most `count` passages, best first. Raises ValueError for a vector that is none, or without the index or
        the tokens that the ranking takes."""
        if count < 1:
            return []
        if ranking == "vectors":
            return [Ranked(place, score, score) for place, score in self.vectors.best(asked.vector, count)]
        if ranking == "words":
            return self._scored(asked, self._by_words(asked, count))
        if ranking == "fusion":
            return self._scored(asked, self._fused(asked, count))
        return self._reranked(asked, count)

    def _by_words(self, asked: IndexQuery, count: int) -> list[tuple[int, float]]:
        if self.words is None:
            raise ValueError("this corpus has no index of words")
        return self.words.best(asked.text, count)

    def _fused(self, asked: IndexQuery, count: int) -> list[tuple[int, float]]:
        ranks: dict[int, float] = {}
        depth = max(BY_VECTORS, count)
        for found in (self.vectors.best(asked.vector, depth), self._by_words(asked, depth)):
            for at, (place, _) in enumerate(found, 1):
                ranks[place] = ranks.get(place, 0.0) + 1 / (_FUSED + at)
        return sorted(ranks.items(), key=lambda item: (-item[1], item[0]))[:count]

    def _reranked(self, asked: IndexQuery, count: int) -> list[Ranked]:
        if self.tokens is None or asked.tokens is None:
            raise ValueError("late interaction takes the tokens of the corpus and of the question")
        near = [place for place, _ in self.vectors.best(asked.vector, max(BY_VECTORS, count))]
        places = sorted({*near, *(place for place, _ in self._by_words(asked, BY_WORDS))})
        bounds = self.vectors.bounds
        spans = [range(int(bounds[place]), int(bounds[place + 1])) for place in places]
        scores = self.tokens.scores(asked.tokens, [row for span in spans for row in span])
        best = np.maximum.reduceat(scores, np.cumsum([0, *map(len, spans)])[:-1])
        order = np.lexsort((np.array(places), -best))[:count]
        return self._scored(asked, ((places[at], float(best[at])) for at in order))

    def _scored(self, asked: IndexQuery, found: Iterable[tuple[int, float]]) -> list[Ranked]:
        ranked = list(found)
        unit = checked_vector(asked.vector, self.vectors.width)
        places = np.array([place for place, _ in ranked], np.int64)
        if not ranked:
            return []
        scores = self.vectors.scores(unit, places)
        return [Ranked(place, float(score), rank) for (place, rank), score in zip(ranked, scores, strict=True)]
