"""Messages of a chat, as a request has them.

Owns: roles, calls and results of tools. Pure. Must not know: other parameters of a request, how contents are read
(contents.py), the form of answers.
"""

from __future__ import annotations

from typing import Any, Final

from ndn_infer.errors import BadRecord
from ndn_infer.gateway.contents import text_content
from ndn_infer.gateway.fields import Fields, text_of
from ndn_infer.gateway.refusal import bad
from ndn_infer.gateway.tools import tool_name
from ndn_infer.records import Message
from ndn_infer.records.bounds import MAX_TEXT
from ndn_infer.records.tools import MAX_CALLS, ToolCall, json_text, object_of

MAX_MESSAGES: Final = 1024
MAX_CALL_ID: Final = 128
_NOTES: Final = ("metadata", "options")
"""What front ends (Gradio) keep of their own beside a message and send along: it changes no prompt."""
_ROLES: Final = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool",
}  # fmt: skip


def read_messages(body: Fields) -> tuple[Message, ...]:
    """The field `messages`. Raises Refusal."""
    given = body.items("messages", MAX_MESSAGES)
    if not given:
        raise bad("messages is missing, or empty", "messages")
    return tuple(_message(item, f"messages[{index}]") for index, item in enumerate(given))


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, dict):
        raise bad(f"{where} must be an object", where)
    message = Fields(value, f"{where}.")
    role = message.text("role", 32)
    if role == "function":
        raise bad(f"{where}.role: use tool", f"{where}.role", "unsupported_parameter")
    if role not in _ROLES:
        raise bad(f"{where}.role must be one of {', '.join(_ROLES)}", f"{where}.role")
    calls = _calls(message) if role == "assistant" else ()
    result = _result_of(message) if role == "tool" else ""
    for name, allowed in (
        ("tool_calls", ([],)), ("function_call", ()), ("tool_call_id", ()), ("name", ()), ("audio", ()),
        ("annotations", ([],)), ("refusal", ("",)), ("reasoning", ("",)), ("reasoning_content", ("",)),
    ):  # fmt: skip
        message.only(name, *allowed)
    for name in _NOTES:
        message.take(name)
    content = message.take("content")
    if content is None and calls:
        content = ""
    text = text_content(content, f"{where}.content", {"text": "text"})
    message.end()
    return Message(_ROLES[role], text, calls, result)


def _result_of(message: Fields) -> str:
    """Of which call a message is the result. Its name, which some clients send, is that of the call."""
    identifier = message.text("tool_call_id", MAX_CALL_ID)
    if not identifier:
        where = message.path("tool_call_id")
        raise bad(f"{where} is missing: it says of which call this is the result", where)
    message.text("name", MAX_CALL_ID)
    return identifier


# ---------------------------------------------------------------- calls


def _calls(message: Fields) -> tuple[ToolCall, ...]:
    where = message.path("tool_calls")
    given = message.items("tool_calls", MAX_CALLS) or []
    return tuple(_call(item, f"{where}[{index}]") for index, item in enumerate(given))


def _call(value: Any, where: str) -> ToolCall:
    if not isinstance(value, dict):
        raise bad(f"{where} must be an object", where)
    call = Fields(value, f"{where}.")
    identifier = call.text("id", MAX_CALL_ID)
    if not identifier:
        raise bad(f"{where}.id is missing", f"{where}.id")
    if call.text("type", 64) not in (None, "function"):
        raise bad(f"{where}.type: only function is supported", f"{where}.type", "unsupported_parameter")
    call.take("index")  # of a call that a client put together from a stream
    function = call.object("function")
    if function is None:
        raise bad(f"{where}.function is missing", f"{where}.function")
    call.end()
    inner = Fields(function, f"{where}.function.")
    name = tool_name(inner.take("name"), inner.path("name"))
    arguments = inner.text("arguments", MAX_TEXT) or ""
    inner.end()
    return ToolCall(name, call_arguments(arguments, inner.path("arguments")), identifier)


def call_arguments(text: str, where: str) -> str:
    """The JSON text of an object in one form: equal calls are equal prompts. Raises Refusal."""
    try:
        return text_of(json_text(object_of(text)), where, MAX_TEXT)
    except BadRecord as error:
        raise bad(f"{where} is {error}", where) from error
