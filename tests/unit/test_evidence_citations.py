"""What an answer from passages is found to cite, and what of it is from nowhere."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import records
from ndn_infer.evidence.citations import BEFORE_QUESTION, citations, objections, question_in
from ndn_infer.evidence.explain import explain
from ndn_infer.evidence.judge import State
from ndn_infer.evidence.node import EvidenceNode
from ndn_infer.ndn.packet import decode_data
from ndn_infer.records import CallAnswer, PassageRecord
from ndn_infer.records.cite import Citations
from tests.evidence_kit import MadeAnswer

MEETING = PassageRecord("notes.md", "Title", "The meeting is on Thursday at nine.", 0)
ASKED = "When is the meeting?"


def found(text: str, passages: int = 2) -> Citations:
    return citations(ASKED, text, [MEETING] * passages)


def test_what_an_answer_cites_and_what_it_invents() -> None:
    assert found("It is so [2], and [1][9] [0].", 3) == Citations((1, 2), (0, 9))
    assert found("Thursday at nine [1].") == Citations((1,), (), 2, 0)
    assert found("") == Citations()
    assert found("On Saturday in Berlin") == Citations((), (), 2, 2, ("berlin", "saturday"))


@pytest.mark.parametrize(
    "text, said",
    [
        ("The meeting is on Thursday [2].", ()),
        ("The meeting is on Thursday.", ("it cites none of the passages that it was given",)),
        (
            "Saturday, Berlin, Champions [3]",
            (
                "it cites none of the passages that it was given",
                "it cites [3], which it was not given",
                "words that are in none of them: berlin, champions, saturday",
            ),
        ),
    ],
)
def test_answers_that_cite_nothing_they_were_given_are_flagged(text: str, said: tuple[str, ...]) -> None:
    assert objections(found(text)) == said


@given(st.text(max_size=400), st.text(max_size=400), st.integers(0, 50))
def test_whatever_a_model_says_can_be_told(question: str, text: str, passages: int) -> None:
    told = citations(question, text, [MEETING] * passages)
    assert records.decode(Citations, records.encode(told)) == told
    assert set(told.cited) <= set(range(1, passages + 1)) and not set(told.cited) & set(told.unknown)
    assert told.foreign <= told.words and objections(told) == objections(told)


def test_many_marks_and_long_words_stay_within_bounds() -> None:
    text = " ".join([*(f"[{number}]" for number in range(999)), *(f"{'w' * 900}{number}" for number in range(200))])
    told = found(text, 50)
    assert len(told.cited) == 50 and len(told.unknown) == 50
    assert told.foreign == 200 and len(told.strange) == 64 and max(map(len, told.strange)) == 64
    assert records.decode(Citations, records.encode(told)) == told


def test_the_question_of_a_message() -> None:
    message = f"passage{BEFORE_QUESTION}when?"
    assert question_in(message, 7) == "when?" and question_in(message, 8) is None


# ------------------------------------------------------------ in a bundle


def node_of(answer: MadeAnswer) -> EvidenceNode | None:
    told = asyncio.run(explain(answer.bundle, answer.stream, answer.trust()))
    return next((node for node in told.answer.walk() if node.kind == "citations"), None)


def test_explain_shows_the_check_and_makes_it_again() -> None:
    node = node_of(MadeAnswer())
    assert node is not None and node.state is State.VERIFIED and node.signer.endswith("/home/n1/cite")
    assert node.words == "it cites none of its passages"
    assert node.facts["flags"] == ["it cites none of the passages that it was given"]


def test_a_signed_check_that_is_wrong_is_broken() -> None:
    answer = MadeAnswer()
    (name,) = answer.names["citations"]
    lie = records.encode(CallAnswer(value=records.encode(Citations((1,), (), 3, 0))))
    answer.bundle.packets[name] = answer.signer("cite").sign_data(name, lie)
    node = node_of(answer)
    assert node is not None and node.state is State.BROKEN and "something else" in node.why
    answer.bundle.packets[name] = answer.signer("decode").sign_data(
        name, decode_data(answer.bundle.packets[name]).content
    )
    node = node_of(answer)
    assert node is not None and node.state is State.BROKEN  # another role's key


def test_without_a_check_nothing_is_missing() -> None:
    answer = MadeAnswer()
    del answer.bundle.packets[answer.names["citations"][0]]
    assert node_of(answer) is None
