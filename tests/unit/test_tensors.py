"""Tensors as bytes: golden bytes, lying headers, nothing copied."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.errors import BadRecord
from ndn_infer.tensors import ITEM_BYTES, RawTensor, decode_tensor, encode_tensor


def test_golden_bytes() -> None:
    """Other implementations read these."""
    wire = encode_tensor(RawTensor("bf16", (2, 1), b"\x80\x3f\x00\xc0"))
    assert wire.hex() == "4e445431020200000200000001000000803f00c0"
    codes = {"f32": 1, "bf16": 2, "f16": 3, "i8": 4, "i32": 5, "u32": 6, "i64": 7}
    assert {dtype: encode_tensor(RawTensor(dtype, (), bytes(size)))[4] for dtype, size in ITEM_BYTES.items()} == codes


@given(st.sampled_from(sorted(ITEM_BYTES)), st.lists(st.integers(0, 4), max_size=8), st.randoms(use_true_random=False))
def test_round_trip_without_a_copy(dtype: str, shape: list[int], random: object) -> None:
    payload = random.randbytes(math.prod(shape) * ITEM_BYTES[dtype])  # type: ignore[attr-defined]
    wire = encode_tensor(RawTensor(dtype, tuple(shape), payload))
    back = decode_tensor(wire)
    assert (back.dtype, back.shape, bytes(back.payload)) == (dtype, tuple(shape), payload)
    assert isinstance(back.payload, memoryview) and back.payload.obj is wire


GOOD = encode_tensor(RawTensor("f32", (2, 3), bytes(24)))


@pytest.mark.parametrize(
    "wire",
    [
        b"", GOOD[:7], GOOD[:-1], GOOD + b"\0", b"NDT2" + GOOD[4:], GOOD[:4] + b"\0" + GOOD[5:],
        GOOD[:4] + b"\x08" + GOOD[5:], GOOD[:5] + b"\x09" + GOOD[6:], GOOD[:5] + b"\xff" + GOOD[6:],
        GOOD[:6] + b"\1" + GOOD[7:], GOOD[:7] + b"\1" + GOOD[8:], GOOD[:8] + b"\xff" * 4 + GOOD[12:],
        GOOD[:8] + b"\xff" * 8 + GOOD[16:], GOOD[:8] + bytes(4) + GOOD[12:],
    ],
    ids=range(14),
)  # fmt: skip
def test_near_misses(wire: bytes) -> None:
    with pytest.raises(BadRecord):
        decode_tensor(wire)


@pytest.mark.parametrize(
    ("dtype", "shape", "payload"),
    [("f8", (1,), b"x"), ("f32", (1,) * 9, bytes(4)), ("f32", (-1,), b""), ("i8", (1 << 32,), b""), ("i8", (2,), b"x")],
)
def test_tensors_that_cannot_be(dtype: str, shape: tuple[int, ...], payload: bytes) -> None:
    with pytest.raises(BadRecord):
        RawTensor(dtype, shape, payload)


@given(
    st.binary(max_size=60), st.integers(0, 255), st.integers(0, 255), st.lists(st.integers(0, 2**32 - 1), max_size=9)
)
def test_hostile_headers(rest: bytes, code: int, rank: int, sizes: list[int]) -> None:
    for wire in (rest, b"NDT1" + bytes((code, rank, 0, 0)) + struct.pack(f"<{len(sizes)}I", *sizes) + rest):
        try:
            found = decode_tensor(wire)
        except BadRecord:
            continue
        assert encode_tensor(found) == wire
