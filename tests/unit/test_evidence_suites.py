"""Suites, scorers and scores: their JSON both ways, whatever bytes come, and what each scorer calls right."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.errors import BadRecord
from ndn_infer.evidence.json_fields import read_object
from ndn_infer.evidence.plain_json import canonical
from ndn_infer.evidence.score import (
    ItemOutcome,
    NamedAnswer,
    Score,
    ids_digest,
    paired,
    parse_score,
    reproduced,
)
from ndn_infer.evidence.scorers import Scorer, answer_part, likeliest, score_text
from ndn_infer.evidence.suite import Generator, Item, Suite, items_digest, items_of_lines, parse_suite
from ndn_infer.records.sampling import Sampling

D = "a" * 64
SUITE = Suite(
    "capitals", Scorer("contains"), Sampling(32, temperature=0.5, seed=7, stop=("\n",)),
    (Item("0", "The capital of France?", ("Paris",)), Item("uk", "And of the UK?", ("London", "Greater London"))),
    system="Be brief.",
)  # fmt: skip
GENERATED = Suite(
    "legs", Scorer("reasoning-gym"), Sampling(64),
    generator=Generator("reasoning-gym", "0.1.25", D, "leg_counting", 42, 12, D, {"min_animals": 2}),
)  # fmt: skip


def outcome(ident: str, value: float, ids: list[int], *, stored: bool = False) -> ItemOutcome:
    answer = NamedAnswer(f"/n/model/{D}/result/generate/{D}/v=1", ids_digest(ids), 9, len(ids), stored)
    return ItemOutcome(ident, value, (answer,), "text", finish="stop", seconds=0.5)


SCORE = Score(
    D, "capitals", "contains 1", D, "small", "bf16.bf16.llama-torch-3.grouped.avx512.raw",
    (outcome("0", 1.0, [1, 2], stored=True), outcome("uk", 0.0, [3]), ItemOutcome("x", 0.0, error="timeout")), 10, 20,
)  # fmt: skip


@pytest.mark.parametrize("suite", [SUITE, GENERATED])
def test_a_suite_reads_as_it_was_written(suite: Suite) -> None:
    again = parse_suite(canonical(suite.as_json()))
    assert again == suite and again.digest == suite.digest


def test_any_change_is_another_digest() -> None:
    others = [
        dataclasses.replace(SUITE, system=""),
        dataclasses.replace(SUITE, items=SUITE.items[:1]),
        dataclasses.replace(SUITE, scorer=Scorer("exact")),
        dataclasses.replace(SUITE, sampling=dataclasses.replace(SUITE.sampling, seed=8)),
    ]
    assert len({suite.digest for suite in (SUITE, *others)}) == 5


def test_a_score_reads_as_it_was_written_and_its_sums_are_checked() -> None:
    assert parse_score(canonical(SCORE.as_json())) == SCORE
    assert (SCORE.n, SCORE.failed, SCORE.stored_share) == (3, 1, 0.5)
    for field, wrong in (("score", 0.9), ("n", 4), ("failed", 0)):
        with pytest.raises(BadRecord, match="the items give"):
            parse_score(canonical({**SCORE.as_json(), field: wrong}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, one in entries for found in _paths(one, (*path, key)))]


@settings(max_examples=300)
@given(st.data(), JSON, st.sampled_from([SUITE, GENERATED, SCORE]))
def test_a_value_of_any_kind_in_any_place_is_read_or_refused(data: Any, value: Any, record: Suite | Score) -> None:
    document = json.loads(canonical(record.as_json()))
    path = data.draw(st.sampled_from(_paths(document)[1:]))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    parse = parse_suite if isinstance(record, Suite) else parse_score
    try:
        read = parse(json.dumps(document).encode())
    except BadRecord:
        return
    assert parse(canonical(read.as_json())) == read


@given(st.binary(max_size=200))
def test_bytes_that_are_no_record_are_refused(content: bytes) -> None:
    for parse in (parse_suite, parse_score):
        with pytest.raises(BadRecord):
            parse(content)


@pytest.mark.parametrize(
    "content", [b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[]", b"[" * 5000, b'{"a": "\xff"}', b"x" * 101]
)  # fmt: skip
def test_json_is_read_strictly(content: bytes) -> None:
    with pytest.raises(BadRecord):
        read_object(content, "it", most=100 if content[:1] == b"x" else 10_000)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"items": []}, "items or a generator"),
        ({"items": [{"prompt": "?", "target": "a", "id": "x"}] * 2}, "two items have one id"),
        ({"items": [{"prompt": " ", "target": "a"}]}, "no prompt"),
        ({"items": [{"prompt": "?", "target": "a", "choices": ["b"]}]}, "the target"),
        ({"items": [{"prompt": "?", "target": "a", "choices": ["a", "b"]}]}, "have choices where"),
        ({"scorer": {"id": "guess", "version": "1"}}, "no scorer 'guess'"),
        ({"scorer": {"id": "exact", "version": "2"}}, "no scorer 'exact' '2'"),
        ({"scorer": {"id": "exact", "version": "1", "options": {"fuzzy": True}}}, "no option"),
        ({"sampling": {"max_tokens": 8, "top_p": 2}}, "top_p"),
        ({"scorer": {"id": "reasoning-gym", "version": "1"}}, "only for generated"),
    ],
)
def test_a_suite_that_cannot_be_run_is_refused_in_words(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRecord, match=words):
        parse_suite(canonical({**SUITE.as_json(), **change}))


def test_items_come_from_json_lines() -> None:
    lines = '{"prompt": "1+1?", "target": "2"}\n\n{"prompt": "2+2?", "targets": ["4", "four"], "id": "b"}\n'
    items = items_of_lines(lines)
    assert items == (Item("0", "1+1?", ("2",)), Item("b", "2+2?", ("4", "four")))
    assert items_digest(items) != items_digest(items[:1])
    with pytest.raises(BadRecord, match="line 2"):
        items_of_lines('{"prompt": "1+1?", "target": "2"}\n{"prompt": 3}')


@pytest.mark.parametrize(
    ("scorer", "targets", "text", "value"),
    [
        (Scorer("exact"), ["Paris"], " paris\n", 1),
        (Scorer("exact"), ["Paris"], "Paris.", 0),
        (Scorer("exact", options={"case": True}), ["Paris"], "paris", 0),
        (Scorer("contains"), ["Paris"], "It is PARIS, of course", 1),
        (Scorer("contains"), ["art"], "It is Paris: a party", 0),
        (Scorer("contains"), ["4", "four"], "Two and two are four.", 1),
        (Scorer("contains"), ["4"], "It is 42 or 14", 0),
        (Scorer("contains"), [""], "anything", 0),
        (Scorer("numeric"), ["1200"], "First 3, then 1,200.", 1),
        (Scorer("numeric"), ["3"], "First 3, then 1,200.", 0),
        (Scorer("numeric", options={"first": True}), ["3"], "First 3, then 1,200.", 1),
        (Scorer("numeric", options={"tolerance": 0.01}), ["3.14"], "about 3.1415", 1),
        (Scorer("numeric"), ["-4"], "It is -4", 1),
        (Scorer("numeric"), ["4"], "no number", 0),
        (Scorer("numeric"), ["4"], "9e999", 0),
    ],
)
def test_what_is_right(scorer: Scorer, targets: list[str], text: str, value: float) -> None:
    assert score_text(scorer, targets, text) == value


@given(st.text(max_size=200), st.sampled_from(["exact", "contains", "numeric"]), st.text(max_size=8))
def test_a_scorer_of_a_text_takes_any_text(text: str, scorer: str, target: str) -> None:
    assert score_text(Scorer(scorer), [target], text) in (0.0, 1.0)


def test_the_likeliest_choice_is_by_the_sum_or_by_the_mean() -> None:
    logprobs = [[-1.0, -1.0, -1.0], [-2.0]]
    assert likeliest(Scorer("choice"), logprobs) == 1
    assert likeliest(Scorer("choice", options={"normalise": True}), logprobs) == 0
    assert likeliest(Scorer("choice"), [[-1.0], [-1.0]]) == 0


def test_the_part_that_a_scorer_of_reasoning_gym_gets() -> None:
    assert answer_part("I think <answer>1</answer>, no, <answer> 2 </answer>!") == "2"
    assert answer_part(" 100\n") == "100"


def test_reproduction_lists_what_differs_with_both_names() -> None:
    first = SCORE.outcomes
    second = (first[0], outcome("uk", 1.0, [4]), first[2])
    found = reproduced(first, second)
    assert (found.n, found.identical) == (3, 1)
    assert [one.id for one in found.differing] == ["uk"]
    assert [(one.id, one.why) for one in found.unanswered] == [("x", "timeout")]  # identical with nothing
    assert found.differing[0].digests == ((ids_digest([3]),), (ids_digest([4]),))


def test_scores_are_compared_by_items_of_one_suite() -> None:
    other = dataclasses.replace(SCORE, outcomes=SCORE.outcomes[1:])
    assert paired(SCORE, other) == ([0.0, 0.0], [0.0, 0.0])
    with pytest.raises(BadRecord, match="other suites"):
        paired(SCORE, dataclasses.replace(SCORE, suite="b" * 64))
