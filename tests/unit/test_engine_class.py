"""The engine class: one text for each, and who shares KV of prompts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import config as configuration
from ndn_infer.client.engine_choice import EngineChoice, choose_engine
from ndn_infer.config import Config
from ndn_infer.engine_class import MOST_CHARACTERS, WRONG_ENGINE, EngineClass, label_of, weights_label
from ndn_infer.errors import BadRecord, CallError, ConfigError

TEXT = "bf16.int4-r16.llama-torch-3.grouped.avx512.raw"
INT4 = EngineClass("bf16", "int4-r16", "llama-torch-3", "grouped", "avx512", "raw")


def test_the_text_has_the_bytes_that_it_had() -> None:
    assert str(INT4) == TEXT and EngineClass.parse(TEXT) == INT4


@given(st.text(max_size=200))
def test_what_is_parsed_says_the_same_again(text: str) -> None:
    try:
        parsed = EngineClass.parse(text)
    except BadRecord:
        return
    assert str(parsed) == text and len(text) <= MOST_CHARACTERS


@pytest.mark.parametrize("text", ["", "bf16", TEXT + ".x", TEXT.replace("raw", ""), TEXT.replace("raw", "r/w"),
                                  ".".join(["a" * 48] * 6)])  # fmt: skip
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(BadRecord, match="engine class"):
        EngineClass.parse(text)


def test_labels_of_versions_and_devices() -> None:
    assert label_of("modules-GPT2LMHeadModel-5.23.0") == "modules-GPT2LMHeadModel-5-23-0"


def test_prompts_are_shared_by_classes_that_differ_in_what_decoding_reads_or_in_the_form_of_kv() -> None:
    bf16 = replace(INT4, weights="bf16")
    assert {replace(bf16, weights=weights, kv=kv).prompts for weights in ("bf16", "int8", "int4", "int4-r16")
            for kv in ("raw", "int8")} == {bf16.prompts}  # fmt: skip
    others = {"dtype": "fp32", "implementation": "llama-torch-4", "attention": "single", "machine": "amx2"}
    assert len({bf16.prompts, *(replace(bf16, **{field: value}).prompts for field, value in others.items())}) == 5
    wide = replace(bf16, dtype="fp32")  # weights rounded to bf16 before prompts are computed with them
    assert wide.prompts != replace(wide, weights="fp32").prompts == replace(wide, weights="int8").prompts


def test_how_the_head_takes_rows_stands_behind_the_precision() -> None:
    whole = replace(INT4, weights=weights_label("int4", split=False))
    assert (whole.weights, INT4.weights) == ("int4", weights_label("int4", split=True))
    assert (whole.precision, INT4.precision) == ("int4", "int4")
    assert weights_label("bf16", split=True) == "bf16", "a head that is not quantised takes rows as they are"
    assert whole.prompts == INT4.prompts and not whole.decodes_as_prompts and not INT4.decodes_as_prompts


def with_engine(*flags: str) -> Config:
    return configuration.load(environment={}, flags=list(flags))


def test_a_client_asks_for_what_its_configuration_computes() -> None:
    assert choose_engine(with_engine()) == "bf16.bf16.llama-torch-3.grouped.avx512.raw"
    assert choose_engine(with_engine("engine.weights=int4")) == TEXT
    wide = choose_engine(with_engine("engine.weights=int4", "engine.dtype=fp32"))
    assert wide == "fp32.int4.llama-torch-3.grouped.avx512.raw", "its numbers are computed dense"
    assert choose_engine(with_engine(f"ask.engine={TEXT}")) == TEXT
    with pytest.raises(ConfigError, match="ask.engine: an engine class is dtype, weights"):
        choose_engine(with_engine("ask.engine=int4"))


def test_a_client_takes_what_is_offered_unless_it_was_told_what_to_ask_for() -> None:
    refusal = CallError("no", code=WRONG_ENGINE, offered=TEXT)
    other_class = TEXT.replace("int4-r16", "bf16")
    free, told = EngineChoice(with_engine()), EngineChoice(with_engine(f"ask.engine={other_class}"))
    assert free.refused("m", refusal) == TEXT == free.of("m") != free.of("other")
    with pytest.raises(CallError) as caught:
        told.refused("m", refusal)
    assert caught.value.hint.startswith(f"ask for that class with --set ask.engine={TEXT}, or start a producer of bf16")
    for other in (CallError("no", code="busy"), CallError("no", code=WRONG_ENGINE, offered="rubbish"),
                  CallError("no", code=WRONG_ENGINE)):  # fmt: skip
        with pytest.raises(CallError) as caught:
            EngineChoice(with_engine()).refused("m", other)
        assert caught.value is other


def test_a_class_that_alone_is_to_answer_is_never_left() -> None:
    choice = EngineChoice(with_engine())
    choice.only("m", TEXT)
    other = TEXT.replace("int4-r16", "bf16")
    with pytest.raises(CallError, match="refused") as caught:
        choice.refused("m", CallError("refused", code="wrong-engine", offered=other))
    assert choice.of("m") == TEXT and TEXT in caught.value.hint
