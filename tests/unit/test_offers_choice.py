"""Whom to ask: who can, who is soonest, and that equal ones share. Numbers in, an order out."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.offers.book import OfferEntry
from ndn_infer.offers.choice import LEAST_GAIN_S, MOST_NOISE, SCALE, SCALE_S, Estimate, belongs_to, estimates, rank
from ndn_infer.offers.prefixes import hint_of
from ndn_infer.records.offer import OfferedFunction
from tests.offer_kit import GENERATE, MODEL, book_of, chain_of, entry_of, hint, offer, wanted

HELD = hint_of(chain_of(1024), 16)


def first(*entries: OfferEntry, now: float = 0.0, **fields: object) -> str:
    """The node that is asked first."""
    return rank(wanted(**fields), entries, now)[0].entry.offer.identity.split("/")[-2]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "call"),
    [
        ({"functions": (OfferedFunction("embed", "model", MODEL),)}, {}),
        ({"functions": (replace(GENERATE, subject="cd" * 32),)}, {}),
        ({"functions": (replace(GENERATE, private=False),)}, {"private": True}),
        ({"engine": "fp32.class"}, {"engine": "bf16.class"}),
        ({"codec": "int8"}, {"codec": "raw.bf16"}),
        ({"context": 1040}, {}),
    ],
    ids=["function", "model", "private", "engine", "codec", "context"],
)
def test_who_cannot_answer_is_no_candidate(fields: dict[str, object], call: dict[str, object]) -> None:
    able, other = entry_of(offer("able")), entry_of(offer("other", **fields))
    assert [one.entry for one in rank(wanted(**call), [other, able], 0.0)] == [able]  # type: ignore[arg-type]


def test_who_is_gone_is_no_candidate() -> None:
    book = book_of(offer("n1"), offer("n2"))
    book.gone(hint("n1"), 0.0)
    assert [one.entry.hint for one in rank(wanted(), book.entries(1.0), 1.0)] == [hint("n2")]


def test_the_holder_of_a_prefix_is_chosen_until_its_queue_makes_it_slower() -> None:
    """1,024 of 1,040 tokens held are worth 2.05 s at 500 tokens a second; each call before ours costs 0.2 s."""
    idle = entry_of(offer("idle"))
    chosen = [first(entry_of(offer("holder", held=HELD, queue=queue)), idle) for queue in range(20)]
    turn = chosen.index("idle")
    assert set(chosen[:turn]) == {"holder"} and set(chosen[turn:]) == {"idle"} and 9 <= turn <= 12


def test_without_a_free_place_somebody_has_to_end_first() -> None:
    holder = entry_of(offer("holder", held=HELD, free=0, queue=4, call_s=8.0))
    assert first(holder, entry_of(offer("idle"))) == "idle"
    assert first(replace(holder, offer=replace(holder.offer, free=8), queue=0), entry_of(offer("idle"))) == "holder"


def test_what_others_hold_can_be_fetched_so_the_holder_is_worth_less_on_a_quick_network() -> None:
    idle = entry_of(offer("idle", fetch_tps=20_000.0))
    assert first(entry_of(offer("holder", held=HELD)), idle) == "holder"
    assert first(entry_of(offer("holder", held=HELD, queue=1)), idle) == "idle"


def test_a_far_one_is_asked_when_the_near_one_is_slower_by_more() -> None:
    near, far = entry_of(offer("near", prefill_tps=300.0)), entry_of(offer("far"))
    near.round_trip_s, far.round_trip_s = 0.001, 0.1
    assert first(near, far) == "far" and first(near, far, tokens=16) == "near"


def test_who_was_busy_waits_until_the_time_it_said() -> None:
    book = book_of(offer("n1"), offer("n2"))
    book.busy(hint("n1"), 3.0, 0.0)
    assert all(first(*book.entries(0.0), seed=f"{number}") == "n2" for number in range(20))
    assert {first(*book.entries(4.0), now=4.0, seed=f"{number}") for number in range(20)} == {"n1", "n2"}


def test_what_nobody_measured_is_taken_as_the_best_known() -> None:
    entries = [entry_of(offer("slow")), entry_of(offer("new", prefill_tps=0.0, prompt_s=0.0)),
               entry_of(offer("quick", prefill_tps=5000.0))]  # fmt: skip
    seen = {first(*entries, seed=f"{number}") for number in range(60)}
    assert seen == {"new", "quick"}


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(0, 1 << 30))
def test_equal_producers_share_and_equal_calls_stay_together(count: int, salt: int) -> None:
    entries = [entry_of(offer(f"n{number}")) for number in range(count)]
    shares = Counter(first(*entries, seed=f"{salt} {number}") for number in range(200))
    assert len(shares) == count and max(shares.values()) <= 3 * 200 / count
    again = random.Random(salt).sample(entries, count)
    assert first(*entries, seed="same") == first(*again, seed="same")


def test_who_offers_hardly_any_speed_comes_last_and_always_in_the_same_place() -> None:
    """Seconds by such a speed are more than a number holds."""
    slow, slower, usual = offer("n1", prefill_tps=2e-311), offer("n2", prefill_tps=1e-320), offer("n3")
    rows = [entry_of(one) for one in (slow, slower, usual)]
    for seed in ("a", "b", "c", "d"):
        call = wanted(seed=seed)
        order = [one.entry for one in rank(call, rows, 0.0)]
        assert order == [one.entry for one in rank(call, rows[::-1], 0.0)] and order[0] is rows[2]
        assert [one.entry for one in rank(call, rows[:2], 0.0)] == [one.entry for one in rank(call, rows[1::-1], 0.0)]


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 8), st.floats(0, 5000), st.floats(0, 0.3)), min_size=1, max_size=8
    ),
    st.text(max_size=8),
)
def test_the_order_is_total_stable_and_never_far_from_the_estimates(
    rows: list[tuple[int, int, float, float]], seed: str
) -> None:
    entries = []
    for number, (queue, free, tps, rtt) in enumerate(rows):
        entries.append(entry_of(offer(f"n{number}", queue=queue, free=free, prefill_tps=tps)))
        entries[-1].round_trip_s = rtt
    call = wanted(seed=seed)
    order = rank(call, entries, 0.0)
    assert sorted(one.entry.hint for one in order) == sorted(entry.hint for entry in entries)
    assert [one.entry for one in rank(call, entries[::-1], 0.0)] == [one.entry for one in order]
    best = min(one.total_s for one in estimates(call, entries, 0.0))
    assert order[0].total_s <= best + (SCALE_S + SCALE * best) * MOST_NOISE + 1e-9


@given(st.integers(1, 30), st.integers(1, 10))
def test_a_longer_queue_never_brings_anybody_forward(queue: int, more: int) -> None:
    others = [entry_of(offer(f"n{number}", queue=number)) for number in range(4)]

    def place(length: int) -> int:
        mine = entry_of(offer("mine", queue=length))
        return [one.entry for one in rank(wanted(), [*others, mine], 0.0)].index(mine)

    assert place(queue + more) >= place(queue)


# ---------------------------------------------------------------- taken on behind others


def _divided(calls: int, *entries: OfferEntry, **fields: object) -> list[str]:
    """Where each of so many calls goes that are made at once: all are taken on where the first one is."""
    found = rank(wanted(**fields), entries, 0.0)  # type: ignore[arg-type]
    taken, others = found[0], found[1:]
    best = [belongs_to(taken, taken.before + number, others) for number in range(calls)]
    return [one.entry.offer.identity.split("/")[-2] for one in best]


def test_a_crowd_at_two_equal_ones_divides_itself() -> None:
    shares = Counter(_divided(16, entry_of(offer("n1")), entry_of(offer("n2"))))
    assert max(shares.values()) <= 9, shares


def test_a_crowd_stays_with_the_holder_as_long_as_its_queue_is_shorter_than_the_prompt() -> None:
    """16 tokens of each prompt are new: 0.032 s each; without the prefix the first one takes 2.08 s. Behind eight calls
    one of eight has to end, which takes half a second for each place."""
    went = _divided(40, entry_of(offer("holder", held=HELD)), entry_of(offer("idle")))
    turn = went.index("idle")
    assert set(went[:turn]) == {"holder"} and 8 < turn < 16 and Counter(went[turn:])["idle"] > 8


def test_a_queue_that_was_known_moves_nobody() -> None:
    """Whoever was asked all the same is the soonest with it."""
    near, far = entry_of(offer("near", queue=4, prompt_s=0.05)), entry_of(offer("far"))
    near.round_trip_s, far.round_trip_s = 0.01, 3.0
    first, second = rank(wanted(), [near, far], 0.0)
    assert first.entry is near and first.before == 4 and belongs_to(first, 4, [second]) is first


def test_alone_it_stays() -> None:
    (alone,) = rank(wanted(), [entry_of(offer("n1"))], 0.0)
    assert belongs_to(alone, 2**64, []) is alone


@given(st.integers(0, 60), st.lists(st.floats(10.0, 5000.0), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_each_goes_where_it_begins_soonest_after_those_before_it(queue: int, speeds: list[float]) -> None:
    """As if one who sees all of them had placed them one after the other."""
    found = rank(wanted(), [entry_of(offer(f"n{i}", prefill_tps=tps, places=0)) for i, tps in enumerate(speeds)], 0.0)
    taken, load = found[0], dict.fromkeys(found, 0)

    def begins(one: Estimate) -> float:
        return one.total_s + load[one] * one.each_s + (one is not taken) * LEAST_GAIN_S

    for number in range(queue + 1):
        best = belongs_to(taken, taken.before + number, found[1:]) if number else min(found, key=begins)
        assert begins(best) == min(begins(one) for one in found)
        load[best] += 1
