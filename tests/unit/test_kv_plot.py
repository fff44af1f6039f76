"""What `bench kv --plot` makes of what was measured."""

from __future__ import annotations

import json
import math

import pytest

from ndn_infer.testbed.bench.kv_long import Cell
from ndn_infer.testbed.bench.kv_pays import measured_engine
from ndn_infer.testbed.bench.kv_plot import link_figures, of_processors
from ndn_infer.testbed.bench.processor import Spent
from ndn_infer.testbed.bench.report import print_report


def test_a_prompt_for_which_no_link_is_enough_has_no_figure(capsys: pytest.CaptureFixture[str]) -> None:
    quick = measured_engine("quick", 1000, [(256, 0.001), (1024, 10.0)])
    figures = link_figures(quick, 0.01)
    assert figures["quick: 256 tokens, Mbit/s"] is None
    assert 0 < figures["quick: 1024 tokens, Mbit/s"] < math.inf
    print_report("kv_plot", figures, {}, {})
    last = capsys.readouterr().out.splitlines()[-1]
    json.loads(last, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_a_search_is_counted_in_seconds_of_a_processor_as_computing_is() -> None:
    spent = [{"reader": Spent(2.0, 1.0)}]
    cell = Cell(find_s=[0.5, 0.7, 0.9], find_cpu_s=[0.1, 0.3, 0.2], spent=spent, nbytes=6_000_000)
    assert of_processors(cell) == pytest.approx((0.2, 2e6))
