"""JSON Schema in few words, as OpenAPI 3.1 has it.

Owns: how a kind of value is written as a schema. Pure. Must not know: the API.

Fields that may be absent may be null: clients send it for what they leave out (fields.Fields).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ndn_infer.records.sampling import range_of

Schema = dict[str, Any]


def null_or(schema: Schema) -> Schema:
    kind = schema.get("type")
    if isinstance(kind, str) and "enum" not in schema:
        return {**schema, "type": [kind, "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def text(most: int | None = None, least: int = 0) -> Schema:
    bounds = {"minLength": least} if least else {}
    return {"type": "string", **bounds, **({} if most is None else {"maxLength": most})}


def integer(least: int | None = None, most: int | None = None) -> Schema:
    bounds = {"minimum": least, "maximum": most}
    return {"type": "integer", **{name: bound for name, bound in bounds.items() if bound is not None}}


def number(least: float, most: float) -> Schema:
    return {"type": "number", "minimum": least, "maximum": most}


def sampled(name: str, kind: str = "number") -> Schema:
    """A parameter of Sampling, in its range."""
    least, most = range_of(name)
    return null_or({"type": kind, "minimum": least, "maximum": most})


def flag() -> Schema:
    return {"type": ["boolean", "null"]}


def array(items: Schema, most: int | None = None, least: int = 0) -> Schema:
    bounds = {"minItems": least} if least else {}
    return {"type": "array", "items": items, **bounds, **({} if most is None else {"maxItems": most})}


def one_of(*values: Any) -> Schema:
    return {"enum": list(values)}


def only(*values: Any, why: str = "") -> Schema:
    """A parameter that may be there with values that ask for nothing."""
    said = f"Not supported but as {', '.join(map(repr, values))}." if values else "Not supported."
    return {"enum": [*values, None], "description": f"{said} {why}".strip()}


def either(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def record(properties: Mapping[str, Schema], required: Iterable[str] = (), *, open: bool = False) -> Schema:
    """An object with these fields and, unless `open`, no others."""
    closed = {} if open else {"additionalProperties": False}
    needed = list(required)
    return {"type": "object", "properties": dict(properties), **closed, **({"required": needed} if needed else {})}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def about(words: str, schema: Schema) -> Schema:
    return {**schema, "description": words}
