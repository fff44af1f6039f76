"""Tools of a question, whatever door it came through: which there are, and what may or must be called.

Owns: the grammar that holds an answer to calls of tools. Pure. Must not know: how a question says so (gateway/,
library/), how a model writes a call (hermes.py).

A tool that is `strict` is held to its schema, or refused. The schema of others is enforced where a grammar can do that;
where it cannot, the arguments are any JSON object. Objects whose schema lists properties and says nothing of others
have no others, as grammars elsewhere have it too (xgrammar): a small model would go on inventing some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ndn_infer.errors import UsageError
from ndn_infer.records import grammar
from ndn_infer.records.grammar import Grammar
from ndn_infer.records.json_schema import closed
from ndn_infer.records.sampling import Sampling
from ndn_infer.records.tools import Tool, object_of


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

    def held(self, sampling: Sampling) -> Sampling:
        """`sampling` with answers held to calls of these tools, or to the JSON that they are held to already. Raises
        UsageError as `grammar`."""
        made = self.grammar(sampling.grammar)
        return sampling if made is None else replace(sampling, grammar=made)

    def grammar(self, otherwise: Grammar | None = None) -> Grammar | None:
        """What answers are held to; those without a call to `otherwise`. None without tools. Raises UsageError for a
        strict tool whose schema cannot be enforced, and for another form than JSON beside tools."""
        tools = [tool for tool in self.tools if tool.name in self.allowed]
        if not tools:
            return None
        try:
            return self._grammar([(tool.name, self._schema(tool)) for tool in tools], otherwise)
        except _TooLarge:
            few = [(tool.name, self._schema(tool) if tool.name in self.strict else None) for tool in tools]
        return self._grammar(few, otherwise)

    def _grammar(self, schemas: list[tuple[str, Mapping[str, Any] | None]], otherwise: Grammar | None) -> Grammar:
        try:
            return grammar.of_tools(schemas, required=self.required, parallel=self.parallel, otherwise=otherwise)
        except UsageError as error:  # each of them alone is none
            raise _TooLarge(f"tools: {error}", hint=error.hint) from error

    def _schema(self, tool: Tool) -> Mapping[str, Any] | None:
        """What arguments are held to; None for any object."""
        try:
            schema = {"type": "object", **closed(object_of(tool.parameters))}
            grammar.of_tools([(tool.name, schema)])
        except UsageError as error:
            if tool.name in self.strict:
                words = f"the tool {tool.name} is strict, and its schema cannot be enforced: {error}"
                raise UsageError(words, hint=error.hint) from error
            return None
        return schema


class _TooLarge(UsageError):
    """All schemas together are."""
