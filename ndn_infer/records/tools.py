"""Tools and calls of them, as requests carry them, and the JSON text in which they travel.

Owns: their records, and what is taken for a JSON object. Must not know: the form in which a model writes a call
(hermes.py), who runs a tool.

Schemas and arguments are JSON text: a record holds no maps, and what a model reads is text. The order of keys is kept,
as it is part of what the model reads.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from ndn_infer.errors import BadRecord
from ndn_infer.records.bounds import MAX_TEXT, AtMost, Label
from ndn_infer.records.forms import Request

MAX_TOOLS: Final = 128
"""Of one request."""
MAX_CALLS: Final = 64
"""Of one message."""
MAX_DESCRIPTION: Final = 1 << 14
MAX_SCHEMA: Final = 1 << 16
"""Characters of a tool's parameters."""
MAX_NESTING: Final = 64
"""Objects and arrays within each other."""

_PIECES: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|[{}\[\]]', re.DOTALL)
"""What opens and closes, and strings, in which nothing does."""
_STEPS: Final = {"{": 1, "[": 1, "}": -1, "]": -1}

ToolName = Annotated[str, AtMost(128, 1)]


@dataclass(frozen=True, slots=True)
class Tool(Request):
    """A function that a model may ask for. `parameters` is the JSON Schema of its arguments, an object as JSON text; ""
    for a function of which nothing more is said."""

    name: ToolName
    description: Annotated[str, AtMost(MAX_DESCRIPTION)] = ""
    parameters: Annotated[str, AtMost(MAX_SCHEMA)] = ""

    @property
    def characters(self) -> int:
        return len(self.name) + len(self.description) + len(self.parameters)


@dataclass(frozen=True, slots=True)
class ToolCall(Request):
    """A call that a model asked for. `arguments` is an object as JSON text; `id` is what its result refers to."""

    name: ToolName
    arguments: Annotated[str, AtMost(MAX_TEXT)] = "{}"
    id: Label = ""

    @property
    def characters(self) -> int:
        return len(self.name) + len(self.arguments) + len(self.id)


def object_of(text: str) -> dict[str, Any]:
    """The object in a JSON text, "" being an empty one. Raises BadRecord: no JSON (NaN and infinity are not), no
    object, nested deeper than MAX_NESTING."""
    if not text:
        return {}
    _check_nesting(text)
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise BadRecord(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadRecord("not a JSON object")
    return value


def json_text(value: Any) -> str:
    """A JSON value as text: one form for equal values with equal order of keys, that in which models read and write
    them. Raises BadRecord for what is nested deeper than MAX_NESTING, or no JSON."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRecord(f"not JSON: {error}") from error
    _check_nesting(text)
    return text


def _check_nesting(text: str) -> None:
    """Before it is parsed: a parser that recurses is not asked."""
    depth = 0
    for match in _PIECES.finditer(text):
        depth += _STEPS.get(match[0], 0)
        if depth > MAX_NESTING:
            raise BadRecord(f"nested deeper than {MAX_NESTING}")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON value")
