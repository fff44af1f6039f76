"""Whom to ask next: every order of outcomes ends, nobody is asked twice in a round, who cannot is not asked again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.transport.calls.candidates import Candidate, Order, Outcome

FIRST = [Candidate((ndn.from_uri(f"/n/s/{name}/decode"),), 0.5) for name in "abc"]
PASSED = [one for one in Outcome if one is not Outcome.ANSWERED]


def test_without_offers_there_is_whomever_the_network_leads_to_again_and_again() -> None:
    order = Order()
    for _ in range(3):
        assert order.now == Candidate() and order.turn == 0, "the same Interest name: equal calls stay one"
        assert not order.passed(Outcome.SILENT) and order.again(0.4) == 0.4


def test_the_next_is_asked_at_once_and_under_another_name() -> None:
    order, asked = Order(FIRST), []
    for outcome in (Outcome.BUSY, Outcome.REFUSED, Outcome.SILENT):
        asked.append((order.now, order.turn))
        assert order.passed(outcome)
    asked.append((order.now, order.turn))
    assert asked == [*((one, turn) for turn, one in enumerate(FIRST)), (Candidate(), 3)]


def test_asked_at_one_place_only_nobody_else_is_asked() -> None:
    order = Order(FIRST[:1], only=True)
    assert order.alone and not order.passed(Outcome.SILENT) and order.again(0.1) == 0.1 and order.now == FIRST[0]


@pytest.mark.parametrize("outcome", PASSED)
def test_one_that_leads_is_asked_before_it_is_known_who_else_there_is(outcome: Outcome) -> None:
    order = Order(FIRST[:1], led=True)
    assert order.now == FIRST[0] and not order.passed(outcome, 5.0)
    assert order.again(0.4) == 0.0, "the others are asked at once, however long that one is busy"
    order.renew(FIRST[1:])
    assert order.now == FIRST[1] and order.turn > 0, "under another name"
    assert order.passed(outcome) and order.passed(outcome) and order.now == Candidate()
    assert not order.passed(outcome)


def test_where_nobody_else_is_known_the_network_is_asked_after_one_that_leads() -> None:
    order = Order(FIRST[:1], led=True)
    assert not order.passed(Outcome.CANNOT) and order.again(0.4) == 0.0
    order.renew(())
    assert order.now == Candidate() and order.turn == 1
    assert not order.passed(Outcome.SILENT) and order.again(0.4) == 0.4, "from now on it is a call as any"


def test_a_round_of_busy_ones_begins_again_when_the_first_has_time() -> None:
    order = Order(FIRST)
    for back_s in (2.0, 0.7, 0.0):
        assert order.passed(Outcome.BUSY, back_s)
    assert not order.passed(Outcome.SILENT)
    assert order.again(0.1) == 0.7 and order.now == FIRST[0]


def test_who_cannot_is_not_asked_again_and_when_nobody_can_it_is_over() -> None:
    order = Order(FIRST)
    for outcome in (Outcome.CANNOT, Outcome.SILENT, Outcome.CANNOT):
        order.passed(outcome)
    assert not order.passed(Outcome.CANNOT) and order.again(0.1) == 0.1
    assert order.now == FIRST[1] and not order.passed(Outcome.CANNOT) and order.again(0.1) is None


def test_when_nobody_can_those_that_were_found_meanwhile_are_asked_once() -> None:
    order = Order(FIRST[:1])
    order.passed(Outcome.CANNOT)
    assert not order.passed(Outcome.CANNOT) and order.again(0.1) is None
    turn = order.turn
    assert order.others(FIRST) and order.now == FIRST[1] and order.turn > turn, "who cannot is not asked again"
    assert order.passed(Outcome.CANNOT) and order.now == FIRST[2]
    assert not order.passed(Outcome.CANNOT) and order.again(0.1) is None and not order.others(FIRST)
    only = Order(FIRST[:1], only=True)
    assert not only.passed(Outcome.CANNOT) and only.again(0.1) is None and not only.others(FIRST)


@given(st.lists(st.tuples(st.sampled_from(PASSED), st.floats(0, 5)), min_size=1, max_size=60), st.integers(0, 3))
def test_every_round_asks_each_once(outcomes: list[tuple[Outcome, float]], count: int) -> None:
    order = Order(FIRST[:count])
    round_, turns = [order.now], {order.turn}
    for outcome, back_s in outcomes:
        if order.passed(outcome, back_s):
            assert order.turn not in turns
            round_.append(order.now)
        else:
            pause_s = order.again(0.25)
            if pause_s is None:
                return
            assert pause_s == 0.25 or pause_s > 0
            round_ = [order.now]
        turns.add(order.turn)
        assert len(round_) == len(set(round_)) <= count + 1


@pytest.mark.parametrize("outcome", PASSED)
def test_alone_the_name_of_the_interest_does_not_change(outcome: Outcome) -> None:
    order = Order()
    order.passed(outcome)
    order.again(0.1)
    assert order.turn == 0


def test_another_round_asks_whom_one_heard_of_meanwhile_under_another_name() -> None:
    order = Order()
    assert not order.passed(Outcome.SILENT) and order.again(0.1) == 0.1
    turn = order.turn
    order.renew(FIRST)
    assert order.now == FIRST[0] and order.turn != turn
    asked = [order.now]
    while order.passed(Outcome.SILENT):
        asked.append(order.now)
    assert asked == [*FIRST, Candidate()]


def test_another_round_asks_nobody_who_cannot() -> None:
    order = Order(FIRST[:2])
    order.passed(Outcome.CANNOT)
    order.passed(Outcome.SILENT)
    assert not order.passed(Outcome.SILENT) and order.again(0.1) == 0.1
    order.renew(FIRST[:2])
    assert order.now == FIRST[1] and order.passed(Outcome.SILENT) and order.now == Candidate()


def test_what_is_asked_of_one_alone_stays_so() -> None:
    order = Order(FIRST[:1], only=True)
    assert not order.passed(Outcome.SILENT) and order.again(0.1) == 0.1
    order.renew(FIRST)
    assert order.alone and order.now == FIRST[0]


def test_one_is_asked_out_of_turn_and_the_others_after_it() -> None:
    order = Order(FIRST)
    assert order.on_to(FIRST[2]) and (order.now, order.turn) == (FIRST[2], 1)
    for one in (FIRST[0], FIRST[2], replace(FIRST[0], patience_s=9.0)):
        assert not order.on_to(one), "each is asked once in a round"
    assert order.passed(Outcome.BUSY, 1.0) and order.now == FIRST[1]
    assert order.passed(Outcome.SILENT) and order.now == Candidate() and not order.passed(Outcome.SILENT)


def test_who_is_asked_at_one_place_only_goes_nowhere_else() -> None:
    assert not Order(FIRST[:1], only=True).on_to(FIRST[1]) and not Order(FIRST[:1], led=True).on_to(FIRST[1])
