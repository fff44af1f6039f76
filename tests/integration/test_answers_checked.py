"""An answer of real processes, checked by the commands that a stranger has: computed again, counted again, priced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.daemons import RunningNetwork

pytestmark = pytest.mark.model

SUMS = ("answers", "stored", "prompt_tokens", "output_tokens", "prefill_us", "decode_us", "helpers_us")


def cost(network: RunningNetwork, *arguments: str) -> dict[str, Any]:
    done = network.run("cost", "--by", "all", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def counted(document: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Counters of the decode producer, and the receipts here, by name; none before it has given a receipt."""
    found = [one["sums"] for one in document["producers"] if one["identity"].endswith("/decode")]
    assert len(found) <= 1
    return found[0] if found else {}


def test_an_answer_is_computed_again_and_its_price_counted(network: RunningNetwork, tmp_path: Path) -> None:
    question = "What does a ferryman on a wide river do all day? Say it in one sentence, please."
    before = cost(network, "--counters")
    answer = network.ask(question, "--max-tokens", "12", "--temperature", "0.9", "--seed", "3")
    again = network.ask(question, "--max-tokens", "12", "--temperature", "0.9", "--seed", "3")
    after = cost(network, "--counters")
    assert again["token_ids"] == answer["token_ids"] and again["stream"] == answer["stream"]

    grown = {name: after["all"][name] - before["all"][name] for name in SUMS}
    assert grown["answers"] == 1 and grown["stored"] == 0, "read again it is the same answer, and costs nothing"
    assert grown["prompt_tokens"] == len(answer["prompt_token_ids"])
    assert grown["output_tokens"] == len(answer["token_ids"]) and grown["decode_us"] > 0
    nothing, sums = {"counted": 0, "receipts": 0}, counted(after)
    assert sums["receipt_output_tokens"]["counted"] > 0
    for name, now in sums.items():
        was = counted(before).get(name, nothing)
        assert now["counted"] - was["counted"] == now["receipts"] - was["receipts"], name

    done = network.run("cost", "--recount", answer["stream"], "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert set(told["output_tokens"].values()) == {len(answer["token_ids"])} and told["text_agrees"]

    verdict = tmp_path / "verdict.json"
    done = network.run("audit", "--last", "--json", "-o", str(verdict))
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert (said["result"], said["method"], said["checked"]) == ("passed", "exact", len(answer["token_ids"]))
    done = network.run("audit", answer["stream"], "--kv", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["result"] == "passed" and said["checked"] >= len(answer["prompt_token_ids"]) // 16
    done = network.run("audit", "--verify", str(verdict))
    assert done.returncode != 0 and "carries no proof" in done.stderr and "Traceback" not in done.stderr
