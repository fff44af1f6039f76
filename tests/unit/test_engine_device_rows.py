"""Rows in one batch, as a GPU computes them: the same tokens as row by row. Recordings: tests/gpu."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ndn_infer.engine import device_rows  # noqa: E402
from ndn_infer.engine.device_rows import DeviceRows  # noqa: E402
from ndn_infer.engine.engine import Engine  # noqa: E402
from ndn_infer.engine.llama import Llama  # noqa: E402
from ndn_infer.records.sampling import Sampling  # noqa: E402
from tests.small_llama import PROMPTS, load, run, small_model  # noqa: E402


def together(folder: Path, **options: object) -> Engine:
    """An engine on the CPU that computes rows as on a GPU."""
    engine = load(folder, **options)
    model = engine._model
    assert isinstance(model, Llama)
    model._together = DeviceRows(model.config, model._weights.layers, model.embedding, model._rotary)
    return engine


@pytest.mark.parametrize("window", [0, 9])
def test_many_streams_in_one_batch(tmp_path: Path, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_rows, "_LEAST_SEEN", 16)  # so that several shapes come
    folder = small_model(tmp_path)
    crowd, alone = together(folder, max_streams=5, speculation="ngram"), load(folder)
    if window:
        for engine in (crowd, alone):
            object.__setattr__(engine.model_config, "windows", (window, 0, window))
            engine._model._windows = frozenset((window, 0))
    streams = [crowd.start(ids, Sampling(max_tokens=30)) for ids in PROMPTS]
    while any(stream.finished is None for stream in streams):
        crowd.step()
    assert crowd.counters.tokens_accepted, "several rows of one stream"
    steps = crowd._model._together._steps
    assert {rows for rows, _ in steps} >= {1, 4, 8} and {seen for _, seen in steps} >= {16, 24, 48, 96, 128}
    for ids, stream in zip(PROMPTS, streams, strict=True):
        assert stream.generated == run(alone, alone.start(ids, Sampling(max_tokens=30))), len(ids)


def test_what_is_too_large_for_one_batch_is_computed_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_rows, "_MOST_GATHERED", 1)
    folder = small_model(tmp_path)
    engine, alone = together(folder), load(folder)
    stream = engine.start(PROMPTS[5], Sampling(max_tokens=5))
    assert run(engine, stream) == run(alone, alone.start(PROMPTS[5], Sampling(max_tokens=5)))
    assert not engine._model._together._steps
