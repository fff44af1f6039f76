"""KV blocks as bytes: exact forms are exact, int8 is within half a step, and nothing else is accepted."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from ndn_infer.engine.weights import DTYPES  # noqa: E402
from ndn_infer.errors import BadRecord  # noqa: E402
from ndn_infer.kv.codec import CODECS, BlockFormat, decode_block, encode_block  # noqa: E402
from ndn_infer.kv.layout import BlockLayout  # noqa: E402


def format_of(form: str, dtype: str = "bf16", **sizes: int) -> BlockFormat:
    numbers = {"layers": 3, "kv_heads": 2, "head_dim": 8, "block_tokens": 4, **sizes}
    return BlockFormat(BlockLayout(dtype=DTYPES[dtype], **numbers), "bf16.test", form)


def block_of(fmt: BlockFormat, seed: int, scale: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(fmt.layout.shape, generator=generator) * scale).to(fmt.layout.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_raw_is_exact(dtype: str) -> None:
    fmt = format_of("raw", dtype)
    block = block_of(fmt, 1)
    assert fmt.exact and torch.equal(decode_block(encode_block(block, fmt), fmt), block)


@given(st.integers(0, 2**31), st.sampled_from([1e-6, 0.01, 1.0, 40.0, 3000.0]), st.sampled_from(sorted(DTYPES)))
def test_int8_is_within_half_a_step(seed: int, scale: float, dtype: str) -> None:
    fmt = format_of("int8", dtype)
    block = block_of(fmt, seed, scale).float()
    block[0, 0, 0, 0] = 0.0
    back = decode_block(encode_block(block.to(DTYPES[dtype]), fmt), fmt)
    assert back.dtype == DTYPES[dtype] and back.shape == block.shape and not fmt.exact
    step = block.abs().amax(-1, keepdim=True) / 127
    rounding = block.abs() * 2.0**-8 + 2.0**-14  # of bf16, and of the least scale
    assert bool(((back.float() - block).abs() <= 0.51 * step + rounding).all())


def test_sizes_and_names() -> None:
    model = {"layers": 30, "kv_heads": 3, "head_dim": 64, "block_tokens": 16}
    raw, small = format_of("raw", **model), format_of("int8", **model)
    sizes = [len(encode_block(block_of(fmt, 1), fmt)) for fmt in (raw, small)]
    assert sizes[0] == 30 * 2 * 3 * 16 * 64 * 2 + 28
    assert sizes[1] == 30 * 2 * 3 * 16 * 66 + 28
    assert (raw.codec, small.codec) == ("raw.bf16.test", "int8.bf16.test")


def test_layers_lie_one_after_the_other() -> None:
    """Whoever has the first bytes has the first layers."""
    fmt = format_of("int8")
    block = block_of(fmt, 5)
    other = block.clone()
    other[2] += 1
    one, two = encode_block(block, fmt), encode_block(other, fmt)
    layer = (len(one) - 28) // 3
    assert one[: 28 + 2 * layer] == two[: 28 + 2 * layer] and one != two


@pytest.mark.parametrize("form", CODECS)
def test_blocks_of_another_shape_are_refused(form: str) -> None:
    fmt = format_of(form)
    content = encode_block(block_of(fmt, 1), fmt)
    for other in (
        format_of(form, layers=2),
        format_of(form, head_dim=16),
        format_of("int8" if form == "raw" else "raw"),
    ):
        with pytest.raises(BadRecord):
            decode_block(content, other)


@settings(max_examples=200)
@given(st.sampled_from(sorted(CODECS)), st.data())
def test_any_bytes_give_a_block_or_an_error(form: str, data: st.DataObject) -> None:
    fmt = format_of(form)
    content = bytearray(encode_block(block_of(fmt, 2), fmt))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    try:
        block = decode_block(bytes(content), fmt)
    except BadRecord:
        return
    assert block.shape == torch.Size(fmt.layout.shape) and block.dtype == torch.bfloat16
    if form == "int8":
        assert bool(torch.isfinite(block).all())
