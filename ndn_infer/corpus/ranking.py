"""Rankings: how the passages of a corpus are put in order for a question.

Owns: the four ways, and which one "auto" is. Must not know: where indexes come from, names.

- vectors: by score, the cosines of the question with a passage and its best window (index.py);
- words: by BM25 (words.py);
- fusion: by both scores, BM25 as a part of its best one (Bruch, Gai and Ingber 2023: where one list is much better than
  the other, reciprocal ranks give the worse one too much);
- rerank: the best of both lists, ordered by late interaction (late.py), the best window of each counting, and a little
  by BM25.

A passage's score is the cosine one in all of them: whether it is near enough to be shown does not depend on the
ranking. `rank` is what it was ordered by.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from ndn_infer.corpus.index import VectorIndex, Vectors, checked_vector
from ndn_infer.corpus.late import TokenIndex, TokenVectors
from ndn_infer.corpus.words import WordIndex

Ranking = Literal["vectors", "words", "fusion", "rerank"]
RANKINGS: Final[tuple[Ranking, ...]] = get_args(Ranking)

ORDERS: Final[dict[Ranking, str]] = {ranking: ranking for ranking in RANKINGS} | {
    "fusion": "fusion 2",
    "rerank": "rerank 2",
}
"""What a corpus digest calls each way: change it with the way, since an answer of lookup is of one order."""
RERANKED_PASSAGES: Final = 20_000
"""Up to this many, a corpus that is to be ranked as "auto" keeps its tokens: about 25 KB a passage."""
BY_VECTORS: Final = 100
BY_WORDS: Final = 50
"""Passages of each list that late interaction puts in order."""
_FUSED_BM25: Final = 0.15
_LATE_BM25: Final = 0.02
"""What the best BM25 score adds to a cosine and to a score of late interaction. Both were chosen on SQuAD's questions
over its paragraphs (its development set); the second is less than what is best there, as questions in other words than
their answers lose by more."""


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

    def _word_scores(self, asked: IndexQuery) -> npt.NDArray[np.float32]:
        """BM25 of all passages, as parts of the best one."""
        if self.words is None:
            raise ValueError("this corpus has no index of words")
        scores = self.words.scores(asked.text)
        return scores / max(float(scores.max(initial=0.0)), 1e-9)

    def _fused(self, asked: IndexQuery, count: int) -> list[tuple[int, float]]:
        depth, words = max(BY_VECTORS, count), self._word_scores(asked)
        near = (place for place, _ in self.vectors.best(asked.vector, depth))
        places = np.array(sorted({*near, *_best(words, depth)}), np.int64)
        cosines = self.vectors.scores(checked_vector(asked.vector, self.vectors.width), places)
        ranks = cosines + np.float32(_FUSED_BM25) * words[places]
        order = np.lexsort((places, -ranks))[:count]
        return [(int(places[at]), float(ranks[at])) for at in order]

    def _reranked(self, asked: IndexQuery, count: int) -> list[Ranked]:
        if self.tokens is None or asked.tokens is None:
            raise ValueError("late interaction takes the tokens of the corpus and of the question")
        words = self._word_scores(asked)
        places = self._candidates(asked, _best(words, BY_WORDS), max(BY_VECTORS, count))
        bounds = self.vectors.bounds
        spans = [range(int(bounds[place]), int(bounds[place + 1])) for place in places]
        scores = self.tokens.scores(asked.tokens, [row for span in spans for row in span])
        best = np.maximum.reduceat(scores, np.cumsum([0, *map(len, spans)])[:-1])
        best = best + np.float32(_LATE_BM25) * words[places]
        order = np.lexsort((np.array(places), -best))[:count]
        return self._scored(asked, ((places[at], float(best[at])) for at in order))

    def _candidates(self, asked: IndexQuery, by_words: Sequence[int], depth: int) -> list[int]:
        """The nearest `depth` by vectors and those by words; the next by vectors where the lists have some in common or
        few words are found: as many for any question, so that time does not tell what words a corpus has."""
        near = [place for place, _ in self.vectors.best(asked.vector, depth + BY_WORDS)]
        chosen = {*near[:depth], *by_words}
        more = (place for place in near[depth:] if place not in chosen)
        return sorted({*chosen, *itertools.islice(more, depth + BY_WORDS - len(chosen))})

    def _scored(self, asked: IndexQuery, found: Iterable[tuple[int, float]]) -> list[Ranked]:
        ranked = list(found)
        unit = checked_vector(asked.vector, self.vectors.width)
        places = np.array([place for place, _ in ranked], np.int64)
        if not ranked:
            return []
        scores = self.vectors.scores(unit, places)
        return [Ranked(place, float(score), rank) for (place, rank), score in zip(ranked, scores, strict=True)]


def _best(scores: npt.NDArray[np.float32], count: int) -> list[int]:
    """Places of the best, of those above 0."""
    found = np.argsort(-scores, kind="stable")[:count]
    return [int(place) for place in found if scores[place] > 0]
