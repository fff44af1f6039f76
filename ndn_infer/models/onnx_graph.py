"""The graph of an ONNX file: a row of few nodes, and its constants.

Owns: reading these, without ONNX's runtime. Must not know: what operators do. Attributes that are tensors, graphs or of
another type than they say are refused.

Format: onnx.proto3 of ONNX; numbers of fields are from that file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from ndn_infer.models.protobuf import ProtobufReader, Value

MOST_NODES: Final = 16
MOST_NAMES: Final = 16
"""Constants of a graph, inputs, outputs; attributes, inputs, outputs of a node."""
MOST_FIELDS: Final = 1 << 22
"""Fields and numbers of a file: each becomes an object."""
_FLOAT, _INT64 = 1, 7
_ATTRIBUTES: Final = {2: 1, 3: 2, 4: 3, 7: 6, 8: 7, 9: 8}
"""Fields of an attribute that have values -> the type that it says then."""


@dataclass(slots=True)
class OnnxNode:
    """`attributes`: integers, floats or texts."""

    operator: str = ""
    domain: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, list[int] | list[float] | list[str]] = field(default_factory=dict)


@dataclass(slots=True)
class OnnxGraph:
    """`constants`: 32-bit floats or 64-bit integers, of other types none; `inputs` without them."""

    nodes: list[OnnxNode] = field(default_factory=list)
    constants: dict[str, list[int] | list[float]] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


def read_graph(data: memoryview) -> OnnxGraph:
    """Raises ValueError, IndexError, struct.error for what is none, or larger than is read."""
    reader = ProtobufReader(MOST_FIELDS)
    graphs = [value for number, value in reader.fields(data) if number == 7]
    if len(graphs) != 1:
        raise ValueError(f"it has {len(graphs)} graphs")
    return _graph(graphs[0], reader)


def _graph(data: Value, reader: ProtobufReader) -> OnnxGraph:
    graph = OnnxGraph()
    for number, value in reader.message(data):
        match number:
            case 1:
                graph.nodes.append(_node(value, reader))
            case 5:
                _constant(value, graph, reader)
            case 11:
                graph.inputs.append(_value_name(value, reader))
            case 12:
                graph.outputs.append(_value_name(value, reader))
            case 15:
                raise ValueError("a sparse constant")
        if len(graph.nodes) > MOST_NODES or max(map(len, (graph.constants, graph.inputs, graph.outputs))) > MOST_NAMES:
            raise ValueError(f"it has more than {MOST_NODES} nodes or {MOST_NAMES} names of a kind")
    graph.inputs = [name for name in graph.inputs if name not in graph.constants]
    return graph


def _node(data: Value, reader: ProtobufReader) -> OnnxNode:
    node = OnnxNode()
    for number, value in reader.message(data):
        match number:
            case 1:
                node.inputs.append(reader.text(value))
            case 2:
                node.outputs.append(reader.text(value))
            case 4:
                node.operator = reader.text(value)
            case 5:
                _attribute(value, node, reader)
            case 7:
                node.domain = reader.text(value)
        if max(map(len, (node.attributes, node.inputs, node.outputs))) > MOST_NAMES:
            raise ValueError(f"a node has more than {MOST_NAMES} names of a kind")
    return node


def _attribute(data: Value, node: OnnxNode, reader: ProtobufReader) -> None:
    name, said, integers, floats, strings, used = "", 0, list[int](), list[float](), list[str](), set[int]()
    for number, value in reader.message(data):
        match number:
            case 1:
                name = reader.text(value)
            case 20:
                said = reader.number(value)
            case 2 | 7:
                floats += reader.floats(value)
            case 3 | 8:
                integers += reader.integers(value)
            case 4 | 9:
                strings.append(reader.text(value))
            case 13:  # words about it
                continue
            case _:
                raise ValueError(f"an attribute has a field {number}")
        used |= {number} - {1, 20}
    if any(_ATTRIBUTES[number] != said for number in used) or said not in _ATTRIBUTES.values():
        raise ValueError(f"attribute {name[:80]} is of another type than it says")
    if name in node.attributes:
        raise ValueError(f"attribute {name[:80]} is there twice")
    node.attributes[name] = integers or floats or strings


def _constant(data: Value, graph: OnnxGraph, reader: ProtobufReader) -> None:
    name, kind, floats, integers, raw = "", 0, list[float](), list[int](), b""
    for number, value in reader.message(data):
        match number:
            case 2:
                kind = reader.number(value)
            case 4:
                floats += reader.floats(value)
            case 7:
                integers += reader.integers(value)
            case 8:
                name = reader.text(value)
            case 9 if isinstance(value, memoryview):
                raw = bytes(value)
    if name in graph.constants:
        raise ValueError(f"constant {name[:80]} is there twice")
    if kind == _FLOAT:
        graph.constants[name] = floats + list(reader.floats(memoryview(raw)))
    else:
        graph.constants[name] = integers + _integers_of(raw) if kind == _INT64 else []


def _integers_of(raw: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(raw) // 8}q", raw))


def _value_name(data: Value, reader: ProtobufReader) -> str:
    names = [reader.text(value) for number, value in reader.message(data) if number == 1]
    return names[-1] if names else ""
