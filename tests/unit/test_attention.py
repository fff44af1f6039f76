"""A prompt cut anywhere has the attention of the whole one, bit for bit."""

from __future__ import annotations

import random

import pytest

torch = pytest.importorskip("torch")

from ndn_infer.engine.attention import LEAST_ROWS, AttentionKind, plan_prompt  # noqa: E402

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
        whole = plan_prompt(0, total, total, AttentionKind(dtype, CPU)).attend(queries, keys, values)
        for count in (LEAST_ROWS, LEAST_ROWS + 1, 33, *(draw.randrange(LEAST_ROWS, min(300, total)) for _ in range(4))):
            plan = plan_prompt(total - count, count, total, AttentionKind(dtype, CPU))
            part = plan.attend(queries[:, -count:], keys[:, : plan.extent], values[:, : plan.extent])
            assert torch.equal(part, whole[:, -count:]), f"the last {count} of {total}"


def test_few_rows_are_padded_little() -> None:
    """What is left of a prompt whose KV is known costs eight rows, but where the whole prompt ends in a low tile."""
    assert plan_prompt(1016, 8, 1024, AttentionKind(torch.bfloat16, CPU)).pad == 0
    assert plan_prompt(1018, 8, 1026, AttentionKind(torch.bfloat16, CPU)).pad == 26


@pytest.mark.parametrize("heads", [(9, 3), (8, 8), (14, 2), (32, 8)])
def test_by_products_no_row_depends_on_the_cut_or_the_length(heads: tuple[int, int]) -> None:
    """Any rows, down to one, of any prompt that is long enough."""
    draw, length = random.Random(7), 1400
    generator = torch.Generator().manual_seed(1)
    queries, keys, values = (
        torch.randn(count, length + 256, HEAD_DIM, generator=generator).bfloat16() for count in (*heads, heads[1])
    )
    whole = plan_prompt(0, length, length, AttentionKind(torch.bfloat16, CPU, grouped=True))
    expected = whole.attend(queries[:, :length], keys[:, : whole.extent], values[:, : whole.extent])
    for count in (1, 2, 3, 7, 8, 9, 64, 256, 300, *(draw.randrange(1, 300) for _ in range(20))):
        start = draw.randrange(length - count)
        plan = plan_prompt(
            start, count, start + count + draw.randrange(900), AttentionKind(torch.bfloat16, CPU, grouped=True)
        )
        part = plan.attend(queries[:, start : start + count], keys[:, : plan.extent], values[:, : plan.extent])
        assert torch.equal(part, expected[:, start : start + count]), f"{count} rows from {start} on"


def test_products_are_attention() -> None:
    """Against double precision: as near as the rounding of scores to bf16 allows."""
    generator = torch.Generator().manual_seed(3)
    for start, count in ((0, 5), (0, 70), (100, 200), (511, 2), (600, 8)):
        end = start + count
        queries, keys, values = (
            torch.randn(heads, end, HEAD_DIM, generator=generator).bfloat16() for heads in (HEADS, KV_HEADS, KV_HEADS)
        )
        plan = plan_prompt(start, count, end, AttentionKind(torch.bfloat16, CPU, grouped=True))
        room = torch.zeros(2, KV_HEADS, plan.extent, HEAD_DIM, dtype=torch.bfloat16)
        room[0, :, :end], room[1, :, :end] = keys, values
        found = plan.attend(queries[:, start:], *room).double()
        wide = [keys.double().repeat_interleave(3, 0), values.double().repeat_interleave(3, 0)]
        hidden = torch.arange(end) > torch.arange(start, end)[:, None]
        scores = (queries[:, start:].double() @ wide[0].transpose(1, 2) / 8).masked_fill(hidden, float("-inf"))
        exact = torch.softmax(scores, -1) @ wide[1]
        assert float((found - exact).norm() / exact.norm()) < 0.008
