"""Tools of a request, as every form of the API has them.

Owns: reading a function and a choice, identifiers of calls. Pure. Must not know: how any one form writes tools
(chat_tools.py), what holds an answer to them (client/tool_use.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Final

from ndn_infer.client.tool_use import ToolUse
from ndn_infer.errors import BadRecord, UsageError
from ndn_infer.gateway.fields import Fields, text_of
from ndn_infer.gateway.refusal import bad
from ndn_infer.gateway.sampling import ChoiceOptions
from ndn_infer.records.tools import MAX_DESCRIPTION, MAX_SCHEMA, MAX_TOOLS, Tool, json_text

MAX_NAME: Final = 64
"""Characters of a tool's name, as OpenAI has it."""
_NAME: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.")


def held_to(use: ToolUse, asked: ChoiceOptions) -> ChoiceOptions:
    """The same options, with answers held to calls of these tools; those without a call stay in the response format.
    Raises Refusal."""
    if not use.allowed:
        return asked
    try:
        return replace(asked, sampling=use.held(asked.sampling))
    except UsageError as error:
        raise bad(str(error), "tools") from error


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
    """`use` with a choice: `mode` is "none", "auto" or "required"; `only`: these of the tools. One that is named is
    called once. Raises Refusal."""
    for name in only:
        if name not in use.allowed:
            raise bad(f"{where} names {name}, which is none of the tools", where)
    if mode == "none":
        return replace(use, allowed=())
    if mode == "required" and not use.tools:
        raise bad(f"{where} wants a tool to be called, and there is none", where)
    required = mode == "required"
    parallel = use.parallel and not (required and len(only) == 1)
    return replace(use, allowed=only or use.allowed, required=required, parallel=parallel)


def call_id(key: str, choice: int, index: int, prefix: str = "call_") -> str:
    """The identifier of call number `index` of a choice in the response `key`, the same one whenever it is wanted."""
    return prefix + hashlib.sha256(f"{key}.{choice}.{index}".encode()).hexdigest()[:24]
