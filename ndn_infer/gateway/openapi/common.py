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
