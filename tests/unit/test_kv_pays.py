"""When a name is sooner than computing: the rule, at numbers that can be counted by hand, and the plot."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from ndn_infer.testbed.bench.kv_pays import COMPUTED, ROUND_TRIP_S, measured_engine, needed, plot

ENGINE = measured_engine("slow", 1000, [(128, 1.0), (1280, 10.0)])


def test_at_the_needed_speed_both_take_equally_long() -> None:
    speed = needed(ENGINE, 1281, 0.01)
    by_name = 0.01 + ROUND_TRIP_S + 1280 * 1000 / speed
    assert by_name == pytest.approx(ENGINE.seconds(1281) - ENGINE.seconds(1))


def test_what_has_no_whole_block_or_is_computed_at_once_needs_more_than_any_link() -> None:
    assert needed(ENGINE, 128, 0.01) == math.inf
    quick = measured_engine("quick", 1000, [(128, 0.001), (1280, 0.01)])
    assert needed(quick, 257, 0.01) == math.inf


def test_between_points_and_beyond_them() -> None:
    assert [ENGINE.seconds(at) for at in (64, 128, 704, 1280, 2560)] == [0.5, 1.0, 5.5, 10.0, 20.0]


def test_computed_engines_need_fast_links() -> None:
    bits = [needed(engine, 8192, 0.004) * 8 for engine in COMPUTED]
    assert all(1e9 < one < 1e12 for one in bits) and bits == sorted(bits)


def test_the_plot_is_svg_and_says_what_was_measured() -> None:
    drawn = plot((ENGINE, *COMPUTED), 0.004, 91e6, "a machine")
    assert drawn == plot((ENGINE, *COMPUTED), 0.004, 91e6, "a machine")
    ElementTree.fromstring(drawn)
    assert (
        drawn.count("<polyline") == 4 and drawn.count("(computed)") == 3 and "91 MB/s" in drawn and "a machine" in drawn
    )
