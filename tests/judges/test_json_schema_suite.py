"""Every schema of the official suite is refused in words, or obeyed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("llguidance")

from ndn_infer.engine.grammar_compile import compiled
from ndn_infer.records import grammar
from tests.judges.json_schema_suite import BYTES, DRAFTS, Unreachable, accepts, fetched, judge

LEAST = {"draft3": 0, "draft4": 110, "draft6": 140, "draft7": 140, "draft2019-09": 150, "draft2020-12": 135}
"""Schemas that are obeyed, of 105, 159, 231, 254, 361 and 368."""


@pytest.fixture(scope="module")
def suite() -> Path:
    try:
        return fetched()
    except Unreachable as error:
        pytest.skip(f"the package registry cannot be reached: {error}")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("draft", DRAFTS)
def test_no_schema_is_got_wrong(suite: Path, draft: str) -> None:
    outcomes = list(judge(suite, draft))
    assert not [one for one in outcomes if one.verdict == "wrong"]
    assert all(one.words for one in outcomes if one.verdict == "refused")
    assert Counter(one.verdict for one in outcomes)["obeyed"] >= LEAST[draft]


def test_the_judge_tells_what_is_allowed_from_what_is_not() -> None:
    matcher = compiled(grammar.of_json_schema({"type": "object", "properties": {"a": {"type": "integer"}}}), BYTES)
    assert accepts(matcher, {"b": None, "a": 1.0}), "in another order, and as 1"
    assert not accepts(matcher, {"a": 1.5})
    assert not accepts(matcher, [])
