"""What requests of /v1/responses and /v1/messages have, as schemas.

Owns: names and values of the fields of both. Pure. Must not know: paths, answers. Their readers take the list of fields
from here (Fields.expect); tests/unit/test_openapi.py holds those of the other paths to theirs.
"""

from __future__ import annotations

from typing import Final

from ndn_infer.gateway.openapi.common import (
    CHOSEN,
    FORMAT,
    LABEL,
    MODEL,
    NEW_TOKENS,
    PENALTIES,
    SCHEMA,
    STOP,
    TOKENS,
    TOOL_NAME,
    Properties,
)
from ndn_infer.gateway.openapi.schemas import (
    about,
    array,
    either,
    flag,
    integer,
    null_or,
    one_of,
    only,
    record,
    text,
)
from ndn_infer.records.sampling import MAX_LOGPROBS, MAX_STOPS
from ndn_infer.records.tools import MAX_DESCRIPTION, MAX_TOOLS

# ---------------------------------------------------------------- /v1/responses

_PART: Final = either(
    record({"type": one_of("input_text"), "text": text()}, ("type", "text")),
    record({"type": one_of("output_text"), "text": text(), "annotations": array({}), "logprobs": array({})},
           ("type", "text")),
    record({"type": one_of("refusal"), "refusal": text()}, ("type", "refusal")),
)  # fmt: skip
_PARTS: Final = either(text(), array(_PART, 256))
_ITEM: Final[Properties] = {"id": null_or(text(256)), "status": null_or(text(256))}
_ROLE: Final = one_of("user", "assistant", "system", "developer")
_INPUT_ITEM: Final = either(
    record({"type": one_of("message", None), "role": _ROLE, "content": _PARTS, **_ITEM,
            "phase": one_of("commentary", "final_answer", None)}, ("role", "content")),
    record({"type": one_of("function_call"), "call_id": text(128, 1), "name": text(128, 1), "arguments": text(),
            **_ITEM}, ("type", "call_id", "name", "arguments")),
    record({"type": one_of("function_call_output"), "call_id": text(128, 1), "output": _PARTS, **_ITEM},
           ("type", "call_id", "output")),
    record({"type": one_of("reasoning"), "summary": array({}), "content": null_or(array({})),
            "encrypted_content": null_or(text()), **_ITEM}, ("type",)),
)  # fmt: skip

_FUNCTION: Final[Properties] = {
    "name": TOOL_NAME, "description": null_or(text(MAX_DESCRIPTION)), "strict": flag(), "defer_loading": {},
    "allowed_callers": {},
}  # fmt: skip
_FLAT_NAME: Final = record({"type": one_of("function"), "name": TOOL_NAME}, ("type", "name"))
_RESPONSES_TOOLS: Final[Properties] = {
    "tools": null_or(array(either(
        record({"type": one_of("function"), **_FUNCTION, "parameters": SCHEMA, "output_schema": {}}, ("type", "name")),
        about("Another type: passed over.", {
            "type": "object", "properties": {"type": {"type": "string", "maxLength": 64, "not": one_of("function")}},
            "required": ["type"],
        }),
    ), MAX_TOOLS)),
    "tool_choice": null_or(either(one_of("none", "auto", "required"), _FLAT_NAME, record({
        "type": one_of("allowed_tools"), "mode": one_of("none", "auto", "required", None),
        "tools": array(_FLAT_NAME, MAX_TOOLS, 1),
    }, ("type", "tools")))),
    "parallel_tool_calls": flag(),
}  # fmt: skip

RESPONSES: Final[Properties] = {
    "model": MODEL, "input": either(text(least=1), array(_INPUT_ITEM, 1024, 1)), "instructions": null_or(text()),
    **CHOSEN, **PENALTIES, **TOKENS, **_RESPONSES_TOOLS,
    "max_output_tokens": NEW_TOKENS,
    "top_logprobs": null_or(integer(0, MAX_LOGPROBS)),
    "include": null_or(array(one_of("message.output_text.logprobs", "reasoning.encrypted_content"), 16)),
    "stream_options": null_or(record({"include_obfuscation": only(False)})),
    "text": null_or(record({"format": null_or(FORMAT), "verbosity": only("medium")})),
    "metadata": null_or({"type": "object", "maxProperties": 16, "additionalProperties": text(512),
                         "propertyNames": {"maxLength": 64}}),
    "reasoning": null_or(record({"effort": only("none"), "summary": only("auto"), "generate_summary": only("auto")})),
    "truncation": one_of("auto", "disabled", None),
    "user": LABEL, "safety_identifier": LABEL, "prompt_cache_key": LABEL,
    "store": only(False, why="Nothing is kept between requests."), "previous_response_id": only(),
    "conversation": only(), "background": only(False), "service_tier": only("auto", "default"),
    "max_tool_calls": only(), "prompt": only(), "prompt_cache_retention": only(), "context_management": only([]),
    "moderation": only(),
}  # fmt: skip
"""The body of POST /v1/responses."""

# ---------------------------------------------------------------- /v1/messages

_CUT: Final = about("Accepted: what is there is found without it.", null_or(record({}, open=True)))
_TEXT_BLOCK: Final = record(
    {"type": one_of("text"), "text": text(), "cache_control": _CUT, "citations": {}}, ("type", "text")
)
_BLOCKS: Final = either(text(), array(_TEXT_BLOCK, 256))
_USER_BLOCK: Final = either(
    _TEXT_BLOCK,
    record({"type": one_of("tool_result"), "tool_use_id": text(128, 1), "content": null_or(_BLOCKS),
            "is_error": flag(), "cache_control": _CUT}, ("type", "tool_use_id")),
)  # fmt: skip
_ASSISTANT_BLOCK: Final = either(
    _TEXT_BLOCK,
    record({"type": one_of("tool_use"), "id": text(128, 1), "name": text(128, 1), "caller": {},
            "input": null_or(record({}, open=True)), "cache_control": _CUT}, ("type", "id", "name")),
    record({"type": one_of("thinking", "redacted_thinking")}, ("type",), open=True),
)  # fmt: skip
_MESSAGE: Final = either(
    record({"role": one_of("user"), "content": either(text(), array(_USER_BLOCK, 256))}, ("role", "content")),
    record({"role": one_of("assistant"), "content": either(text(), array(_ASSISTANT_BLOCK, 256))},
           ("role", "content")),
    record({"role": one_of("system"), "content": _BLOCKS}, ("role", "content")),
)  # fmt: skip

_ANTHROPIC_TOOLS: Final[Properties] = {
    "tools": null_or(array(record({
        **_FUNCTION, "type": only("custom"), "input_schema": SCHEMA, "cache_control": _CUT,
        "eager_input_streaming": {}, "input_examples": {},
    }, ("name",)), MAX_TOOLS)),
    "tool_choice": null_or(either(
        record({"type": one_of("auto", "any", "none"), "disable_parallel_tool_use": flag()}, ("type",)),
        record({"type": one_of("tool"), "name": TOOL_NAME, "disable_parallel_tool_use": flag()}, ("type", "name")),
    )),
}  # fmt: skip

COUNT: Final[Properties] = {
    **_ANTHROPIC_TOOLS,
    "model": MODEL, "messages": array(_MESSAGE, 1024, 1), "system": null_or(_BLOCKS), "cache_control": _CUT,
    "thinking": null_or(record({"type": only("disabled", "adaptive"), "display": only("omitted", "summarized")})),
    "output_config": null_or(record({"format": null_or(FORMAT), "effort": only()})),
}  # fmt: skip
"""The body of POST /v1/messages/count_tokens."""
MESSAGES: Final[Properties] = {
    **COUNT, **CHOSEN, "max_tokens": integer(1, 1 << 18), "stop_sequences": null_or(array(STOP, MAX_STOPS)),
    "metadata": null_or(record({"user_id": null_or(text(512))})), "service_tier": only("auto", "standard_only"),
    "container": only(), "context_management": only(), "inference_geo": only(), "mcp_servers": only([]),
}  # fmt: skip
"""The body of POST /v1/messages."""
