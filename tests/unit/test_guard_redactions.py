"""No character of a span is shown, however spans lie."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.guard.covered import Covered
from ndn_infer.guard.enforcement import Demand, Enforcer
from ndn_infer.guard.judge import PolicyRules
from ndn_infer.guard.policy_form import policy_of
from ndn_infer.guard.text_verdict import redacted, verdict_on_texts
from ndn_infer.records import TokenEvent
from ndn_infer.records.guard import REDACT, Redaction, VerdictEvent

LENGTH = 24
SPANS = st.lists(
    st.builds(
        Redaction, st.integers(0, LENGTH + 4), st.integers(0, LENGTH + 4), st.sampled_from(["x", "long-label"]),
        st.integers(0, 3),
    ),
    max_size=8,
)  # fmt: skip


def numbered(text: int) -> str:
    """A text in which no character is there twice, and none that a label has."""
    return "".join(chr(0x4E00 + text * LENGTH + place) for place in range(LENGTH))


def left(spans: Sequence[Redaction], text: int) -> str:
    """What no span of this text has."""
    taken = {place for span in spans if span.text == text for place in range(span.start, span.end)}
    return "".join(char for place, char in enumerate(numbered(text)) if place not in taken)


def unlabelled(shown: str) -> str:
    return "".join(char for char in shown if ord(char) >= 0x4E00)


@given(SPANS)
def test_of_prompts_what_is_in_no_span_is_left_and_nothing_else(spans: list[Redaction]) -> None:
    texts = [numbered(number) for number in range(3)]
    shown = redacted(texts, spans)
    assert [unlabelled(one) for one in shown] == [left(spans, number) for number in range(3)]


@given(SPANS, st.integers(1, LENGTH))
def test_of_answers_too(spans: list[Redaction], cut: int) -> None:
    spans = [Redaction(one.start, one.end, one.label) for one in spans]
    reader, text, shown = Enforcer(Demand("p", 64, 9.0), "/a"), numbered(0), ""
    pieces = [text[at : at + cut] for at in range(0, LENGTH, cut)]
    covered = Covered("/a")
    for number, piece in enumerate(pieces, 1):
        event = TokenEvent((number,), piece, "stop" if number == len(pieces) else "")
        digest, told = covered.add(event.ids, event.text), tuple(spans) if number == 1 else ()
        reader.on_event(event, 0.0, 0)
        verdict = VerdictEvent("p", "/a", covered.tokens, number, digest, REDACT, 9, (), told, last=bool(event.finish))
        shown += "".join(one.text for one in reader.on_verdict(verdict, "", 0.0, 0))
    assert reader.complete and unlabelled(shown) == left(spans, 0)


def test_a_match_within_another_leaves_nothing_of_it() -> None:
    pytest.importorskip("regex")
    pytest.importorskip("confusable_homoglyphs")
    policy = policy_of(
        {
            "name": "m",
            "rules": [
                {"id": "card", "kind": "personal", "types": ["card"], "action": "redact"},
                {"id": "start", "kind": "pattern", "pattern": "4111", "action": "redact"},
            ],
        }
    )
    texts = ("pay with 4111 1111 1111 1111 now",)
    verdict = verdict_on_texts(PolicyRules(policy, "prompt"), texts, (), 0)
    (shown,) = redacted(texts, verdict.redactions)
    assert "1" not in shown and shown.startswith("pay with [") and shown.endswith("] now")
