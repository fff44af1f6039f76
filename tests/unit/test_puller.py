"""The puller in virtual time: whatever the network does, it finishes or says what is missing, and it never stalls."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Hashable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.ndn.lp import REASON_CONGESTION, REASON_DUPLICATE, REASON_NO_ROUTE
from ndn_infer.wire.congestion import CubicWindow
from ndn_infer.wire.puller import NACK_PAUSE_S, Puller


@dataclass
class Network:
    """Answers Interests after a random delay; loses, doubles, marks and refuses some. Seeded."""

    seed: int
    loss: float = 0.0
    double: float = 0.0
    mark: float = 0.0
    refuse: float = 0.0
    reason: int = REASON_CONGESTION
    bad: float = 0.0
    delay_s: float = 0.02
    spread: tuple[float, float] = (0.2, 3)
    silent_until: float = 0.0
    now: float = 0.0
    wakes: int = 0
    events: list[tuple[float, int, int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.tie = itertools.count()

    def send(self, key: int) -> None:
        if self.random.random() < self.loss or self.now < self.silent_until:
            return
        draw = self.random.random
        kind = "nack" if draw() < self.refuse else "bad" if draw() < self.bad else "mark" if draw() < self.mark else ""
        for _ in range(1 + (draw() < self.double)):
            when = self.now + self.delay_s * self.random.uniform(*self.spread)  # reordered
            heapq.heappush(self.events, (when, next(self.tie), key, kind))

    def run(self, puller: Puller, limit_s: float = 10_000.0) -> None:
        """Drive it by next_wake alone, as its shell does."""
        while not puller.idle:
            puller.on_timer(self.now)
            for key in puller.due(self.now):
                assert isinstance(key, int)
                self.send(key)
            if puller.idle:
                break
            wake = puller.next_wake()
            assert wake is not None, "something is wanted and nobody will be woken for it"
            assert wake > self.now, "woken again without anything to do: a shell would spin"
            self.wakes += 1
            self.now = min(wake, self.events[0][0]) if self.events else wake
            assert self.now < limit_s
            while self.events and self.events[0][0] <= self.now:
                _, _, key, kind = heapq.heappop(self.events)
                if kind == "nack":
                    puller.on_nack(key, self.reason, self.now)
                elif kind == "bad":
                    puller.refused(key, self.now)
                else:
                    puller.on_data(key, marked=kind == "mark", now=self.now)


rates = st.sampled_from([0.0, 0.02, 0.2, 0.5])


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 250), st.integers(0, 10**6), rates, rates, rates, rates, rates, st.floats(0.0005, 0.3))
def test_it_finishes_whatever_the_network_does(
    keys: int, seed: int, loss: float, double: float, mark: float, refuse: float, bad: float, delay_s: float
) -> None:
    puller, network = Puller(max_attempts=200), Network(seed, loss, double, mark, refuse, bad=bad, delay_s=delay_s)
    for key in range(keys):
        puller.want(key, give_up_at=1e9)
    network.run(puller, 1e6)
    stats = puller.stats
    assert not puller.failures and stats.received == keys and puller.in_flight == 0
    assert stats.sent == keys + stats.retransmitted
    assert 2 <= puller.window.size <= puller.window.limit


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(0, 10**6), st.sampled_from([0.3, 0.7, 1.0]), st.integers(1, 5))
def test_or_says_which_are_missing(keys: int, seed: int, loss: float, attempts: int) -> None:
    puller, network = Puller(max_attempts=attempts), Network(seed, loss)
    for key in range(keys):
        puller.want(key, give_up_at=1e9)
    network.run(puller)
    failed = {failure.key for failure in puller.failures}
    assert len(failed) == len(puller.failures) and puller.stats.received + len(failed) == keys
    assert all(failure.reason == "timeout" for failure in puller.failures)
    assert loss < 1 or len(failed) == keys
    assert puller.next_wake() is None or not puller.in_flight


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(0, 10**6), st.floats(1, 20))
def test_time_up_ends_it(keys: int, seed: int, give_up_at: float) -> None:
    puller, network = Puller(max_attempts=10**6), Network(seed, loss=1.0)
    for key in range(keys):
        puller.want(key, give_up_at=give_up_at)
    network.run(puller)
    assert len(puller.failures) == keys and puller.in_flight == 0
    assert network.now == give_up_at  # not one round of timeouts later for each window


@pytest.mark.parametrize("reason", [REASON_NO_ROUTE, 0])
def test_no_route_is_tried_again_briefly_and_then_believed(reason: int) -> None:
    puller, network = Puller(max_nacks=3), Network(1, refuse=1.0, reason=reason)
    puller.want(1, give_up_at=1e9)
    network.run(puller)
    assert [(f.key, f.reason, f.nack_reason) for f in puller.failures] == [(1, "nack", reason)]
    assert puller.stats.sent == 3 and network.now < 1 and puller.stats.window_reductions == 0


def test_duplicate_nacks_are_no_verdict_and_congestion_shrinks_the_window() -> None:
    puller = Puller()
    puller.want("a", give_up_at=1e9)
    for number in range(6):
        now = float(number)
        assert puller.due(now) == ["a"]
        puller.on_nack("a", REASON_DUPLICATE, now + 0.01)
        assert puller.next_wake() == pytest.approx(now + 0.01 + NACK_PAUSE_S)
    assert not puller.failures and puller.stats.window_reductions == 0
    puller.due(10.0)
    before = puller.window.size
    puller.on_nack("a", REASON_CONGESTION, 10.01)
    assert puller.window.size < before and not puller.failures


def test_a_full_window_is_not_woken_for_what_waits_for_room() -> None:
    """A retry behind a full window waits for an answer or a timeout: a wake in the past would make the shell spin."""
    puller = Puller(window=CubicWindow(size=4.0))
    for key in range(10):
        puller.want(key, give_up_at=1e9)
    assert puller.next_wake() == 0.0  # nothing sent yet: at once
    assert puller.due(0.0) == [0, 1, 2, 3]
    puller.on_nack(0, REASON_CONGESTION, 0.1)  # the window shrinks below what is in flight
    assert puller.due(0.2) == [] and puller.in_flight == 3
    assert puller.next_wake() == pytest.approx(puller.rtt.rto_s)


def test_an_outage_is_survived() -> None:
    puller, network = Puller(), Network(3, silent_until=20.0)
    for key in range(100):
        puller.want(key, give_up_at=1e9)
    network.run(puller)
    assert not puller.failures and 20 < network.now < 120


def test_marks_slow_down_without_asking_again() -> None:
    puller, network = Puller(), Network(5, mark=0.1)
    for key in range(2000):
        puller.want(key, give_up_at=1e9)
    network.run(puller)
    assert puller.stats.marks > 100 and puller.stats.window_reductions > 10 and puller.stats.timeouts == 0
    assert puller.stats.retransmitted <= 10, "answers that overtake each other by far may be taken for lost, and few"


@pytest.mark.parametrize("loss", [0.01, 0.05])
def test_a_loss_is_seen_when_later_answers_come(loss: float) -> None:
    """On a path that keeps the order nearly all losses are seen so, and nothing waits for the timeout."""
    puller, network = Puller(max_attempts=50), Network(7, loss=loss, delay_s=0.05, spread=(0.99, 1.01))
    for key in range(3000):
        puller.want(key, give_up_at=1e9)
    network.run(puller)
    assert puller.stats.overtaken > 5 * puller.stats.timeouts
    assert puller.stats.spurious <= 3


def test_where_answers_overtake_each_other_it_learns_to_wait() -> None:
    puller, network = Puller(), Network(3, delay_s=0.03, spread=(0.05, 6))
    for key in range(4000):
        puller.want(key, give_up_at=1e9)
    network.run(puller)
    assert puller.stats.retransmitted < 80


def test_slow_start_ends_before_the_queue_is_long() -> None:
    """A bottleneck of 1,000 packets a second, 20 ms away: 20 in flight fill it."""
    puller, free_at, now = Puller(window=CubicWindow(limit=4096.0)), 0.0, 0.0
    sent: list[tuple[float, Hashable]] = []
    for key in range(1500):
        puller.want(key, give_up_at=1e9)
    while not puller.idle:
        for key in puller.due(now):  # type: ignore[assignment]
            free_at = max(free_at, now + 0.01) + 0.001
            sent.append((free_at + 0.01, key))
        now, answered = sent.pop(0)
        puller.on_data(answered, marked=False, now=now)
    assert puller.window.threshold < 120


def test_what_is_forgotten_is_neither_asked_nor_awaited() -> None:
    puller = Puller(window=CubicWindow(size=2.0))
    for key in "abcd":
        puller.want(key, give_up_at=1e9)
    assert puller.due(0.0) == ["a", "b"]
    for key in "abc":
        puller.forget(key)
    assert puller.due(0.1) == ["d"] and puller.in_flight == 1
    assert not puller.on_data("a", marked=False, now=0.2) and puller.stats.duplicates == 1
    puller.forget("d")
    assert puller.idle and puller.next_wake() is None and puller.due(0.3) == []
    puller.want("a", give_up_at=1e9)
    assert puller.due(0.4) == ["a"] and puller.on_data("a", marked=False, now=0.5) and puller.idle


def test_a_timeout_that_rounds_to_the_very_moment_still_counts() -> None:
    """sent + rto and now - sent round differently: at the moment of next_wake the Interest must be given up."""
    generator = random.Random(1)
    for _ in range(3000):
        puller, sent = Puller(), generator.uniform(0, 1e6)
        puller.rtt.rto_s = generator.uniform(0.2, 60)
        puller.want("a", give_up_at=1e9)
        puller.due(sent)
        wake = puller.next_wake()
        assert wake is not None
        puller.on_timer(wake)
        assert puller.stats.timeouts == 1
