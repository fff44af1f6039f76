"""What a request that nobody checked yet may do to the estimates of a function."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import records
from ndn_infer.functions.admission import LONGEST_S, MOST_S, Admission
from ndn_infer.records import CallAnswer


@given(st.lists(st.floats(-1e18, 1e18), max_size=100))
def test_whatever_strangers_ask_for_an_estimate_can_be_told(units: list[float]) -> None:
    admission = Admission(64, 0.01)
    for each in units:
        told = admission.estimate_s(each)
        assert 0 <= told <= LONGEST_S
        records.encode(CallAnswer(estimate_ms=round(told * 1000)))


def test_work_that_failed_is_waited_for_by_nobody() -> None:
    admission = Admission(64, 0.01)
    honest = admission.estimate_s(100)
    assert honest == pytest.approx(1.0, abs=0.1)
    assert admission.estimate_s(1e18) == pytest.approx(MOST_S + honest, abs=0.1)
    admission.failed(1e18, others=1)
    assert admission.estimate_s(100) == pytest.approx(2 * honest, abs=0.1)
    admission.failed(100, others=0)
    assert admission.estimate_s(100) == pytest.approx(honest, abs=0.1)
