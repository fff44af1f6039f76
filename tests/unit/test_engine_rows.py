"""Rows of decoded tokens: turned by their positions with the numbers of `rotate`, in memory that is used again."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from ndn_infer.engine.decoded_rows import TurnedRows  # noqa: E402
from ndn_infer.engine.model_config import ModelConfig  # noqa: E402
from ndn_infer.engine.rotary import RotaryTables, rotate  # noqa: E402
from tests.unit.test_engine import small_model  # noqa: E402


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("places", [[0], [77], [3, 4, 300], [9, 9, 0, 1]])
def test_rows_are_turned_as_prompts_are(tmp_path: Path, dtype: str, places: list[int]) -> None:
    config, kind, cpu = ModelConfig.load(small_model(tmp_path)), getattr(torch, dtype), torch.device("cpu")
    tables = RotaryTables(config, kind, cpu)
    rows = TurnedRows(config, tables.at(places))
    draw, turned = torch.Generator().manual_seed(3), config.heads + config.kv_heads
    for _ in range(2):
        mixed = torch.randn(len(places), (turned + config.kv_heads) * config.head_dim, generator=draw).to(kind)
        rows.fill(mixed, None)
        by_head = mixed.view(len(places), -1, config.head_dim).transpose(0, 1)
        cos, sin = (table[torch.tensor(places)] for table in tables.rows(0, max(places) + 1))
        expected = rotate(by_head[:turned], cos, sin).transpose(0, 1)
        queries = rows.queries.reshape(len(places), config.heads, config.head_dim)
        assert torch.equal(queries, expected[:, : config.heads])
        assert torch.equal(rows.keys, expected[:, config.heads :])
        assert torch.equal(rows.values, by_head[turned:].transpose(0, 1))
