"""Of ONNX, the graph that scikit-learn's TF-IDF with logistic regression becomes (skl2onnx), as a linear classifier.

Owns: what such a graph means, node by node: what it says is checked, not executed. Must not know: folders, caches, what
a classifier is asked. Any other graph is refused, and so is any attribute that is not known here: it would mean
something else.

Operators: TfIdfVectorizer and its like of ONNX, LinearClassifier and Normalizer of the domain ai.onnx.ml, Tokenizer of
com.microsoft.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ndn_infer.errors import ModelError
from ndn_infer.models.linear_text import WORDS, LinearText, is_word
from ndn_infer.models.onnx_graph import OnnxGraph, OnnxNode, read_graph

_MAX_FILE: Final = 64 << 20
_ELSEWHERE: Final = "read are TF-IDF with logistic regression as skl2onnx writes it, and a folder with classifier.json"
_ONNX: Final = ("", "ai.onnx")
_ML: Final = ("ai.onnx.ml",)


@dataclass(frozen=True, slots=True)
class _Step:
    """A node that is expected. `says`: attributes with the values that they may have; `has`: those that are read;
    `may`: those that change nothing here; `constant`: whether it has a second input, which is one."""

    operator: str
    domain: tuple[str, ...] = _ONNX
    says: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    has: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    constant: bool = False
    outputs: int = 1


_STEPS: Final = (
    _Step("Reshape", constant=True),
    _Step("StringNormalizer", says={"case_change_action": ("LOWER",)}, may=frozenset({"is_case_sensitive"})),
    _Step(
        "Tokenizer", ("com.microsoft",), {"tokenexp": (WORDS,), "mark": (0,), "mincharnum": (1,)},
        may=frozenset({"pad_value"}),
    ),
    _Step("Flatten"),
    _Step(
        "TfIdfVectorizer", _ONNX, {"mode": ("TF",), "max_skip_count": (0,), "min_gram_length": (1,)},
        frozenset({"max_gram_length", "ngram_counts", "ngram_indexes", "pool_strings", "weights"}),
    ),
    _Step("Add", constant=True),
    _Step("Log"),
    _Step("Mul", constant=True),
    _Step("Normalizer", _ML, {"norm": ("L2",)}),
    _Step(
        "LinearClassifier", _ML, {"post_transform": ("SOFTMAX",)},
        frozenset({"classlabels_strings", "coefficients", "intercepts"}), frozenset({"multi_class"}), outputs=2,
    ),
    _Step("Normalizer", _ML, {"norm": ("L1",)}),
)  # fmt: skip
"""In this order: one row, lower case, words, counts of words and runs of words, log(1 + count) times idf, length 1,
softmax. The last one changes nothing: a softmax adds up to 1."""


def read_linear(path: Path) -> LinearText:
    """Raises ModelError: damaged, or another graph. OSError from the disk."""
    if path.stat().st_size > _MAX_FILE:
        raise ModelError(f"{path} is no linear classifier: it is larger than {_MAX_FILE >> 20} MiB")
    try:
        return _linear(read_graph(memoryview(path.read_bytes())))
    except (ValueError, LookupError, TypeError, struct.error) as error:
        raise ModelError(f"{path} is damaged or another kind of model ({error})", hint=_ELSEWHERE) from error


def _linear(graph: OnnxGraph) -> LinearText:
    _check_row(graph)
    shape, ones, idf = (graph.constants[node.inputs[1]] for node in graph.nodes if len(node.inputs) > 1)
    counts, linear = graph.nodes[4].attributes, graph.nodes[9].attributes
    if set(counts.get("weights", [1.0])) - {1.0} or counts["max_gram_length"] != [len(counts["ngram_counts"])]:
        raise ValueError("its counts are weighted, or not of all its runs")
    if counts["ngram_counts"][:1] != [0]:
        raise ValueError("some of its words are of no run")
    if shape != [-1] or ones != [1.0] * len(idf):
        raise ValueError("its constants are not those of TF-IDF")
    labels: Any = linear["classlabels_strings"]
    rows: Any = linear["coefficients"]
    intercepts: Any = linear["intercepts"]
    terms = _terms(counts)
    if len(idf) != len(terms) or len(rows) != len(labels) * len(terms):
        raise ValueError("its numbers are not those of its labels and terms")
    found = [place for place, term in enumerate(terms) if term]
    kept = [rows[row * len(terms) + place] for row in range(len(labels)) for place in found]
    return LinearText.of(labels, [terms[place] for place in found], [idf[place] for place in found], kept, intercepts)


def _check_row(graph: OnnxGraph) -> None:
    """Each node is the one that is expected, and reads what the one before it gives. Raises ValueError."""
    operators = tuple(node.operator for node in graph.nodes)
    if operators != tuple(step.operator for step in _STEPS):
        raise ValueError(f"its operators are {', '.join(operators)[:200]}")
    if len(graph.inputs) != 1:
        raise ValueError(f"it has {len(graph.inputs)} inputs")
    names = [*graph.inputs, *graph.constants, *(name for node in graph.nodes for name in node.outputs)]
    if len(set(names)) != len(names) or "" in names:
        raise ValueError("two of its values have one name")
    given = graph.inputs[0]
    for node, step in zip(graph.nodes, _STEPS, strict=True):
        reads = [given, *node.inputs[1:]]
        constant = len(reads) == 2 and reads[1] in graph.constants
        if node.inputs != reads or constant != step.constant or len(reads) > 2 or len(node.outputs) != step.outputs:
            raise ValueError(f"its {step.operator} reads or gives something else")
        _check_attributes(node, step)
        given = node.outputs[-1]
    if given not in graph.outputs:
        raise ValueError("its scores are not what it gives")


def _check_attributes(node: OnnxNode, step: _Step) -> None:
    if node.domain not in step.domain:
        raise ValueError(f"its {step.operator} is one of {node.domain[:80]}")
    for name, wanted in step.says.items():
        if tuple(node.attributes.get(name, ())) != wanted:
            raise ValueError(f"its {name} is {str(node.attributes.get(name))[:80]}")
    unknown = sorted(set(node.attributes) - set(step.says) - step.has - step.may)
    if unknown:
        raise ValueError(f"its {step.operator} has {unknown[0][:80]}")


def _terms(counts: dict[str, Any]) -> list[str]:
    """Words, then runs of two, of three, ..., each at the place of its number. "" for one that has what no word of a
    text has, and so is never counted."""
    pool, starts, places = counts["pool_strings"], counts["ngram_counts"], counts["ngram_indexes"]
    found: list[str] = []
    for size, (start, end) in enumerate(zip(starts, [*starts[1:], len(pool)], strict=True), 1):
        if not 0 <= start <= end <= len(pool) or (end - start) % size:
            raise ValueError("its runs of words are outside its words")
        runs = (pool[at : at + size] for at in range(start, end, size))
        found += [" ".join(run) if all(map(is_word, run)) else "" for run in runs]
    if sorted(places) != list(range(len(found))):
        raise ValueError("its terms have no places")
    terms = [""] * len(found)
    for term, place in zip(found, places, strict=True):
        terms[place] = term
    return terms
