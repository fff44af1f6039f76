"""What a client asks of /v1/responses, as our records.

Owns: items of the input, what the form adds to a chat, what a response says again of its request. Pure. Must not know:
HTTP, how an answer is had, how it is written (forms/responses.py).

Stateless: nothing is kept between requests, so a request that rests on an earlier one is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ndn_infer.gateway.contents import part_kind, text_content
from ndn_infer.gateway.fields import Fields, shown, text_of
from ndn_infer.gateway.messages import MAX_CALL_ID, MAX_MESSAGES, call_arguments
from ndn_infer.gateway.openapi.requests import RESPONSES
from ndn_infer.gateway.refusal import bad
from ndn_infer.gateway.requests import ChatRequest, model_name
from ndn_infer.gateway.responses_tools import read_tools
from ndn_infer.gateway.sampling import ChoiceOptions, alternatives_of, read_asked, tokens_of
from ndn_infer.gateway.structured import of_format
from ndn_infer.gateway.tools import tool_name
from ndn_infer.records import Message
from ndn_infer.records.bounds import MAX_TEXT
from ndn_infer.records.grammar import Grammar
from ndn_infer.records.sampling import Sampling
from ndn_infer.records.tools import MAX_CALLS, ToolCall

_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_TEXTS: Final = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
_HINTS: Final = frozenset({"annotations", "logprobs", "prompt_cache_breakpoint"})
_LOGPROBS: Final = "message.output_text.logprobs"
_NOTHING: Final = "reasoning.encrypted_content"
"""What a response may include and never has, as nothing here reasons."""
_NOT_KEPT: Final = "this gateway keeps no responses: send the items so far as input"

_NOT_HERE: Final[Mapping[str, tuple[Any, ...]]] = {
    "background": (False,), "service_tier": ("auto", "default"), "max_tool_calls": (), "prompt": (),
    "prompt_cache_retention": (), "context_management": ([],), "moderation": (),
}  # fmt: skip
"""Parameters that are refused, each with the values that ask for nothing."""


_FIXED: Final[Mapping[str, Any]] = {
    "background": False, "max_tool_calls": None, "previous_response_id": None,
    "service_tier": "default", "store": False, "truncation": "disabled",
    "reasoning": {"effort": None, "summary": None},
}  # fmt: skip
"""What every response says, as nothing else is supported."""


@dataclass(frozen=True, slots=True)
class ResponsesRequest:
    """`said`: what the response says again of the request."""

    chat: ChatRequest
    said: Mapping[str, Any]


def read_responses(document: Mapping[str, Any], defaults: Sampling) -> ResponsesRequest:
    """Raises Refusal. `defaults` has what the request leaves out."""
    body = Fields(document)
    body.expect(RESPONSES)
    model = model_name(body)
    _stateless(body)
    for name, allowed in _NOT_HERE.items():
        body.only(name, *allowed)
    instructions = body.text("instructions", MAX_TEXT)
    messages = _messages(body, instructions)
    labels = {name: body.text(name, 512) for name in ("user", "safety_identifier", "prompt_cache_key")}
    metadata = _metadata(body)
    _reasoning(body)
    if body.text("truncation", 16) not in (None, "auto", "disabled"):
        raise bad("truncation must be auto or disabled", "truncation")
    tools, tools_said = read_tools(body)
    held, format_said = _format(body)
    asked = _asked(body, defaults)
    asked = replace(asked, sampling=replace(asked.sampling, grammar=held))
    body.end()
    said = {
        "instructions": instructions, "metadata": metadata, "prompt_cache_key": labels["prompt_cache_key"],
        "safety_identifier": labels["safety_identifier"], "user": labels["user"], **_FIXED, **tools_said,
        "text": {"format": format_said},
        **_sampling_said(asked),
    }  # fmt: skip
    return ResponsesRequest(ChatRequest(model, messages, asked, tools), said)


def _stateless(body: Fields) -> None:
    for name in ("previous_response_id", "conversation"):
        if body.take(name) is not None:
            raise bad(f"{name} is not supported: {_NOT_KEPT}", name, "unsupported_parameter")
    if body.flag("store"):
        raise bad("store is not supported but as false: this gateway keeps no responses", "store")


def _reasoning(body: Fields) -> None:
    """Models here do not reason before they answer: a request may say that it wants none."""
    if (given := body.object("reasoning")) is not None:
        reasoning = Fields(given, "reasoning.")
        reasoning.only("effort", "none")
        reasoning.only("summary", "auto")
        reasoning.only("generate_summary", "auto")
        reasoning.end()


def _metadata(body: Fields) -> dict[str, str]:
    """The client's own notes, which come back."""
    given = body.object("metadata") or {}
    if len(given) > 16:
        raise bad(f"metadata has {len(given)} entries, and 16 are the most", "metadata")
    return {text_of(key, "metadata", 64): text_of(value, "metadata", 512) for key, value in given.items()}


# ---------------------------------------------------------------- how tokens are chosen


def _asked(body: Fields, defaults: Sampling) -> ChoiceOptions:
    include = body.items("include", 16) or []
    if wrong := [name for name in include if name not in (_LOGPROBS, _NOTHING)]:
        raise bad(f"include of {shown(wrong[0])} is not supported", "include", "unsupported_parameter")
    top = alternatives_of(body.integer("top_logprobs"), "top_logprobs")
    alternatives = (top or 0) if top or _LOGPROBS in include else None
    count = tokens_of(body.integer("max_output_tokens"), "max_output_tokens")
    _stream_options(body)
    return read_asked(body, defaults, alternatives, max_tokens=count)


def _stream_options(body: Fields) -> None:
    if (given := body.object("stream_options")) is not None:
        options = Fields(given, "stream_options.")
        options.only("include_obfuscation", False)
        options.end()


def _format(body: Fields) -> tuple[Grammar | None, dict[str, Any]]:
    """What the answer must look like, and what the response says of it."""
    text = Fields(body.object("text") or {}, "text.")
    text.only("verbosity", "medium")
    given = text.take("format")
    text.end()
    if given is None:
        return None, {"type": "text"}
    held = of_format(given, "text.format")
    missing = {"description": None, "strict": True} if given["type"] == "json_schema" else {}
    return held, {**missing, **given}


def _sampling_said(asked: ChoiceOptions) -> dict[str, Any]:
    sampling = asked.sampling
    return {
        "temperature": sampling.temperature, "top_p": sampling.top_p, "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty, "top_logprobs": asked.alternatives or 0,
        "max_output_tokens": sampling.max_tokens if asked.explicit else None,
    }  # fmt: skip


# ---------------------------------------------------------------- input


def _messages(body: Fields, instructions: str | None) -> tuple[Message, ...]:
    given = body.take("input")
    if isinstance(given, str):
        items = [Message("user", text_of(given, "input", MAX_TEXT))]
    elif isinstance(given, list) and given:
        if len(given) > MAX_MESSAGES:
            raise bad(f"input has {len(given)} items, and {MAX_MESSAGES} are the most", "input")
        items = _joined([made for index, item in enumerate(given) if (made := _item(item, f"input[{index}]"))])
    else:
        raise bad("input must be a string or an array of items", "input")
    return tuple([Message("system", instructions), *items] if instructions else items)


def _joined(items: list[Message]) -> list[Message]:
    """Calls are items of their own; in a conversation they belong to the turn that made them."""
    made: list[Message] = []
    for item in items:
        if item.tool_calls and made and made[-1].role == "assistant":
            made[-1] = replace(made[-1], tool_calls=made[-1].tool_calls + item.tool_calls)
            if len(made[-1].tool_calls) > MAX_CALLS:
                raise bad(f"input has more than {MAX_CALLS} calls in a row", "input")
        else:
            made.append(item)
    return made


def _item(value: Any, where: str) -> Message | None:
    """None for an item that says nothing to a model that does not reason."""
    item = Fields.of(value, where)
    kind = part_kind({"type": "message", **{key: one for key, one in value.items() if one is not None}}, where)
    read = {"message": _message, "function_call": _call, "function_call_output": _result, "reasoning": _thought}.get(
        kind
    )
    if read is None:
        words = _NOT_KEPT if kind == "item_reference" else "it is none of message, function_call, function_call_output"
        raise bad(f"{where}.type: {shown(kind)} is not supported: {words}", f"{where}.type", "unsupported_content")
    for name in ("type", "id", "status"):
        item.text(name, 256)
    message = read(item)
    item.end()
    return message


def _message(item: Fields) -> Message:
    role = item.text("role", 32)
    if role not in _ROLES:
        raise bad(f"{item.path('role')} must be one of {', '.join(_ROLES)}", item.path("role"))
    if item.text("phase", 32) not in (None, "commentary", "final_answer"):
        raise bad(f"{item.path('phase')} must be commentary or final_answer", item.path("phase"))
    return Message(_ROLES[role], text_content(item.take("content"), item.path("content"), _TEXTS, _HINTS))


def _call(item: Fields) -> Message:
    identifier = _identifier(item)
    name = tool_name(item.take("name"), item.path("name"))
    arguments = text_of(item.take("arguments"), item.path("arguments"), MAX_TEXT)
    return Message("assistant", "", (ToolCall(name, call_arguments(arguments, item.path("arguments")), identifier),))


def _result(item: Fields) -> Message:
    identifier = _identifier(item)
    return Message("tool", text_content(item.take("output"), item.path("output"), _TEXTS, _HINTS), (), identifier)


def _identifier(item: Fields) -> str:
    identifier = text_of(item.take("call_id"), item.path("call_id"), MAX_CALL_ID)
    if not identifier:
        raise bad(f"{item.path('call_id')} is empty", item.path("call_id"))
    return identifier


def _thought(item: Fields) -> None:
    """Reasoning of another model, which a client sends back with the rest."""
    for name in ("summary", "content"):
        item.items(name, MAX_MESSAGES)
    item.text("encrypted_content")
