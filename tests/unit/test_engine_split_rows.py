"""Rows in two halves of 8 bits: exact, and alone, whatever stands beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from ndn_infer.engine import split_rows  # noqa: E402
from ndn_infer.engine.linear import QuantisedInt8, quantise_int8  # noqa: E402
from ndn_infer.engine.split_rows import SplitRows, sums_are_exact  # noqa: E402

pytestmark = pytest.mark.skipif(not sums_are_exact(), reason="no kernel with exact sums of bytes here")

SHAPES = [(64, 96), (576, 4096), (1536, 576), (2048, 512), (70, 33), (1, 1)]
"""in, out."""


def weights_of(shape: tuple[int, int]) -> QuantisedInt8:
    return quantise_int8(torch.randn(shape[1], shape[0], generator=torch.Generator().manual_seed(2)) * 0.05)


def rows_of(count: int, length: int) -> Any:
    """As they come to a head: a few numbers are far larger than the others."""
    x = torch.randn(count, length, generator=torch.Generator().manual_seed(4))
    x[:, :: max(length // 3, 1)] *= 13
    return x.to(torch.bfloat16)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_are_independent_bit_for_bit(shape: tuple[int, int], threads: None) -> None:
    linear, x = SplitRows(weights_of(shape)), rows_of(64, shape[0])
    alone = torch.cat([linear(x[row : row + 1]) for row in range(64)])
    for threads_now in (1, 2, 3):
        torch.set_num_threads(threads_now)
        for count in (1, 2, 3, 5, 8, 13, 31, 32, 33, 64):
            for first in (0, 64 - count):
                assert torch.equal(linear(x[first : first + count]), alone[first : first + count]), (count, first)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_are_those_of_the_steps(shape: tuple[int, int]) -> None:
    """Half a step a number at most is lost, with any weights: far less than by rounding to bf16."""
    quantised, x = weights_of(shape), rows_of(5, shape[0])
    got = SplitRows(quantised)(x)
    dense = quantised.dense().double()
    step = x.double().abs().amax(1, keepdim=True) / 32639
    assert got.dtype == torch.float32
    wrong = (got.double() - x.double() @ dense.T).abs()
    assert bool((wrong <= step * dense.abs().sum(1) * 0.51 + 1e-6).all())


def test_the_largest_sums_do_not_saturate() -> None:
    values = torch.tensor([127, -127], dtype=torch.int8)[:, None].repeat(1, 64)
    x = torch.tensor([1.0, -1.0])[:, None].repeat(1, 64).to(torch.bfloat16)
    got = SplitRows(QuantisedInt8(values, torch.ones(2)))(x)
    assert torch.allclose(got, torch.tensor([[8128.0, -8128.0], [-8128.0, 8128.0]]), rtol=1e-6)


def test_rows_of_nothing_and_rows_that_are_not_finite() -> None:
    linear, x = SplitRows(weights_of((64, 96))), rows_of(3, 64)
    x[0] = 0
    x[1, 5], x[2, 7] = torch.inf, torch.nan
    got = linear(x)
    assert not got[0].any() and not got[1:].isfinite().any()


def test_a_kernel_that_saturates_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """As FBGEMM without VNNI: two products are added in 16 bits."""

    def saturating(x: Any, packed: Any) -> Any:
        products = ((x + 128)[:, None, :] * packed.values.float()).unflatten(-1, (-1, 2)).sum(-1)
        return products.clamp(-32768, 32767).sum(-1) - 128 * packed.values.float().sum(-1)

    monkeypatch.setattr(split_rows, "_packed", lambda quantised: quantised)
    monkeypatch.setattr(split_rows, "_product", saturating)
    assert not sums_are_exact.__wrapped__()
