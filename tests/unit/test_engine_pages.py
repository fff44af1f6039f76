"""Where blocks lie in memory changes nothing of what is computed from them; those in a row are read where they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from ndn_infer.config import EngineConfig  # noqa: E402
from ndn_infer.engine.kv_cache import KvPages, KvSequence  # noqa: E402
from ndn_infer.engine.llama import Llama  # noqa: E402
from ndn_infer.kv.layout import BlockLayout  # noqa: E402
from tests.small_llama import small_model  # noqa: E402

BLOCK, PROMPT, ROWS = 4, 18, 10


@pytest.mark.parametrize("changes", [{"dtype": "fp32"}, {}, {"weights": "int8"}, {"attention": "single"}])
def test_rows_are_the_same_bits_wherever_their_blocks_lie(tmp_path: Path, changes: dict[str, str]) -> None:
    model = Llama.load(small_model(tmp_path), replace(EngineConfig(), block_tokens=BLOCK, **changes))  # type: ignore[arg-type]
    config, told = model.config, {}
    layout = BlockLayout(config.layers, config.kv_heads, config.head_dim, BLOCK, model.dtype)
    for kind, table in (("in a row", list(range(2, 10))), ("scattered", [7, 2, 9, 0, 4, 5, 1, 8])):
        cache = KvSequence(KvPages(layout, model.device, 10), table, 0)
        with torch.inference_mode():
            model.prompt(torch.arange(5, 5 + PROMPT), cache, PROMPT)
            assert isinstance(cache.run(PROMPT + 1), range) is (kind == "in a row")
            told[kind] = [model.rows([(cache, [40 + at])]) for at in range(ROWS)]
            told[kind].append(model.rows([(cache, [80, 81, 82])]))
    assert all(torch.equal(one, other) for one, other in zip(told["in a row"], told["scattered"], strict=True))


def test_blocks_in_a_row_are_not_copied() -> None:
    pages = KvPages(BlockLayout(2, 3, 8, BLOCK, torch.float32), torch.device("cpu"), 6)
    pages._memory.copy_(torch.randn(pages._memory.shape))
    read, copied = pages.read(1, range(2, 5)), pages.read(1, torch.tensor([2, 3, 4]))
    assert torch.equal(read, copied) and read.shape == (2, 3, 3 * BLOCK, 8)
    owned = pages._memory.untyped_storage()
    assert read.untyped_storage().data_ptr() == owned.data_ptr() != copied.untyped_storage().data_ptr()
