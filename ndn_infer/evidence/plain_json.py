"""JSON in one form: equal values have equal bytes, and what others wrote is read within bounds.

Owns: that form and its bounds. Must not know: what a value says, who signed it.

Keys sorted by their code points, no white space, UTF-8 without escapes that JSON does not ask for; numbers as Python
writes them (floats by their shortest form that reads back equal; no NaN, no infinity).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from ndn_infer.errors import BadRecord

Json: TypeAlias = "str | int | float | bool | None | Sequence[Json] | Mapping[str, Json]"

MAX_JSON: Final = 1 << 20
"""Bytes, where a reader says nothing else."""
MAX_DEPTH: Final = 32
_LEAVES: Final = frozenset({str, int})
"""What most of a large value is: nothing about it is looked at."""


def canonical(value: Json) -> bytes:
    """The bytes of `value`. Raises BadRecord for what JSON has no form for, or what is nested too deeply."""
    try:
        text = json.dumps(_plain(value, 0), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8")
    except (TypeError, ValueError) as error:  # UnicodeEncodeError too
        raise BadRecord(f"this has no JSON form: {error}") from error


def parse(wire: bytes | memoryview, most: int = MAX_JSON) -> Any:
    """The value that these bytes are. Raises BadRecord for anything else than JSON of `most` bytes, MAX_DEPTH levels,
    each key once."""
    wire = bytes(wire)
    if len(wire) > most:
        raise BadRecord(f"JSON of {len(wire)} bytes where {most} are taken")
    try:
        value = json.loads(wire.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"this is not JSON: {error}") from error
    return _plain(value, 0)


def parse_canonical(wire: bytes | memoryview, most: int = MAX_JSON) -> Any:
    """As `parse`, and the bytes are those that `canonical` makes."""
    value = parse(wire, most)
    if canonical(value) != bytes(wire):
        raise BadRecord("this JSON is not in its canonical form")
    return value


def _plain(value: Json, depth: int) -> Any:
    if depth >= MAX_DEPTH and isinstance(value, Mapping | list | tuple):
        raise BadRecord(f"JSON of more than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise BadRecord("keys of JSON are text")
        return {key: item if type(item) in _LEAVES else _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [item if type(item) in _LEAVES else _plain(item, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise BadRecord("a number of JSON is finite")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number")
