"""Of ONNX, the graph that scikit-learn's TF-IDF with logistic regression becomes (skl2onnx), as a linear classifier.

Owns: reading such a file, node by node, without ONNX's runtime: what the graph says is checked, not executed. Must not
know: folders, caches, what a classifier is asked. Any other graph is refused: it would mean something else.

Format: onnx.proto3 of ONNX, operators TfIdfVectorizer, and LinearClassifier and Normalizer of the domain ai.onnx.ml,
Tokenizer of com.microsoft. Numbers of fields are from that file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ndn_infer.errors import ModelError
from ndn_infer.models.linear_text import WORDS, LinearText, is_word

_OPERATORS: Final = (
    "Reshape", "StringNormalizer", "Tokenizer", "Flatten", "TfIdfVectorizer", "Add", "Log", "Mul", "Normalizer",
    "LinearClassifier", "Normalizer",
)  # fmt: skip
"""In this order: lower case, words, counts of words and runs of words, log(1 + count) times idf, length 1, softmax."""
_MAX_FILE: Final = 64 << 20
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_ELSEWHERE: Final = "read are TF-IDF with logistic regression as skl2onnx writes it, and a folder with classifier.json"


@dataclass(slots=True)
class _Node:
    operator: str = ""
    integers: dict[str, list[int]] = field(default_factory=dict)
    floats: dict[str, list[float]] = field(default_factory=dict)
    strings: dict[str, list[str]] = field(default_factory=dict)


@dataclass(slots=True)
class _Graph:
    nodes: list[_Node] = field(default_factory=list)
    constants: dict[str, list[float]] = field(default_factory=dict)


def read_linear(path: Path) -> LinearText:
    """Raises ModelError: damaged, or another graph. OSError from the disk."""
    if path.stat().st_size > _MAX_FILE:
        raise ModelError(f"{path} is no linear classifier: it is larger than {_MAX_FILE >> 20} MiB")
    try:
        return _linear(_graph(memoryview(path.read_bytes())))
    except (ValueError, LookupError, struct.error, RecursionError) as error:
        raise ModelError(f"{path} is damaged or another kind of model ({error})", hint=_ELSEWHERE) from error


# ------------------------------------------------------------ what the graph says


def _linear(graph: _Graph) -> LinearText:
    operators = tuple(node.operator for node in graph.nodes)
    if operators != _OPERATORS:
        raise ValueError(f"its operators are {', '.join(operators)[:200]}")
    _, normal, words, _, counts, _, _, _, length, linear, _ = graph.nodes
    expected = [
        (normal.strings, "case_change_action", ["LOWER"]), (words.strings, "tokenexp", [WORDS]),
        (words.integers, "mark", [0]), (words.integers, "mincharnum", [1]), (counts.strings, "mode", ["TF"]),
        (counts.integers, "max_skip_count", [0]), (length.strings, "norm", ["L2"]),
        (linear.strings, "post_transform", ["SOFTMAX"]), (graph.constants, "ones", [1.0] * len(_idf(graph))),
    ]  # fmt: skip
    for said, name, wanted in expected:
        if said.get(name) != wanted:  # type: ignore[attr-defined]
            raise ValueError(f"its {name} is {str(said.get(name))[:80]}")  # type: ignore[attr-defined]
    if set(counts.floats.get("weights", [1.0])) != {1.0}:
        raise ValueError("its counts are weighted")
    labels, terms, idf = linear.strings["classlabels_strings"], _terms(counts), _idf(graph)
    rows, intercepts = linear.floats["coefficients"], linear.floats["intercepts"]
    if len(idf) != len(terms) or len(rows) != len(labels) * len(terms):
        raise ValueError("its numbers are not those of its labels and terms")
    found = [place for place, term in enumerate(terms) if term]
    kept = [rows[row * len(terms) + place] for row in range(len(labels)) for place in found]
    return LinearText.of(labels, [terms[place] for place in found], [idf[place] for place in found], kept, intercepts)


def _idf(graph: _Graph) -> list[float]:
    return graph.constants["idfcst"]


def _terms(counts: _Node) -> list[str]:
    """Words, then runs of two, of three, ..., each at the place of its number. "" for one that has what no word of a
    text has, and so is never counted."""
    pool, starts = counts.strings["pool_strings"], counts.integers["ngram_counts"]
    places = counts.integers["ngram_indexes"]
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


# ------------------------------------------------------------ the file


def _graph(data: memoryview) -> _Graph:
    graph = _Graph()
    for number, value in _fields(data):
        if number == 7 and isinstance(value, memoryview):
            for part, inside in _fields(value):
                if part == 1 and isinstance(inside, memoryview):
                    graph.nodes.append(_node(inside))
                elif part == 5 and isinstance(inside, memoryview):
                    name, numbers = _constant(inside)
                    graph.constants[name] = numbers
    return graph


def _node(data: memoryview) -> _Node:
    node = _Node()
    for number, value in _fields(data):
        if number == 4:
            node.operator = _text(value)
        elif number == 5 and isinstance(value, memoryview):
            _attribute(value, node)
    return node


def _attribute(data: memoryview, node: _Node) -> None:
    name, integers, floats, strings = "", list[int](), list[float](), list[str]()
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number in (2, 7):
            floats += _floats(value)
        elif number in (3, 8):
            integers += _integers(value)
        elif number in (4, 9):
            strings.append(_text(value))
    node.integers[name], node.floats[name], node.strings[name] = integers, floats, strings


def _constant(data: memoryview) -> tuple[str, list[float]]:
    """A tensor of 32-bit floats; of another kind, no numbers."""
    name, kind, numbers = "", 0, list[float]()
    for number, value in _fields(data):
        if number == 2 and isinstance(value, int):
            kind = value
        elif number == 8:
            name = _text(value)
        elif number in (4, 9):
            numbers += _floats(value)
    return name, numbers if kind == 1 else []


Value = int | memoryview


def _fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Numbers and values of a message; fixed ones as their bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                value, at = _varint(data, at)
                yield tag >> 3, value
                continue
            case 1:
                size = 8
            case 2:
                size, at = _varint(data, at)
            case 5:
                size = 4
            case kind:
                raise ValueError(f"a field of kind {kind}")
        if size > len(data) - at:
            raise ValueError("a field ends beyond its message")
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]  # IndexError: the file ends
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number without an end")


def _text(value: Value) -> str:
    if isinstance(value, int):
        raise ValueError("a number where a text is due")
    return str(value, "utf-8")


def _floats(value: Value) -> Sequence[float]:
    """One, or several packed."""
    if isinstance(value, int) or len(value) % 4:
        raise ValueError("what is no row of floats")
    return struct.unpack(f"<{len(value) // 4}f", value)


def _integers(value: Value) -> Sequence[int]:
    """One, or several packed."""
    if isinstance(value, int):
        return (value,)
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(number)
    return found
