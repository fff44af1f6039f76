"""A pattern that takes too long is an error with a code, wherever texts are judged, and no defect."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ndn_infer import ndn
from ndn_infer.errors import CallError
from ndn_infer.functions.guard.function import JudgeAnswers, ScreenTexts
from ndn_infer.functions.guard.open_verdicts import OpenVerdicts
from ndn_infer.functions.guard.policies import ReadyPolicies
from ndn_infer.guard import patterns
from ndn_infer.guard.judge import PolicyRules
from ndn_infer.guard.policy import digest_of
from ndn_infer.guard.policy_form import encode, policy_of
from ndn_infer.guard.trial import try_text
from ndn_infer.namespace import Result
from ndn_infer.records.guard import JudgeRequest, ScreenRequest
from tests.harness import NET

pytest.importorskip("regex")
pytest.importorskip("confusable_homoglyphs")

POLICY = policy_of(
    {"name": "slow", "rules": [{"id": "x", "kind": "pattern", "pattern": r"(?:[a-z]{1,9}[a-z ]{1,9}){1,25}[0-9]9"}]}
)
TEXT = "abcdefghijklmnopqrst " * 20 + "x9"
JOB = SimpleNamespace(host=SimpleNamespace(net=NET), domain=SimpleNamespace(label="public"))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SEARCH_S", 0.02)


async def test_a_prompt_that_takes_too_long_is_an_error_with_a_code() -> None:
    screen = ScreenTexts(ReadyPolicies())
    screen._models = SimpleNamespace()  # type: ignore[assignment]
    wire = encode(POLICY)
    with pytest.raises(CallError) as error:
        await screen.run(ScreenRequest(digest_of(wire), (TEXT,), wire), JOB)  # type: ignore[arg-type]
    assert error.value.code == patterns.TOO_SLOW


async def test_what_stood_before_an_answer_too() -> None:
    judge, wire = JudgeAnswers(ReadyPolicies()), encode(POLICY)
    judge._open = OpenVerdicts(1)
    name = Result("model", "ab" * 32, "generate", "cd" * 32)
    stream = ndn.to_uri(name.to_name(NET) + ndn.version(1))
    request = JudgeRequest(digest_of(wire), stream, "/key", given=wire, before=TEXT)
    with pytest.raises(CallError) as error:
        await judge.run(request, JOB)  # type: ignore[arg-type]
    assert error.value.code == patterns.TOO_SLOW


@pytest.mark.parametrize("where", ["prompt", "answer"])
def test_a_policy_that_is_tried_says_so(where: str) -> None:
    with pytest.raises(CallError, match="takes too long"):
        try_text(PolicyRules(POLICY, where), [TEXT])
