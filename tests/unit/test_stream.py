"""Streams in virtual time: in order, once each, through loss, reordering and refusals; or an end that is told."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.wire.readership import FIRST_READ_S, KEPT_S, KEPT_UNBEGUN_S, MOST_READ_S, READ_S, Readers, Readership
from ndn_infer.wire.rhythm import (
    LEAST_QUIET_S,
    LEAST_WAIT_S,
    NEWS_S,
    QUESTIONS,
    SPARE_AHEAD,
    UNHURRIED_AHEAD,
    Rhythm,
)
from ndn_infer.wire.rhythm import MOST_AHEAD as WIDEST
from ndn_infer.wire.stream import LIFETIME_S, MOST_AHEAD, MOST_WAITERS, NOWHERE_S, StreamReader, StreamWriter


@dataclass
class Path:
    """A writer that makes a segment every `pace_s`, a reader, and between them a network that loses and reorders."""

    count: int
    seed: int
    loss: float
    refuse: float
    pace_s: float
    reader: StreamReader
    delay_s: float = 0.05
    spread: tuple[float, float] = (0.1, 2.0)
    """Of the delays."""
    alive: bool = False
    """Whether the producer answers questions for its progress."""
    now: float = 0.0
    got: list[bytes] = field(default_factory=list)
    writer: StreamWriter[int] = field(default_factory=StreamWriter)
    events: list[tuple[float, int, str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random, self.tie = random.Random(self.seed), itertools.count()
        self.at(self.pace_s, "make", 0)

    def at(self, after_s: float, kind: str, number: int) -> None:
        heapq.heappush(self.events, (self.now + after_s, next(self.tie), kind, number))

    def send(self, kind: str, number: int) -> None:
        if self.random.random() >= self.loss:
            self.at(self.delay_s * self.random.uniform(*self.spread), kind, number)

    def run(self, until: float = float("inf")) -> Path:
        """Drive the reader by `next_wake` alone, as its shell does."""
        reader = self.reader
        while not reader.done and self.now < until:
            due = reader.due(self.now)
            if reader.stalled(self.now):
                break
            if reader.wants_news(self.now):
                self.send("news_ask", 0)
                due += reader.due(self.now)
            for number in due:
                self.send("ask", number)
            wake = reader.next_wake(self.now)
            assert wake > self.now, "woken without anything to do"
            self.now = min(wake, self.events[0][0]) if self.events else wake
            while self.events and self.events[0][0] <= self.now:
                _, _, kind, number = heapq.heappop(self.events)
                getattr(self, f"on_{kind}")(number)
        return self

    def die(self) -> None:
        """The producer: nothing comes from it any more."""
        self.loss = 1.0
        self.events = [event for event in self.events if event[2] in ("data", "news")]

    def on_make(self, number: int) -> None:
        for waiter in self.writer.append(b"%d" % number, self.now, final=number == self.count - 1):
            self.send("data", waiter)
        if number < self.count - 1:
            self.at(self.pace_s, "make", number + 1)

    def on_ask(self, number: int) -> None:
        if self.random.random() < self.refuse:
            self.send("nack", number)
        elif self.writer.ask(number, number, self.now + 1.0) is not None:
            self.send("data", number)

    def on_news_ask(self, number: int) -> None:
        if self.alive:
            self.send("news", number)

    def on_news(self, number: int) -> None:
        self.reader.on_news(self.now)

    def on_nack(self, number: int) -> None:
        self.reader.on_refused(number, self.now)

    def on_data(self, number: int) -> None:
        final = self.count - 1 if number == self.count - 1 else None
        self.got += self.reader.on_segment(number, self.writer.segments[number], final=final, now=self.now)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 50), st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.4]), st.sampled_from([0.0, 0.2]),
    st.sampled_from([0.001, 0.05, 0.7]), st.integers(1, 8),
)  # fmt: skip
def test_segments_come_out_once_and_in_order(
    count: int, seed: int, loss: float, refuse: float, pace_s: float, ahead: int
) -> None:
    """Where the path loses so much that the producer is taken for dead, the rest comes from the next one."""
    got: list[bytes] = []
    for detour in range(100):
        path = Path(count - len(got), seed + detour, loss, refuse, pace_s, StreamReader(0.0, ahead=ahead), alive=True)
        path.run()
        got += [b"%d" % (int(number) + len(got) - at) for at, number in enumerate(path.got)]
        assert path.got == [b"%d" % number for number in range(len(path.got))]
        if path.reader.done:
            break
        assert loss > 0.0, "no false alarm where nothing is lost"
    assert len(got) == count


# ------------------------------------------------------------ slowness is no death, silence is


def test_a_dead_network_ends_in_a_stall_that_is_told() -> None:
    path = Path(5, 1, 1.0, 0.0, 0.1, StreamReader(0.0)).run()
    assert path.got == [] and not path.reader.done and path.now == NEWS_S + QUESTIONS * LEAST_WAIT_S
    assert Path(5, 1, 1.0, 0.0, 0.1, StreamReader(0.0, idle_s=1.1)).run().now == 1.1, "at the latest"


@pytest.mark.parametrize(
    ("pace_s", "delay_s", "within_s"), [(0.01, 0.001, 1.35), (0.05, 0.05, 1.35), (0.2, 0.2, 2.0), (0.7, 0.05, 2.1)]
)
def test_a_producer_that_dies_without_a_word_is_noticed_by_its_own_rhythm(
    pace_s: float, delay_s: float, within_s: float
) -> None:
    for segments in range(6, 60, 9):
        path = Path(1000, segments, 0.0, 0.0, pace_s, StreamReader(0.0), delay_s, alive=True).run(segments * pace_s)
        path.die()
        died_at = path.now
        path.run()
        assert not path.reader.done and LEAST_QUIET_S < path.now - died_at <= within_s + 2 * delay_s


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.1])
def test_a_producer_that_says_how_it_gets_on_is_not_given_up(loss: float) -> None:
    """Ten minutes in a queue, and slow then; on a path that loses a tenth it may be taken for dead once in hours."""
    given_up = 0
    for seed in range(20):
        path = Path(3, seed, loss, 0.0, 300.0, StreamReader(0.0), alive=True).run()
        given_up += not path.reader.done
        assert path.reader.done is (path.got == [b"0", b"1", b"2"])
    assert given_up <= (loss > 0.05)


def test_slow_steps_in_a_quick_stream_are_asked_about_and_nothing_else() -> None:
    """Somebody else's long prompt: no token for seconds."""
    path = Path(60, 1, 0.0, 0.0, 0.02, StreamReader(0.0), alive=True).run(0.6)
    path.events = [(when + 20.0 * (kind == "make"), tie, kind, number) for when, tie, kind, number in path.events]
    heapq.heapify(path.events)
    assert path.run().reader.done and len(path.got) == 60


def test_a_reader_that_was_held_up_itself_does_not_blame_the_producer() -> None:
    reader = StreamReader(0.0)
    reader.due(0.0)
    reader.next_wake(0.0)
    reader.due(100.0)
    assert not reader.stalled(100.0) and reader.wants_news(100.0)
    reader.next_wake(100.0)
    path = Path(1, 1, 1.0, 0.0, 500.0, reader, now=100.0)
    assert LEAST_WAIT_S < path.run().now - 100.0 <= NEWS_S + QUESTIONS * LEAST_WAIT_S


def test_without_a_link_nothing_is_the_producers_silence_but_not_for_ever() -> None:
    reader, now = StreamReader(0.0, idle_s=30.0), 0.0
    while now < 29.9:
        reader.cut_off(now)
        reader.due(now)
        assert not reader.stalled(now)
        reader.wants_news(now)
        now = reader.next_wake(now)
    assert reader.stalled(30.0)


def test_the_end_of_a_stream_is_read_though_its_producer_has_no_more_news() -> None:
    """The last segment's Interest was lost; a stream that has ended has no progress."""
    reader = StreamReader(0.0, ahead=1)
    assert reader.due(0.0) == [0]
    reader.on_segment(0, b"a", final=None, now=0.1)
    assert reader.due(0.1) == [1]
    assert reader.wants_news(0.1 + NEWS_S)
    reader.on_no_news(0.15 + NEWS_S)
    assert reader.due(0.15 + NEWS_S) == [1] and not reader.stalled(0.15 + NEWS_S)
    assert reader.on_segment(1, b"b", final=1, now=0.2 + NEWS_S) == [b"b"] and reader.done


# ------------------------------------------------------------ how far ahead


@pytest.mark.parametrize(("rtt_s", "gap_s"), [(0.001, 0.03), (0.05, 0.02), (0.2, 0.05), (0.3, 0.01), (1.0, 0.01)])
def test_interests_are_ahead_by_what_is_made_in_a_round_trip(rtt_s: float, gap_s: float) -> None:
    rhythm = Rhythm(rtt_s)
    assert rhythm.ahead(4) == 4, "nothing is known of the rhythm"
    for _ in range(40):
        rhythm.segment(gap_s)
    least = UNHURRIED_AHEAD if rtt_s < gap_s else 4
    assert rhythm.ahead(4) == min(max(math.ceil(rtt_s / gap_s) + SPARE_AHEAD, least), WIDEST)
    for _ in range(60):
        rhythm.segment(0.8)
    assert rhythm.ahead(4) <= 5, "the rhythm changed"


@pytest.mark.parametrize("rtt_s", [0.02, 0.2])
def test_a_stream_is_read_at_the_pace_at_which_it_is_made_and_a_finished_one_faster(rtt_s: float) -> None:
    """In a path where four Interests ahead would hold it back; and of a late reader, for whom all is there."""
    for pace_s in (0.02, 1e-6):
        reader = StreamReader(0.0, rhythm=Rhythm(rtt_s))
        path = Path(300, 1, 0.0, 0.0, pace_s, reader, rtt_s / 2, (1.0, 1.0), alive=True).run()
        four_ahead = 300 * rtt_s / 4
        assert reader.done and path.now < max(300 * pace_s + 6 * rtt_s, four_ahead / 3)


@dataclass
class Asked(Path):
    """Keeps what was asked for, and when."""

    asked: list[tuple[float, int]] = field(default_factory=list)

    def send(self, kind: str, number: int) -> None:
        if kind == "ask":
            self.asked.append((self.now, number))
        super().send(kind, number)


@pytest.mark.parametrize(("rtt_s", "bursts"), [(0.01, 36), (0.0, 200)])
def test_interests_leave_together_where_segments_come_slower_than_round_trips(rtt_s: float, bursts: int) -> None:
    """Not where the round trip is unknown; and each segment is asked for once in both cases."""
    path = Asked(200, 1, 0.0, 0.0, 0.05, StreamReader(0.0, rhythm=Rhythm(rtt_s)), rtt_s / 2, (1.0, 1.0), alive=True)
    path.run()
    numbers = [number for _, number in path.asked]
    assert path.reader.done and len(numbers) == len(set(numbers)) <= 200 + UNHURRIED_AHEAD
    assert len({at for at, _ in path.asked}) <= bursts and path.now < 200 * 0.05 + 2 * rtt_s + 0.05


@pytest.mark.parametrize("gap_s", [0.25, 0.35, 0.45])
def test_interests_for_a_slow_stream_do_not_run_out_before_they_are_answered(gap_s: float) -> None:
    """Once its rhythm is known; streams of many answers side by side have an event each quarter of a second."""
    path = Asked(60, 1, 0.0, 0.0, gap_s, StreamReader(0.0, rhythm=Rhythm(0.01)), 0.005, (1.0, 1.0), alive=True)
    path.run()
    known = [number for _, number in path.asked if number > 8]
    assert path.reader.done and len(known) == len(set(known))


@dataclass
class DeadHop(Asked):
    """From the `cut` on a forwarder on the way tries a dead next hop first, and another one only for a retransmission:
    an Interest that comes while one like it is pending (best-route). Until `healed`."""

    cut: float = 1.0
    healed: float = float("inf")
    pending: dict[tuple[str, int], float] = field(default_factory=dict)

    def send(self, kind: str, number: int) -> None:
        if kind in ("data", "news"):
            super().send(kind, number)
            return
        again = self.pending.get((kind, number), 0.0) > self.now
        self.pending[kind, number] = self.now + LIFETIME_S
        if again or not self.cut <= self.now < self.healed:
            super().send(kind, number)
        elif kind == "ask":
            self.asked.append((self.now, number))

    def on_data(self, number: int) -> None:
        self.pending.pop(("ask", number), None)
        super().on_data(number)


@pytest.mark.parametrize(("rtt_s", "pace_s"), [(0.01, 0.03), (0.02, 0.12), (0.2, 0.12), (0.02, 0.4)])
def test_a_hop_that_is_dead_costs_a_reader_no_second_for_each_segment(rtt_s: float, pace_s: float) -> None:
    """Twice a segment comes by its second Interest alone: then each has a second one, before it is missed."""
    reader = StreamReader(0.0, rhythm=Rhythm(rtt_s))
    path = DeadHop(64, 1, 0.0, 0.0, pace_s, reader, rtt_s / 2, (1.0, 1.0), alive=True).run()
    assert path.reader.done and path.now < 64 * pace_s + 4.0


def test_a_hop_that_was_dead_is_asked_once_again_later() -> None:
    reader = StreamReader(0.0, rhythm=Rhythm(0.02))
    path = DeadHop(400, 1, 0.0, 0.0, 0.1, reader, 0.01, (1.0, 1.0), alive=True, healed=5.0).run()
    numbers = [number for _, number in path.asked]
    twice = {number for number in numbers if numbers.count(number) > 1}
    assert path.reader.done and path.now < 400 * 0.1 + 4.0
    assert twice and max(twice) < 200, "and not for the rest of the stream"


def test_a_writer_knows_whether_anybody_waits() -> None:
    """For whichever segment: where the Interest for the next one was lost, the one after it shows that."""
    writer: StreamWriter[str] = StreamWriter()
    assert not writer.wanted(0.0)
    writer.ask(1, "a", 1.0)
    assert writer.wanted(0.5) and not writer.wanted(1.0)
    writer.ask(0, "b", 2.0)
    writer.append(b"", 1.5)
    assert not writer.wanted(1.6), "what it asked for is there"
    writer.ask(2, "c", 3.0)
    writer.close(2.0)
    assert not writer.wanted(2.0)


def test_a_window_that_was_held_back_opens() -> None:
    """Where segments wait for Interests the time between them is round trip / window, which asks for a wider one."""
    rhythm, seen = Rhythm(0.2), []
    for _ in range(200):
        seen.append(rhythm.ahead(4))
        rhythm.segment(max(0.2 / seen[-1], 0.01))
    assert seen[-1] == 22 and max(seen) <= 23


def test_news_are_asked_for_only_while_nothing_comes() -> None:
    path = Path(100, 1, 0.0, 0.0, 0.2, StreamReader(0.0))
    path.run()
    assert path.reader.done and not path.reader.rhythm.unanswered and path.reader._news_asked_at == 0.0


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 9))
def test_nothing_beyond_the_last_segment_is_asked_for(final: int, known_at: int, ahead: int) -> None:
    reader, asked, now = StreamReader(0.0, ahead=ahead), set(), 0.0
    while not reader.done:
        due = reader.due(now)
        asked.update(due)
        for number in due:
            if number <= final:
                reader.on_segment(number, b"", final=final if number >= min(known_at, final) else None, now=now)
        now += 0.001
    assert asked >= set(range(final + 1)) and max(asked) < final + ahead
    assert reader.due(now) == [] and reader.delivered == final + 1


@pytest.mark.parametrize(("count", "beyond"), [(1, 4), (4, 4), (10, 10), (100, WIDEST)])
def test_a_late_reader_asks_for_little_beyond_the_end(count: int, beyond: int) -> None:
    """All comes from a cache, at once; its end is known when it comes. Each Interest beyond it is refused by the
    producer, for each such reader anew."""
    reader, asked, now = StreamReader(0.0, ahead=4, rhythm=Rhythm(0.02)), set[int](), 0.0
    while not reader.done:
        asked.update(due := reader.due(now))
        now += 0.02
        for number in sorted(one for one in due if one < count):
            reader.on_segment(number, b"", final=number if number == count - 1 else None, now=now)
            asked.update(reader.due(now))
    assert max(asked) - (count - 1) <= beyond


def test_duplicates_and_late_segments_change_nothing() -> None:
    reader = StreamReader(0.0)
    reader.due(0.0)
    assert reader.on_segment(1, b"b", final=None, now=0.1) == []
    assert reader.on_segment(1, b"x", final=None, now=0.1) == []
    assert reader.on_segment(0, b"a", final=None, now=0.2) == [b"a", b"b"]
    assert reader.on_segment(0, b"x", final=None, now=0.3) == []
    reader.on_segment(2, b"c", final=2, now=0.4)
    assert reader.done


@given(st.lists(st.tuples(st.integers(0, 300), st.floats(0, 5)), max_size=200))
def test_the_writer_keeps_a_bounded_number_of_waiters_and_none_pushes_out_those_of_another_segment(
    asks: list[tuple[int, float]],
) -> None:
    writer: StreamWriter[int] = StreamWriter()
    for waiter, (number, expires) in enumerate(asks):
        assert writer.ask(number, waiter, expires) is None
    told = [waiter for number in range(301) for waiter in writer.append(b"x", 0.0, final=number == 300)]
    for number in range(301):
        those = [waiter for waiter, (asked, _) in enumerate(asks) if asked == number][-MOST_WAITERS:]
        expected = [waiter for waiter in those if asks[waiter][1] > 0] if number < MOST_AHEAD else []
        assert [waiter for waiter in told if asks[waiter][0] == number] == expected
    assert writer.ask(999, 0, 9.0) is None and not writer._waiting  # nobody waits for what will never be


def test_a_stream_that_nobody_knows_the_way_to_is_given_up_soon() -> None:
    reader = StreamReader(0.0, idle_s=30.0)
    reader.due(0.0)
    reader.on_refused(2, 0.5, nowhere=True)  # a later one: it may not exist yet
    reader.on_refused(0, 0.6)  # another reason
    assert not reader.stalled(29.0)
    reader.on_refused(0, 1.0, nowhere=True)
    reader.on_refused(0, 1.2, nowhere=True)
    assert not reader.stalled(1.0 + NOWHERE_S - 0.1) and reader.stalled(1.0 + NOWHERE_S)
    assert reader.next_wake(1.2) <= 1.0 + NOWHERE_S
    assert reader.on_segment(0, b"x", final=None, now=1.3) == [b"x"]  # it came back
    assert not reader.stalled(30.0)


# ------------------------------------------------------------ whether anybody reads


@given(st.lists(st.floats(0.0, 1.0), max_size=30), st.booleans())
def test_a_stream_pauses_soon_after_its_last_interest_and_ends_after_a_bound(gaps: list[float], begun: bool) -> None:
    """Readers ask again each second at least; how long their Interests live does not hold it up."""
    readers, now = Readership(0.0, begun=begun), 0.0
    for gap in gaps:
        now += gap
        assert readers.look(now) is Readers.PRESENT
        readers.asked(now, now + LIFETIME_S)
    pause_at = now + READ_S if gaps else FIRST_READ_S
    assert readers.next_change(now) == pause_at and readers.look(pause_at) is Readers.AWAY
    gone_at = pause_at + (KEPT_S if begun else KEPT_UNBEGUN_S)
    assert readers.next_change(pause_at) == gone_at and readers.look(gone_at) is Readers.GONE
    readers.asked(gone_at - 1.0, gone_at)  # somebody came back in time
    assert readers.look(gone_at) is Readers.PRESENT


def test_an_interest_that_waits_counts_while_it_waits_but_not_for_hours() -> None:
    readers = Readership(0.0)
    readers.asked(10.0, 14.0)
    assert readers.look(13.9) is Readers.PRESENT and readers.look(14.0) is Readers.AWAY
    readers.asked(20.0, 20.0 + 3600)
    assert readers.next_change(20.0) == 20.0 + MOST_READ_S
