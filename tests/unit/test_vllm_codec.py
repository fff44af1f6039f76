"""Blocks of vLLM as bytes: exactly what was written, or refused."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.errors import BadRecord
from ndn_infer.vllm.codec import BlockShape

SHAPE = BlockShape(128, (40, 40, 24), bytes(range(16)))


def content_of(shape: BlockShape, seed: int = 1) -> bytearray:
    content, payload = shape.room()
    payload[:] = random.Random(seed).randbytes(len(payload))
    return content


def test_golden() -> None:
    assert SHAPE.header.hex() == (
        "4e564231" "0300" "0000" "80000000" "000102030405060708090a0b0c0d0e0f" "28000000" "28000000" "18000000"
    )  # fmt: skip
    assert SHAPE.content_bytes == 28 + 12 + 104


def test_what_is_written_is_read() -> None:
    content = content_of(SHAPE)
    assert bytes(SHAPE.payload(content)) == bytes(content[40:])
    assert BlockShape.read(content) == SHAPE


@pytest.mark.parametrize(
    "other",
    [
        BlockShape(64, SHAPE.layer_bytes, SHAPE.kind), BlockShape(128, (40, 24, 40), SHAPE.kind),
        BlockShape(128, SHAPE.layer_bytes, bytes(16)), BlockShape(128, (104,), SHAPE.kind),
    ],
)  # fmt: skip
def test_another_shape_is_refused(other: BlockShape) -> None:
    with pytest.raises(BadRecord):
        SHAPE.payload(content_of(other))


@pytest.mark.parametrize(
    ("tokens", "layers", "kind"),
    [
        (0, (1,), bytes(16)), (128, (), bytes(16)), (128, (0,), bytes(16)), (128, (-1,), bytes(16)),
        (128, (1,), b""), (128, (1,) * 4097, bytes(16)), (128, (1 << 28, 1), bytes(16)), (1 << 20, (1,), bytes(16)),
    ],
)  # fmt: skip
def test_shapes_that_no_block_has(tokens: int, layers: tuple[int, ...], kind: bytes) -> None:
    with pytest.raises(BadRecord):
        BlockShape(tokens, layers, kind)


@given(st.integers(0, 143), st.integers(1, 255))
def test_a_byte_of_the_header_is_noticed(at: int, flip: int) -> None:
    content = content_of(SHAPE)
    content[at] ^= flip
    if at < 40:
        with pytest.raises(BadRecord):
            SHAPE.payload(content)
    else:
        assert bytes(SHAPE.payload(content)) == bytes(content[40:])  # the manifest's matter


@given(st.binary(max_size=300) | st.integers(0, 143).map(lambda size: bytes(content_of(SHAPE)[:size])))
def test_whatever_comes_is_a_block_or_refused(content: bytes) -> None:
    with pytest.raises(BadRecord):
        SHAPE.payload(content)
    try:
        shape = BlockShape.read(content)
    except BadRecord:
        return
    assert shape.content_bytes == len(content)
