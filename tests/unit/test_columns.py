"""Fetching side by side: the order of asking, and how far all objects have come."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.wire.columns import STEP, Columns
from ndn_infer.wire.segments import Segments


def objects(counts: Sequence[int]) -> list[Segments]:
    return [
        Segments(ndn.from_uri(f"/object/{number}"), count, bytes(32 * count), size=0)
        for number, count in enumerate(counts)
    ]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.randoms())
def test_every_segment_is_asked_for_once_and_counted_when_all_have_it(counts: list[int], chance: object) -> None:
    made = objects(counts)
    columns = Columns(made)
    asked = [(at, number) for at, numbers in columns.order() for number in numbers]
    assert sorted(asked) == [(at, number) for at, count in enumerate(counts) for number in range(count)]
    assert [number // STEP for _, number in asked] == sorted(number // STEP for _, number in asked)
    chance.shuffle(asked)  # type: ignore[attr-defined]
    for at, number in asked:
        made[at].missing.discard(number)
        before = columns.full
        grown = columns.moved(at)
        expected = min(min(item.missing, default=max(counts)) for item in made)
        assert columns.full == expected and grown == (expected > before)
    assert columns.full == max(counts)


def test_what_is_there_already_is_not_asked_for() -> None:
    made = objects([6, 6])
    made[0].missing -= {0, 5}
    assert [numbers for at, numbers in Columns(made).order() if at == 0] == [[1, 2, 3], [4]]
