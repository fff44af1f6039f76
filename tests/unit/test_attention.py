"""A prompt cut anywhere has the attention of the whole one, bit for bit."""

from __future__ import annotations

import random

import pytest

torch = pytest.importorskip("torch")

from ndn_infer.engine.attention import LEAST_ROWS, plan_prompt  # noqa: E402

CPU = torch.device("cpu")
HEADS, KV_HEADS, HEAD_DIM = 9, 3, 64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("edge", [192, 512, 768, 1024, 1280])
def test_the_last_rows_alone_have_the_bits_of_the_whole(dtype: torch.dtype, edge: int) -> None:
    """Totals around the sizes where the kernel changes its tiles, chunks of all kinds of heights."""
    draw = random.Random(edge)
    for total in (edge - 1, edge, edge + 1, edge + 2, edge + draw.randrange(3, 64)):
        generator = torch.Generator().manual_seed(total)
        queries, keys, values = (
            torch.randn(heads, total, HEAD_DIM, generator=generator).to(dtype) for heads in (HEADS, KV_HEADS, KV_HEADS)
        )
        whole = plan_prompt(0, total, total, dtype=dtype, device=CPU).attend(queries, keys, values)
        for count in (LEAST_ROWS, LEAST_ROWS + 1, 33, *(draw.randrange(LEAST_ROWS, min(300, total)) for _ in range(4))):
            plan = plan_prompt(total - count, count, total, dtype=dtype, device=CPU)
            part = plan.attend(queries[:, -count:], keys[:, : plan.extent], values[:, : plan.extent])
            assert torch.equal(part, whole[:, -count:]), f"the last {count} of {total}"


def test_few_rows_are_padded_little() -> None:
    """What is left of a prompt whose KV is known costs eight rows, but where the whole prompt ends in a low tile."""
    assert plan_prompt(1016, 8, 1024, dtype=torch.bfloat16, device=CPU).pad == 0
    assert plan_prompt(1018, 8, 1026, dtype=torch.bfloat16, device=CPU).pad == 26
