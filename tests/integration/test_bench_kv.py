"""`ndn-infer bench kv` in small: the whole way of blocks through real processes, a table, and a JSON line to read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ndn_infer.models.store import ModelFolder

torch = pytest.importorskip("torch")

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


def test_answers_from_blocks_that_travelled(smollm2: ModelFolder) -> None:
    """bf16 blocks of a prompt of the same length give the same tokens; int8 is off by its steps and no more."""
    from ndn_infer.testbed.bench.kv_accuracy import accuracy

    figures = accuracy(smollm2.path, 1, [4, 9, 14])
    assert figures["accuracy_prompts"] == 3
    assert figures["equal_first_32_bf16"] == 1.0 and figures["tokens_before_first_other_bf16"] == 32
    assert 0.005 < figures["int8_relative_error"] < 0.02
    assert 0 < figures["int8_kl_mean_nats"] < 0.01 and figures["int8_same_choice"] > 0.9
