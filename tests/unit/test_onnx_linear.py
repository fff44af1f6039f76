"""Of an ONNX file all that it says is read: a graph that means something else is not taken for a linear classifier."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ndn_infer.errors import ModelError
from ndn_infer.models.linear_text import WORDS
from ndn_infer.models.onnx_linear import read_linear

TYPES = {int: (3, 8, 2, 7), float: (2, 7, 1, 6), str: (4, 9, 3, 8)}
"""Of a value: fields of one and of several, the types they say."""


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    found = b""
    while number > 0x7F:
        found, number = found + bytes((number & 0x7F | 0x80,)), number >> 7
    return found + bytes((number,))


def put(number: int, value: int | float | str | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def attribute(name: str, value: Any) -> bytes:
    several = isinstance(value, list)
    one, many, said_one, said_many = TYPES[type(value[0] if several else value)]
    values = b"".join(put(many if several else one, item) for item in (value if several else [value]))
    return put(5, put(1, name) + values + put(20, said_many if several else said_one))


@dataclass
class Node:
    operator: str
    inputs: list[str]
    outputs: list[str]
    domain: str = ""
    says: dict[str, Any] = field(default_factory=dict)
    more: bytes = b""

    def wire(self) -> bytes:
        names = [put(1, name) for name in self.inputs] + [put(2, name) for name in self.outputs]
        says = [attribute(name, value) for name, value in self.says.items()]
        return put(1, b"".join(names) + put(4, self.operator) + b"".join(says) + put(7, self.domain) + self.more)


@dataclass
class Graph:
    """One that is read: terms "rain", "red", "red flag"."""

    nodes: list[Node]
    inputs: list[str]
    outputs: list[str]
    floats: dict[str, list[float]]
    shape: list[int]
    more: bytes = b""

    def wire(self) -> bytes:
        said = [node.wire() for node in self.nodes]
        said += [put(11, put(1, name)) for name in self.inputs] + [put(12, put(1, name)) for name in self.outputs]
        said.append(put(5, put(2, 7) + put(7, b"".join(map(varint, self.shape))) + put(8, "shape")))
        for name, numbers in self.floats.items():
            said.append(put(5, put(2, 1) + put(4, struct.pack(f"<{len(numbers)}f", *numbers)) + put(8, name)))
        return put(1, 10) + put(7, b"".join(said) + self.more)


def graph() -> Graph:
    ml = "ai.onnx.ml"
    counts = {
        "mode": "TF", "max_skip_count": 0, "min_gram_length": 1, "max_gram_length": 2, "ngram_counts": [0, 3],
        "ngram_indexes": [0, 1, 2, 3], "pool_strings": ["rain", "red", "a-b", "red", "flag"], "weights": [1.0] * 4,
    }  # fmt: skip
    linear = {
        "classlabels_strings": ["calm", "angry"], "coefficients": [1.0, -1.0, 0.0, -2.0, -1.0, 1.0, 0.0, 2.0],
        "intercepts": [0.5, 0.0], "post_transform": "SOFTMAX", "multi_class": 1,
    }  # fmt: skip
    nodes = [
        Node("Reshape", ["input", "shape"], ["row"]),
        Node("StringNormalizer", ["row"], ["low"], says={"case_change_action": "LOWER", "is_case_sensitive": 0}),
        Node("Tokenizer", ["low"], ["words"], "com.microsoft",
             {"mark": 0, "mincharnum": 1, "pad_value": "#", "tokenexp": WORDS}),
        Node("Flatten", ["words"], ["flat"]),
        Node("TfIdfVectorizer", ["flat"], ["counts"], says=counts),
        Node("Add", ["counts", "ones"], ["plus"]),
        Node("Log", ["plus"], ["logged"]),
        Node("Mul", ["logged", "idfcst"], ["weighted"]),
        Node("Normalizer", ["weighted"], ["length"], ml, {"norm": "L2"}),
        Node("LinearClassifier", ["length"], ["label", "raw"], ml, linear),
        Node("Normalizer", ["raw"], ["probabilities"], ml, {"norm": "L1"}),
    ]  # fmt: skip
    numbers = {"ones": [1.0] * 4, "idfcst": [1.0, 2.0, 1.0, 3.0]}
    return Graph(nodes, ["input"], ["label", "probabilities"], numbers, [-1])


def test_a_graph_is_read_by_what_its_nodes_read(tmp_path: Path) -> None:
    path, made = tmp_path / "m.onnx", graph()
    path.write_bytes(made.wire())
    model = read_linear(path)
    assert model.labels == ("calm", "angry") and model.terms == ("rain", "red", "red flag")
    assert model.idf.tolist() == [1.0, 2.0, 3.0] and model.coefficients.tolist() == [[1, -1, -2], [-1, 1, 2]]
    made.nodes[7].inputs[1], made.floats["other"] = "other", made.floats.pop("idfcst")
    path.write_bytes(made.wire())
    assert read_linear(path).idf.tolist() == [1.0, 2.0, 3.0]


def says(node: int, **changes: Any) -> Callable[[Graph], object]:
    return lambda made: made.nodes[node].says.update(changes)


CHANGES: dict[str, Callable[[Graph], object]] = {
    "a node is passed by": lambda made: made.nodes[6].inputs.__setitem__(0, "counts"),
    "counts instead of weights": lambda made: made.nodes[8].inputs.__setitem__(0, "logged"),
    "the classifier reads what has no length": lambda made: made.nodes[9].inputs.__setitem__(0, "weighted"),
    "constants are exchanged": lambda made: (
        made.nodes[5].inputs.__setitem__(1, "idfcst"), made.nodes[7].inputs.__setitem__(1, "ones")
    ),
    "added to itself": lambda made: made.nodes[5].inputs.__setitem__(1, "counts"),
    "a constant that is not there": lambda made: made.nodes[7].inputs.__setitem__(1, "none"),
    "a second input": lambda made: made.nodes[6].inputs.append("ones"),
    "labels as scores": lambda made: made.nodes[10].inputs.__setitem__(0, "label"),
    "what it gives is not its scores": lambda made: made.outputs.__setitem__(1, "raw"),
    "two inputs": lambda made: made.inputs.append("more"),
    "one name for two values": lambda made: made.nodes[9].outputs.__setitem__(0, "logged"),
    "another shape": lambda made: made.shape.__setitem__(0, 1),
    "an operator of another domain": lambda made: setattr(made.nodes[6], "domain", "org.example"),
    "words that are left out": says(1, stopwords=["not"]),
    "words are left out by the tokenizer": says(2, stopexp=["not"]),
    "a last node of another norm": says(10, norm="MAX"),
    "without its norm": lambda made: made.nodes[8].says.clear(),
    "an unknown attribute": says(9, classlabels_ints=[1, 2]),
    "no single words": says(4, min_gram_length=2),
    "no runs": says(4, max_gram_length=1),
    "words before the first run": says(4, ngram_counts=[1, 3]),
    "an attribute twice": lambda made: setattr(made.nodes[10], "more", attribute("norm", "L1")),
    "a type that it does not have": lambda made: setattr(
        made.nodes[6], "more", put(5, put(1, "x") + put(4, "L1") + put(20, 2))
    ),
    "a sparse constant": lambda made: setattr(made, "more", put(15, b"")),
    "a constant twice": lambda made: setattr(made, "more", put(5, put(2, 1) + put(8, "ones"))),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_graph_that_means_something_else_is_refused(tmp_path: Path, change: str) -> None:
    made = graph()
    CHANGES[change](made)
    (tmp_path / "m.onnx").write_bytes(made.wire())
    with pytest.raises(ModelError):
        read_linear(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (put(7, b"\n\0" * (1 << 20)), "more than 16 nodes"), (put(7, b"\x2a\0" * (1 << 20)), "there twice"),
        (put(7, b"\x62\0" * (1 << 20)), "more than 16"), (put(7, put(1, b"\n\0" * (1 << 20))), "more than 16"),
        (put(7, b"") + put(7, b""), "2 graphs"),
        (put(7, put(1, put(5, put(1, "x") + put(8, b"\0" * (1 << 22))))), "more fields"),
        (put(7, put(5, put(2, 1) + put(4, b"\0" * (1 << 24)))), "more fields"),
    ],
)  # fmt: skip
def test_no_more_is_read_than_is_needed(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=words):
        read_linear(tmp_path / "m.onnx")
