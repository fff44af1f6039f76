"""Streams in virtual time: in order, once each, through loss, reordering and refusals; or an end that is told."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.wire.readership import FIRST_READ_S, KEPT_S, KEPT_UNBEGUN_S, MOST_READ_S, READ_S, Readers, Readership
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
            self.at(self.delay_s * self.random.uniform(0.1, 2), kind, number)

    def run(self) -> None:
        """Drive the reader by `next_wake` alone, as its shell does."""
        reader = self.reader
        while not reader.done and not reader.stalled(self.now):
            for number in reader.due(self.now):
                self.send("ask", number)
            if reader.wants_news(self.now):
                self.send("news_ask", 0)
            wake = reader.next_wake(self.now)
            assert wake > self.now, "woken without anything to do"
            self.now = min(wake, self.events[0][0]) if self.events else wake
            while self.events and self.events[0][0] <= self.now:
                _, _, kind, number = heapq.heappop(self.events)
                getattr(self, f"on_{kind}")(number)

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


@settings(max_examples=120, deadline=None)
@given(
    st.integers(1, 50), st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.4]), st.sampled_from([0.0, 0.2]),
    st.sampled_from([0.001, 0.05, 0.7]), st.integers(1, 8),
)  # fmt: skip
def test_segments_come_out_once_and_in_order(
    count: int, seed: int, loss: float, refuse: float, pace_s: float, ahead: int
) -> None:
    path = Path(count, seed, loss, refuse, pace_s, StreamReader(0.0, ahead=ahead, lifetime_s=1.0, idle_s=200.0))
    path.run()
    assert path.got == [b"%d" % number for number in range(count)] and path.reader.done


def test_a_dead_network_ends_in_a_stall_that_is_told() -> None:
    path = Path(5, 1, 1.0, 0.0, 0.1, StreamReader(0.0, idle_s=30.0))
    path.run()
    assert path.got == [] and not path.reader.done and path.now == 30.0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3]))
def test_a_producer_that_says_how_it_gets_on_is_not_given_up(seed: int, loss: float) -> None:
    """Ten minutes in a queue; the same silence without news is death."""
    path = Path(2, seed, loss, 0.0, 600.0, StreamReader(0.0, idle_s=30.0), alive=True)
    path.run()
    assert path.got == [b"0", b"1"] and path.now >= 1200.0
    path = Path(2, seed, loss, 0.0, 600.0, StreamReader(0.0, idle_s=30.0))
    path.run()
    assert path.got == [] and path.now == 30.0


def test_a_reader_that_was_held_up_itself_does_not_blame_the_producer() -> None:
    reader = StreamReader(0.0, idle_s=30.0)
    reader.due(0.0)
    reader.due(100.0)
    assert not reader.stalled(100.0) and reader.wants_news(100.0)
    for second in range(101, 129):
        assert not reader.stalled(second) and reader.due(second) is not None
    assert reader.stalled(130.0)


def test_news_are_asked_for_only_while_nothing_comes() -> None:
    path = Path(100, 1, 0.0, 0.0, 0.2, StreamReader(0.0))
    path.run()
    assert path.reader.done and path.reader._news_asked_at == 0.0


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
    reader.on_refused(0, 3.0, nowhere=True)
    assert not reader.stalled(1.0 + NOWHERE_S - 0.1) and reader.stalled(1.0 + NOWHERE_S)
    assert reader.next_wake(3.5) <= 1.0 + NOWHERE_S
    assert reader.on_segment(0, b"x", final=None, now=3.6) == [b"x"]  # it came back
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
