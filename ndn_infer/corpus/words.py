"""Ranking by words: BM25 (Robertson and Zaragoza 2009) over the stems of passages, by bm25s.

Owns: what counts as a word. Must not know: vectors. Stems and the words left out are English; other languages are
ranked by their words as they stand.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ndn_infer.errors import EngineUnavailable

_LANGUAGE: Final = "english"


class WordIndex:
    """Of texts that do not change."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Raises EngineUnavailable without bm25s and PyStemmer."""
        try:
            import bm25s
            import Stemmer
        except ImportError as error:
            raise EngineUnavailable(
                f"ranking by words needs the package {error.name}", hint="pip install 'ndn-infer[rag]'"
            ) from error
        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it asks for debugging lines when it is imported
        self._library: Any = bm25s
        self._stemmer: Any = Stemmer.Stemmer(_LANGUAGE)
        self._index: Any = None
        self._texts = len(texts)
        stems = self._stems(texts)
        if any(stems):
            self._index = bm25s.BM25()
            self._index.index(stems, show_progress=False)

    def best(self, question: str, count: int) -> list[tuple[int, float]]:
        """At most `count` texts that share a word with the question, best first, equal ones in order: place, score."""
        scores = self.scores(question)
        found = np.argsort(-scores, kind="stable")[:count]
        return [(int(at), float(scores[at])) for at in found if scores[at] > 0]

    def scores(self, question: str) -> npt.NDArray[np.float32]:
        """Of all texts; 0 where one shares no word with the question."""
        (stems,) = self._stems([question])
        if self._index is None or not stems:
            return np.zeros(self._texts, np.float32)
        found: npt.NDArray[np.float32] = np.asarray(self._index.get_scores(stems), np.float32)
        return found

    def _stems(self, texts: Sequence[str]) -> list[list[str]]:
        stems: list[list[str]] = self._library.tokenize(
            list(texts), stopwords="en", stemmer=self._stemmer, return_ids=False, show_progress=False
        )
        return stems
