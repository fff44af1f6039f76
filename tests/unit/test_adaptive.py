"""The adaptive strategy in virtual time: next hops with delays of their own, Interests that go where they should.

Clauses: ASF = NFD's daemon/fw/asf-*.cpp (24.07).
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.forwarder.core import adaptive as module
from ndn_infer.forwarder.core.adaptive import ADAPTIVE, FIRST_PROBE_S, Adaptive
from ndn_infer.forwarder.core.fib import NextHop
from ndn_infer.ndn import packet
from ndn_infer.ndn.lp import decode_lp
from tests.forwarder_world import World, data, interest, nack

VERSIONED = ADAPTIVE + ndn.from_uri("/v=5")


def parameters(text: str) -> ndn.Name:
    return VERSIONED + ndn.from_uri(text)


@dataclass
class Paths:
    """A consumer `c` and next hops in upper case; `delay` says after how many seconds each answers, None never,
    negative with a Nack after that time."""

    delay: dict[str, float | None]
    strategy: ndn.Name = VERSIONED
    world: World = field(default_factory=World)
    prefixes: tuple[str, ...] = ("/a",)
    pending: list[tuple[float, int, str, bytes]] = field(default_factory=list)
    back: list[str] = field(default_factory=list)
    asked: int = 0

    def __post_init__(self) -> None:
        for name in "c" + "".join(self.delay):
            self.world.add_face(name)
        for prefix in self.prefixes:
            for cost, name in enumerate(self.delay):
                self.world.route(prefix, name, 10 * cost)
        found = self.world.core.strategies.set(ndn.from_uri("/"), self.strategy)
        assert isinstance(found, Adaptive)
        self.adaptive = found

    def run(self, until: float) -> None:
        while self.pending and self.pending[0][0] <= until:
            now, _, name, wire = heapq.heappop(self.pending)
            self.back += self.world.receive(name, wire, now)
        self.world.advance(until)

    def ask(self, now: float, uri: str = "", **options: object) -> str:
        """Send a new Interest (or the one of `uri` again); the next hops that got it."""
        self.run(now)
        self.asked += 1
        self.back += self.world.receive(
            "c", interest(uri or f"{self.prefixes[0]}/{self.asked}", self.asked, **options), now
        )
        reached = ""
        for name, wire in self.world.sent:
            if name != "c":
                reached += name
                self._answer(name, decode_lp(wire).fragment, now)
        return reached

    def _answer(self, name: str, wire: bytes, now: float) -> None:
        delay = self.delay[name]
        if delay is None:
            return
        reply = data(ndn.to_uri(packet.decode_interest(wire).name)) if delay >= 0 else nack(wire, 150)
        heapq.heappush(self.pending, (now + abs(delay), len(self.pending) + self.asked * 9, name, reply))

    def region(self, prefix: str = "/a") -> module._Region:
        found = self.adaptive._regions.get(ndn.from_uri(prefix))
        assert found is not None
        return found

    def path(self, name: str, prefix: str = "/a") -> module._Path:
        return self.region(prefix).paths[self.world.faces[name].id]

    def every(self, step: float, start: float, end: float) -> list[str]:
        return [self.ask(start + number * step) for number in range(int((end - start) / step))]


# ------------------------------------------------------------ whom to ask


def test_the_cheapest_until_something_is_known() -> None:
    paths = Paths({"A": 0.05, "B": 0.01})
    assert [paths.ask(0.0), paths.ask(0.1)] == ["A", "A"]


def test_traffic_moves_to_the_faster_path_after_a_probe() -> None:
    """ASF: the first probe within five seconds, then the smallest SRTT leads."""
    paths = Paths({"A": 0.1, "B": 0.02})
    seen = paths.every(0.5, 0.0, 10.0)
    probe = seen.index("AB")
    assert probe <= FIRST_PROBE_S / 0.5 + 1
    assert seen == ["A"] * probe + ["AB"] + ["B"] * (len(seen) - probe - 1)


def test_a_probe_has_a_nonce_of_its_own() -> None:
    """Where the paths meet again it is another Interest, not a loop (ASF: sendProbe)."""
    paths = Paths({"A": 0.1, "B": 0.02})
    while paths.ask(paths.asked * 0.5) != "AB":
        pass
    first, second = (packet.decode_interest(wire) for _, wire in paths.world.sent)
    assert first.nonce == paths.asked.to_bytes(4, "big") != second.nonce
    assert (first.name, first.lifetime_ms) == (second.name, second.lifetime_ms)
    # The copy that comes round is recognised by the probe's Nonce, too.
    looped = interest(ndn.to_uri(second.name), int.from_bytes(second.nonce or b"", "big"))
    (told,) = paths.world.receive("B", looped, paths.asked * 0.5)
    assert told.startswith("B<N100")


def test_the_slower_answer_is_measured_too() -> None:
    """The consumer has its Data already; the other's round trip still counts (NFD keeps the PIT entry for 50 ms)."""
    paths = Paths({"A": 0.02, "B": 0.3})
    seen = paths.every(0.5, 0.0, 8.0)
    assert seen.count("AB") == 1 and set(seen) == {"A", "AB"}
    assert paths.path("B").rtt.smoothed_s == pytest.approx(0.3) and paths.path("B").watched is None
    assert paths.path("A").rtt.smoothed_s == pytest.approx(0.02)
    # The other way round: the face in use is the slower one, and owes no timeout when the probe is faster.
    paths = Paths({"A": 0.3, "B": 0.02})
    paths.every(0.5, 0.0, 8.0)
    assert paths.path("A").watched is None and paths.path("A").timeouts == 0


def test_what_comes_too_late_or_unasked_is_no_measurement() -> None:
    paths = Paths({"A": 0.02, "B": None})
    while (reached := paths.ask(paths.asked * 0.5)) != "AB":
        pass
    asked_at = (paths.asked - 1) * 0.5
    paths.run(asked_at + 1)
    wire = data(f"/a/{paths.asked}")
    paths.world.receive("A", wire, asked_at + 1.1)  # answered before: nothing is awaited from it
    assert paths.path("A").rtt.smoothed_s == pytest.approx(0.02)
    paths.world.receive("B", data("/a/other"), asked_at + 1.2)
    paths.world.receive("B", wire, asked_at + module.LATE_S + 0.1)
    assert paths.path("B").rtt.smoothed_s is None and reached == "AB"


@pytest.mark.parametrize(("text", "timeouts"), [("", 3), ("/max-timeouts~1", 1), ("/max-timeouts~5", 5)])
def test_traffic_leaves_a_dead_next_hop(text: str, timeouts: int) -> None:
    """ASF: max-timeouts in a row, 3 unless set otherwise; the timeout is a second at first. No probe helps."""
    paths = Paths({"A": None, "B": 0.02}, parameters(text) if text else VERSIONED)
    seen = [paths.ask(0.0)]
    paths.region().probe_at = 100.0
    seen += paths.every(1.1, 1.1, 12.2)
    assert seen == ["A"] * timeouts + ["B"] * (11 - timeouts)


def test_an_answer_in_between_forgives_timeouts() -> None:
    paths = Paths({"A": None, "B": None})
    for round_trip in range(4):
        paths.delay["A"] = None
        paths.ask(10.0 * round_trip)
        paths.ask(10.0 * round_trip + 1.5)
        paths.delay["A"] = 0.1
        assert "A" in paths.ask(10.0 * round_trip + 4.0)
    paths.run(50.0)
    assert not paths.path("A").dead


def test_only_one_interest_at_a_time_is_watched() -> None:
    """A burst lost together is one timeout, not many (ASF: isTimeoutScheduled)."""
    paths = Paths({"A": None, "B": 0.02})
    for number in range(50):
        paths.ask(number / 100)
    assert "A" in paths.ask(1.5) and paths.path("A").timeouts == 1


def test_a_steady_stream_does_not_put_off_the_timeout() -> None:
    """The one watched is the first, not the last (ASF: scheduleTimeout only when none is)."""
    paths = Paths({"A": None, "B": 0.02})
    assert paths.ask(0.0) == "A"
    paths.region().probe_at = 100.0
    seen = paths.every(0.1, 0.1, 5.0)
    assert 28 <= seen.index("B") <= 34 and set(seen[seen.index("B") :]) == {"B"}


def test_a_dead_next_hop_comes_back_by_a_probe() -> None:
    paths = Paths({"A": None, "B": 0.05}, parameters("/max-timeouts~1"))
    paths.every(1.1, 0.0, 20.0)
    assert paths.path("A").dead
    paths.delay["A"] = 0.01
    seen = paths.every(1.0, 20.0, 200.0)
    assert "AB" in seen and seen[-1] == "A"


def test_when_all_are_dead_each_gets_its_turn() -> None:
    """ASF would ask the cheapest for ever."""
    paths = Paths({"A": None, "B": None})
    paths.every(1.1, 0.0, 30.0)
    assert paths.path("A").dead and paths.path("B").dead
    assert {paths.ask(40.0 + 3.0 * turn)[0] for turn in range(40)} == {"A", "B"}
    paths = Paths({"A": -0.01, "B": -0.01})
    paths.every(0.1, 0.0, 1.0)
    paths.delay["B"] = 0.01
    assert "B" in paths.every(0.1, 1.0, 6.0)


def test_measurements_are_per_prefix() -> None:
    """The same two faces, the better one another under each prefix."""
    paths = Paths({"A": 0.1, "B": 0.02}, prefixes=("/a", "/b"))
    paths.every(0.5, 0.0, 8.0)
    assert paths.ask(8.0) == "B" and paths.ask(8.0, "/b/1") == "A"
    paths.delay = {"A": 0.02, "B": 0.1}
    for number in range(20):
        paths.ask(9 + number / 2, f"/b/x/{number}")
    assert paths.path("A", "/b").rtt.smoothed_s == pytest.approx(0.02, abs=0.01)
    assert paths.ask(20.0, "/b/2") == "A" and paths.ask(20.1, "/a/new") == "B"


def test_measurements_are_forgotten_after_five_minutes_unused() -> None:
    paths = Paths({"A": 0.1, "B": 0.02})
    paths.every(0.5, 0.0, 10.0)
    assert paths.ask(10.0) == "B" and paths.ask(305.0).startswith("B")
    assert paths.ask(605.1) == "A"
    assert len(paths.adaptive._regions) == 1


def test_measurements_lifetime_can_be_set() -> None:
    paths = Paths({"A": 0.1, "B": 0.02}, parameters("/probing-interval~10000/measurements-lifetime~20000"))
    paths.every(0.5, 0.0, 9.0)
    assert paths.ask(28.0).startswith("B") and paths.ask(48.1) == "A"


def test_a_next_hop_out_of_use_is_forgotten_alone() -> None:
    """B has not been asked for five minutes (its route was gone), A has."""
    paths = Paths({"A": 0.1, "B": 0.02}, parameters("/probing-interval~250000"))
    paths.every(0.5, 0.0, 10.0)
    paths.world.core.rib.unregister(ndn.from_uri("/a"), paths.world.faces["B"].id, 0)
    paths.every(10.0, 10.0, 330.0)
    paths.world.route("/a", "B", 10)
    paths.region().probe_at = 999.0
    assert paths.ask(330.0) == "A" and paths.path("A").rtt.smoothed_s == pytest.approx(0.1)


# ------------------------------------------------------------ probes


@pytest.mark.parametrize(("text", "interval"), [("", 60.0), ("/probing-interval~5000", 5.0)])
def test_probes_come_at_their_interval(text: str, interval: float) -> None:
    paths = Paths({"A": 0.01, "B": 0.05}, parameters(text) if text else VERSIONED)
    times = [number / 2 for number in range(600) if paths.ask(number / 2) == "AB"]
    assert times[0] <= FIRST_PROBE_S + 0.5
    assert {later - earlier for earlier, later in zip(times, times[1:], strict=False)} == {interval}


def test_a_single_next_hop_is_not_probed_but_a_new_one_is_at_once() -> None:
    """ASF: a probe that finds nobody stays due."""
    paths = Paths({"A": 0.01})
    assert set(paths.every(0.5, 0.0, 10.0)) == {"A"}
    paths.world.add_face("B")
    paths.delay["B"] = 0.005
    paths.world.route("/a", "B", 10)
    assert paths.ask(10.0) == "AB" and paths.ask(11.0) == "B"


def ranked(*known: tuple[float | None, bool]) -> tuple[module._Region, list[NextHop]]:
    """A region with faces 1, 2, ... of these round trips (None: unmeasured) and states; cost falls with the number."""
    region = module._Region()
    for face_id, (rtt_s, dead) in enumerate(known, 1):
        path = region.paths[face_id] = module._Path()
        if rtt_s is not None:
            path.rtt.sample(rtt_s)
        path.dead = dead
    return region, [NextHop(face_id, 10 - face_id) for face_id in range(1, len(known) + 1)]


def test_rankings() -> None:
    """Forwarding: working, unmeasured, dead; probing: unmeasured, working, dead; then SRTT, cost, face."""
    region, hops = ranked((0.3, False), (None, False), (0.1, False), (0.01, True), (None, True))
    hops.append(NextHop(9, 8))
    assert [hop.face_id for hop in sorted(hops, key=region.rank)] == [3, 1, 2, 9, 5, 4]
    assert [hop.face_id for hop in sorted(hops, key=region.probe_rank)] == [2, 9, 3, 1, 5, 4]


def test_whom_to_probe_is_drawn_by_rank() -> None:
    """ASF: of n measured faces the j-th with probability (n + 1 - j) / (1 + ... + n); an unmeasured one always."""
    strategy = Adaptive(rng=random.Random(1))
    region, hops = ranked((0.3, False), (0.1, False), (0.2, True))
    counts: Counter[int | None] = Counter()
    for _ in range(6000):
        region.probe_at = 0.0
        counts[strategy._probe(region, hops, 1.0)] += 1
    assert [round(counts[face_id] / 1000) for face_id in (2, 1, 3)] == [3, 2, 1]
    region.probe_at = 0.0
    assert strategy._probe(region, [*hops, NextHop(7, 99)], 1.0) == 7


# ------------------------------------------------------------ retransmissions and Nacks


def test_retransmissions_go_to_others_then_to_the_one_asked_longest_ago() -> None:
    """ASF: afterReceiveInterest. A face not asked yet is not suppressed."""
    paths = Paths({"A": None, "B": None, "C": None})
    assert [paths.ask(now, "/a/x") for now in (0.0, 0.001, 0.002, 0.1, 0.2, 0.3)] == ["A", "B", "C", "A", "B", "C"]


def test_a_next_hop_whose_turn_ran_out_counts_as_not_asked() -> None:
    """ASF: isNextHopEligible, wantUnused; its suppression interval holds all the same."""
    paths = Paths({"A": None, "B": None, "C": None})
    assert paths.ask(0.0, "/a/x", lifetime_ms=100) + paths.ask(0.05, "/a/x") + paths.ask(0.3, "/a/x") == "ABA"
    assert paths.ask(0.31, "/a/x") == "C"


def test_retransmissions_are_suppressed_for_each_next_hop() -> None:
    """10, 20, ... 250 ms as in best-route, counted for each out-record (decidePerUpstream)."""
    paths = Paths({"A": None})
    steps = {0.0: "A", 0.009: "", 0.011: "A", 0.03: "", 0.032: "A", 0.071: "", 0.073: "A", 0.15: "", 0.16: "A"}
    steps |= {0.31: "", 0.33: "A", 0.57: "", 0.59: "A", 0.83: "", 0.85: "A"}
    assert {now: paths.ask(now, "/a/x") for now in steps} == steps
    text = "/retx-suppression-initial~100/retx-suppression-max~300/retx-suppression-multiplier~3"
    paths = Paths({"A": None}, parameters(text))
    steps = {0.0: "A", 0.09: "", 0.1: "A", 0.39: "", 0.41: "A", 0.7: "", 0.72: "A"}
    assert {now: paths.ask(now, "/a/x") for now in steps} == steps


def test_a_retransmission_is_not_probed() -> None:
    paths = Paths({"A": None, "B": None})
    assert paths.ask(0.0, "/a/x") == "A"
    paths.region().probe_at = 0.0
    assert paths.ask(0.5, "/a/x") == "B" and paths.ask(1.0, "/a/y") == "AB"


def test_a_nack_moves_traffic_at_once() -> None:
    """ASF: onTimeoutOrNack; the Nack itself goes down as in best-route."""
    paths = Paths({"A": -0.01, "B": 0.3})
    assert paths.ask(0.0) == "A"
    paths.run(0.1)
    assert paths.back[-1] == "c<N150/a/1#1" and paths.path("A").dead
    assert paths.ask(0.2) == "B"
    paths.delay["A"] = 0.01
    assert paths.every(0.5, 1.0, 70.0)[-1] == "A"  # a probe found it well again


def test_the_least_severe_nack_goes_down_when_all_refused() -> None:
    paths = Paths({"A": None, "B": None})
    assert paths.ask(0.0, "/a/x") + paths.ask(0.1, "/a/x") == "AB"
    assert paths.world.receive("A", nack(interest("/a/x", 1), 150), 0.2) == []
    assert paths.world.receive("B", nack(interest("/a/x", 2), 50), 0.3) == ["c<N50/a/x#2"]


def test_no_route() -> None:
    paths = Paths({"A": None})
    assert paths.ask(0.0, "/z") == "" and paths.back == ["c<N150/z#1"]
    assert paths.world.receive("A", interest("/a/x", 77), 1.0) == ["A<N150/a/x#77"]  # not back where it came from


def test_hints_are_measured_under_their_delegation() -> None:
    paths = Paths({"A": 0.1, "B": 0.02}, prefixes=("/isp",))
    for number in range(20):
        paths.ask(number / 2, f"/far/{number}", hints=("/none", "/isp/x"))
    assert paths.path("A", "/isp").rtt.smoothed_s == pytest.approx(0.1)
    assert paths.ask(10.0, "/far/y", hints=("/isp",)) == "B"


def test_a_route_that_goes_leaves_the_shorter_one_with_measurements_of_its_own() -> None:
    """The longer prefix is still known for minutes; what is forwarded by the shorter one must not be counted there."""
    paths = Paths({"A": 0.02, "B": 0.1}, prefixes=("/a", "/a/b"))
    paths.ask(0.0, "/a/b/1")
    for name in "AB":
        paths.world.core.rib.unregister(ndn.from_uri("/a/b"), paths.world.faces[name].id, 0)
    for number in range(20):
        paths.ask(1.0 + number, f"/a/b/x{number}")
    assert paths.path("A", "/a").rtt.smoothed_s is not None and not paths.path("A", "/a").timeouts
    assert not paths.path("A", "/a").dead and paths.ask(30.0, "/a/b/y") == "A"


# ------------------------------------------------------------ bounds


def test_state_is_bounded_and_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PREFIXES", 10)
    monkeypatch.setattr(module, "MAX_LATE", 5)
    prefixes = tuple(f"/p{number}" for number in range(30))
    paths = Paths({"A": 0.01, "B": None}, prefixes=prefixes)
    for prefix in prefixes:
        for number in range(2):
            paths.ask(0.1 * paths.asked, f"{prefix}/{number}")
            paths.region(prefix).probe_at = 0.0
    assert len(paths.adaptive._regions) == 10 and len(paths.adaptive._late) == 5
    paths.ask(1000.0, "/p0/again")
    paths.run(1001.0)
    assert len(paths.adaptive._regions) == 1


events = st.lists(
    st.tuples(
        st.sampled_from(["ask", "data", "nack", "wait", "drop"]),
        st.sampled_from("ABC"),
        st.integers(0, 3),
        st.floats(0, 400),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(events)
def test_whatever_happens_interests_go_to_next_hops_only(script: list[tuple[str, str, int, float]]) -> None:
    paths = Paths(dict.fromkeys("ABC"), parameters("/probing-interval~1000/max-timeouts~1"))
    now = 0.0
    for what, name, number, seconds in script:
        now += seconds if what == "wait" else 0.003
        if what == "ask":
            reached = paths.ask(now, f"/a/{number}")
            assert len(reached) == len(set(reached)) <= 2
        elif what == "data" and name in paths.delay:
            paths.world.receive(name, data(f"/a/{number}"), now)
        elif what == "nack" and name in paths.delay:
            paths.world.receive(name, nack(interest(f"/a/{number}", paths.asked), 100), now)
        elif what == "drop" and name in paths.delay and number == 0:
            paths.world.core.remove_face(paths.world.faces[name].id)
            del paths.delay[name]
    paths.world.advance(now + 1000)
    assert paths.world.core.pit_size == 0 and len(paths.adaptive._regions) <= 1
