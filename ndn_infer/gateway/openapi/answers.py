"""What answers look like: the documents of each path, as schemas.

Owns: names and values of what is sent back. Pure. Must not know: paths, requests. What a document may gain later is
left open; what is required here is in each.
"""

from __future__ import annotations

from typing import Final

from ndn_infer.gateway.openapi.schemas import Schema, array, either, integer, null_or, one_of, record, ref, text

_COUNT: Final = integer(0)
_NUMBER: Final[Schema] = {"type": "number"}
_ANY: Final[Schema] = {"type": "object"}


def _all(**properties: Schema) -> Schema:
    """An object with all of these, and maybe more."""
    return record(properties, properties, open=True)


def _some(required: str, **properties: Schema) -> Schema:
    return record(properties, required.split(), open=True)


_USAGE: Final = _all(prompt_tokens=_COUNT, completion_tokens=_COUNT, total_tokens=_COUNT)
_FINISH: Final = one_of("stop", "length", "tool_calls")
_CALL: Final = _all(id=text(), type=one_of("function"), function=_all(name=text(), arguments=text()))
_MESSAGE: Final = _some(
    "role content refusal", role=one_of("assistant"), content=null_or(text()), refusal=null_or(text()),
    tool_calls=array(_CALL), annotations=array({}),
)  # fmt: skip
_PART: Final = _all(type=one_of("output_text"), text=text(), annotations=array({}), logprobs=array({}))
_ITEM_STATUS: Final = one_of("in_progress", "completed", "incomplete")
_MODEL: Final = _some(
    "id object created owned_by max_model_len kind digest", id=text(), object=one_of("model"), created=_COUNT,
    owned_by=text(), max_model_len=_COUNT, kind=text(), digest=text(),
)  # fmt: skip

ANSWERS: Final[dict[str, Schema]] = {
    "Error": _all(error=_all(
        message=text(), type=text(), param=null_or(text()), code=null_or(text()),
    )),
    "AnthropicError": _all(
        type=one_of("error"), error=_all(type=text(), message=text()), request_id=null_or(text()),
    ),
    "Status": _all(status=text()),
    "Model": _MODEL,
    "Models": _all(object=one_of("list"), data=array(ref("Model"))),
    "ChatCompletion": _all(
        id=text(), object=one_of("chat.completion"), created=_COUNT, model=text(), system_fingerprint=text(),
        choices=array(_all(index=_COUNT, message=_MESSAGE, logprobs=null_or(_ANY), finish_reason=_FINISH), least=1),
        usage=_USAGE,
    ),
    "Completion": _all(
        id=text(), object=one_of("text_completion"), created=_COUNT, model=text(), system_fingerprint=text(),
        choices=array(_all(index=_COUNT, text=text(), logprobs=null_or(_ANY), finish_reason=_FINISH), least=1),
        usage=_USAGE,
    ),
    "Embeddings": _all(
        object=one_of("list"), model=text(), usage=_all(prompt_tokens=_COUNT, total_tokens=_COUNT),
        data=array(_all(object=one_of("embedding"), index=_COUNT, embedding=either(text(), array(_NUMBER)))),
    ),
    "Response": _all(
        id=text(), object=one_of("response"), created_at=_COUNT, completed_at=null_or(_COUNT),
        status=one_of("completed", "incomplete"), incomplete_details=null_or(_all(reason=text())),
        error=null_or(_ANY), model=text(), instructions=null_or(text()), previous_response_id=null_or(text()),
        output=array(either(
            _all(type=one_of("message"), id=text(), status=_ITEM_STATUS, role=one_of("assistant"),
                 content=array(_PART)),
            _all(type=one_of("function_call"), id=text(), call_id=text(), name=text(), arguments=text(),
                 status=_ITEM_STATUS),
        )),
        usage=_all(
            input_tokens=_COUNT, input_tokens_details=_all(cached_tokens=_COUNT), output_tokens=_COUNT,
            output_tokens_details=_all(reasoning_tokens=_COUNT), total_tokens=_COUNT,
        ),
        tools=array(_ANY), tool_choice=either(text(), _ANY), parallel_tool_calls={"type": "boolean"}, text=_ANY,
        top_p=_NUMBER, temperature=_NUMBER, presence_penalty=_NUMBER, frequency_penalty=_NUMBER, top_logprobs=_COUNT,
        max_output_tokens=null_or(_COUNT), max_tool_calls=null_or(_COUNT), truncation=text(), reasoning=_ANY,
        store={"type": "boolean"}, background={"type": "boolean"}, service_tier=text(), metadata=_ANY,
        safety_identifier=null_or(text()), prompt_cache_key=null_or(text()),
    ),
    "Message": _all(
        id=text(), type=one_of("message"), role=one_of("assistant"), model=text(),
        stop_reason=one_of("end_turn", "max_tokens", "tool_use"), stop_sequence=null_or(text()),
        content=array(either(
            _all(type=one_of("text"), text=text()),
            _all(type=one_of("tool_use"), id=text(), name=text(), input=_ANY),
        ), least=1),
        usage=_all(input_tokens=_COUNT, output_tokens=_COUNT, cache_read_input_tokens=_COUNT),
    ),
    "Tokens": _some(
        "count max_model_len tokens", count=_COUNT, max_model_len=_COUNT, tokens=array(either(_COUNT, _ANY)),
        token_strs=null_or(array(text())),
    ),
    "Text": _all(prompt=text(), content=text()),
    "TokenCount": _all(input_tokens=_COUNT),
}  # fmt: skip
"""By the name that the document has for each."""
