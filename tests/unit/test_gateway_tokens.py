"""Prompts that come back with their log probabilities, /tokenize and /detokenize, names of models: as JSON has them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.config.values import named_model
from ndn_infer.gateway.forms.form import Head
from ndn_infer.gateway.forms.text import TextForm
from ndn_infer.gateway.growing import ChoiceEvent, GrowingChoice
from ndn_infer.gateway.names import ModelNames
from ndn_infer.gateway.refusal import Refusal
from ndn_infer.gateway.requests import read_completion
from ndn_infer.gateway.sampling import ChoiceOptions
from ndn_infer.gateway.tokens import read_detokenize, read_tokenize, text_document, tokens_document
from ndn_infer.records import Message, Sampling, TokenEvent, TokenizeRequest, TokenLogprobs

HEAD = Head("1", 7, "m", "fp_1")
SAID: Any = [{"role": "user", "content": "hi"}]


def told(text: bytes, logprob: float, *top: tuple[bytes, float]) -> TokenLogprobs:
    return TokenLogprobs(
        logprob, tuple((at, value) for at, (_, value) in enumerate(top)), text, tuple(text for text, _ in top)
    )


FIRST = told(b"Once", 0.0)
SECOND = told(b" upon", -2.5, (b" in", -0.5), (b" again", -1.0))
ANSWER = told(b" a", -0.25, (b" a", -0.25), (b" the", -2.0))


def test_a_prompt_is_scored_when_it_is_to_come_back_with_log_probabilities() -> None:
    for more, scored in (({"echo": True, "logprobs": 0}, True), ({"echo": True}, False), ({"logprobs": 2}, False)):
        asked = read_completion({"model": "m", "prompt": [1, 2], **more}, Sampling())
        assert asked.asked.sampling.score_prompt is scored
    asked = read_completion({"model": "m", "prompt": "a", "max_tokens": 0, "echo": True, "logprobs": 1}, Sampling())
    assert asked.asked.sampling.max_tokens == 0 and asked.asked.sampling.logprobs == 1


def test_a_whole_completion_has_prompt_and_answer_in_one_row() -> None:
    form = TextForm(HEAD, ChoiceOptions(Sampling(), alternatives=1), ["Once upon"])
    choice = GrowingChoice(0, 2)
    choice.take(TokenEvent((), prompt=(FIRST,)), stored=False)
    choice.take(TokenEvent((), prompt=(SECOND,)), stored=False)
    choice.take(TokenEvent((3,), " a", "length", logprobs=(ANSWER,)), stored=False)
    made = form.whole([choice])["choices"][0]
    assert made["text"] == "Once upon a"
    assert made["logprobs"] == {
        "tokens": ["Once", " upon", " a"], "token_logprobs": [None, -2.5, -0.25], "text_offset": [0, 4, 9],
        "top_logprobs": [None, {" in": -0.5, " upon": -2.5}, {" a": -0.25}],
    }  # fmt: skip


def test_a_stream_tells_the_prompt_before_the_answer() -> None:
    form = TextForm(HEAD, ChoiceOptions(Sampling(), alternatives=0), ["Once upon"])
    choice = GrowingChoice(0, 2)
    chunks = [event.data for event in form.opening([choice])]
    events = (
        TokenEvent((), prompt=(FIRST,)), TokenEvent((), prompt=(SECOND,)),
        TokenEvent((3,), " a", "length", logprobs=(ANSWER,)),
    )  # fmt: skip
    for event in events:  # a choice is ahead of what is told
        choice.take(event, stored=False)
    chunks += [made.data for event in events for made in form.growing(ChoiceEvent(choice, event, ""))]
    pieces: Any = [chunk["choices"][0] for chunk in chunks if isinstance(chunk, dict)]
    assert [piece["text"] for piece in pieces] == ["Once upon", "", "", " a", ""]
    rows = [piece["logprobs"] for piece in pieces if piece["logprobs"]]
    assert [row["token_logprobs"] for row in rows] == [[None], [-2.5], [-0.25]]
    assert [row["text_offset"] for row in rows] == [[0], [4], [9]]
    assert all(row["top_logprobs"] is None for row in rows)
    assert pieces[-1]["finish_reason"] == "length"


@pytest.mark.parametrize(("body", "asked", "param"), [
    ({"prompt": "a"}, TokenizeRequest(text="a"), "prompt"),
    ({"prompt": "a", "add_special_tokens": False}, TokenizeRequest(text="a", bare=True), "prompt"),
    ({"content": "a"}, TokenizeRequest(text="a", bare=True), "content"),
    ({"content": "a", "add_special": True, "parse_special": False}, TokenizeRequest(text="a"), "content"),
    ({"messages": SAID}, TokenizeRequest((Message("user", "hi"),)), "messages"),
    ({"messages": SAID, "add_generation_prompt": False}, TokenizeRequest((Message("user", "hi"),), closed=True),
     "messages"),
])  # fmt: skip
def test_what_is_tokenized(body: dict[str, Any], asked: TokenizeRequest, param: str) -> None:
    read = read_tokenize({"model": "m", **body})
    assert (read.asked, read.param, read.pieces, read.model) == (asked, param, False, "m")


@pytest.mark.parametrize(("body", "param"), [
    ({}, "prompt"), ({"prompt": ""}, "prompt"), ({"prompt": "a", "content": "b"}, "prompt"), ({"prompt": 3}, "prompt"),
    ({"content": "a", "parse_special": True}, "parse_special"), ({"content": "a", "add_special_tokens": True},
    "add_special_tokens"), ({"messages": []}, "messages"), ({"messages": SAID, "continue_final_message": True},
    "continue_final_message"), ({"prompt": "a", "return_token_strs": 1}, "return_token_strs"),
])  # fmt: skip
def test_what_is_not_tokenized(body: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as found:
        read_tokenize({"model": "m", **body})
    assert (found.value.status, found.value.param) == (400, param)


def test_answers_of_both_forms() -> None:
    vllm = read_tokenize({"prompt": "hé", "return_token_strs": True})
    ids, pieces = (5, 6, 7), (b"h", b"\xc3", b"\xa9")
    assert tokens_document(vllm, ids, pieces, 99) == {
        "count": 3, "max_model_len": 99, "tokens": [5, 6, 7], "token_strs": ["h", "\ufffd", "\ufffd"]
    }  # fmt: skip
    llama = read_tokenize({"content": "hé", "with_pieces": True})
    assert tokens_document(llama, ids, pieces, 99)["tokens"] == [
        {"id": 5, "piece": "h"}, {"id": 6, "piece": [0xC3]}, {"id": 7, "piece": [0xA9]},
    ]  # fmt: skip
    plain = tokens_document(read_tokenize({"prompt": "hé"}), ids, (), 99)
    assert plain["tokens"] == [5, 6, 7] and plain["token_strs"] is None
    assert text_document("x") == {"prompt": "x", "content": "x"}


_JSON = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.lists(st.integers() | st.text(max_size=3))


@given(st.dictionaries(st.sampled_from([
    "model", "prompt", "content", "messages", "tokens", "add_special", "with_pieces", "return_token_strs", "x",
]), _JSON))  # fmt: skip
def test_any_body_is_a_question_or_a_refusal(body: dict[str, Any]) -> None:
    for read in (read_tokenize, read_detokenize):
        try:
            read(body)
        except Refusal as refusal:
            assert refusal.status == 400 and refusal.param


def test_names_of_models() -> None:
    names = ModelNames(("gpt-4o=smol", "=smol", "small=smol", "e=mini"))
    assert [names.meant(name) for name in ("gpt-4o", "", "smol", "e", "other")] == [
        "smol", "smol", "smol", "mini", "other",
    ]  # fmt: skip
    assert names.of("smol") == ["gpt-4o", "small"] and names.of("other") == []
    with pytest.raises(Refusal, match="model is missing"):
        ModelNames(()).meant("")
    for wrong in ("a", "a=", "="):
        with pytest.raises(ValueError, match="NAME=MODEL"):
            named_model(wrong)
