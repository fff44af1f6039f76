"""Round-trip estimation and the CUBIC window (RFC 6298, RFC 9438), in virtual time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.wire.congestion import CUBIC_BETA, CUBIC_C, RANDOM_BETA, CubicWindow, RttEstimator


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 600)) | st.none(), max_size=60))
def test_the_timeout_stays_within_its_bounds(samples: list[tuple[float, int] | None]) -> None:
    """None stands for a timeout."""
    rtt = RttEstimator()
    for sample in samples:
        if sample is None:
            before = rtt.rto_s
            rtt.back_off()
            assert rtt.rto_s == min(2 * before, 60.0)
        else:
            rtt.sample(*sample)
        assert rtt.min_rto_s <= rtt.rto_s <= rtt.max_rto_s
        assert rtt.smoothed_s is None or 0 <= rtt.smoothed_s <= 100


def test_many_in_flight_weigh_less() -> None:
    """RFC 7323, appendix G: 64 samples within one round trip move the mean about as far as one alone."""
    alone, many = RttEstimator(), RttEstimator()
    for estimator in (alone, many):
        estimator.sample(0.1)
    alone.sample(0.2)
    for _ in range(64):
        many.sample(0.2, in_flight=127)
    assert alone.smoothed_s is not None and many.smoothed_s is not None
    assert many.smoothed_s == pytest.approx(alone.smoothed_s, rel=0.02)


def test_cubic_comes_back_to_its_peak_in_the_time_of_the_formula() -> None:
    """W(t) = C (t - K)^3 + peak with K = cbrt(peak (1 - beta) / C): flat near the peak, then beyond it."""
    window = CubicWindow(size=100.0)
    window.on_congestion(0.0, sent_at=0.0)
    assert window.size == pytest.approx(100 * CUBIC_BETA)
    plateau_s = math.cbrt(100 * (1 - CUBIC_BETA) / CUBIC_C)
    now, rtt_s, sizes = 0.0, 0.1, {}
    while now < plateau_s + 2:
        for _ in range(int(window.size)):  # one window of Data a round trip
            window.on_data(now, rtt_s)
        now += rtt_s
        sizes[round(now, 1)] = window.size
    assert 85 < sizes[round(plateau_s / 2, 1)] < 100
    assert sizes[round(plateau_s, 1)] == pytest.approx(100, rel=0.05)
    assert sizes[max(sizes)] > 101


@given(st.lists(st.tuples(st.floats(0, 0.3), st.booleans()), max_size=300), st.floats(2, 512), st.integers(0, 9))
def test_the_window_stays_within_its_bounds(steps: list[tuple[float, bool]], size: float, late: int) -> None:
    window, now, reductions = CubicWindow(size=size), 0.0, []
    for pause_s, lost in steps:
        now += pause_s
        before = window.size
        if lost:
            if window.on_congestion(now, now - 0.05 * late):
                reductions.append(now)
                assert window.size <= before
            else:
                assert window.size == before
        else:
            window.on_data(now, 0.05)
            assert window.size >= before
        assert 2.0 <= window.size <= window.limit
    # What was sent before a reduction reports no second congestion.
    assert all(second - 0.05 * late > first for first, second in zip(reductions, reductions[1:], strict=False))


def test_fast_convergence_gives_room_to_others() -> None:
    """RFC 9438, section 4.7: a second loss below the last peak remembers a lower one."""
    window = CubicWindow(size=100.0)
    window.on_congestion(1.0, sent_at=0.5)
    window.on_congestion(2.0, sent_at=1.5)
    assert window._peak == pytest.approx(70 * (1 + CUBIC_BETA) / 2)


def test_a_loss_where_nothing_queues_costs_little_and_a_full_queue_is_seen() -> None:
    rtt, window = RttEstimator(), CubicWindow(size=100.0)
    for _ in range(40):
        rtt.sample(0.010)
    assert rtt.idle_path
    assert window.on_congestion(1.0, sent_at=0.9, beta=RANDOM_BETA) and window.size == pytest.approx(95.0)
    for _ in range(40):
        rtt.sample(0.030)  # what a window of three times the path adds
    assert not rtt.idle_path
    for number in range(20):  # losses on an idle path, one a round trip, still bring it down
        window.on_congestion(2.0 + number, sent_at=1.99 + number, beta=RANDOM_BETA)
    assert window.size < 40


def test_after_a_reduction_it_grows_from_what_was_left() -> None:
    """RFC 9438, section 4.3: the window that a Reno flow would have begins at the window of that moment."""
    window, now = CubicWindow(size=20.0), 0.0
    window.on_congestion(now, sent_at=0.0, beta=RANDOM_BETA)
    for _ in range(10):  # round trips of 10 ms: CUBIC alone is flat for seconds
        for _ in range(int(window.size)):
            window.on_data(now, 0.01)
        now += 0.01
    assert 19.0 + 3 < window.size < 19.0 + 8
