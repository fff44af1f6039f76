"""What of refused packets goes into a log."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.wire.refusals import AGAIN_S, MOST, Refusals


def test_a_line_for_each_object_and_reason_and_the_count_of_the_rest_a_minute_later() -> None:
    refusals = Refusals()
    assert refusals.take(b"a", "BadPacket", 100.0) == 0
    assert [refusals.take(b"a", "BadPacket", 100.0 + second) for second in range(30)] == [None] * 30
    assert refusals.take(b"a", "DigestMismatch", 101.0) == refusals.take(b"b", "BadPacket", 101.0) == 0
    assert refusals.take(b"a", "BadPacket", 100.0 + AGAIN_S) == 30
    assert refusals.take(b"a", "BadPacket", 101.0 + AGAIN_S) is None


@given(st.lists(st.integers(0, 3 * MOST), max_size=1500))
def test_what_is_remembered_is_bounded_and_every_first_one_is_told(subjects: list[int]) -> None:
    refusals, seen = Refusals(), set[int]()
    for subject in subjects:
        told = refusals.take(b"%d" % subject, "BadPacket", 5.0)
        assert subject in seen or told == 0
        seen.add(subject)
    assert len(refusals._told) <= MOST
