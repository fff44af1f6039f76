"""The mixed load on a gateway (tests/load/gateway.py), for some seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndn_infer.models.store import ModelFolder
from tests.load.gateway import Load, measured

pytestmark = pytest.mark.model


def test_right_codes_and_nothing_left_behind(tmp_path: Path, smollm2: ModelFolder, model_cache: Path) -> None:
    report = measured(Load(5, 24, kept_s=2.0), tmp_path, model_cache)
    assert not report.faults(timed=False), report
    assert {"200", "400", "401", "404", "413", "415"} <= set(report.statuses)
