"""Late interaction: how well the words of a question meet those of a text, by the vectors that the embedder's last
layer gives to each token (MaxSim of ColBERT, Khattab and Zaharia 2020; here the embedder was not trained for it).

Owns: token vectors, their short form, the weight of a token, the score. Must not know: which passages are candidates,
files. Each token of the question takes its best cosine with a token of the window; a token that many passages hold
weighs little (the logarithm of BM25's inverse document frequency), so the embedder's own control tokens weigh nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ndn_infer.errors import DamagedCache

WIDTH: Final = 128
"""Numbers of a token vector as it is kept, in a byte each: 384 of them rank no better, 64 a little worse."""

Matrix = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """Texts as an embedder read them: of text i the tokens bounds[i] to bounds[i + 1], their `ids` and `vectors`
    [tokens, d]."""

    bounds: Places
    ids: npt.NDArray[np.int32]
    vectors: Matrix

    def pooled(self) -> Matrix:
        """One vector a text: the mean of its tokens, as sentence embedders pool."""
        sums = np.add.reduceat(self.vectors.astype(np.float32), self.bounds[:-1], axis=0)
        means: Matrix = (sums / np.diff(self.bounds)[:, None]).astype(np.float32)
        return means


def basis_of(vectors: Matrix) -> Matrix:
    """The directions [d, min(d, WIDTH)] in which token vectors differ most."""
    unit = normed(vectors)
    _, directions = np.linalg.eigh(unit.T @ unit)
    kept: Matrix = np.ascontiguousarray(directions[:, ::-1][:, :WIDTH].astype(np.float32))
    return kept


def shortened(vectors: Matrix, basis: Matrix) -> npt.NDArray[np.int8]:
    """Token vectors [tokens, d] as they are kept."""
    return np.rint(normed(vectors.astype(np.float32) @ basis) * 127).astype(np.int8)


def normed(vectors: Matrix) -> Matrix:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Matrix = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit


@dataclass(frozen=True, slots=True)
class TokenIndex:
    """The tokens of all windows. `frequency[id]` is how many of `passages` passages hold a token."""

    bounds: Places
    tokens: npt.NDArray[np.int8]
    basis: Matrix
    frequency: npt.NDArray[np.int32]
    passages: int

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]], windows: int, passages: int) -> TokenIndex:
        """The index of so many windows in these arrays (of a file). Raises DamagedCache where a place is none."""
        try:
            bounds, tokens, ids = arrays["token_bounds"], arrays["tokens"], arrays["token_ids"]
            index = cls(bounds, tokens, arrays["basis"], arrays["frequency"], passages)
        except KeyError as error:
            raise DamagedCache(f"the index lacks {error}") from error
        bounded = (
            len(bounds) == windows + 1 and bounds[0] == 0 and bounds[-1] == len(tokens) == len(ids)
            and bool((np.diff(bounds) > 0).all())
        )  # fmt: skip
        if not bounded:
            raise DamagedCache("the index is damaged: places of tokens that are none")
        return index

    def scores(self, question: TokenVectors, windows: Sequence[int]) -> Matrix:
        """Of each of these windows, in [-1, 1]. `question` is one text."""
        weights = self.weights(question.ids)
        asked = shortened(question.vectors, self.basis).astype(np.float32) / 127
        parts = [self.tokens[self.bounds[at] : self.bounds[at + 1]] for at in windows]
        if not parts:
            return np.empty(0, np.float32)
        starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
        best = np.maximum.reduceat(np.concatenate(parts).astype(np.float32) @ asked.T / 127, starts, axis=0)
        found: Matrix = (best @ weights / max(float(weights.sum()), 1e-9)).astype(np.float32)
        return found

    def weights(self, ids: npt.NDArray[np.int32]) -> Matrix:
        known = np.where(ids < len(self.frequency), ids, 0)
        counts = np.where(ids < len(self.frequency), self.frequency[known], 0)
        found: Matrix = np.log1p((self.passages - counts + 0.5) / (counts + 0.5)).astype(np.float32)
        return found


def frequencies(ids: npt.NDArray[np.int32], owners: Places) -> npt.NDArray[np.int32]:
    """How many owners each token id has; `owners` says of each token which passage it is in."""
    if not len(ids):
        return np.zeros(1, np.int32)
    pairs = np.unique(owners.astype(np.int64) << 32 | ids.astype(np.int64))
    return np.bincount(pairs & 0xFFFFFFFF).astype(np.int32)
