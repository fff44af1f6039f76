"""`ndn-infer eval` and `cost` on a running network: a score, asked again by another node, and what it took."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.daemons import RunningNetwork

pytestmark = pytest.mark.model

ITEMS = 12


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What nobody else asks."""
    path = tmp_path_factory.mktemp("suite") / "plus.jsonl"
    lines = ({"prompt": f"An evaluation asks: {n} + {n}?", "target": str(2 * n)} for n in range(31, 31 + ITEMS))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    yield path


def _run(network: RunningNetwork, *arguments: str, status: int = 0) -> dict[str, Any]:
    done = network.run(*arguments, "--json", timeout=240)
    assert done.returncode == status, done.stderr + done.stdout
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture(scope="module")
def other_node(network: RunningNetwork) -> RunningNetwork:
    """Another node of the network, with keys of its own."""
    return replace(network, environment={**network.environment, "NDN_INFER_NETWORK_NODE": "second"})


def test_a_score_is_reproduced_by_another_node(
    network: RunningNetwork, other_node: RunningNetwork, suite: Path, tmp_path: Path
) -> None:  # fmt: skip
    made = _run(network, "eval", "make", "--items", str(suite), "--scorer", "numeric", "--max-tokens", "8")
    record = tmp_path / "score.ndn"
    asked = ("eval", "run", made["name"], "--no-embedded", "--concurrency", "6")
    first = _run(network, *asked, "-o", str(record))
    assert (first["n"], first["failed"], first["stored_share"]) == (ITEMS, 0, 0.0)
    assert first["suite"]["digest"] == made["digest"] and first["interval"]["method"] == "wilson"
    again = _run(network, *asked)
    assert again["stored_share"] == 1.0 and again["score"] == first["score"]
    assert [one["answers"][0]["name"] for one in again["items"]] == [
        one["answers"][0]["name"] for one in first["items"]
    ]
    found = _run(other_node, "eval", "reproduce", str(record), "--recompute", "--no-embedded", "--concurrency", "3")
    assert (found["identical"], found["n"], found["differing"], found["misjudged"]) == (ITEMS, ITEMS, [], [])
    assert found["stored_share"] == 0.0 and found["engine"] == first["engine"]
    compared = _run(network, "eval", "compare", str(record), "last")
    assert (compared["n"], compared["a_only"], compared["b_only"], compared["p_value"]) == (ITEMS, 0, 0, 1.0)
