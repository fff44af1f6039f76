"""Tools in a conversation, for models whose chat template has no place for them.

Owns: how tools, calls and results become plain messages, in the hermes form. Pure. Must not know: templates, ids.

Messages here are what templates get: {"role", "content"}, of an assistant also "tool_calls", each {"type": "function",
"id", "function": {"name", "arguments"}}, of a result "tool_call_id". All text in them is marked already; what is added
here is not (control_tokens.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from ndn_infer import hermes

Message = Mapping[str, Any]


def has_calls(messages: Sequence[Message]) -> bool:
    """Whether they have what only templates that know tools can show."""
    return any(message.get("tool_calls") or message["role"] == "tool" for message in messages)


def as_text(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The same conversation as messages of system, user and assistant. Tools stand at the end of the first message when
    it is the system's, else in one of their own; calls at the end of what the assistant said; results that follow each
    other are one message of the user."""
    told: list[Message] = []
    for result, group in groupby(messages, lambda message: message["role"] == "tool"):
        if result:
            content = "\n".join(hermes.result_text(message["content"]) for message in group)
            told.append({"role": "user", "content": content})
        else:
            told += map(_with_calls, group)
    if not tools:
        return told
    text = hermes.tools_text([_json(tool) for tool in tools])
    if told and told[0]["role"] == "system":
        return [{"role": "system", "content": f"{told[0]['content']}\n\n{text}"}, *told[1:]]
    return [{"role": "system", "content": text}, *told]


def _with_calls(message: Message) -> Message:
    functions = [call["function"] for call in message.get("tool_calls", ())]
    calls = [hermes.call_text(_json(one["name"]), _json(one["arguments"])) for one in functions]
    text = [message["content"]] if message["content"] else []
    return {"role": message["role"], "content": "\n".join([*text, *calls])}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
