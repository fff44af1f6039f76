"""Fields that several forms share, as schemas.

Owns: what stands in more than one form. Pure. Must not know: which form has what.
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
from ndn_infer.records.sampling import MAX_LOGIT_BIAS, MAX_STOP_CHARACTERS, MAX_STOPS

Properties = dict[str, Schema]

MODEL: Final = about("An alias or digest: GET /v1/models lists what there is.", text(120, 1))
TOOL_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9_.-]+$"}
SCHEMA: Final = about("The JSON Schema of an object.", null_or({"type": "object"}))
LABEL: Final = about("For the client's own accounting, without effect.", null_or(text(512)))
STOP: Final = text(MAX_STOP_CHARACTERS, 1)
NEW_TOKENS: Final = null_or(integer(1, 1 << 18))

EXTENSIONS: Final[Properties] = {
    "top_k": sampled("top_k", "integer"), "min_p": sampled("min_p"),
    "repetition_penalty": sampled("repetition_penalty"), "ignore_eos": flag(),
    "seed": about("0 when absent: equal requests, equal answers.", null_or(integer(-(1 << 63), (1 << 64) - 1))),
}  # fmt: skip
"""What vLLM has in every form beside what the form itself has."""
PENALTIES: Final[Properties] = {
    "frequency_penalty": sampled("frequency_penalty"), "presence_penalty": sampled("presence_penalty"),
}  # fmt: skip
CHOSEN: Final[Properties] = {
    "temperature": sampled("temperature"), "top_p": sampled("top_p"), "stream": flag(), **EXTENSIONS,
}  # fmt: skip
TOKENS: Final[Properties] = {
    "stop": null_or(either(STOP, array(STOP, MAX_STOPS))),
    "stop_token_ids": null_or(array(integer(0, (1 << 32) - 1), 256)),
    "logit_bias": null_or(
        {"type": "object", "maxProperties": MAX_LOGIT_BIAS, "additionalProperties": number(-100, 100),
         "propertyNames": {"pattern": "^[0-9]{1,9}$"}}
    ),
}  # fmt: skip

_ANY_SCHEMA: Final[Schema] = {"type": ["object", "boolean", "string"]}
"""A JSON Schema that answers can be held to, or its text: one that cannot be is a 400, which names the keyword."""
_SCHEMA_NAMED: Final[Properties] = {
    "name": null_or(text(256)), "description": null_or(text()), "strict": flag(), "schema": _ANY_SCHEMA,
}  # fmt: skip
FORMAT: Final = either(
    record({"type": one_of("text")}, ("type",)),
    record({"type": one_of("json_object"), "schema": null_or(_ANY_SCHEMA)}, ("type",)),
    record({"type": one_of("json_schema"), **_SCHEMA_NAMED}, ("type", "schema")),
    record({"type": one_of("json_schema"), "json_schema": record(_SCHEMA_NAMED, ("schema",))}, ("type", "json_schema")),
)
"""What an answer must look like; a schema stands in it, or one level deeper as chat completions have it."""
_CHOICES: Final = array(text(4096, 1), 512, 1)
_OUTPUTS: Final = record({
    "json": null_or(_ANY_SCHEMA), "regex": null_or(text()), "choice": null_or(_CHOICES), "grammar": null_or(text()),
    "json_object": flag(), "structural_tag": only(), "disable_any_whitespace": {},
    "disable_additional_properties": {}, "whitespace_pattern": {}, "_backend": {},
})  # fmt: skip
STRUCTURED: Final[Properties] = {
    "response_format": null_or(FORMAT), "structured_outputs": null_or(_OUTPUTS), "json_schema": null_or(_ANY_SCHEMA),
    "grammar": null_or(text()), "guided_json": null_or(_ANY_SCHEMA), "guided_regex": null_or(text()),
    "guided_choice": null_or(_CHOICES), "guided_grammar": null_or(text()),
}  # fmt: skip
"""Ways to say what an answer must look like, one at most: OpenAI's, vLLM's, llama.cpp's."""
