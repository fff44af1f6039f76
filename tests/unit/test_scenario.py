"""What a scenario is and what comes of it: testbed/scenario.py, world.py, result.py, without a world."""

from __future__ import annotations

import asyncio
import json
import math

import pytest

from ndn_infer.errors import UsageError
from ndn_infer.testbed import result
from ndn_infer.testbed.evidence import NodeCounters, Snapshot
from ndn_infer.testbed.result import RunRecord
from ndn_infer.testbed.scenario import MININDN_NLSR, WORLDS, all_scenarios, find, scenario
from ndn_infer.testbed.world import AnswerProgress, PromptOutcome, copies

THREE = PromptOutcome("edge", 1.0, (5, 6, 7), "abc", ttft_s=0.5, gaps_s=(0.1, 0.3), total_s=0.9, at="core")
LOST = PromptOutcome("edge", 2.0, error="nobody answers")


def test_every_scenario_has_a_topology_a_line_and_a_world() -> None:
    found = all_scenarios()
    assert "three_nodes" in found
    for item in found.values():
        assert item.load_topology().nodes
        assert item.about and "\n" not in item.about and len(item.about) < 100
        assert item.worlds and set(item.worlds) <= {*WORLDS, MININDN_NLSR}


def test_an_unknown_scenario_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'three_nodes'") as caught:
        find("three_node")
    assert "three_nodes" in caught.value.hint


def test_two_scenarios_of_one_name_are_refused() -> None:
    all_scenarios()
    with pytest.raises(ValueError, match="two scenarios are called three_nodes"):

        @scenario(topology="three_nodes", about="another")
        async def three_nodes(world: object) -> None: ...


def test_figures_are_of_complete_answers() -> None:
    found = result.figures([THREE, LOST])
    assert found == {
        "asked": 2, "complete": 1, "continued": 0, "tokens": 3,
        "ttft_p50_s": 0.5, "ttft_p99_s": 0.5, "ttft_max_s": 0.5,
        "gap_p50_s": 0.1, "gap_p99_s": 0.3, "gap_max_s": 0.3,
        "per_token_p50_s": 0.2, "per_token_p99_s": 0.2, "per_token_max_s": 0.2,
    }  # fmt: skip
    assert result.figures([LOST]) == {"asked": 1, "complete": 0, "continued": 0, "tokens": 0}


def test_percentiles_are_values_that_occurred() -> None:
    assert [result.percentile(range(1, 101), percent) for percent in (0, 50, 99, 100)] == [1, 50, 99, 100]
    assert result.percentile([3.0], 50) == 3.0
    assert math.isnan(result.percentile([], 50))


def test_a_record_without_claims_shows_nothing() -> None:
    record = RunRecord()
    assert not record.holds
    record.claim("it works", True, 1)
    assert record.holds
    record.claim("it is fast", False, 9.5)
    assert not record.holds


def test_progress_wakes_who_waits_for_a_token_and_at_the_end() -> None:
    async def story() -> tuple[bool, bool, bool]:
        progress = AnswerProgress()
        waiting = [asyncio.ensure_future(progress.reached(count)) for count in (2, 3, 9)]
        await asyncio.sleep(0)
        progress.came(2, "core")
        assert await waiting[0]
        await asyncio.sleep(0)
        assert not waiting[1].done()
        progress.came(4, "core")
        await waiting[1]
        progress.ended()
        return (waiting[0].result(), waiting[1].result(), await waiting[2])

    assert asyncio.run(story()) == (True, True, False)


def _shot(data_in: int, data_out: int, hits: int) -> Snapshot:
    face = {"in_data": data_in, "out_data": data_out}
    return Snapshot({"core": NodeCounters(0, hits, 0, {"edge": face}, {"out_data": 1})}, {})


def test_copies_are_differences_unless_the_forwarder_began_anew() -> None:
    assert copies(_shot(5, 5, 1), _shot(7, 10, 4)) == {"core": {"data_in": 2, "data_out": 5, "from_store": 3}}
    assert copies(_shot(5, 5, 1), _shot(3, 9, 4)) == {"core": {"data_in": 3, "data_out": 10, "from_store": 4}}
    assert copies(Snapshot({}, {}), _shot(1, 2, 0)) == {"core": {"data_in": 1, "data_out": 3, "from_store": 0}}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', "[" * 100_000, '{"format": "1"}'])
def test_what_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        result.loads(text)


def test_a_result_is_read_as_it_was_written() -> None:
    written = {"format": result.FORMAT, "asked": []}
    assert result.loads(result.dumps(written)) == json.loads(json.dumps(written))
    with pytest.raises(ValueError, match="not JSON compliant"):
        result.dumps({"format": result.FORMAT, "x": math.nan})
