"""Which JSON schemas can be enforced while an answer is generated: all of a schema is, or it is refused by keyword.

Owns: the keywords that are enforced, those that say nothing about validity, and bounds of a schema. Pure. Must not
know: how a schema becomes a mask of tokens (engine/grammar.py), records.

Without `$schema` a schema is of draft 2020-12. A keyword of any draft that would not be enforced is refused wherever it
stands, in whatever draft the schema claims to be; a keyword of no draft says nothing, as the specification has it. Some
of what is refused here llguidance refuses as well, with fewer words; some of it llguidance would ignore, or get wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, TypeVar

from ndn_infer.errors import UsageError

MAX_DEPTH: Final = 64
MAX_NODES: Final = 10_000
MAX_STEP: Final = 10_000
"""Of all `multipleOf` together, as integers: a mask has to remember the remainder."""
EXACT: Final = 1 << 53
"""Integers beyond it are not exact in the arithmetic of a mask."""

DRAFTS: Final = ("draft-04", "draft-06", "draft-07", "2019-09", "2020-12")
_BEFORE_2019: Final = DRAFTS[:3]
_URIS: Final = {
    **{f"http://json-schema.org/{draft}/schema": draft for draft in _BEFORE_2019},
    **{f"https://json-schema.org/draft/{draft}/schema": draft for draft in DRAFTS[3:]},
}

_SCHEMAS_BY_NAME: Final = ("properties", "patternProperties", "$defs", "definitions")
_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMAS: Final = ("items", "additionalItems", "additionalProperties")
_VALUES: Final = (
    "$ref", "const", "enum", "type", "minItems", "maxItems", "required", "minProperties", "maxProperties", "minLength",
    "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
)  # fmt: skip
ENFORCED: Final = frozenset((*_SCHEMAS_BY_NAME[:2], *_LISTS, *_SCHEMAS, *_VALUES))
SAYS_NOTHING: Final = frozenset(
    (
        "$defs", "definitions", "$schema", "$id", "id", "$anchor", "$comment", "title", "description", "default",
        "examples", "readOnly", "writeOnly", "deprecated", "contentMediaType", "contentEncoding", "contentSchema",
    )
)  # fmt: skip
REFUSED: Final = frozenset(
    (
        "not", "if", "then", "else", "contains", "minContains", "maxContains", "uniqueItems", "propertyNames",
        "dependencies", "dependentRequired", "dependentSchemas", "unevaluatedItems", "unevaluatedProperties",
        "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary", "disallow", "divisibleBy",
        "extends", "x-guidance",
    )
)  # fmt: skip
"""Keywords of some draft that are not enforced. x-guidance is of none: it would change how a mask is made."""
_NUMBERS: Final = ("const", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


def check_schema(schema: Mapping[str, Any] | bool) -> None:
    """Raises UsageError, which names the keyword and where it stands."""
    steps: set[int] = set()
    draft = _draft(schema)
    for count, (where, found) in enumerate(_subschemas(schema)):
        if count >= MAX_NODES:
            raise UsageError(f"the schema has more than {MAX_NODES} parts")
        if isinstance(found, Mapping):
            _check_keywords(where, found, draft, root=found is schema)
            _check_numbers(where, found)
            steps |= {_whole(found["multipleOf"], where)} if "multipleOf" in found else set()
    _check_steps(steps)


def _draft(schema: Mapping[str, Any] | bool) -> str:
    named = schema.get("$schema", "") if isinstance(schema, Mapping) else ""
    draft = DRAFTS[-1] if named == "" else _URIS.get(str(named).removesuffix("#"))
    if draft is None:
        raise UsageError(f"$schema {str(named)[:80]!r} is none of the drafts {', '.join(DRAFTS)}")
    return draft


def _subschemas(schema: Any) -> Iterator[tuple[str, Any]]:
    """(where it stands, the schema): this one and all in it, in order. A value that should be a schema and is none is
    given as it is."""
    waiting: list[tuple[str, Any, int]] = [("#", schema, 0)]
    while waiting:
        where, found, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise UsageError(f"the schema is nested more than {MAX_DEPTH} deep")
        if not isinstance(found, Mapping | bool):
            raise UsageError(f"{where} must be a schema: an object, true or false")
        yield where, found
        if isinstance(found, Mapping):
            inner = [(f"{where}/{key}", value, depth + 1) for key, value in _inner(where, found)]
            waiting += reversed(inner)


def _inner(where: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in schema.items():
        if key in _SCHEMAS_BY_NAME:
            if not isinstance(value, Mapping):
                raise UsageError(f"{where}/{key} must be an object")
            yield from ((f"{key}/{name[:40]}", one) for name, one in value.items())
        elif key in _LISTS or (key == "items" and isinstance(value, list)):
            if not isinstance(value, list):
                raise UsageError(f"{where}/{key} must be a list")
            yield from ((f"{key}/{at}", one) for at, one in enumerate(value))
        elif key in _SCHEMAS:
            yield key, value


def _check_keywords(where: str, schema: Mapping[str, Any], draft: str, *, root: bool) -> None:
    for key in schema:
        if key in REFUSED:
            raise _not_enforced(key, where)
    if not root and ("$schema" in schema or "$id" in schema or (draft == "draft-04" and "id" in schema)):
        raise UsageError(f"{where}: a schema with an identity of its own ($id) inside another one is not enforced")
    if "items" in schema and isinstance(schema["items"], list) and draft == "2020-12":
        hint = "name the draft in $schema, or write prefixItems"
        raise UsageError(f"{where}: a list of items is of older drafts than 2020-12", hint=hint)
    if "additionalItems" in schema and draft == "2020-12":
        raise _not_enforced("additionalItems", where)
    if "$ref" in schema:
        _check_ref(where, schema, draft)
    _check_count_of_keys(where, schema)


def _check_ref(where: str, schema: Mapping[str, Any], draft: str) -> None:
    """A reference to a place of this schema that was looked at."""
    parts = str(schema["$ref"]).split("/")
    known = parts == ["#"] or (parts[0] == "#" and len(parts) >= 3 and _leads_to_schema(parts[1:]))
    if not known:
        words = f"{where}: $ref {str(schema['$ref'])[:80]!r} does not lead to a part of this schema by its path (#/...)"
        raise UsageError(words, hint="put what it names below $defs, and refer to it as #/$defs/name")
    beside = [key for key in schema if key in ENFORCED and key != "$ref"]
    if draft in _BEFORE_2019 and beside:
        raise UsageError(f"{where}: beside $ref {draft} ignores {beside[0]}", hint="wrap the $ref in an allOf")


def _leads_to_schema(parts: list[str]) -> bool:
    """Whether a path goes from schema to schema, so that its end was looked at."""
    at = 0
    while at < len(parts):
        if parts[at] in (*_SCHEMAS_BY_NAME, *_LISTS) or (
            parts[at] == "items" and at + 1 < len(parts) and parts[at + 1].isdigit()
        ):
            at += 2
        elif parts[at] in _SCHEMAS:
            at += 1
        else:
            return False
    return at == len(parts)


def _check_count_of_keys(where: str, schema: Mapping[str, Any]) -> None:
    """Nothing keeps a mask from giving one free key twice, which then counts once."""
    least, required = schema.get("minProperties", 0), schema.get("required", ())
    named = len(set(map(str, required))) if isinstance(required, list) else 0
    if isinstance(least, int | float) and least > max(named, 1):
        raise UsageError(f"{where}: minProperties above 1 is enforced only where as many are required")


def _check_numbers(where: str, schema: Mapping[str, Any]) -> None:
    for key in _NUMBERS:
        waiting = [schema[key]] if key in schema else []
        while waiting:
            value = waiting.pop()
            if isinstance(value, list):
                waiting += value
            elif isinstance(value, Mapping):
                waiting += value.values()
            elif isinstance(value, int) and abs(value) > EXACT:
                raise UsageError(f"{where}/{key}: {str(value)[:40]} has more digits than are enforced exactly")


def _whole(step: Any, where: str) -> int:
    """A step as an integer, whatever its power of ten."""
    if isinstance(step, bool) or not isinstance(step, int | float) or step <= 0:
        raise UsageError(f"{where}/multipleOf must be a number above 0")
    digits = "".join(map(str, Decimal(repr(step)).as_tuple().digits)).rstrip("0")
    return int(digits)


def _check_steps(steps: set[int]) -> None:
    together = 1
    for step in steps:
        together *= step
    if together > MAX_STEP:
        raise UsageError(f"multipleOf: steps of more than {MAX_STEP} together are not enforced")


def _not_enforced(key: str, where: str) -> UsageError:
    hint = "leave it out and check the answer yourself; docs/structured.md has the keywords that are enforced"
    return UsageError(f"the schema has the keyword {key} ({where}), which is not enforced", hint=hint)


# ---------------------------------------------------------------- objects without other properties

_OPEN: Final = frozenset(("additionalProperties", "patternProperties", *_LISTS[:3], "$ref"))
"""Keywords beside which `properties` do not say which properties there are."""


S = TypeVar("S", bound="Mapping[str, Any] | bool")


def closed(schema: S) -> S:
    """The same schema, in which objects have no properties but those listed where it says nothing else. What it allows
    the given one allows. Parts that are joined with others (allOf, or anyOf and $ref beside other keywords) stay as
    they are: what one of them lists is not all that there is."""
    if isinstance(schema, Mapping) and any(_joins(found) for _, found in _subschemas(schema)):
        return schema
    found: S = _closed(schema)
    return found


def _joins(schema: Any) -> bool:
    beside = isinstance(schema, Mapping) and len(ENFORCED & schema.keys()) > 1
    return isinstance(schema, Mapping) and ("allOf" in schema or (beside and bool(_OPEN & schema.keys() & _IN_PLACE)))


_IN_PLACE: Final = frozenset(("anyOf", "oneOf", "$ref"))


def _closed(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    found = dict(schema)
    for key, value in schema.items():
        if key in _SCHEMAS_BY_NAME and isinstance(value, Mapping):
            found[key] = {name: _closed(one) for name, one in value.items()}
        elif isinstance(value, list) and (key in _LISTS or key == "items"):
            found[key] = [_closed(one) for one in value]
        elif key in _SCHEMAS:
            found[key] = _closed(value)
    if (
        "properties" in found
        and not _OPEN & found.keys()
        and set(found.get("required", ())) <= set(found["properties"])
    ):
        found["additionalProperties"] = False
    return found
