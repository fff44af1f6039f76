"""Tools as chat completions write them: tools, tool_choice, parallel_tool_calls.

Owns: these fields. Pure. Must not know: messages, what a tool is for an answer (tools.py).
"""

from __future__ import annotations

from typing import Any, Final

from ndn_infer.client.tool_use import ToolUse
from ndn_infer.gateway.fields import Fields
from ndn_infer.gateway.refusal import bad
from ndn_infer.gateway.tools import all_tools, chosen, function_tool, tool_name
from ndn_infer.records.tools import MAX_TOOLS, Tool

_MODES: Final = ("none", "auto", "required")
_CHOICE: Final = "tool_choice"


def read_tools(body: Fields) -> ToolUse:
    """Raises Refusal."""
    for name, allowed in (("functions", ([],)), ("function_call", ("none", "auto"))):
        body.only(name, *allowed, instead="tools and tool_choice")
    given = body.items("tools", MAX_TOOLS) or []
    use = all_tools([_tool(item, f"tools[{index}]") for index, item in enumerate(given)])
    parallel, choice = body.take("parallel_tool_calls"), body.take(_CHOICE)
    if parallel is not None and not isinstance(parallel, bool):
        raise bad("parallel_tool_calls must be true or false", "parallel_tool_calls")
    use = ToolUse(use.tools, use.allowed, parallel=parallel is not False, strict=use.strict)
    return use if choice is None else _chosen(use, choice)


def _tool(value: Any, where: str) -> tuple[Tool, bool]:
    tool = _object(value, where)
    _function(tool, where)
    function = _object(tool.take("function"), f"{where}.function")
    tool.end()
    return function_tool(function)


def _chosen(use: ToolUse, value: Any) -> ToolUse:
    if isinstance(value, str):
        if value not in _MODES:
            raise bad(f"{_CHOICE} must be one of {', '.join(_MODES)}, or name a function", _CHOICE)
        return chosen(use, value, _CHOICE)
    choice = _object(value, _CHOICE)
    if value.get("type") == "allowed_tools":
        choice.take("type")
        allowed = _object(choice.take("allowed_tools"), f"{_CHOICE}.allowed_tools")
        choice.end()
        return _allowed(use, allowed)
    return chosen(use, "required", _CHOICE, (_named(choice, _CHOICE),))


def _allowed(use: ToolUse, allowed: Fields) -> ToolUse:
    mode = allowed.text("mode", 16)
    if mode not in _MODES[1:]:
        raise bad(f"{allowed.path('mode')} must be auto or required", allowed.path("mode"))
    where = allowed.path("tools")
    given = allowed.items("tools", MAX_TOOLS)
    if not given:
        raise bad(f"{where} is missing, or empty", where)
    names = [_named(_object(item, f"{where}[{at}]"), f"{where}[{at}]") for at, item in enumerate(given)]
    allowed.end()
    return chosen(use, mode, where, tuple(dict.fromkeys(names)))


def _named(given: Fields, where: str) -> str:
    """{"type": "function", "function": {"name": ...}}"""
    _function(given, where)
    function = _object(given.take("function"), f"{where}.function")
    given.end()
    name = tool_name(function.take("name"), function.path("name"))
    function.end()
    return name


def _function(given: Fields, where: str) -> None:
    kind = given.text("type", 64)
    if kind != "function":
        raise bad(f"{where}.type: only function is supported", f"{where}.type", "unsupported_parameter")


def _object(value: Any, where: str) -> Fields:
    if not isinstance(value, dict):
        raise bad(f"{where} must be an object", where)
    return Fields(value, f"{where}.")
