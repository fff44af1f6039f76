"""Tools of a question, whatever door it came through: which there are, and what may or must be called.

Owns: the grammar that holds an answer to calls of tools. Pure. Must not know: how a question says so (gateway/,
library/), how a model writes a call (hermes.py).

A tool that is `strict` is held to its schema, or refused. The schema of others is enforced where a grammar can do that;
where it cannot, the arguments are any JSON object. Objects whose schema lists properties and says nothing of others
have no others, as grammars elsewhere have it too (xgrammar): a small model would go on inventing some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ndn_infer.errors import UsageError
from ndn_infer.records import grammar
from ndn_infer.records.grammar import Grammar
from ndn_infer.records.tools import Tool, object_of

_SCHEMAS: Final = ("items", "additionalProperties")
_LISTS: Final = ("anyOf", "oneOf", "prefixItems")
_BY_NAME: Final = ("properties", "$defs", "definitions")
_OPEN: Final = frozenset(
    ("additionalProperties", "patternProperties", "unevaluatedProperties", "allOf", "anyOf", "oneOf", "$ref")
)
"""Keywords beside which `properties` do not say which properties there are."""


@dataclass(frozen=True, slots=True)
class ToolUse:
    """`tools` are described in the prompt; those in `allowed` may be called, none where it is empty, one at least where
    `required`, several in one answer where `parallel`. `strict`: names of those whose schema must be enforced."""

    tools: tuple[Tool, ...] = ()
    allowed: tuple[str, ...] = ()
    required: bool = False
    parallel: bool = True
    strict: frozenset[str] = frozenset()

    @property
    def shown(self) -> tuple[Tool, ...]:
        """What the prompt has: a model that must call nothing is told of nothing."""
        return self.tools if self.allowed else ()

    def grammar(self) -> Grammar | None:
        """What answers are held to. Raises UsageError for a strict tool whose schema cannot be enforced."""
        tools = [tool for tool in self.tools if tool.name in self.allowed]
        if not tools:
            return None
        try:
            return self._grammar([(tool.name, self._schema(tool)) for tool in tools])
        except _TooLarge:
            few = [(tool.name, self._schema(tool) if tool.name in self.strict else None) for tool in tools]
        return self._grammar(few)

    def _grammar(self, schemas: list[tuple[str, Mapping[str, Any] | None]]) -> Grammar:
        try:
            return grammar.of_tools(schemas, required=self.required, parallel=self.parallel)
        except UsageError as error:  # each of them alone is none
            raise _TooLarge(f"tools: {error}", hint=error.hint) from error

    def _schema(self, tool: Tool) -> Mapping[str, Any] | None:
        """What arguments are held to; None for any object."""
        schema = {"type": "object", **_closed(object_of(tool.parameters))}
        try:
            grammar.of_tools([(tool.name, schema)])
        except UsageError as error:
            if tool.name in self.strict:
                words = f"the tool {tool.name} is strict, and its schema cannot be enforced: {error}"
                raise UsageError(words, hint=error.hint) from error
            return None
        return schema


class _TooLarge(UsageError):
    """All schemas together are."""


def _closed(schema: Any) -> Any:
    """A schema in which objects have no properties but those listed, where it says nothing else."""
    if not isinstance(schema, Mapping):
        return schema
    found = dict(schema)
    for key in _BY_NAME:
        if isinstance(inner := found.get(key), Mapping):
            found[key] = {name: _closed(one) for name, one in inner.items()}
    for key in _LISTS:
        if isinstance(items := found.get(key), list):
            found[key] = [_closed(one) for one in items]
    for key in _SCHEMAS:
        found |= {key: _closed(found[key])} if key in found else {}
    if "properties" in found and not _OPEN & found.keys():
        found["additionalProperties"] = False
    return found
