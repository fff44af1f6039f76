"""tool-eval-bench 3.0.0, in an environment of its own: all of its scenarios come to their end, and `required` holds.

A model of 135M solves few of them; what is judged here is the gateway: that each is answered, and what the benchmark's
own probe says of `tool_choice`. For the scores: docs/tools.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(3600)]

MODEL = "smollm2-135m-instruct"
PROBE = """
import asyncio, json, sys
from tool_eval_bench.adapters.openai_compat import OpenAICompatibleAdapter
from tool_eval_bench.runner.orchestrator import probe_tool_choice_required

probe = asyncio.run(probe_tool_choice_required(
    OpenAICompatibleAdapter(), model=sys.argv[2], base_url=sys.argv[1], api_key="none", timeout_seconds=120.0
))
print(json.dumps({"enforced": probe.enforced, "arguments": probe.arguments_intact, "detail": probe.detail}))
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tool-eval-bench") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(folder / "bin" / "pip"), "install", "-q", "tool-eval-bench==3.0.0"]
    if (done := subprocess.run(install, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"tool-eval-bench cannot be installed: {done.stderr[-200:]}")
    return folder / "bin"


def test_required_is_enforced(scripts: Path, base: str) -> None:
    """The model is told to answer in prose."""
    server = base.removesuffix("/v1")
    done = subprocess.run(
        [str(scripts / "python"), "-c", PROBE, server, MODEL], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)
    assert told["enforced"] and told["arguments"], told["detail"]


def test_every_scenario_comes_to_its_end(scripts: Path, base: str, tmp_path: Path) -> None:
    flags = {
        "model": MODEL,
        "api-key": "none",
        "max-turns": "3",
        "timeout": "120",
        "output-dir": str(tmp_path / "runs"),
    }
    flags |= {"backend-kwargs": '{"max_tokens": 100}', "json-file": str(tmp_path / "result.json")}
    flags["output-dir"] = str(tmp_path / "runs")
    given = [word for name, value in flags.items() for word in (f"--{name}", value)]
    done = subprocess.run(
        [str(scripts / "tool-eval-bench"), "--no-live", "--no-probe-engine", *given],
        cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = (done.stdout + done.stderr).splitlines()
    events: list[dict[str, Any]] = [json.loads(line) for line in lines if line.startswith("{")]
    ended = [event for event in events if event["event"] == "scenario_result"]
    assert len({event["scenario_id"] for event in ended}) == 69, done.stderr[-2000:]
    assert any(event["event"] == "benchmark_complete" for event in events)
    refused = [event["message"] for event in events if event["event"] == "log" and "returned 5" in event["message"]]
    assert not refused
    print(
        Counter(event["status"] for event in ended), json.loads((tmp_path / "result.json").read_text()).get("summary")
    )
