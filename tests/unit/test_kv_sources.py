"""Sources of a prompt's blocks, kept by holder, are what they would be kept block by block."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.kv.prefix import Sources

BLOCKS = 6
VALUES = [bytes([number]) * 32 for number in range(BLOCKS)]
told = st.one_of(
    st.integers(0, BLOCKS - 1),
    st.tuples(st.sampled_from([b"a", b"b"]), st.lists(st.integers(0, 2), min_size=BLOCKS, max_size=BLOCKS)),
)


def manifest() -> Any:
    return SimpleNamespace()


@given(st.lists(told, max_size=8))
def test_sources_by_holder_are_those_by_block(steps: list[int | tuple[bytes, list[int]]]) -> None:
    sources, found, claims = Sources(VALUES), dict[int, Any](), [list[tuple[bytes, int]]() for _ in VALUES]
    for step in steps:
        if isinstance(step, int):
            found[step] = manifest()
            sources.discovered(step, found[step])
        else:
            sources.claimed(*step)
            for number, version in enumerate(step[1]):
                if version:
                    claims[number].append((step[0], version))
        known = [number in found or bool(claims[number]) for number in range(BLOCKS)]
        assert len(sources) == [*known, False].index(False)
        assert [sources.is_claimed(number) for number in range(BLOCKS)] == [bool(of) for of in claims]
    for number, source in enumerate(sources):
        assert (source.value, source.found, source.claims) == (VALUES[number], found.get(number), claims[number])
    assert sources[1:] == list(sources)[1:]


def test_there_is_nothing_beyond_the_first_that_nobody_has() -> None:
    sources = Sources(VALUES)
    sources.claimed(b"a", [1, 1, 0, 1, 1, 1])
    assert [source.claims for source in sources] == [[(b"a", 1)]] * 2
    with pytest.raises(IndexError):
        _ = sources[2]
