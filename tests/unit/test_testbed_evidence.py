"""The verdict on three nodes: a good run holds, and each claim can fail."""

from __future__ import annotations

from typing import Any

import pytest

from ndn_infer.testbed import evidence
from ndn_infer.testbed.evidence import AskEvidence, NodeCounters, Snapshot


def _snapshot(hits: int = 0, data: int = 0, **producers: dict[str, float]) -> Snapshot:
    face = {"in_interests": 0, "in_data": data, "out_interests": data, "out_data": 0}
    nodes = {"edge": NodeCounters(0, hits, 0, {"core": face}), "core": NodeCounters(0, 0, 0, {"compute": face})}
    return Snapshot(nodes, {key.replace("_", "/"): value for key, value in producers.items()})


def _story(**changes: Any) -> list[evidence.Check]:
    """The verdict on a good run, with some numbers changed."""
    made = {"calls": 1.0, "prefill_blocks_computed": changes.get("computed", 2.0)}
    used = {"calls": 1.0, "kv_blocks_fetched": changes.get("fetched", 2.0)}
    used["prefill_blocks_computed"] = changes.get("own", 0.0)
    start = _snapshot(core_decode={}, compute_prefill={})
    middle = _snapshot(data=changes.get("data", 94), core_decode=used, compute_prefill=made)
    later = {**used, "calls": changes.get("calls", 1.0)}
    end = _snapshot(hits=changes.get("hits", 14), data=94, core_decode=later, compute_prefill=made)
    text = changes.get("text", "It is Paris.")
    first = AskEvidence({"text": text, "token_ids": [1, 2]}, start, middle)
    second = AskEvidence({"text": text, "token_ids": changes.get("again", [1, 2])}, middle, end)
    return evidence.judge(first, second, expect="Paris", roles={"decode": "core", "prefill": "compute"})


def test_a_good_run_holds() -> None:
    checks = _story()
    assert len(checks) == 7 and all(check.holds for check in checks)


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ({"text": "It is Rome."}, "the first answer is right"),
        ({"text": ""}, "the first answer is right"),
        ({"computed": 0.0, "fetched": 0.0}, "KV cache was computed at compute"),
        ({"fetched": 1.0}, "core fetched it by name"),
        ({"own": 2.0}, "core fetched it by name"),
        ({"data": 1}, "it came to core over the network"),
        ({"again": [1, 3]}, "the second answer is the same"),
        ({"calls": 2.0}, "no producer worked for the second answer"),
        ({"hits": 0}, "Content Stores gave the second answer"),
    ],
)
def test_each_claim_can_fail(change: dict[str, Any], claim: str) -> None:
    checks = _story(**change)
    assert claim in [check.claim for check in checks if not check.holds]
