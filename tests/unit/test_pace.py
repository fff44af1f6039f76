"""How long work takes, and when those who were turned away come back; deadlines that keep equal calls equal."""

from __future__ import annotations

import random

import pytest

from ndn_infer.wire.pace import LEAST_RETURN_S, MOST_RETURN_S, Meter, Pace, Turns, deadline_ms


def test_the_first_measurement_replaces_the_guess_and_newer_ones_weigh_more() -> None:
    pace = Pace(0.5)
    assert pace.estimate_s(4) == 2.0
    pace.measured(100, 1.0)
    assert pace.estimate_s(100) == pytest.approx(1.0)
    for _ in range(20):
        pace.measured(10, 1.0)
    assert pace.estimate_s(1) == pytest.approx(0.1, rel=0.15)


def test_what_took_no_time_teaches_nothing() -> None:
    pace = Pace(0.5)
    pace.measured(0, 1.0)
    pace.measured(5, 0.0)
    assert pace.unit_s == 0.5


def test_a_meter_reads_what_was_done_since_it_was_read_last() -> None:
    meter = Meter()
    assert meter.read(0, 0.0) == 0.0
    assert meter.read(100, 1.0) == pytest.approx(0.01) == meter.read(100, 1.0)
    for number in range(1, 30):
        slower = meter.read(100 + number * 10, 1.0 + number)
    assert slower == pytest.approx(0.1, rel=0.05)


def test_those_turned_away_are_told_to_come_one_after_another() -> None:
    turns = Turns()
    for number in range(60):
        turns.freed(number * 0.1)
    told = [turns.come_back_s() for _ in range(20)]
    assert told == sorted(told) and told[0] == pytest.approx(0.1, rel=0.05) and told[9] == pytest.approx(10 * told[0])
    turns.freed(6.0)
    assert turns.come_back_s() == pytest.approx(0.1, rel=0.05), "a seat became free: the first again"


def test_nobody_is_told_to_stay_away_for_ever_or_to_come_at_once(seed: int = 3) -> None:
    draw, turns, now = random.Random(seed), Turns(), 0.0
    for _ in range(2000):
        now += draw.choice((0.0, 1e-6, 1.0, 1e6))
        if draw.random() < 0.3:
            turns.freed(now)
        assert LEAST_RETURN_S <= turns.come_back_s() <= MOST_RETURN_S


def test_equal_callers_say_equal_deadlines_and_never_a_shorter_one_than_they_have() -> None:
    assert deadline_ms(30.0) == deadline_ms(29.9) == deadline_ms(17.0) == 32768
    for left_s in (0.0, 0.001, 0.0015, 1.024, 600.0, 86_400.0, 1e12):
        assert min(left_s * 1000, 1 << 31) <= deadline_ms(left_s) < (1 << 32)
