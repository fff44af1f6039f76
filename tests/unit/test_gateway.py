"""The translation between OpenAI's JSON and our records: hostile bodies, what is refused, what answers look like."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import errors, records
from ndn_infer.gateway.fields import read_json
from ndn_infer.gateway.forms.chat import ChatForm
from ndn_infer.gateway.forms.completions import text_logprobs, usage
from ndn_infer.gateway.forms.form import DONE, Head, ServerEvent
from ndn_infer.gateway.forms.text import TextForm
from ndn_infer.gateway.growing import ChoiceEvent, GrowingChoice, Used, cached_tokens
from ndn_infer.gateway.refusal import Refusal, refusal_of
from ndn_infer.gateway.requests import read_chat, read_completion
from ndn_infer.gateway.sampling import ChoiceOptions
from ndn_infer.gateway.tools import held_to
from ndn_infer.gateway.vectors import embedding_document, read_embedding
from ndn_infer.hermes import TextPiece
from ndn_infer.records import GenerateRequest, KvSources, Message, Sampling, TokenEvent, TokenizeRequest, TokenLogprobs
from ndn_infer.records.embed import EmbedRequest, TensorRecord
from ndn_infer.records.sampling import TokenBias
from ndn_infer.tensors import RawTensor, encode_tensor

DEFAULTS = Sampling(max_tokens=99)
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TEXT = {"model": "m", "prompt": "hi"}


def refused(body: dict[str, Any], base: dict[str, Any] = CHAT) -> Refusal:
    read = read_chat if base is CHAT else read_completion
    with pytest.raises(Refusal) as found:
        read({**base, **body}, DEFAULTS)
    return found.value


# ---------------------------------------------------------------- requests

_LEAF = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["user", "text", "\ud800"]),
)  # fmt: skip
_FLAT = _LEAF | st.lists(_LEAF, max_size=2) | st.dictionaries(st.text(max_size=6), _LEAF, max_size=2)
"""For fields of messages and tools, of which one body has many."""
_JSON = st.recursive(
    _LEAF,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
_NAMES = st.sampled_from([
    "model", "messages", "prompt", "input", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "n", "stream",
    "stream_options", "logit_bias", "logprobs", "top_logprobs", "max_tokens", "max_completion_tokens", "user", "echo",
    "tools", "tool_choice", "parallel_tool_calls", "response_format", "best_of", "encoding_format", "dimensions",
    "stop_token_ids", "ignore_eos", "structured_outputs", "json_schema", "grammar",
])  # fmt: skip
_NAMED = {
    "name": st.sampled_from(["f", "g", "a b", ""]) | _FLAT,
    "arguments": st.sampled_from(["{}", "[", ""]) | _FLAT,
}
_FUNCTION = st.fixed_dictionaries({}, optional={**_NAMED, "parameters": _FLAT, "description": _FLAT, "strict": _FLAT})
_TOOL = st.fixed_dictionaries({"type": st.just("function"), "function": _FUNCTION}, optional={"id": _FLAT})
_CALL = st.fixed_dictionaries({"id": st.just("call_1"), "function": st.fixed_dictionaries(_NAMED)})
_MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "system", "assistant", "tool", 3]) | _FLAT,
        "content": _FLAT,
        "name": _FLAT,
        "tool_call_id": _FLAT,
        "tool_calls": st.lists(_CALL, max_size=2) | _FLAT,
    },
)


@given(
    st.sampled_from([CHAT, TEXT, {"model": "m", "input": ["hi"]}]),
    st.dictionaries(_NAMES, _JSON, max_size=4), st.none() | st.lists(_MESSAGE, max_size=3),
    st.none() | st.lists(_TOOL, max_size=3),
)  # fmt: skip
def test_any_body_is_a_request_that_can_be_sent_or_a_refusal_that_can_be_told(
    base: dict[str, Any], more: dict[str, Any], messages: list[Any] | None, tools: list[Any] | None
) -> None:
    told = {"messages": messages, "tools": tools}
    body = {**base, **more, **{name: value for name, value in told.items() if value is not None}}
    try:
        if "input" in base:
            records.encode(EmbedRequest(texts=read_embedding(body).texts))
        elif "prompt" in base:
            asked = read_completion(body, DEFAULTS)
            for prompt in asked.prompts:
                text = isinstance(prompt, str)
                records.encode(TokenizeRequest(text=prompt) if text else GenerateRequest(prompt=prompt))
            records.encode(GenerateRequest(asked.asked.choice(15)))
        else:
            chat = read_chat(body, DEFAULTS)
            records.encode(TokenizeRequest(messages=chat.messages, tools=chat.tools.shown))
            records.encode(GenerateRequest(held_to(chat.tools, chat.asked).choice(15)))
    except Refusal as refusal:
        assert refusal.status == 400 and refusal.message
        json.dumps(refusal.document).encode()


@given(st.binary(max_size=64) | st.text(max_size=64).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_an_object_or_a_refusal(body: bytes) -> None:
    try:
        assert isinstance(read_json(body), dict)
    except Refusal as refusal:
        assert refusal.status == 400


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1,"a":2}',
        b"[" * 100_000,
        b"[]",
        b"",
        b"\xff{}",
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_bodies_that_are_no_json_object(body: bytes) -> None:
    with pytest.raises(Refusal):
        read_json(body)


@pytest.mark.parametrize(("body", "param"), [
    ({"tools": [{"type": "function"}]}, "tools[0].function"), ({"tool_choice": "required"}, "tool_choice"),
    ({"response_format": {"type": "sound"}}, "response_format.type"), ({"functions": [{}]}, "functions"),
    ({"modalities": ["text", "audio"]}, "modalities"), ({"store": True}, "store"), ({"audio": {}}, "audio"),
    ({"prediction": {}}, "prediction"), ({"reasoning_effort": "high"}, "reasoning_effort"),
    ({"web_search_options": {}}, "web_search_options"), ({"service_tier": "priority"}, "service_tier"),
    ({"no_such_thing": 1}, "no_such_thing"), ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"), ({"n": 0}, "n"), ({"n": 17}, "n"), ({"n": True}, "n"),
    ({"temperature": -1}, "temperature"), ({"temperature": "1"}, "temperature"),
    ({"temperature": 1e999}, "temperature"),
    ({"top_p": 1.5}, "top_p"), ({"frequency_penalty": 3}, "frequency_penalty"), ({"stop": ["a"] * 17}, "stop"),
    ({"stop": ""}, "stop"), ({"stop": [1]}, "stop"), ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens"), ({"seed": 1 << 64}, "seed"),
    ({"logit_bias": {"x": 1}}, "logit_bias"), ({"logit_bias": {"1": 101}}, "logit_bias"),
    ({"logit_bias": {"1": 1, "01": 2}}, "logit_bias"), ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"other": 1}}, "stream_options.other"), ({"model": 3}, "model"),
    ({"messages": []}, "messages"), ({"messages": [7]}, "messages[0]"),
    ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role"),
    ({"messages": [{"role": "function", "content": "x", "name": "f"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": "x", "name": "bob"}]}, "messages[0].name"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
     "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content"),
])  # fmt: skip
def test_what_is_refused_is_named(body: dict[str, Any], param: str) -> None:
    refusal = refused(body)
    assert (refusal.status, refusal.param) == (400, param)
    assert refusal.document["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(("body", "param"), [
    ({"prompt": []}, "prompt"), ({"prompt": ""}, "prompt"), ({"prompt": [-1]}, "prompt"),
    ({"prompt": [[1], "a", [True]]}, "prompt"),
    ({"echo": 1}, "echo"), ({"max_tokens": -1}, "max_tokens"), ({"suffix": "x"}, "suffix"),
    ({"best_of": 2}, "best_of"), ({"messages": []}, "messages"), ({"prompt": ["a"] * 17}, "prompt"),
])  # fmt: skip
def test_what_completions_refuse_is_named(body: dict[str, Any], param: str) -> None:
    assert refused(body, TEXT).param == param


def test_a_chat_request_in_full() -> None:
    asked = read_chat({
        "model": "m", "temperature": 0.5, "top_p": 0.9, "top_k": 5, "seed": -1, "stop": "END", "n": 2, "user": "me",
        "max_completion_tokens": 7, "frequency_penalty": 1, "presence_penalty": -1, "logit_bias": {"9": 1, "5": -100},
        "logprobs": True, "top_logprobs": 3, "stream": True, "stream_options": {"include_usage": True}, "tools": [],
        "tool_choice": "none", "response_format": {"type": "text"}, "store": False, "stop_token_ids": [4],
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": "c", "refusal": None, "tool_calls": None},
        ],
    }, DEFAULTS)  # fmt: skip
    assert asked.messages == (Message("system", "be brief"), Message("user", "a\nb"), Message("assistant", "c"))
    assert asked.asked.sampling == Sampling(
        7, 0.5, 0.9, 5, (1 << 64) - 1, ("END",), frequency_penalty=1.0, presence_penalty=-1.0,
        logit_bias=(TokenBias(5, -100.0), TokenBias(9, 1.0)), logprobs=3, stop_ids=(4,),
    )  # fmt: skip
    assert (asked.asked.n, asked.asked.stream, asked.asked.usage, asked.asked.alternatives) == (2, True, True, 3)
    assert asked.asked.choice(1).seed == 0 and asked.asked.choice(0) == asked.asked.sampling


def test_what_a_request_leaves_out_comes_from_the_defaults() -> None:
    assert read_chat(CHAT, DEFAULTS).asked.sampling == DEFAULTS
    assert read_completion(TEXT, DEFAULTS).asked.sampling.max_tokens == 16
    assert read_chat({**CHAT, "temperature": None, "stop": None, "tools": None}, DEFAULTS).asked.sampling == DEFAULTS
    assert read_completion({**TEXT, "prompt": [[1, 2], "a"]}, DEFAULTS).prompts == ((1, 2), "a")


# ---------------------------------------------------------------- answers

HEAD = Head("1", 7, "m", "fp_1")
TOLD = TokenLogprobs(-0.5, ((3, -0.5), (4, -1.5)), b" \xc3", (b" \xc3", b" b"))


def documents(events: Iterable[ServerEvent]) -> list[Any]:
    return [event.data for event in events]


def test_documents_of_a_chat() -> None:
    form = ChatForm(HEAD, ChoiceOptions(DEFAULTS, alternatives=1))
    choice = GrowingChoice(0, 10)
    first = TokenEvent((3,), " a", logprobs=(TOLD,))
    choice.take(first, stored=False)
    sources = KvSources(local=1, named=1, prefilled=2, tail_tokens=2)
    choice.take(TokenEvent((5,), "b", "stop", kv=sources, logprobs=(TOLD,)), stored=False)
    whole = form.whole([choice])
    used = whole["usage"]
    assert (used["prompt_tokens"], used["completion_tokens"], used["total_tokens"]) == (10, 2, 12)
    assert used["prompt_tokens_details"]["cached_tokens"] == 4  # two of four blocks of two tokens
    assert whole["object"] == "chat.completion" and whole["choices"][0]["finish_reason"] == "stop"
    assert whole["id"] == "chatcmpl-1" and whole["choices"][0]["message"]["content"] == " ab"
    entry = whole["choices"][0]["logprobs"]["content"][0]
    assert entry["token"] == " \ufffd" and entry["bytes"] == [32, 0xC3] and len(entry["top_logprobs"]) == 1
    (chunk,) = documents(form.growing(ChoiceEvent(choice, first, "", (TextPiece(" a"),))))
    assert chunk["object"] == "chat.completion.chunk" and "usage" not in chunk
    assert chunk["choices"][0]["delta"] == {"content": " a"} and chunk["choices"][0]["finish_reason"] is None
    assert not documents(form.growing(ChoiceEvent(choice, TokenEvent((3,)), "")))
    (last,) = documents(form.growing(ChoiceEvent(choice, TokenEvent((3,), finish="length"), "")))
    assert last["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}
    (role,) = documents(form.opening([choice]))
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": None, "refusal": None}
    assert not documents(form.closing([choice])) and documents(form.ending()) == ["[DONE]"]
    with_usage = ChatForm(HEAD, ChoiceOptions(DEFAULTS, usage=True, n=2))
    assert [chunk["usage"] for chunk in documents(with_usage.opening([choice, choice]))] == [None, None]
    assert documents(with_usage.closing([choice]))[0] == {**last, "choices": [], "usage": used}


def test_documents_of_a_completion() -> None:
    form = TextForm(HEAD, ChoiceOptions(DEFAULTS, alternatives=0), ["ab", ""])
    assert [one["choices"][0]["text"] for one in documents(form.opening([]))] == ["ab"]
    choice = GrowingChoice(0, 1, text="cd")
    told = ChoiceEvent(choice, TokenEvent((3,), "d", "stop", logprobs=(TOLD,)), "c")
    piece, end = (one["choices"][0] for one in documents(form.growing(told)))
    assert piece["text"] == "d" and piece["logprobs"]["text_offset"] == [3] and piece["finish_reason"] is None
    assert end == {"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}
    assert form.whole([choice])["choices"][0]["text"] == "abcd"


def test_bytes_of_a_stream() -> None:
    assert ServerEvent({"a": "\u00e9\n"}).encode() == 'data: {"a": "\u00e9\\n"}\n\n'.encode()
    assert ServerEvent({}, "ping").encode() == b"event: ping\ndata: {}\n\n"
    assert DONE.encode() == b"data: [DONE]\n\n"


def test_legacy_log_probabilities_and_usage_of_several_choices() -> None:
    told = text_logprobs((TOLD, TOLD), 2, 3)
    assert told is not None and told["text_offset"] == [3, 5] and told["token_logprobs"] == [-0.5, -0.5]
    assert told["top_logprobs"][0] == {" \ufffd": -0.5, " b": -1.5}
    choices = [GrowingChoice(index, 5 + index // 2, tokens=3, cached=2) for index in range(4)]
    used = usage(Used.by(choices, 2))
    assert (used["prompt_tokens"], used["completion_tokens"]) == (5 + 6, 12)
    assert used["prompt_tokens_details"]["cached_tokens"] == 4


@given(st.integers(0, 300), st.builds(KvSources, *[st.integers(0, 20)] * 5, st.integers(0, 40)), st.booleans())
def test_cached_tokens_are_of_the_prompt(tokens: int, kv: KvSources, stored: bool) -> None:
    assert 0 <= cached_tokens(tokens, kv, stored=stored) <= tokens


def test_vectors_as_numbers_and_as_base64() -> None:
    import base64

    numbers = (0.5, -1.0, 0.25, 2.0)
    tensor = TensorRecord(encode_tensor(RawTensor("f32", (2, 2), struct.pack("<4f", *numbers))), 9)
    body = {"model": "e", "input": ["a", "b"]}
    plain = embedding_document(read_embedding(body), tensor)
    assert [one["embedding"] for one in plain["data"]] == [[0.5, -1.0], [0.25, 2.0]]
    assert plain["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    coded = embedding_document(read_embedding({**body, "encoding_format": "base64", "dimensions": 2}), tensor)
    assert base64.b64decode(coded["data"][1]["embedding"]) == struct.pack("<2f", 0.25, 2.0)
    with pytest.raises(Refusal, match="2 dimensions"):
        embedding_document(read_embedding({**body, "dimensions": 3}), tensor)
    with pytest.raises(Refusal, match="1 of these texts"):
        embedding_document(read_embedding(body), TensorRecord(tensor.tensor, 9, 1))
    with pytest.raises(errors.BadRecord):
        embedding_document(read_embedding({**body, "input": "a"}), tensor)


@pytest.mark.parametrize("given_input", [[], "", [""], [1, 2], [[1]], 7, None, ["a"] * 257, ["a" * 65_537]])
def test_inputs_that_are_no_texts(given_input: Any) -> None:
    with pytest.raises(Refusal):
        read_embedding({"model": "e", "input": given_input})


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(("error", "status", "code"), [
    (errors.UnknownModel("x"), 404, "model_not_found"), (errors.PromptError("x"), 400, None),
    (errors.Busy("x", retry_after_s=2.2), 429, "busy"),
    (errors.CallError("x", code="too-long"), 400, "context_length_exceeded"),
    (errors.CallError("x", code="wrong-engine"), 503, "no_producer"),
    (errors.CallError("x", code="deadline"), 504, "timeout"),
    (errors.CallError("x", code="unreachable"), 503, "unreachable"),
    (errors.CallError("x", code="not-trusted"), 503, "not-trusted"),
    (errors.CallError("x", code="no-room"), 503, "no-room"),
    (errors.CallError("x"), 500, "failed"), (errors.Nacked("x"), 503, "no_producer"),
    (errors.Nacked("x", reason=50), 429, "busy"),
    (errors.Timeout("x"), 504, "timeout"),
    (errors.FetchIncomplete("x"), 503, "network"), (errors.BadSignature("x"), 502, "not_trusted"),
    (errors.BadRecord("x"), 502, "not_trusted"), (errors.StorageError("x"), 503, "storage"),
    (errors.ModelError("x"), 500, "internal"),
])  # fmt: skip
def test_each_error_has_its_status(error: errors.NdnInferError, status: int, code: str | None) -> None:
    refusal = refusal_of(error)
    assert (refusal.status, refusal.code) == (status, code)
    assert ("Retry-After" in refusal.headers) == (status in (429, 503))


def test_a_network_that_does_not_answer_is_no_unknown_model() -> None:
    error = errors.UnknownModel("x")
    error.__cause__ = errors.Timeout("y")
    assert refusal_of(error).status == 503


def test_retry_after_is_whole_seconds_rounded_up() -> None:
    assert refusal_of(errors.Busy("x", retry_after_s=2.2)).headers == {"Retry-After": "3", "retry-after-ms": "2200"}
