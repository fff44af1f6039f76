"""Linear classifiers of texts: their form in a model folder, and the scores that they give.

Owns: `classifier.json` and the arithmetic: words and runs of words, log(1 + count) times idf, length 1, a row of
coefficients for each label, softmax. Must not know: where such a model comes from, what follows from its scores.

Nothing is executed and nothing unpickled: it is labels, terms and numbers.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from ndn_infer.errors import ModelError

FILE: Final = "classifier.json"
WORDS: Final = "[a-zA-Z0-9_]+"
"""What a word is, once a text is in lower case."""
MAX_LABELS: Final = 64
MAX_TERMS: Final = 1 << 20
MAX_RUN: Final = 5
"""Words of the longest term."""
MAX_NUMBER: Final = 1e6
"""Of idf, coefficients and intercepts, either sign: whatever a text has, no sum of theirs leaves 32-bit floats."""
MAX_FILE: Final = 64 << 20
_FORM: Final = "tf-idf softmax 1"
_WORD: Final = re.compile(WORDS)
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class LinearText:
    """`idf` float32 [terms], `coefficients` float32 [labels, terms], `intercepts` float32 [labels]."""

    labels: tuple[str, ...]
    terms: tuple[str, ...]
    idf: np.ndarray
    coefficients: np.ndarray
    intercepts: np.ndarray

    @classmethod
    def of(
        cls, labels: Sequence[str], terms: Sequence[str], idf: Sequence[float], coefficients: Sequence[float],
        intercepts: Sequence[float],
    ) -> LinearText:  # fmt: skip
        """`coefficients`: a row for each label, one after the other. Raises ValueError for what does not fit."""
        if not 2 <= len(labels) <= MAX_LABELS or len(set(labels)) != len(labels) or not all(map(_is_label, labels)):
            raise ValueError(f"it has not 2 to {MAX_LABELS} labels, each a word of its own")
        if not 1 <= len(terms) <= MAX_TERMS or len(set(terms)) != len(terms) or not all(map(_is_term, terms)):
            raise ValueError(f"it has not 1 to {MAX_TERMS} terms, each of up to {MAX_RUN} words")
        numbers = tuple(np.array(row, np.float64) for row in (idf, coefficients, intercepts))
        shapes = ((len(terms),), (len(labels) * len(terms),), (len(labels),))
        if tuple(array.shape for array in numbers) != shapes:
            raise ValueError("its numbers are not those of its labels and terms")
        if not all((np.abs(array) <= MAX_NUMBER).all() for array in numbers):  # NaN is no number of these either
            raise ValueError(f"a number of it is not within {MAX_NUMBER:.0f} of zero")
        idfs, rows, added = (array.astype(np.float32) for array in numbers)
        return cls(tuple(labels), tuple(terms), idfs, rows.reshape(len(labels), len(terms)), added)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {term: place for place, term in enumerate(self.terms)}

    @cached_property
    def _longest(self) -> int:
        return max(term.count(" ") for term in self.terms) + 1

    def scores(self, text: str) -> list[float]:
        """0 to 1 for each label, together 1."""
        words = _WORD.findall(text.lower())
        found = Counter[int]()
        for size in range(1, self._longest + 1):
            for at in range(len(words) - size + 1):
                place = self._places.get(" ".join(words[at : at + size]))
                if place is not None:
                    found[place] += 1
        places = sorted(found)
        weights = np.log1p(np.array([found[place] for place in places], np.float32)) * self.idf[places]
        length = float(np.linalg.norm(weights)) or 1.0
        sums = self.intercepts + self.coefficients[:, places] @ (weights / length)
        powers = [math.exp(value - float(sums.max())) for value in sums.tolist()]
        return [power / sum(powers) for power in powers]

    def write(self, folder: Path) -> None:
        document = {
            "form": _FORM, "labels": self.labels, "terms": self.terms, "idf": self.idf.tolist(),
            "coefficients": self.coefficients.tolist(), "intercepts": self.intercepts.tolist(),
        }  # fmt: skip
        (folder / FILE).write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")


def read_classifier(folder: Path) -> LinearText:
    """What `write` wrote, or somebody in the same form. Raises ModelError; OSError from the disk."""
    path = folder / FILE
    if path.stat().st_size > MAX_FILE:
        raise ModelError(f"{path} is larger than {MAX_FILE >> 20} MiB")
    try:
        said: Any = json.loads(path.read_bytes())
        if said["form"] != _FORM:
            raise ValueError(f"its form is {said['form']!r}, not {_FORM!r}")
        rows = said["coefficients"]
        if len(rows) != len(said["labels"]) or any(len(row) != len(said["terms"]) for row in rows):
            raise ValueError("it has not a row of coefficients for each label, with one for each term")
        numbers = [number for row in rows for number in row]
        if not all(type(number) in (int, float) for number in chain(numbers, said["idf"], said["intercepts"])):
            raise ValueError("its numbers are not all numbers")
        return LinearText.of(said["labels"], said["terms"], said["idf"], numbers, said["intercepts"])
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise ModelError(f"{path} is no classifier of texts ({error})") from error


def _is_label(label: Any) -> bool:
    return type(label) is str and _LABEL.fullmatch(label) is not None


def _is_term(term: Any) -> bool:
    if type(term) is not str:
        return False
    words = term.split(" ")
    return len(words) <= MAX_RUN and all(map(is_word, words))


def is_word(word: str) -> bool:
    return _WORD.fullmatch(word) is not None
