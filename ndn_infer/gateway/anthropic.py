"""What a client asks of /v1/messages (Anthropic's form), as our records.

Owns: system texts, content blocks, what the form calls otherwise than chats. Pure. Must not know: HTTP, how an answer
is had, how it is written (forms/messages.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ndn_infer.client.tool_use import ToolUse
from ndn_infer.errors import BadRecord
from ndn_infer.gateway.contents import part_kind, parts_of, text_content, text_part
from ndn_infer.gateway.fields import Fields, text_of
from ndn_infer.gateway.messages import MAX_CALL_ID, MAX_MESSAGES
from ndn_infer.gateway.openapi.requests import COUNT, MESSAGES
from ndn_infer.gateway.refusal import bad
from ndn_infer.gateway.requests import ChatRequest, model_name
from ndn_infer.gateway.sampling import ChoiceOptions, read_asked, tokens_of
from ndn_infer.gateway.structured import of_format
from ndn_infer.gateway.tools import all_tools, chosen, function_tool, tool_name
from ndn_infer.records import Message
from ndn_infer.records.bounds import MAX_TEXT
from ndn_infer.records.grammar import Grammar
from ndn_infer.records.sampling import Sampling
from ndn_infer.records.tools import MAX_CALLS, MAX_TOOLS, Tool, ToolCall, json_text

_TEXTS: Final = {"text": "text"}
_HINTS: Final = frozenset({"cache_control", "citations"})
"""Of a text: where a cache may cut, which needs no saying here, and where an answer of another model had it from."""
_THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})
_NOT_HERE: Final[Mapping[str, tuple[Any, ...]]] = {
    "container": (), "context_management": (), "inference_geo": (), "mcp_servers": ([],),
    "service_tier": ("auto", "standard_only"),
}  # fmt: skip
"""Parameters that are refused, each with the values that ask for nothing."""
_MODES: Final[Mapping[str, str]] = {"auto": "auto", "any": "required", "tool": "required", "none": "none"}
_TOOL_HINTS: Final = ("cache_control", "defer_loading", "allowed_callers", "eager_input_streaming", "input_examples")
"""What else a tool may say: without effect here."""


def read_anthropic(document: Mapping[str, Any], defaults: Sampling) -> ChatRequest:
    """Raises Refusal. `defaults` has what the request leaves out."""
    body = Fields(document)
    body.expect(MESSAGES)
    model, messages, tools = _conversation(body)
    count = tokens_of(body.integer("max_tokens"), "max_tokens")
    if count is None:
        raise bad("max_tokens is missing", "max_tokens")
    _metadata(body)
    for name, allowed in _NOT_HERE.items():
        body.only(name, *allowed)
    body.known_as("stop_sequences", "stop")
    held = _format(body)
    asked = read_asked(body, defaults, None, max_tokens=count)
    body.end()
    asked = replace(asked, sampling=replace(asked.sampling, grammar=held))
    return ChatRequest(model, messages, asked, tools)


def read_count(document: Mapping[str, Any], defaults: Sampling) -> ChatRequest:
    """A request of /v1/messages/count_tokens. Raises Refusal."""
    body = Fields(document)
    body.expect(COUNT)
    model, messages, tools = _conversation(body)
    _format(body)
    body.end()
    return ChatRequest(model, messages, ChoiceOptions(defaults), tools)


def _conversation(body: Fields) -> tuple[str, tuple[Message, ...], ToolUse]:
    """What requests to answer and to count have alike."""
    model = model_name(body)
    system = body.take("system")
    told = [] if system is None else [Message("system", text_content(system, "system", _TEXTS, _HINTS))]
    messages = _messages(body)
    if messages[-1].role == "assistant":
        words = "the last message is the assistant's: answers are begun by the model, and not continued"
        raise bad(words, "messages", "unsupported_parameter")
    _thinking(body)
    body.object("cache_control")
    conversation = [*told, *messages] if told and told[0].content else messages
    return model, tuple(conversation), _tools(body)


def _thinking(body: Fields) -> None:
    """Models here do not think before they answer: a request may leave it to them."""
    if (given := body.object("thinking")) is not None:
        thinking = Fields(given, "thinking.")
        thinking.only("type", "disabled", "adaptive")
        thinking.only("display", "omitted", "summarized")
        thinking.end()


# ---------------------------------------------------------------- tools


def _tools(body: Fields) -> ToolUse:
    given = body.items("tools", MAX_TOOLS) or []
    use = all_tools([_tool(Fields.of(item, f"tools[{index}]")) for index, item in enumerate(given)])
    choice = body.object("tool_choice")
    return use if choice is None else _chosen(use, Fields(choice, "tool_choice."))


def _tool(item: Fields) -> tuple[Tool, bool]:
    """Tools that Anthropic defines itself (bash, web_search, ...) have another type."""
    item.only("type", "custom")
    for name in _TOOL_HINTS:
        item.take(name)
    return function_tool(item, "input_schema")


def _chosen(use: ToolUse, choice: Fields) -> ToolUse:
    kind = choice.text("type", 16) or ""
    if kind not in _MODES:
        raise bad(f"{choice.path('type')} must be one of {', '.join(_MODES)}", choice.path("type"))
    use = replace(use, parallel=not choice.flag("disable_parallel_tool_use"))
    only = (tool_name(choice.take("name"), choice.path("name")),) if kind == "tool" else ()
    choice.end()
    return chosen(use, _MODES[kind], "tool_choice", only)


def _format(body: Fields) -> Grammar | None:
    """What the answer must look like."""
    config = Fields(body.object("output_config") or {}, "output_config.")
    config.only("effort")
    given = config.take("format")
    config.end()
    return None if given is None else of_format(given, "output_config.format")


def _metadata(body: Fields) -> None:
    """Who asks, in the client's own words, without effect on any answer."""
    if (given := body.object("metadata")) is not None:
        metadata = Fields(given, "metadata.")
        metadata.text("user_id", 512)
        metadata.end()


# ---------------------------------------------------------------- messages


def _messages(body: Fields) -> list[Message]:
    given = body.items("messages", MAX_MESSAGES)
    if not given:
        raise bad("messages is missing, or empty", "messages")
    return [made for index, item in enumerate(given) for made in _message(item, f"messages[{index}]")]


def _message(value: Any, where: str) -> list[Message]:
    """Several for a message that has results of calls and more."""
    message = Fields.of(value, where)
    role, content = message.text("role", 32), message.take("content")
    message.end()
    if role == "user":
        return _of_user(content, f"{where}.content")
    if role == "assistant":
        return [_of_assistant(content, f"{where}.content")]
    if role == "system":
        return [Message("system", text_content(content, f"{where}.content", _TEXTS, _HINTS))]
    raise bad(f"{where}.role must be user, assistant or system", f"{where}.role")


def _of_user(content: Any, where: str) -> list[Message]:
    """Results come first, as they belong to the turn before."""
    if isinstance(content, str):
        return [Message("user", text_of(content, where, MAX_TEXT))]
    results: list[Message] = []
    texts: list[str] = []
    for path, part in parts_of(content, where):
        if part_kind(part, path) == "tool_result":
            results.append(_result(part, path))
        else:
            texts.append(text_part(part, path, _TEXTS, _HINTS))
    return [*results, Message("user", "\n".join(texts))] if texts or not results else results


def _result(part: dict[str, Any], where: str) -> Message:
    result = Fields(part, f"{where}.")
    result.expect({"type", "tool_use_id", "content", "is_error", "cache_control"})
    identifier = _identifier(result.take("tool_use_id"), f"{where}.tool_use_id")
    given = result.take("content")
    content = "" if given is None else text_content(given, f"{where}.content", _TEXTS, _HINTS)
    if result.flag("is_error"):
        content = f"Error: {content}"
    return Message("tool", content, (), identifier)


def _of_assistant(content: Any, where: str) -> Message:
    """Thoughts of another model, which a client sends back with the rest, are passed over."""
    if isinstance(content, str):
        return Message("assistant", text_of(content, where, MAX_TEXT))
    texts: list[str] = []
    calls: list[ToolCall] = []
    for path, part in parts_of(content, where):
        kind = part_kind(part, path)
        if kind == "tool_use":
            calls.append(_call(part, path))
        elif kind not in _THOUGHTS:
            texts.append(text_part(part, path, _TEXTS, _HINTS))
    if len(calls) > MAX_CALLS:
        raise bad(f"{where} has {len(calls)} calls, and {MAX_CALLS} are the most", where)
    return Message("assistant", "\n".join(texts), tuple(calls))


def _call(part: dict[str, Any], where: str) -> ToolCall:
    call = Fields(part, f"{where}.")
    call.expect({"type", "id", "name", "input", "cache_control", "caller"})
    identifier = _identifier(call.take("id"), f"{where}.id")
    name = tool_name(call.take("name"), f"{where}.name")
    return ToolCall(name, _arguments(call.object("input") or {}, f"{where}.input"), identifier)


def _arguments(given: dict[str, Any], where: str) -> str:
    try:
        return text_of(json_text(given), where, MAX_TEXT)
    except BadRecord as error:
        raise bad(f"{where} is {error}", where) from error


def _identifier(value: Any, where: str) -> str:
    identifier = text_of(value, where, MAX_CALL_ID)
    if not identifier:
        raise bad(f"{where} is empty", where)
    return identifier
