"""The hint which prefixes are held: nothing held is denied, and what is claimed beyond it is little."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.offers.prefixes import held_blocks, hint_of
from ndn_infer.records.offer import MAX_HINT_BYTES, HeldPrefixes


def chain(seed: int, count: int) -> list[bytes]:
    return [hashlib.sha256(f"{seed} {number}".encode()).digest() for number in range(count)]


@given(st.integers(0, 1 << 30), st.integers(1, 600), st.integers(0, 600))
def test_what_is_held_is_never_denied(seed: int, held: int, more: int) -> None:
    """Up to the last value that counts: without sampling, exactly at least what is held."""
    values = chain(seed, held + more)
    hint = hint_of(values[:held], 16)
    assert hint is not None and len(hint.bits) <= MAX_HINT_BYTES
    told = held_blocks(hint, values)
    if hint.rate == 0:
        assert held <= told <= held + more
    assert held_blocks(hint, values[:held]) <= held


def test_nothing_held_is_no_hint() -> None:
    assert hint_of([], 16) is None


@pytest.mark.parametrize("others", [400, 4_000, 40_000])
def test_the_size_is_bounded_and_the_error_small(others: int) -> None:
    """64 blocks of 16 tokens among many others, told within twice the step of sampling; others hardly ever claimed."""
    draw = random.Random(5)
    rest = [draw.randbytes(32) for _ in range(others)]
    wanted = [chain(seed, 64) for seed in range(40)]
    hint = hint_of([*rest, *(value for values in wanted for value in values)], 16)
    assert hint is not None and len(hint.bits) == MAX_HINT_BYTES
    step = 1 << hint.rate
    errors = [64 - held_blocks(hint, values) for values in wanted]
    assert sum(errors) / len(errors) <= 2 * step and all(0 <= error for error in errors)
    strangers = [held_blocks(hint, chain(1000 + seed, 64)) for seed in range(200)]
    assert sum(told > 0 for told in strangers) <= 20, "false positives: 2 % of first values that count"


@pytest.mark.parametrize("size", [0, 1, 3, 17, 500])
def test_a_filter_of_another_form_claims_nothing_or_little(size: int) -> None:
    told = held_blocks(HeldPrefixes(b"\0" * size, 0, 16), chain(1, 8))
    assert told == 0
