"""What an answer must look like, from the keywords of a question to a grammar.

Owns: these keywords, and what may stand in them. Must not know: flags, how a grammar is obeyed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypedDict, runtime_checkable

from ndn_infer.errors import UsageError
from ndn_infer.records import grammar
from ndn_infer.records.grammar import Grammar
from ndn_infer.records.json_schema import closed

KEYWORDS: Final = ("schema", "regex", "choices", "gbnf")


@runtime_checkable
class HasSchema(Protocol):
    """A class of pydantic's."""

    def model_json_schema(self) -> dict[str, Any]: ...


class AnswerShape(TypedDict, total=False):
    """At most one of these. docs/structured.md."""

    schema: Mapping[str, Any] | bool | str | HasSchema
    """JSON that this JSON schema allows: a schema, its text, or a class of pydantic's."""
    regex: str
    choices: Sequence[str]
    gbnf: str


def grammar_of(given: Mapping[str, Any]) -> Grammar | None:
    """Of the one keyword that is there; None for none. Raises UsageError: two of them, or what cannot be obeyed."""
    there = [name for name in KEYWORDS if given.get(name) is not None]
    if len(there) > 1:
        raise UsageError(f"{there[0]} and {there[1]} both say what the answer must look like: give one of them")
    match there:
        case ["schema"]:
            schema = given["schema"]
            schema = schema.model_json_schema() if isinstance(schema, HasSchema) else schema
            return grammar.of_json_schema(closed(grammar.schema_of(schema)))
        case ["regex"]:
            return grammar.of_regex(given["regex"])
        case ["choices"]:
            return grammar.of_choice(given["choices"])
        case ["gbnf"]:
            return grammar.of_gbnf(given["gbnf"])
    return None
