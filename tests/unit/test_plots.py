"""A result as a page of SVG: testbed/plots.py."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ndn_infer.errors import UsageError
from ndn_infer.testbed import plots
from ndn_infer.testbed.result import FORMAT
from ndn_infer.testbed.world import LinkBytes, PromptOutcome
from tests.daemons import environment_in, run_command

ROWS = (
    PromptOutcome("edge", 0.5, (1, 2), "ab", ttft_s=0.25, gaps_s=(0.5,), total_s=0.75),
    PromptOutcome("edge", 2.0, (3,), "c", ttft_s=2.5, total_s=2.5),
    PromptOutcome("edge", 3.0, error="nobody <answers> & no 'one'", total_s=1.0),
)


def document(**changes: Any) -> dict[str, Any]:
    found = {
        "format": FORMAT, "scenario": "toy", "about": "a & b <c>", "world": "namespaces", "forwarder": "nfd",
        "commit": "abc", "holds": True, "total_s": 5.0, "events": [[1.25, "kill core/decode"]],
        "asked": [asdict(row) for row in ROWS], "links": [asdict(LinkBytes("edge", "core", 1_000, 4_000))],
        "copies": {"core": {"data_in": 1, "data_out": 10, "from_store": 9}},
    }  # fmt: skip
    return {**found, **changes}


def _texts(page: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(page).iter() if element.tag.endswith("text")]


def test_the_page_says_what_the_result_says() -> None:
    texts = _texts(plots.render(document()))
    assert "toy: a & b <c>" in texts
    assert "namespaces, nfd, commit abc: every claim holds" in texts
    assert "kill core/decode" in texts
    assert "time to the first token: 2" in texts and "gaps between arrivals: 1" in texts
    assert {"edge - core", "1,000", "4,000", "core", "10", "9"} <= set(texts)
    assert "NOT every claim holds" in plots.render(document(holds=False))


def test_places_are_to_scale() -> None:
    page = plots.render(document())
    lines = [tuple(map(float, found)) for found in re.findall(r'<line x1="([\d.]+)" y1="[\d.]+" x2="([\d.]+)"', page)]
    # 860 units are 5 s, from 60 on: the first question thin from 0.5 to 0.75 s, then thick until 1.25 s.
    assert (146.0, 189.0) in lines and (189.0, 275.0) in lines
    assert (275.0, 275.0) in lines  # what was killed at 1.25 s
    bars = [float(width) for width in re.findall(r'<rect x="[\d.]+" y="[\d.]+" width="([\d.]+)"', page)]
    assert bars == [65.0, 260.0, 26.0, 260.0, 234.0]


def test_a_run_without_answers_is_a_page_too() -> None:
    assert "time to the first token: 0" in _texts(plots.render(document(asked=[], links=[], copies={}, total_s=0.0)))


def test_many_questions_stay_on_the_page() -> None:
    rows = [asdict(ROWS[0]) for _ in range(5_000)]
    page = plots.render(document(asked=rows))
    assert len(_texts(page)) < 200
    height = float(re.findall(r'viewBox="0 0 960 (\d+)"', page)[0])
    assert height < 2_000


@pytest.mark.parametrize("changes", [{"asked": 3}, {"asked": [{}]}, {"links": [{"first": 1}]}, {"copies": {"a": 1}}])
def test_what_cannot_be_drawn_is_said_so(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="cannot be drawn"):
        plots.render(document(**changes))


def test_the_command_writes_the_page_beside_the_result(tmp_path: Path) -> None:
    path = tmp_path / "toy.json"
    path.write_text(json.dumps(document()))
    done = run_command("testbed", "plot", str(path), environment=environment_in(tmp_path, tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "toy.svg").read_text() == plots.render(document())
    assert done.stdout.strip() == str(tmp_path / "toy.svg")


def test_the_command_names_what_is_no_result(tmp_path: Path) -> None:
    done = run_command("testbed", "plot", str(tmp_path / "no.json"), environment=environment_in(tmp_path, tmp_path))
    assert done.returncode == 2 and "cannot plot" in done.stderr and "Traceback" not in done.stderr
