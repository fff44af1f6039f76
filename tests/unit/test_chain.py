"""Hash chains over token blocks: test vectors that every node of every version must agree on."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import chain

SEED_16 = "dd5d337d0241149debc5be7a948c10b522c8d3787377ab5a24ea7b0d97bf3596"
SEED_1 = "f97612c1a2cb82ace85cbde83383c1e99b00a44a430cef4ced8bd7acb190c81f"
CHAIN_16 = [
    "91f051a5543eab1f6dd9c7c74f00a4d87952a4a856d88476ad471576427bfdba",
    "b17b6b124530c9609d32533628a81f2749900abecfe5d169e7b1e949b5705488",
]
"""Of the ids 0 to 39 in blocks of 16: two full blocks."""
CHAIN_1 = "f4b62bd505a78b8cf8f5862ea28124b5b86d0104530daec0e048a1cf12401276"


def test_seeds_are_fixed() -> None:
    """SHA-256 of "ndn-infer chain v1", a zero byte and the block size in decimal."""
    assert chain.seed(16).hex() == SEED_16
    assert chain.seed(1).hex() == SEED_1


def test_chains_are_fixed() -> None:
    assert [value.hex() for value in chain.chain(range(40), 16)] == CHAIN_16
    assert chain.chain([0, 2**32 - 1], 1)[-1].hex() == CHAIN_1


@pytest.mark.parametrize("ids", [[-1], [2**32]])
def test_what_is_no_token_id(ids: list[int]) -> None:
    with pytest.raises(struct.error):
        chain.extend(chain.seed(1), ids)


@given(st.lists(st.integers(0, 2**32 - 1), max_size=30), st.integers(1, 9), st.lists(st.integers(0, 9), max_size=9))
def test_a_longer_prompt_has_the_same_first_blocks(ids: list[int], block: int, more: list[int]) -> None:
    values = chain.chain(ids, block)
    assert len(values) == len(ids) // block == len(set(values))
    assert chain.chain(ids + more, block)[: len(values)] == values
    parent = chain.seed(block)
    for number, value in enumerate(values):
        parent = chain.extend(parent, ids[number * block : (number + 1) * block])
        assert parent == value and len(value) == 32
