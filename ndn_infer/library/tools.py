"""Tools for the models that a program asks: from Python functions, and calls of them as Python values.

Owns: from a function to what a model is told of it; which tools an answer may call. Must not know: how anything is
asked, who runs a function: the program does, and nobody else.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from ndn_infer.client.answer_parts import SaidCall
from ndn_infer.client.tool_use import ToolUse
from ndn_infer.errors import BadRecord, UsageError
from ndn_infer.records.tools import Tool, object_of

ToolLike = Tool | Callable[..., Any]
"""A tool as it is told to a model, or a Python function that is one (`tool_of`)."""

_SIMPLE: Final[Mapping[Any, str]] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_HINT: Final = (
    "str, int, float, bool, list[...], Literal[...], or one of them | None; or give a Tool with a JSON Schema"
)


@dataclass(frozen=True, slots=True)
class MadeCall:
    """A call that an answer asks for. `id` is what its result is told under."""

    id: str
    name: str
    arguments: Mapping[str, Any]


def tool_of(function: Callable[..., Any]) -> Tool:
    """What a model is told of a function: its name, its docstring, the types of its parameters. Raises UsageError for
    a parameter whose type says nothing to a model."""
    try:
        hints, signature = get_type_hints(function), inspect.signature(function)
    except (NameError, TypeError, ValueError) as error:
        raise UsageError(f"{function!r:.80} is no tool: {error}") from error
    properties, required = {}, []
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise UsageError(f"a tool takes its arguments by name: {parameter} of {function.__name__} has none")
        properties[name] = _schema_of(hints.get(name), f"{function.__name__}({name})")
        if parameter.default is parameter.empty:
            required.append(name)
    schema = {"type": "object", "properties": properties, "required": required}
    return Tool(function.__name__, inspect.getdoc(function) or "", json.dumps(schema, ensure_ascii=False))


def _schema_of(hint: Any, where: str) -> dict[str, Any]:
    origin, inner = get_origin(hint), get_args(hint)
    if hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is list and len(inner) == 1:
        return {"type": "array", "items": _schema_of(inner[0], where)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [{"type": "null"} if one is type(None) else _schema_of(one, where) for one in inner]}
    raise UsageError(f"the type of {where} says nothing to a model", hint=_HINT)


def use_of(tools: Sequence[ToolLike], choice: str, *, parallel: bool) -> ToolUse:
    """`choice`: "auto", "none", "required", or the name of the tool that must be called. Raises UsageError."""
    told = tuple(tool if isinstance(tool, Tool) else tool_of(tool) for tool in tools)
    names = tuple(tool.name for tool in told)
    for tool in told:
        try:
            object_of(tool.parameters)
        except BadRecord as error:
            raise UsageError(f"the parameters of the tool {tool.name} are {error}") from error
    if choice in ("auto", "none"):
        return ToolUse(told, names if choice == "auto" else (), parallel=parallel)
    if choice != "required" and choice not in names:
        raise UsageError(f"there is no tool {choice!r:.80}", hint=f"tools: {', '.join(names) or 'none'}")
    if not told:
        raise UsageError("a tool has to be called, and there is none")
    if choice == "required":
        return ToolUse(told, names, required=True, parallel=parallel)
    return ToolUse(told, (choice,), required=True, parallel=False)


def made_calls(calls: Sequence[SaidCall], turn: int) -> tuple[MadeCall, ...]:
    """Complete ones; `turn` makes their identifiers different from those of other answers of a conversation."""
    return tuple(
        MadeCall(f"call_{turn}_{index}", call.name, object_of(call.arguments))
        for index, call in enumerate(calls)
        if call.complete
    )
