"""Grammars are tried in processes of their own: what is wrong is told once it is known, and costs no second trial."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("llguidance")

from ndn_infer.engine.grammar import Grammars
from ndn_infer.errors import Busy, CallError
from ndn_infer.functions import grammar_check
from ndn_infer.functions.grammar_check import GrammarCheck
from ndn_infer.records import grammar
from ndn_infer.records.grammar import BAD_GRAMMAR, Grammar
from tests.unit.test_engine_tokenizer import byte_tokenizer


@pytest.fixture
def grammars(tmp_path: Path) -> Grammars:
    byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    return Grammars(tmp_path, 262)


async def refusal(check: GrammarCheck, of: Grammar, grammars: Grammars | None) -> str:
    with pytest.raises(CallError) as told:
        await check.ready(of, grammars)
    assert told.value.code == BAD_GRAMMAR
    return str(told.value)


async def test_what_can_be_obeyed_is_ready(grammars: Grammars) -> None:
    check = GrammarCheck()
    await check.ready(None, None)
    await check.ready(grammar.of_choice(["a", "b"]), grammars)
    assert grammars.matcher(grammar.of_choice(["a", "b"])).forced() == []


async def test_what_cannot_be_is_told_and_remembered(grammars: Grammars, monkeypatch: pytest.MonkeyPatch) -> None:
    check, of = GrammarCheck(), grammar.of_regex("(?=a)b")
    first = await refusal(check, of, grammars)
    assert "look-around" in first
    monkeypatch.setattr(grammar_check.sys, "executable", "/nowhere")  # no second process
    assert await refusal(check, of, grammars) == first
    assert "canonical" in await refusal(check, Grammar("json_schema", "{ }"), grammars), "without a process too"
    assert "no grammars" in await refusal(check, of, None)


async def test_a_trial_that_takes_too_long_is_given_up(grammars: Grammars, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_check, "MOST_S", 0.01)
    assert "too long" in await refusal(GrammarCheck(), grammar.of_choice(["a"]), grammars)


async def test_too_many_trials_are_busy(grammars: Grammars, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_check, "MOST_WAITING", 0)
    with pytest.raises(Busy):
        await GrammarCheck().ready(grammar.of_choice(["a"]), grammars)
