"""Shares among askers whom nobody vouches for."""

from __future__ import annotations

import random

import pytest

from ndn_infer.wire.shares import Allowance, Crowd, Seat, Seats


def test_one_neighbour_never_has_all_seats_and_known_keys_find_a_quarter_free() -> None:
    seats = Seats(64)
    taken = sum(seats.take("flood", known=False) for _ in range(1000))
    assert 30 <= taken <= 48
    assert seats.take("other", known=False), "a newcomer finds something free"
    strangers = sum(seats.take(f"face {number}", known=False) for number in range(1000))
    assert taken + 1 + strangers == 48
    assert sum(seats.take("key", known=True) for _ in range(100)) >= 8
    assert seats.take("another key", known=True)


def test_a_neighbour_that_brings_a_thousand_keys_leaves_seats_to_others() -> None:
    seats = Seats(64)
    taken = sum(seats.take(f"key {number}", known=True, hop="flood") for number in range(1000))
    assert 40 <= taken <= 48, "three quarters, as one asker would have"
    assert all(seats.take(f"honest {number}", known=True, hop="other") for number in range(4))
    alone = Seats(64)
    assert sum(alone.take(f"key {number}", known=True) for number in range(1000)) == 64, (
        "nobody knows by whom they came"
    )


def test_seats_come_back_whatever_is_done(seed: int = 5) -> None:
    draw, seats = random.Random(seed), Seats(16)
    held = [Seat(seats, draw.randrange(5), known=draw.random() < 0.3, hop=draw.randrange(3)) for _ in range(60)]
    for _ in range(3000):
        seat = draw.choice(held)
        seat.take() if draw.random() < 0.5 else seat.give()
        assert seats.taken == sum(seat.taken for seat in held) <= 16
    for seat in held:
        seat.give()
    assert seats.taken == 0 and seats._strangers == 0 and not seats._by_hop


def test_in_a_crowd_the_oldest_of_whoever_has_most_gives_way() -> None:
    crowd, gone = Crowd(8), []
    places = [crowd.enter("flood", lambda number=number: gone.append(number)) for number in range(7)]
    honest = crowd.enter("honest", lambda: gone.append("honest"))
    for number in range(7, 100):
        places.append(crowd.enter("flood", lambda number=number: gone.append(number)))
    assert gone == list(range(93)) and not honest.evicted and len(crowd) == 8
    for place in (*places, honest):
        crowd.leave(place)
    assert len(crowd) == 0


def test_the_heaviest_gives_way_and_whoever_is_it_itself_is_told() -> None:
    crowd, gone = Crowd(10, weight_limit=100), []
    large = [crowd.enter("flood", lambda number=number: gone.append(number)) for number in range(4)]
    small = crowd.enter("honest", lambda: gone.append("honest"))
    assert [crowd.weigh(place, 30) for place in large[:3]] == [True] * 3
    assert crowd.weigh(small, 20) and gone == [0]
    assert crowd.weigh(large[3], 60) and gone == [0, 1, 2]
    assert not crowd.weigh(crowd.enter("huge", lambda: gone.append("huge")), 101) and gone[-1] == "huge"
    assert not small.evicted and crowd._weight == 80


@pytest.mark.parametrize("askers", [1, 3])
def test_refusals_are_bounded_for_one_and_for_all(askers: int) -> None:
    allowance, now = Allowance(rate=10, burst=20), 0.0
    said = [0] * askers
    for step in range(10_000):
        now = step / 1000
        for who in range(askers):
            said[who] += allowance.spend(who, now)
    assert all(115 <= count <= 121 for count in said)
    many = sum(allowance.spend(("rotating", number), now) for number in range(10_000))
    assert many <= 80 and len(allowance._left) <= 256
