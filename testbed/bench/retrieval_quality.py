"""How often the passage that answers a question is among the first five, by each ranking.

Owns: questions, and counting over them. Must not know: the network: the same corpus and embedder as a producer's, in
this process.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ndn_infer.corpus.build import Embedder, Progress
from ndn_infer.corpus.corpus import Corpus
from ndn_infer.corpus.index import Vectors
from ndn_infer.corpus.late import TokenVectors, normed
from ndn_infer.corpus.passages import CorpusPassage
from ndn_infer.corpus.ranking import RANKINGS, IndexQuery

TOP: Final = 5
QUESTIONS: Final = Path(__file__).with_name("retrieval_questions.json")
"""50 of the mixed corpus, written before any retrieval over it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CorpusQuestion:
    """`must_contain` stands in the passage that answers, white space made single; `source` is its file or topic."""

    question: str
    source: str
    must_contain: str

    def answered_by(self, passage: CorpusPassage) -> bool:
        return self.must_contain in " ".join(passage.text.split())


@dataclass(frozen=True, slots=True)
class Quality:
    """By ranking: how many questions have a passage that answers among the first TOP, and which have none."""

    passages: int
    formats: dict[str, int]
    unanswerable: tuple[str, ...]
    hits: dict[str, int]
    missed: dict[str, list[str]]


def load_questions(path: Path) -> list[CorpusQuestion]:
    rows = json.loads(path.read_text("utf-8"))
    return [CorpusQuestion(row["question"], row.get("source") or row["topic"], row["must_contain"]) for row in rows]


def window_vectors(
    folder: Path, questions: Sequence[CorpusQuestion], model: Path, cache: Path
) -> tuple[Vectors, Vectors]:  # fmt: skip
    """What the index of this corpus holds of its windows, and the vectors of the questions; all of length 1."""
    corpus, tokens = _opened(folder, model, cache, None)
    index = corpus.indexes.vectors
    windows = np.array(index.windows, np.float32)
    if len(index.clusters):
        windows = windows[index.place] * index.scales[index.place][:, None]
    return normed(windows), normed(tokens([question.question for question in questions]).pooled())


def measured(
    folder: Path, questions: Sequence[CorpusQuestion], model: Path, cache: Path, progress: Progress | None = None
) -> Quality:
    """Every ranking over one index. `model` is the folder of a prepared text embedder."""
    corpus, tokens = _opened(folder, model, cache, progress)
    hits: dict[str, int] = dict.fromkeys(RANKINGS, 0)
    missed: dict[str, list[str]] = {ranking: [] for ranking in RANKINGS}
    for question in questions:
        read = tokens([question.question])
        asked = IndexQuery(question.question, read.pooled()[0], read)
        for ranking in RANKINGS:
            found = corpus.indexes.ranked(asked, TOP, ranking)
            if any(question.answered_by(corpus.passages[item.place]) for item in found):
                hits[ranking] += 1
            else:
                missed[ranking].append(question.question)
    formats: dict[str, int] = {}
    for passage in corpus.passages:
        suffix = Path(passage.source).suffix
        formats[suffix] = formats.get(suffix, 0) + 1
    unanswerable = [q.question for q in questions if not any(map(q.answered_by, corpus.passages))]
    return Quality(len(corpus.passages), formats, tuple(unanswerable), hits, missed)


def _opened(
    folder: Path, model: Path, cache: Path, progress: Progress | None
) -> tuple[Corpus, Callable[[list[str]], TokenVectors]]:
    """The corpus, and its embedder of tokens."""
    from ndn_infer.engine.text_embedder import TextEmbedder

    text_embedder = TextEmbedder.load(model)

    def tokens(texts: list[str]) -> TokenVectors:
        read = text_embedder.encode_tokens(texts)
        bounds = np.cumsum([0, *read.lengths]).astype(np.int64)
        return TokenVectors(bounds, np.array(read.ids, np.int32), read.vectors.astype(np.float32))

    embedder = Embedder(text_embedder.encode, tokens, progress)
    corpus = Corpus.open(folder, cache, embedder=embedder, embedder_id=model.name, ranking="rerank")
    return corpus, tokens
