"""Tools as responses write them: flat functions, tool_choice, parallel_tool_calls.

Owns: these fields, and what a response says again of them. Pure. Must not know: items, what a tool is for an answer
(tools.py).

Tools of other types (web_search, local_shell, ...) are offers that nobody here makes to the model: they are passed
over, and the response's `tools` shows which were taken. To choose one of them is refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from ndn_infer.client.tool_use import ToolUse
from ndn_infer.gateway.fields import Fields, text_of
from ndn_infer.gateway.refusal import bad
from ndn_infer.gateway.tools import all_tools, chosen, function_tool, tool_name
from ndn_infer.records.tools import MAX_TOOLS, Tool

_MODES: Final = ("none", "auto", "required")
_CHOICE: Final = "tool_choice"
_LABELS: Final = ("defer_loading", "allowed_callers", "output_schema")
"""What else a function may say: without effect here."""


def read_tools(body: Fields) -> tuple[ToolUse, dict[str, Any]]:
    """The tools, and what the response says of them. Raises Refusal."""
    given = [Fields.of(item, f"tools[{index}]") for index, item in enumerate(body.items("tools", MAX_TOOLS) or [])]
    functions = [item for item in given if text_of(item.take("type"), item.path("type"), 64) == "function"]
    said = [item.look("parameters") for item in functions]
    told = [_tool(item) for item in functions]
    use = replace(all_tools(told), parallel=body.flag("parallel_tool_calls", True))
    choice = body.take(_CHOICE)
    return (use if choice is None else _chosen(use, choice)), {
        "tools": [_said(tool, strict, parameters) for (tool, strict), parameters in zip(told, said, strict=True)],
        "tool_choice": "auto" if choice is None else choice, "parallel_tool_calls": use.parallel,
    }  # fmt: skip


def _tool(item: Fields) -> tuple[Tool, bool]:
    for name in _LABELS:
        item.take(name)
    return function_tool(item)


def _said(tool: Tool, strict: bool, parameters: Any) -> dict[str, Any]:
    return {
        "type": "function", "name": tool.name, "description": tool.description or None, "parameters": parameters,
        "strict": strict,
    }  # fmt: skip


def _chosen(use: ToolUse, value: Any) -> ToolUse:
    if isinstance(value, str):
        if value not in _MODES:
            raise bad(f"{_CHOICE} must be one of {', '.join(_MODES)}, or name a function", _CHOICE)
        return chosen(use, value, _CHOICE)
    choice = Fields.of(value, _CHOICE)
    if value.get("type") != "allowed_tools":
        return chosen(use, "required", _CHOICE, (_named(choice),))
    choice.take("type")
    mode = choice.text("mode", 16) or "auto"
    if mode not in _MODES:
        raise bad(f"{choice.path('mode')} must be one of {', '.join(_MODES)}", choice.path("mode"))
    where = choice.path("tools")
    given = choice.items("tools", MAX_TOOLS)
    if not given:
        raise bad(f"{where} is missing, or empty", where)
    names = [_named(Fields.of(item, f"{where}[{index}]")) for index, item in enumerate(given)]
    choice.end()
    return chosen(use, mode, where, tuple(dict.fromkeys(names)))


def _named(given: Fields) -> str:
    """{"type": "function", "name": ...}"""
    if given.text("type", 64) != "function":
        raise bad(f"{given.path('type')}: only function is supported", given.path("type"), "unsupported_parameter")
    name = tool_name(given.take("name"), given.path("name"))
    given.end()
    return name
