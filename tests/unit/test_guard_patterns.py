"""A pattern of a policy means to the guard what it meant when it was checked."""

from __future__ import annotations

import re
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.errors import BadRecord
from ndn_infer.functions.guard.policies import ready_rules
from ndn_infer.guard.patterns import WantedPattern
from ndn_infer.guard.policy import GuardPolicy
from ndn_infer.guard.policy_form import policy_of

pytest.importorskip("regex")
pytest.importorskip("confusable_homoglyphs")

PARTS = ["a", "b", "e", "{", "}", "1", ",", "[", "]", ":", "[:alpha:]", "^", "(", ")", "|", "?", "\\", "(?", "i", " "]
TEXTS = ["a", "ab", "ba", "aab", "e", "{e}", "1", "a1", "[a]", ":", "a]", "foxtrot"]


def policy(pattern: str) -> GuardPolicy:
    return policy_of({"name": "a", "rules": [{"id": "x", "kind": "pattern", "pattern": pattern, "case": True}]})


@pytest.mark.parametrize(
    "pattern",
    [
        "(?:foo){e}", "a{1,3}{e}", "(?:ab){i<=1}", "a\\\\{e}", "a{\\{1}", "(?x)a#[\n{e}", "[[:alpha:]]{0,5}",
        "[a[:alpha:]]{0,5}",
    ],
)  # fmt: skip
def test_what_guards_would_read_in_another_way_is_refused(pattern: str) -> None:
    with pytest.raises(BadRecord, match="rule x: pattern: write"):
        policy(pattern)


@pytest.mark.parametrize("pattern", [r"a\{e\}", r"\[[a-z]{2}", "a{1,3}b{2}c{,3}", "[:;]", "(?i:a)b"])
def test_what_both_read_alike_is_none_of_it(pattern: str) -> None:
    assert ready_rules(policy(pattern))["prompt"].wanted


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=8).map("".join))
def test_a_pattern_that_is_accepted_finds_what_it_says(pattern: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            rules = ready_rules(policy(pattern))
        except BadRecord:
            return
        (wanted,) = rules["prompt"].wanted
        for text in TEXTS:
            meant, found = re.search(pattern, text), wanted.pattern.search(text)
            assert (meant and meant.span()) == (found and found.span())


@pytest.mark.parametrize("pattern", ["a{1,3}{e}", "(" * 400, "a{0,3}", "(?:foo){e}"])
def test_a_pattern_that_cannot_be_looked_for_is_a_bad_record(pattern: str) -> None:
    with pytest.raises(BadRecord, match="rule x: "):
        WantedPattern.of("x\nkey", pattern, case=True)


def test_a_field_that_is_misspelt_is_named_before_what_is_missing_for_it() -> None:
    with pytest.raises(BadRecord, match="there is no field 'rule'"):
        policy_of({"name": "house", "rule": [{"id": "a", "kind": "phrases", "phrases": ["b"]}]})
