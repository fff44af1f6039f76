"""What requests have: the fields of each body, as schemas.

Owns: names and values of the fields of every path. Pure. Must not know: paths, answers. Readers that share others with
another form take their list of fields from here (Fields.expect); tests/unit/test_openapi.py holds the rest to it.
"""

from __future__ import annotations

from typing import Final

from ndn_infer.gateway.openapi.schemas import (
    Schema,
    about,
    array,
    either,
    flag,
    integer,
    null_or,
    number,
    one_of,
    only,
    record,
    sampled,
    text,
)
from ndn_infer.records.sampling import MAX_LOGIT_BIAS, MAX_LOGPROBS, MAX_STOP_CHARACTERS, MAX_STOPS
from ndn_infer.records.tools import MAX_DESCRIPTION, MAX_TOOLS

Properties = dict[str, Schema]

_MODEL: Final = about("An alias or digest: GET /v1/models lists what there is.", text(120, 1))
_TOOL_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9_.-]+$"}
_SCHEMA: Final = about("The JSON Schema of an object.", null_or({"type": "object"}))
_LABEL: Final = about("For the client's own accounting, without effect.", null_or(text(512)))
_STOP: Final = text(MAX_STOP_CHARACTERS, 1)
_COUNT: Final = null_or(integer(1, 1 << 18))

EXTENSIONS: Final[Properties] = {
    "top_k": sampled("top_k", "integer"), "min_p": sampled("min_p"),
    "repetition_penalty": sampled("repetition_penalty"), "ignore_eos": flag(),
    "seed": about("0 when absent: equal requests, equal answers.", null_or(integer(-(1 << 63), (1 << 64) - 1))),
}  # fmt: skip
"""What vLLM has in every form beside what the form itself has."""
_PENALTIES: Final[Properties] = {
    "frequency_penalty": sampled("frequency_penalty"), "presence_penalty": sampled("presence_penalty"),
}  # fmt: skip
_CHOSEN: Final[Properties] = {
    "temperature": sampled("temperature"), "top_p": sampled("top_p"), "stream": flag(), **EXTENSIONS,
}  # fmt: skip
_TOKENS: Final[Properties] = {
    "stop": null_or(either(_STOP, array(_STOP, MAX_STOPS))),
    "stop_token_ids": null_or(array(integer(0, (1 << 32) - 1), 256)),
    "logit_bias": null_or(
        {"type": "object", "maxProperties": MAX_LOGIT_BIAS, "additionalProperties": number(-100, 100),
         "propertyNames": {"pattern": "^[0-9]{1,9}$"}}
    ),
}  # fmt: skip

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
    "name": _TOOL_NAME, "description": null_or(text(MAX_DESCRIPTION)), "strict": flag(), "defer_loading": {},
    "allowed_callers": {},
}  # fmt: skip
_FLAT_NAME: Final = record({"type": one_of("function"), "name": _TOOL_NAME}, ("type", "name"))
_RESPONSES_TOOLS: Final[Properties] = {
    "tools": null_or(array(either(
        record({"type": one_of("function"), **_FUNCTION, "parameters": _SCHEMA, "output_schema": {}}, ("type", "name")),
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
    "model": _MODEL, "input": either(text(least=1), array(_INPUT_ITEM, 1024, 1)), "instructions": null_or(text()),
    **_CHOSEN, **_PENALTIES, **_TOKENS, **_RESPONSES_TOOLS,
    "max_output_tokens": _COUNT,
    "top_logprobs": null_or(integer(0, MAX_LOGPROBS)),
    "include": null_or(array(one_of("message.output_text.logprobs", "reasoning.encrypted_content"), 16)),
    "stream_options": null_or(record({"include_obfuscation": only(False)})),
    "text": null_or(record({"format": only({"type": "text"}), "verbosity": only("medium")})),
    "metadata": null_or({"type": "object", "maxProperties": 16, "additionalProperties": text(512),
                         "propertyNames": {"maxLength": 64}}),
    "reasoning": null_or(record({"effort": only("none"), "summary": only("auto"), "generate_summary": only("auto")})),
    "truncation": one_of("auto", "disabled", None),
    "user": _LABEL, "safety_identifier": _LABEL, "prompt_cache_key": _LABEL,
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
        **_FUNCTION, "type": only("custom"), "input_schema": _SCHEMA, "cache_control": _CUT,
        "eager_input_streaming": {}, "input_examples": {},
    }, ("name",)), MAX_TOOLS)),
    "tool_choice": null_or(either(
        record({"type": one_of("auto", "any", "none"), "disable_parallel_tool_use": flag()}, ("type",)),
        record({"type": one_of("tool"), "name": _TOOL_NAME, "disable_parallel_tool_use": flag()}, ("type", "name")),
    )),
}  # fmt: skip

COUNT: Final[Properties] = {
    **_ANTHROPIC_TOOLS,
    "model": _MODEL, "messages": array(_MESSAGE, 1024, 1), "system": null_or(_BLOCKS), "cache_control": _CUT,
    "thinking": null_or(record({"type": only("disabled", "adaptive"), "display": only("omitted", "summarized")})),
    "output_config": only({}),
}  # fmt: skip
"""The body of POST /v1/messages/count_tokens."""
MESSAGES: Final[Properties] = {
    **COUNT, **_CHOSEN, "max_tokens": integer(1, 1 << 18), "stop_sequences": null_or(array(_STOP, MAX_STOPS)),
    "metadata": null_or(record({"user_id": null_or(text(512))})), "service_tier": only("auto", "standard_only"),
    "container": only(), "context_management": only(), "inference_geo": only(), "mcp_servers": only([]),
}  # fmt: skip
"""The body of POST /v1/messages."""
