"""The fetch-or-recompute rule in virtual numbers: by its own model never worse than either pure choice; it learns."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.kv import plan as kv_plan
from ndn_infer.kv.holders import MAX_ASKED, MAX_KNOWN, HolderBook, holders_in
from ndn_infer.kv.plan import MEMORY_S, MOST_SHARING, SHARING, Costs, Estimates, ask_elsewhere, choose
from ndn_infer.ndn.name import Name

NET = ndn.from_uri("/ndn-infer/local")
BLOCK = 368_640  # SmolLM2 in bf16, 16 tokens
SLOW, QUICK = 2e6, 200e6
CPU = 800.0

speeds = st.floats(1e-3, 1e12)
costs = st.builds(
    Costs,
    block_bytes=st.integers(1, 10**8),
    block_tokens=st.integers(1, 512),
    round_trip_s=st.floats(0, 5),
    goodput=st.none() | speeds,
    prefill=st.none() | speeds,
    engine_wait_s=st.floats(0, 10),
    sharing=st.floats(1, 10),
)


def case(goodput: float | None, prefill: float | None, **more: float) -> Costs:
    return Costs(BLOCK, 16, goodput=goodput, prefill=prefill, **more)


@given(st.integers(0, 512), costs)
def test_never_worse_than_either_pure_choice(held: int, given_costs: Costs) -> None:
    plan = choose(held, given_costs)
    assert plan.recompute + plan.fetch == held and min(plan.recompute, plan.fetch) >= 0
    assert plan.estimate_s <= min(plan.fetch_all_s, plan.compute_all_s)
    alone = max(given_costs.compute_s(plan.recompute), given_costs.fetch_s(plan.fetch))
    assert plan.estimate_s == alone * (given_costs.sharing if plan.recompute and plan.fetch else 1)


@given(st.integers(1, 64), costs)
def test_no_other_split_is_better_and_none_as_good_computes_less(held: int, given_costs: Costs) -> None:
    plan = choose(held, given_costs)
    for head in range(held + 1):
        other = max(given_costs.compute_s(head), given_costs.fetch_s(held - head))
        other *= given_costs.sharing if 0 < head < held else 1
        assert other > plan.estimate_s or (other == plan.estimate_s and head >= plan.recompute)


@given(st.integers(0, 512), costs, st.floats(1, 100))
def test_a_quicker_network_never_means_computing_more(held: int, given_costs: Costs, factor: float) -> None:
    if given_costs.goodput is not None:
        slower = given_costs._replace(sharing=1.0)
        quicker = slower._replace(goodput=given_costs.goodput * factor)
        assert choose(held, quicker).recompute <= choose(held, slower).recompute


def test_a_quick_network_is_left_alone_with_the_work() -> None:
    assert choose(64, case(QUICK, CPU, sharing=SHARING)).recompute == 0
    assert choose(64, case(BLOCK / 16 * CPU * 4.2, CPU, sharing=SHARING)).recompute == 0
    assert choose(64, case(BLOCK / 16 * CPU * 2, CPU, sharing=SHARING)).recompute in (21, 22)
    assert 0 < choose(64, case(QUICK, CPU)).recompute <= 6  # 118 ms of fetching hide at most so many blocks of 20 ms


def test_a_network_as_quick_as_the_engine_shares_the_work() -> None:
    plan = choose(64, case(BLOCK / 16 * CPU, CPU))
    assert plan.recompute == 32
    assert plan.estimate_s == pytest.approx(plan.fetch_all_s / 2) == pytest.approx(plan.compute_all_s / 2)


def test_a_slow_network_computes_all_where_even_one_block_takes_longer() -> None:
    plan = choose(8, case(SLOW, CPU, round_trip_s=0.5))
    assert (plan.recompute, plan.fetch) == (8, 0)
    assert plan.estimate_s == pytest.approx(0.16)


def test_what_nobody_measured_is_tried() -> None:
    assert choose(64, case(None, CPU)).recompute == 0
    assert choose(64, case(SLOW, None)).recompute == 0


# ---------------------------------------------------------------- estimates


def test_estimates_follow_outcomes_and_forget() -> None:
    estimates = Estimates()
    assert estimates.goodput.value(0.0) is None
    estimates.fetched(10_000_000, 1.1, 0.1, now=0.0)
    assert estimates.goodput.value(1.0) == pytest.approx(1e7)
    for second in range(30):
        estimates.fetched(1_000_000, 1.0, 0.0, now=float(second))
    assert estimates.goodput.value(30.0) == pytest.approx(1e6, rel=0.01)
    assert estimates.goodput.value(29.0 + MEMORY_S + 1) is None  # so a network that was slow is tried again
    estimates.fetched(2_000_000, 1.0, 0.0, now=500.0)
    assert estimates.goodput.value(500.0) == 2e6


def test_doing_both_is_dropped_where_it_turns_out_to_help_nobody() -> None:
    estimates, ordinary = Estimates(), case(BLOCK / 16 * CPU * 2, CPU)
    plan = choose(64, ordinary)
    assert plan.recompute
    estimates.outcome(plan, ordinary, 1.8 * plan.estimate_s, now=0.0)
    learned = ordinary._replace(sharing=estimates.sharing.value(0.0) or 0.0)
    assert learned.sharing == pytest.approx(1.8)
    assert choose(64, learned).recompute == 0
    estimates.outcome(choose(64, learned), learned, 100.0, now=0.0)  # a pure plan says nothing about doing both
    assert estimates.sharing.value(0.0) == pytest.approx(1.8)
    estimates.outcome(plan, ordinary, 1e6, now=0.0)
    assert (estimates.sharing.value(0.0) or 0) < MOST_SHARING


def test_small_samples_say_nothing() -> None:
    estimates = Estimates()
    estimates.fetched(100, 1.0, 0.0, now=0.0)
    estimates.engine(8, 1.0, now=0.0)
    estimates.elsewhere(8, 1.0, now=0.0)
    assert estimates.goodput.value(0.0) is estimates.prefill.value(0.0) is estimates.remote.value(0.0) is None


def test_the_engine_is_known_by_what_its_counters_grew() -> None:
    estimates = Estimates()
    estimates.engine(800, 1.0, now=0.0)
    assert estimates.prefill.value(0.0) == 800
    estimates.engine(808, 1.5, now=0.0)  # too few; counted with the next
    estimates.engine(1600, 3.0, now=0.0)
    assert estimates.prefill.value(0.0) == pytest.approx(0.7 * 800 + 0.3 * 400)


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats(0, 100), st.floats(0, 10)), max_size=20))
def test_estimates_stay_positive_and_finite(samples: list[tuple[int, float, float]]) -> None:
    estimates = Estimates()
    for size, seconds, round_trip_s in samples:
        estimates.fetched(size, seconds, round_trip_s, now=0.0)
    value = estimates.goodput.value(0.0)
    assert value is None or (value > 0 and math.isfinite(value))


# ---------------------------------------------------------------- elsewhere


def test_prefill_is_asked_unless_it_is_much_slower_or_has_a_queue() -> None:
    ordinary = case(QUICK, CPU)
    assert ask_elsewhere(64, ordinary, None)
    assert ask_elsewhere(64, case(None, None), 1.0)
    assert ask_elsewhere(64, ordinary, CPU)
    assert ask_elsewhere(64, ordinary, CPU / 2)
    assert not ask_elsewhere(64, ordinary, CPU / 20)
    assert ask_elsewhere(64, ordinary, CPU, queue=1)
    assert not ask_elsewhere(64, ordinary, CPU, queue=20)
    assert not ask_elsewhere(64, case(SLOW / 10, CPU), CPU)  # quickly made, but never here
    assert not ask_elsewhere(0, ordinary, None)


@given(st.integers(1, 512), costs, speeds, st.integers(0, 50))
def test_a_longer_queue_never_makes_asking_better(
    missing: int, given_costs: Costs, remote: float, queue: int
) -> None:  # fmt: skip
    if ask_elsewhere(missing, given_costs, remote, queue=queue + 1):
        assert ask_elsewhere(missing, given_costs, remote, queue=queue)


def test_the_module_is_pure() -> None:
    assert not {"asyncio", "time", "torch", "socket"} & set(vars(kv_plan))


def test_layers_are_awaited_in_the_engine_where_the_network_is_slow_and_nothing_is_computed_first() -> None:
    costs = case(QUICK, CPU, sharing=SHARING)
    plan = choose(64, costs)
    assert plan.recompute == 0 and costs.fetch_s(64) > kv_plan.LEAST_WAIT_S
    assert kv_plan.layer_by_layer(plan, costs, 0.2)
    for busy in (None, kv_plan.MOST_BUSY, 1.0):
        assert not kv_plan.layer_by_layer(plan, costs, busy)
    assert not kv_plan.layer_by_layer(choose(1, costs), costs, 0.2), "nothing to hide behind"
    assert not kv_plan.layer_by_layer(plan._replace(recompute=1), costs, 0.2)
    assert not kv_plan.layer_by_layer(choose(64, case(None, CPU)), case(None, CPU), 0.2)


def test_a_prefill_producer_that_is_not_there_costs_little_and_only_now_and_then() -> None:
    costs = case(QUICK, CPU)
    assert kv_plan.patience_s(1, costs) == pytest.approx(4 * (0.25 + 16 / CPU))
    assert kv_plan.patience_s(1000, costs) == kv_plan.patience_s(1, case(None, None)) == kv_plan.MOST_PATIENCE_S
    estimates = Estimates()
    assert estimates.ask_elsewhere(8, costs, 0.0) and not estimates.ask_elsewhere(0, costs, 0.0)
    estimates.unanswered(1.0)
    assert not estimates.ask_elsewhere(8, costs, 1.0 + kv_plan.UNANSWERED_S - 0.1)
    assert estimates.ask_elsewhere(8, costs, 1.0 + kv_plan.UNANSWERED_S)


def test_a_cold_first_answer_does_not_leave_a_quick_producer_alone() -> None:
    costs, estimates = case(QUICK, CPU), Estimates()
    estimates.elsewhere(32, 30.0, now=0.0)
    assert estimates.remote.value(0.0) is None and estimates.ask_elsewhere(8, costs, 0.0)
    estimates.elsewhere(32, 32 / CPU, now=1.0)
    assert estimates.remote.value(1.0) == pytest.approx(CPU)
    slow = Estimates()
    for now in (0.0, 1.0):
        slow.elsewhere(32, 30.0, now)
    assert not slow.ask_elsewhere(8, costs, 1.0), "a second time is no accident"
    slow.elsewhere(32, 30.0, 2.0 + kv_plan.MEMORY_S)
    assert slow.ask_elsewhere(8, costs, 2.0 + kv_plan.MEMORY_S)


def test_an_operator_may_say_where_prefill_runs() -> None:
    costs = case(SLOW / 100, CPU)
    for policy, asked in (("always", True), ("never", False)):
        estimates = Estimates(policy)
        estimates.unanswered(0.0)
        assert estimates.ask_elsewhere(64, costs, 0.0, queue=50) is asked
        assert not estimates.ask_elsewhere(0, costs, 0.0)
    assert Estimates("always").patience_s(1, costs) == kv_plan.ALWAYS_PATIENCE_S
    assert Estimates().patience_s(1, costs) == kv_plan.patience_s(1, costs)


def test_how_busy_fetching_keeps_its_thread_is_measured() -> None:
    estimates = Estimates()
    estimates.fetched(10, 0.1, 0.0, 1.0, busy_s=0.1)
    assert estimates.busy.value(1.0) is None, "too small to say anything"
    estimates.fetched(10**6, 0.1, 0.0, 1.0, busy_s=0.02)
    assert estimates.busy.value(1.0) == pytest.approx(0.2)


# ---------------------------------------------------------------- whom to ask


def named(number: int) -> Name:
    return NET + ndn.from_uri(f"/home/n{number}/decode")


def test_holders_named_for_the_prompt_come_first_then_those_heard_of_last() -> None:
    book = HolderBook()
    for number in range(20):
        book.heard(named(number))
    asked = book.to_ask([named(3), named(50)], 0.0, own=frozenset([named(19)]))
    assert asked == [named(number) for number in (3, 50, 18, 17, 16, 15, 14, 13)] and len(asked) == MAX_ASKED


def test_liars_and_the_silent_are_left_out_for_a_while_even_when_named() -> None:
    book = HolderBook()
    assert book.lied(named(1), 100.0) and not book.lied(named(1), 101.0)
    book.silent(named(2), 100.0)
    book.silent(named(1), 102.0)  # does not shorten the other
    assert book.to_ask([named(1), named(2), named(3)], 103.0) == [named(3)]
    assert book.to_ask([named(1), named(2)], 106.0) == [named(2)]
    assert book.to_ask([named(1)], 162.0) == [named(1), named(2)]


def test_what_strangers_name_takes_no_room() -> None:
    book = HolderBook()
    for number in range(10 * MAX_KNOWN):
        book.silent(named(number), 0.0)
        book.lied(named(number), 0.0)
    assert len(book._known) == MAX_KNOWN


@given(st.lists(st.text(max_size=40), max_size=20))
def test_only_identities_that_may_hold_kv_are_taken_from_others(uris: list[str]) -> None:
    good = ["/ndn-infer/local/home/n1/decode", "/ndn-infer/local/home/n2/prefill"]
    bad = ["/ndn-infer/local/home/n1/rag", "/elsewhere/home/n1/decode", "/ndn-infer/local/home/n1", "%"]
    assert holders_in(NET, good + bad) == tuple(map(ndn.from_uri, good))
    assert not holders_in(NET, uris)
