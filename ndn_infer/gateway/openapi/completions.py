"""What requests of chat and text completions, embeddings, tokenize and detokenize have, as schemas.

Owns: names and values of their fields. Pure. Must not know: paths, answers. tests/unit/test_openapi.py holds readers
and schemas to each other.
"""

from __future__ import annotations

from typing import Final

from ndn_infer.gateway.openapi.common import (
    CHOSEN,
    LABEL,
    MODEL,
    NEW_TOKENS,
    PENALTIES,
    SCHEMA,
    STRUCTURED,
    TOKENS,
    TOOL_NAME,
    Properties,
)  # fmt: skip
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
)  # fmt: skip
from ndn_infer.gateway.requests import MAX_CONVERSATION
from ndn_infer.records.embed import MAX_EMBED_CHARACTERS, MAX_EMBED_TEXTS
from ndn_infer.records.sampling import MAX_LOGPROBS
from ndn_infer.records.tools import MAX_DESCRIPTION, MAX_TOOLS

_ID: Final = integer(0, (1 << 32) - 1)
_NOT_HERE: Final[Properties] = {
    "service_tier": only("auto", "default"), "store": only(False), "metadata": only({}), "prompt_cache_key": only(),
    "prompt_cache_retention": only(),
}  # fmt: skip
_SHARED: Final[Properties] = {
    "model": MODEL, **CHOSEN, **PENALTIES, **TOKENS, "n": null_or(integer(1, 16)), "user": LABEL,
    "safety_identifier": LABEL, **STRUCTURED,
    "stream_options": about("Only with stream.", null_or(record({
        "include_usage": flag(), "include_obfuscation": only(False), "continuous_usage_stats": only(False),
    }))),
    **_NOT_HERE,
}  # fmt: skip

# ---------------------------------------------------------------- /v1/chat/completions

_CONVERSATION: Final = about(
    "An extension: the conversation that the messages stand in, by a label or its name; its new state is saved.",
    null_or(text(MAX_CONVERSATION)),
)

_TEXTS: Final = either(text(), array(record({"type": one_of("text"), "text": text()}, ("type", "text")), 256))
_NAMED: Final = record({"name": TOOL_NAME}, ("name",))
_CALL: Final = record(
    {"id": text(128, 1), "type": one_of("function", None), "index": {},
     "function": record({"name": TOOL_NAME, "arguments": null_or(text())}, ("name",))}, ("id", "function"),
)  # fmt: skip
_NOTES: Final[Properties] = {
    "metadata": about("A front end's own: passed over.", {}), "options": about("A front end's own: passed over.", {}),
}  # fmt: skip
_SAID: Final[Properties] = {
    "annotations": only([]), "refusal": only(""), "reasoning": only(""), "reasoning_content": only(""), "audio": only(),
    "function_call": only(),
}  # fmt: skip
_MESSAGE: Final = either(
    record({"role": one_of("system", "developer", "user"), "content": _TEXTS, **_NOTES},
           ("role", "content")),
    record({"role": one_of("assistant"), "content": null_or(_TEXTS), "tool_calls": null_or(array(_CALL, 64)),
            **_SAID, **_NOTES},
           ("role", "content")),
    record({"role": one_of("tool"), "content": _TEXTS, "tool_call_id": text(128, 1), "name": null_or(text(128)),
            **_NOTES}, ("role", "content", "tool_call_id")),
)  # fmt: skip
_FUNCTION: Final = record(
    {"name": TOOL_NAME, "description": null_or(text(MAX_DESCRIPTION)), "parameters": SCHEMA, "strict": flag()},
    ("name",),
)
_CHOICE: Final = record({"type": one_of("function"), "function": _NAMED}, ("type", "function"))

_TOOL: Final = record({"type": one_of("function"), "function": _FUNCTION}, ("type", "function"))
_PROMPT: Final = either(text(least=1), array(_ID, least=1))

MESSAGES_OF_CHATS: Final = array(_MESSAGE, 1024, 1)
TOOLS_OF_CHATS: Final[Properties] = {
    "tools": null_or(array(_TOOL, MAX_TOOLS)),
    "tool_choice": null_or(either(one_of("none", "auto", "required"), _CHOICE, record({
        "type": one_of("allowed_tools"), "allowed_tools": record({
            "mode": one_of("auto", "required"), "tools": array(_CHOICE, MAX_TOOLS, 1),
        }, ("mode", "tools")),
    }, ("type", "allowed_tools")))),
    "parallel_tool_calls": flag(), "functions": only([]), "function_call": only("none", "auto"),
}  # fmt: skip

CHAT: Final[Properties] = {
    **_SHARED, **TOOLS_OF_CHATS, "messages": MESSAGES_OF_CHATS, "conversation": _CONVERSATION,
    "max_tokens": NEW_TOKENS, "max_completion_tokens": NEW_TOKENS,
    "logprobs": flag(), "top_logprobs": about("Only with logprobs.", null_or(integer(0, MAX_LOGPROBS))),
    "modalities": only(["text"]), "audio": only(), "prediction": only(), "reasoning_effort": only("none"),
    "verbosity": only(), "web_search_options": only(), "moderation": only(),
}  # fmt: skip
"""The body of POST /v1/chat/completions."""

# ---------------------------------------------------------------- /v1/completions and vectors

COMPLETION: Final[Properties] = {
    **_SHARED, "prompt": either(_PROMPT, array(_PROMPT, 16, 1)),
    "max_tokens": null_or(integer(0, 1 << 18)), "echo": flag(), "suffix": only(""),
    "logprobs": null_or(integer(0, MAX_LOGPROBS)), "best_of": about("Only as n.", null_or(integer(1, 16))),
}  # fmt: skip
"""The body of POST /v1/completions."""

_INPUT: Final = text(MAX_EMBED_CHARACTERS, 1)
EMBEDDING: Final[Properties] = {
    "model": MODEL, "input": either(_INPUT, array(_INPUT, MAX_EMBED_TEXTS, 1)),
    "encoding_format": one_of("float", "base64", None), "dimensions": null_or(integer(1)), "user": LABEL,
}  # fmt: skip
"""The body of POST /v1/embeddings."""

# ---------------------------------------------------------------- /tokenize and /detokenize

TOKENIZE: Final[tuple[Properties, ...]] = (
    {"model": MODEL, "prompt": text(least=1), "add_special_tokens": flag(), "return_token_strs": flag()},
    {
        "model": MODEL, "messages": MESSAGES_OF_CHATS, **TOOLS_OF_CHATS, "add_generation_prompt": flag(),
        "continue_final_message": only(False), "add_special_tokens": only(False), "return_token_strs": flag(),
    },
    {
        "model": MODEL, "content": text(least=1), "add_special": flag(), "with_pieces": flag(),
        "parse_special": only(False),
    },
)  # fmt: skip
"""Bodies of POST /tokenize: a text as vLLM has it, a conversation, a text as llama.cpp has it."""
DETOKENIZE: Final[Properties] = {"model": MODEL, "tokens": array(_ID)}
"""The body of POST /detokenize."""
