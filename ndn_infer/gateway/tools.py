"""Tools of a request, whatever the form in which it says so: which there are, and what may or must be called.

Owns: the neutral form, the grammar that holds an answer to it, identifiers of calls. Pure. Must not know: how any one
form of the API writes tools (chat_tools.py), how a model writes a call (hermes.py).

A tool that is `strict` is held to its schema, or refused. The schema of others is enforced where a grammar can do that;
where it cannot, the arguments are any JSON object. Objects whose schema lists properties and says nothing of others
have no others, as grammars elsewhere have it too (xgrammar): a small model would go on inventing some.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ndn_infer.errors import BadRecord, UsageError
from ndn_infer.gateway.fields import Fields, text_of
from ndn_infer.gateway.refusal import bad
from ndn_infer.gateway.sampling import ChoiceOptions
from ndn_infer.records import grammar
from ndn_infer.records.grammar import Grammar
from ndn_infer.records.tools import MAX_DESCRIPTION, MAX_SCHEMA, MAX_TOOLS, Tool, json_text, object_of

MAX_NAME: Final = 64
"""Characters of a tool's name, as OpenAI has it."""
_NAME: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.")
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

    def asked(self, asked: ChoiceOptions) -> ChoiceOptions:
        """The same options, with answers held to calls of these tools. Raises Refusal."""
        if not self.allowed:
            return asked
        if asked.sampling.grammar is not None:
            raise bad("an answer is either a call of tools or in a response format: leave one of them out", "tools")
        return replace(asked, sampling=replace(asked.sampling, grammar=self.grammar()))

    def grammar(self) -> Grammar:
        """Raises Refusal for a strict tool whose schema cannot be enforced."""
        tools = [tool for tool in self.tools if tool.name in self.allowed]
        try:
            return self._grammar([(tool.name, self._schema(tool)) for tool in tools])
        except UsageError:  # all of them together are too large
            few = [(tool.name, self._schema(tool) if tool.name in self.strict else None) for tool in tools]
        try:
            return self._grammar(few)
        except UsageError as error:
            raise bad(str(error), "tools") from error

    def _grammar(self, schemas: list[tuple[str, Mapping[str, Any] | None]]) -> Grammar:
        return grammar.of_tools(schemas, required=self.required, parallel=self.parallel)

    def _schema(self, tool: Tool) -> Mapping[str, Any] | None:
        """What arguments are held to; None for any object."""
        schema = {"type": "object", **_closed(object_of(tool.parameters))}
        try:
            grammar.of_tools([(tool.name, schema)])
        except UsageError as error:
            if tool.name in self.strict:
                raise bad(f"the tool {tool.name} is strict, and its schema cannot be: {error}", "tools") from error
            return None
        return schema


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


# ---------------------------------------------------------------- what forms share


def function_tool(given: Fields, schema: str = "parameters") -> tuple[Tool, bool]:
    """A tool, and whether it is strict, from its fields name, description and `schema`. Raises Refusal."""
    where = given.path("name")
    name = tool_name(given.take("name"), where)
    description = given.text("description", MAX_DESCRIPTION) or ""
    parameters = given.object(schema)
    strict = given.flag("strict")
    given.end()
    if parameters is None:
        return Tool(name, description), strict
    if parameters.get("type", "object") != "object":
        raise bad(f"{given.path(schema)} must be the schema of an object", given.path(schema))
    return Tool(name, description, _text(parameters, given.path(schema))), strict


def _text(schema: dict[str, Any], where: str) -> str:
    try:
        text = json_text(schema)
    except BadRecord as error:
        raise bad(f"{where} is {error}", where) from error
    if len(text) > MAX_SCHEMA:
        raise bad(f"{where} has {len(text)} characters, and {MAX_SCHEMA} are the most", where)
    return text_of(text, where)


def tool_name(value: Any, where: str) -> str:
    name = text_of(value, where, MAX_NAME)
    if not name or not _NAME.issuperset(name):
        raise bad(f"{where} must have letters, digits, _, . and - only", where)
    return name


def all_tools(told: list[tuple[Tool, bool]], where: str = "tools") -> ToolUse:
    """Any of them may be called. Raises Refusal where two have one name."""
    tools = tuple(tool for tool, _ in told)
    names = tuple(tool.name for tool in tools)
    if len(set(names)) < len(names):
        raise bad(f"{where} has two tools of one name", where)
    if len(tools) > MAX_TOOLS:
        raise bad(f"{where} has {len(tools)} tools, and {MAX_TOOLS} are the most", where)
    return ToolUse(tools, names, strict=frozenset(tool.name for tool, strict in told if strict))


def chosen(use: ToolUse, mode: str, where: str, only: tuple[str, ...] = ()) -> ToolUse:
    """`use` with a choice: `mode` is "none", "auto" or "required"; `only`: these of the tools. Raises Refusal."""
    for name in only:
        if name not in use.allowed:
            raise bad(f"{where} names {name}, which is none of the tools", where)
    if mode == "none":
        return replace(use, allowed=())
    if mode == "required" and not use.tools:
        raise bad(f"{where} wants a tool to be called, and there is none", where)
    return replace(use, allowed=only or use.allowed, required=mode == "required")


def call_id(key: str, choice: int, index: int, prefix: str = "call_") -> str:
    """The identifier of call number `index` of a choice in the response `key`, the same one whenever it is wanted."""
    return prefix + hashlib.sha256(f"{key}.{choice}.{index}".encode()).hexdigest()[:24]
