"""`ndn-infer bench kv` in small: the whole way of blocks through real processes, a table, and a JSON line to read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ndn_infer.models.store import ModelFolder

pytestmark = pytest.mark.model


def test_a_small_run(smollm2: ModelFolder, model_cache: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "ndn_infer", "bench", "kv", "--tokens", "64", "--runs", "1", "--fanout",
        "--set", f"paths.cache_dir={model_cache}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    ratios = report["ratios"]
    for key in ("cold_over_warm_64_bf16", "cold_over_warm_64_int8", "fanout_1_copies", "fanout_16_copies"):
        assert ratios[key] > 0
    assert ratios["fanout_1_copies"] == pytest.approx(1.0, abs=0.05), "one reader needs one copy, and gets no less"
    assert report["figures"]["warm_64_int8_mb_s"] > 0
