"""What a share and a seed draw."""

from __future__ import annotations

import math

import pytest

from ndn_infer.functions.audit.sample import AuditSample


@pytest.mark.parametrize(("prompt", "count", "block"), [(100, 64, 16), (96, 5, 16), (7, 100, 8), (16, 1, 16)])
def test_spans_of_all_are_the_whole_answer_cut_where_blocks_end(prompt: int, count: int, block: int) -> None:
    spans = AuditSample().spans(prompt, count, block)
    assert [at for span in spans for at in range(*span)] == list(range(count))
    assert all((prompt + span.first) % block == 0 for span in spans[1:])
    assert all(span.end - span.first <= block for span in spans)


def test_a_share_of_the_spans_is_drawn_and_one_at_least() -> None:
    whole = AuditSample().spans(100, 320, 16)
    for share in (0.01, 0.1, 0.5):
        drawn = [AuditSample(share, seed).spans(100, 320, 16) for seed in range(50)]
        assert {len(spans) for spans in drawn} == {math.ceil(share * len(whole))}
        assert {span for spans in drawn for span in spans} <= set(whole)
        assert len({tuple(spans) for spans in drawn}) > 10
    assert AuditSample(0.5).spans(10, 0, 16) == []


def test_large_margins_are_drawn_more_often_and_none_where_all_tokens_are_the_choice() -> None:
    assert AuditSample(0.5).doubtful({0: 0.0, 1: 0.0}) == -1
    assert AuditSample(1.0).doubtful({0: 0.1, 3: 1e-9, 5: 0.0}) == 3
    drawn = [AuditSample(0.25, seed).doubtful({2: 0.5, 9: 0.01, 11: 0.0}) for seed in range(400)]
    assert set(drawn) == {-1, 2, 9} and 150 < drawn.count(2) < 250 and drawn.count(9) < 20
    assert AuditSample(0.5, 1).doubtful({4: math.inf, 6: 1e-300}) == 4
