"""Link reliability in virtual time: two ends and a channel that loses, reorders and duplicates.

Clauses: LP = NDNLPv2 wiki, "Reliability"; NFD = daemon/face/lp-reliability.cpp (24.07).
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.forwarder.link.reassembly import Reassembler
from ndn_infer.forwarder.link.reliability import (
    MAX_RETRANSMISSIONS,
    MAX_UNACKED,
    TX_SEQUENCE_BYTES,
    Reliability,
)
from ndn_infer.ndn import lp
from tests.unit.reliability_kit import MTU, ack, due, eight, held, piece, received, send


@dataclass
class Channel:
    """Two ends, each with a link layer as small as can be; `loss` and `copies` are probabilities."""

    seed: int
    loss: float = 0.0
    copies: float = 0.0
    jitter_s: float = 0.0
    delay_s: float = 0.01
    mtu: int = 200
    now: float = 0.0
    ends: list[Reliability] = field(default_factory=list)
    arrived: list[Counter[bytes]] = field(default_factory=lambda: [Counter(), Counter()])
    transmitted: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.ends = self.ends or [Reliability(), Reliability(2**64 - 50)]
        self.reassemblers = [Reassembler(), Reassembler()]
        self.sequences = [0, 2**64 - 70]
        self.air: list[tuple[float, int, int, bytes]] = []

    def put(self, side: int, wires: list[bytes]) -> None:
        for wire in wires:
            assert len(wire) <= self.mtu
            self.transmitted += 1
            for _ in range(2 if self.rng.random() < self.copies else 1):
                if self.rng.random() >= self.loss:
                    when = self.now + self.delay_s + self.rng.random() * self.jitter_s
                    heapq.heappush(self.air, (when, self.transmitted, 1 - side, wire))

    def send(self, side: int, payload: bytes) -> None:
        size = self.mtu - 28 - TX_SEQUENCE_BYTES
        cut = [payload[start : start + size] for start in range(0, len(payload), size)]
        pieces = []
        for index, fragment in enumerate(cut):
            fields = b"\x51\x08" + eight(self.sequences[side])
            if len(cut) > 1:
                fields += bytes((0x52, 1, index, 0x53, 1, len(cut)))
            pieces.append((fields, fragment))
            self.sequences[side] += 1
        self.put(side, self.ends[side].outgoing(pieces, self.now, mtu_bytes=self.mtu))

    def run(self, until: float) -> None:
        """Let time pass: packets arrive, timers run out."""
        while True:
            wakes = [(wake, side) for side in (0, 1) if (wake := self.ends[side].next_wake()) is not None]
            wake = min(wakes, default=(until + 1, 0))
            arrival = self.air[0][0] if self.air else until + 1
            if min(wake[0], arrival) > until:
                self.now = until
                return
            self.now = max(self.now, min(wake[0], arrival))
            if wake[0] <= arrival:
                self.put(wake[1], self.ends[wake[1]].due(self.now, mtu_bytes=self.mtu))
                continue
            _, _, side, wire = heapq.heappop(self.air)
            packet = lp.decode_lp(wire)
            if self.ends[side].incoming(packet, self.now) and packet.fragment:
                whole = self.reassemblers[side].add(packet, self.now) if packet.frag_count > 1 else packet
                if whole is not None:
                    self.arrived[side][whole.fragment] += 1


def exchange(channel: Channel, count: int, *, size: int = 20, gap_s: float = 0.002) -> list[float]:
    """`count` packets each way; the share that arrived at each side. None comes twice, and nothing stays behind."""
    for number in range(count):
        for side in (0, 1):
            channel.send(side, number.to_bytes(size, "big"))
        channel.run(channel.now + gap_s)
    channel.run(channel.now + 30.0)
    for side in (0, 1):
        assert set(channel.arrived[side].values()) <= {1}
        counters = channel.ends[side].counters
        assert counters.acknowledged + counters.repaired + counters.exhausted == count
    assert [held(end) for end in channel.ends] == [0, 0]
    return [len(arrived) / count for arrived in channel.arrived]


def test_a_clean_link_costs_nothing_twice() -> None:
    channel = Channel(1)
    assert exchange(channel, 500) == [1.0, 1.0]
    assert all(end.counters.acknowledged == 500 and end.counters.retransmitted == 0 for end in channel.ends)


def test_thirty_percent_loss() -> None:
    """0.3^4 = 0.8 % of packets lose every one of their four transmissions; without repair 30 % would be missing."""
    for share in exchange(Channel(2, loss=0.3, copies=0.05, jitter_s=0.02), 2000):
        assert 0.98 < share < 1.0


def test_loss_hits_packets_of_several_fragments_harder_but_they_are_repaired_too() -> None:
    """Slow enough for the timeout to be measured: reassembly waits half a second only."""
    channel = Channel(3, loss=0.1, jitter_s=0.005)
    assert all(share > 0.97 for share in exchange(channel, 400, size=600, gap_s=0.005))
    assert channel.ends[0].counters.repaired > 100


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    loss=st.floats(0, 0.6),
    copies=st.floats(0, 0.5),
    jitter_s=st.floats(0, 0.2),
    delay_s=st.floats(0, 0.7),
    size=st.sampled_from([16, 400]),
)
def test_any_channel(seed: int, loss: float, copies: float, jitter_s: float, delay_s: float, size: int) -> None:
    """Nothing twice, nothing left behind, no more than four transmissions (and their Acks), whatever happens."""
    channel = Channel(seed, loss=loss, copies=copies, jitter_s=jitter_s, delay_s=delay_s)
    exchange(channel, 60, size=size, gap_s=0.003)
    pieces = -(-size // 160)
    assert all(end.counters.retransmitted <= 60 * pieces * MAX_RETRANSMISSIONS for end in channel.ends)


def test_a_peer_without_reliability_costs_four_copies() -> None:
    """It ignores TxSequence (an ignorable field) and never acknowledges; packets arrive all the same."""
    end = Reliability()
    send(end, 0.0, 1)
    copies = sum(len(due(end, now / 10)) for now in range(1, 100))
    assert copies == MAX_RETRANSMISSIONS and held(end) == 0


acts = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 4)),
        st.tuples(st.just("wait"), st.floats(0, 2.0)),
        st.tuples(st.just("acks"), st.lists(st.integers(-4, 40) | st.integers(0, 2**64 - 1), max_size=12)),
        st.tuples(st.just("packet"), st.integers(0, 20)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(acts, st.sampled_from([0, 2**64 - 3]))
def test_hostile_acks_cost_no_more_than_honest_ones(script: list[tuple[str, object]], first: int) -> None:
    """Whatever is acknowledged, in whatever order: four transmissions at most, timers that fire, an empty end."""
    end = Reliability(first)
    now, sequence = 0.0, 0
    sent: Counter[bytes] = Counter()
    groups = 0

    def count(wires: list[bytes]) -> None:
        sent.update(packet.sequence for packet in map(lp.decode_lp, wires) if packet.sequence)

    for what, how in script:
        if what == "send" and isinstance(how, int):
            wanted = range(sequence, sequence + how)
            count(end.outgoing([piece(number) for number in wanted], now, mtu_bytes=MTU))
            sequence += how
            groups += 1
        elif what == "wait" and isinstance(how, float):
            wake = end.next_wake()
            if wake is not None and wake > now:
                assert end.due(now, mtu_bytes=MTU) == []
            now += how
            count(end.due(now, mtu_bytes=MTU))
        elif what == "acks" and isinstance(how, list):
            end.incoming(lp.LpPacket(acks=tuple(eight(first + number) for number in how)), now)
        elif isinstance(how, int):
            end.incoming(received(how, how), now)
        assert (wake := end.next_wake()) is None or wake < now + 61
    for _ in range(400):
        wake = end.next_wake()
        if wake is None:
            break
        now = max(now, wake)
        before = held(end), end.counters.retransmitted
        count(end.due(now, mtu_bytes=MTU))
        assert (held(end), end.counters.retransmitted) != before
    assert held(end) == 0 and max(sent.values(), default=0) <= 1 + MAX_RETRANSMISSIONS
    counters = end.counters
    assert counters.acknowledged + counters.repaired + counters.exhausted == groups


def test_the_cost_of_a_hostile_ack_is_bounded() -> None:
    """The newest packet acknowledged while thousands are in flight: each of those is looked at three times at most for
    each of its transmissions."""
    end = Reliability()
    for number in range(MAX_UNACKED):
        send(end, 0.0, number)
    transmitted, newest = 0, MAX_UNACKED - 1
    for _ in range(100):
        ack(end, 0.0, newest, newest - 1, newest - 2)
        transmitted += (again := len(due(end, 0.0)))
        newest += again
    assert held(end) == 0 and transmitted <= 3 * MAX_UNACKED
