"""Three seconds of the engine's mixed load, with too little memory for all."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.load.engine_soak import small_model, soak


async def test_nothing_stalls_and_nothing_stays(tmp_path: Path) -> None:
    report = await soak(
        3, 8, small_model(tmp_path), dtype="fp32", chunk_tokens=32, max_streams=5, queue_limit=2, kv_memory_mib=1
    )
    assert not report.failures(), report
    assert report.tokens and {"answer", "give-up", "prefill", "malformed"} <= set(report.done), report
