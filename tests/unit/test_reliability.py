"""Link reliability in virtual time: two ends and a channel that loses, reorders and duplicates.

Clauses: LP = NDNLPv2 wiki, "Reliability"; NFD = daemon/face/lp-reliability.cpp (24.07).
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer.forwarder.link import reliability as module
from ndn_infer.forwarder.link.reassembly import Reassembler
from ndn_infer.forwarder.link.reliability import (
    IDLE_ACK_S,
    MAX_RETRANSMISSIONS,
    MAX_UNACKED,
    TX_SEQUENCE_BYTES,
    Reliability,
)
from ndn_infer.ndn import lp

MTU = 1400


def eight(number: int) -> bytes:
    return (number % 2**64).to_bytes(8, "big")


def piece(sequence: int, fragment: bytes = b"\x05\x01x", more: bytes = b"") -> tuple[bytes, bytes]:
    return b"\x51\x08" + eight(sequence) + more, fragment


def send(end: Reliability, now: float, *sequences: int, mtu: int | None = MTU) -> list[lp.LpPacket]:
    """One network packet of as many link packets as there are Sequences."""
    wires = end.outgoing([piece(number) for number in sequences], now, mtu_bytes=mtu)
    return [lp.decode_lp(wire) for wire in wires]


def due(end: Reliability, now: float, mtu: int | None = MTU) -> list[lp.LpPacket]:
    return [lp.decode_lp(wire) for wire in end.due(now, mtu_bytes=mtu)]


def tx(packet: lp.LpPacket) -> int:
    assert packet.tx_sequence is not None
    return int.from_bytes(packet.tx_sequence, "big")


def numbers(packets: list[lp.LpPacket]) -> list[tuple[int, int]]:
    """(TxSequence, Sequence) of each."""
    return [(tx(packet), int.from_bytes(packet.sequence or b"", "big")) for packet in packets]


def ack(end: Reliability, now: float, *acked: int) -> None:
    assert end.incoming(lp.LpPacket(acks=tuple(map(eight, acked))), now)


def received(sequence: int, tx_sequence: int) -> lp.LpPacket:
    return lp.LpPacket(b"\x05\x01x", sequence=eight(sequence), tx_sequence=eight(tx_sequence))


def held(end: Reliability) -> int:
    """Everything that an end keeps for packets under way, in one number."""
    return end.in_flight + len(end._earlier) + len(end._acks)


# ------------------------------------------------------------ the sending side


def test_golden_bytes() -> None:
    """Field order and sizes as ndn-cxx insists on: Sequence, Ack, TxSequence, Fragment (LP)."""
    end = Reliability(first=7)
    end.incoming(received(1, 0x0102), 0.0)
    (wire,) = end.outgoing([piece(9)], 0.0, mtu_bytes=None)
    assert wire.hex() == (
        "6427" "51080000000000000009" "fd0344080000000000000102" "fd0348080000000000000007" "5003" "050178"
    )  # fmt: skip
    idle = Reliability()
    idle.incoming(received(1, 3), 0.0)
    assert idle.due(IDLE_ACK_S, mtu_bytes=None)[0].hex() == "640cfd0344080000000000000003"


def test_every_link_packet_has_a_number_of_its_own() -> None:
    end = Reliability()
    assert numbers(send(end, 0.0, 10, 11)) + numbers(send(end, 0.0, 12)) == [(0, 10), (1, 11), (2, 12)]
    assert end.in_flight == 3
    ack(end, 0.1, 0, 2)
    assert end.in_flight == 1 and end.counters.acknowledged == 1
    ack(end, 0.1, 1)
    assert held(end) == 0 and end.counters.acknowledged == 2 and end.next_wake() is None


def test_timeout_is_a_second_until_measured_then_rfc_6298() -> None:
    """ndn-cxx RttEstimator: 1 s at first, SRTT + 4 RTTVAR later, never below 200 ms."""
    end = Reliability()
    send(end, 10.0, 1)
    assert end.next_wake() == 11.0 and due(end, 10.999) == []
    assert numbers(due(end, 11.0)) == [(1, 1)]
    ack(end, 11.4, 1)
    assert held(end) == 0 and end.counters.repaired == 1
    send(end, 12.0, 2)
    assert end.next_wake() == pytest.approx(12.0 + 0.4 + 4 * 0.2)
    for step in range(40):
        send(end, 20.0 + step, 3 + step)
        ack(end, 20.001 + step, 2 + step, 3 + step)
    assert held(end) == 0
    send(end, 99.0, 99)
    assert end.next_wake() == pytest.approx(99.2)


def test_three_retransmissions_then_all_link_packets_of_it_are_given_up() -> None:
    """NFD: maxRetx 3; the other fragments of the network packet go with it."""
    end = Reliability()
    send(end, 0.0, 1, 2)
    assert [numbers(due(end, float(step))) for step in (1, 2)] == [[(2, 1), (3, 2)], [(4, 1), (5, 2)]]
    assert numbers(due(end, 3.0)) == [(6, 1), (7, 2)] and end.counters.exhausted == 0
    assert due(end, 4.0) == [] and end.counters.exhausted == 1
    assert held(end) == 0 and end.next_wake() is None


def test_an_acknowledged_fragment_does_not_save_its_siblings() -> None:
    end = Reliability()
    send(end, 0.0, 1, 2, 3)
    for step in range(1, 4):
        due(end, float(step))
        if step == 1:
            ack(end, 1.0, 4)  # the second fragment
    assert end.in_flight == 2
    assert due(end, 9.0) == [] and held(end) == 0 and end.counters.exhausted == 1
    ack(end, 9.0, *range(12))  # all too late
    assert end.counters.acknowledged == end.counters.repaired == 0


def test_a_packet_is_lost_when_three_later_ones_arrived() -> None:
    """LP: acknowledgements for three greater TxSequences; NFD: seqNumLossThreshold 3."""
    end = Reliability()
    for number in range(6):
        send(end, 0.0, 100 + number)
    ack(end, 0.01, 1, 2)
    assert due(end, 0.01) == []
    ack(end, 0.02, 3)
    assert end.next_wake() == 0.02
    assert numbers(due(end, 0.02)) == [(6, 100)]
    ack(end, 0.03, 4, 5)
    assert due(end, 0.03) == []
    ack(end, 0.03, 6)
    assert held(end) == 0
    assert (end.counters.acknowledged, end.counters.repaired, end.counters.retransmitted) == (5, 1, 1)


def test_one_ack_may_show_several_lost_and_each_counts_anew_after_its_retransmission() -> None:
    end = Reliability()
    for number in range(5):
        send(end, 0.0, number)
    ack(end, 0.0, 2, 3, 4)
    assert numbers(due(end, 0.0)) == [(5, 0), (6, 1)]
    for number in range(7, 9):
        send(end, 0.0, number)
    ack(end, 0.0, 7, 8)
    assert due(end, 0.0) == []
    send(end, 0.0, 9)
    ack(end, 0.0, 9)
    assert numbers(due(end, 0.0)) == [(10, 0), (11, 1)]


def test_gaps_cost_retransmissions_like_timeouts() -> None:
    """A peer that acknowledges everything but one fragment does not get it for ever (NFD: LossByGreaterAcks)."""
    end = Reliability()
    send(end, 0.0, 1, 2)
    transmissions, next_sequence = 2, 3
    for _ in range(40):
        packets = send(end, 0.0, next_sequence)
        next_sequence += 1
        ack(end, 0.0, *map(tx, packets))
        transmissions += len(due(end, 0.0))
    assert transmissions == 2 * (1 + MAX_RETRANSMISSIONS)
    assert end.counters.exhausted == 1 and held(end) == 0


def test_an_ack_for_an_earlier_transmission_counts() -> None:
    """Round trips of 1.5 s against the first timeout of 1 s: a copy too many, then measured."""
    end = Reliability()
    send(end, 0.0, 1)
    assert numbers(due(end, 1.0)) == [(1, 1)]
    ack(end, 1.5, 0)
    assert held(end) == 0 and end.rtt.rto_s == pytest.approx(1.5 + 4 * 0.75)
    ack(end, 2.5, 1)  # the copy's, too late to matter
    assert end.counters.repaired == 1


def test_an_ack_between_loss_and_retransmission_saves_the_copy() -> None:
    end = Reliability()
    for number in range(4):
        send(end, 0.0, number)
    ack(end, 0.1, 1, 2, 3, 0)
    assert due(end, 0.1) == [] and held(end) == 0


def test_numbers_wrap_around() -> None:
    """NFD: the window may begin at a TxSequence greater than those it ends with."""
    end = Reliability(first=2**64 - 2)
    for number in range(5):
        send(end, 0.0, number)
    ack(end, 0.0, 2**64 - 1, 0, 1)  # the second, third and fourth
    assert numbers(due(end, 0.0)) == [(3, 0)]
    ack(end, 0.0, 2)
    ack(end, 0.0, 3)
    assert held(end) == 0


def test_what_is_in_flight_is_bounded() -> None:
    """Nobody answers: beyond the bound packets go out once, without a number."""
    end = Reliability()
    for number in range(MAX_UNACKED):
        send(end, 0.0, number)
    (extra,) = send(end, 0.0, 99999)
    assert extra.tx_sequence is None and extra.sequence == eight(99999)
    assert end.in_flight == MAX_UNACKED and end.counters.unprotected == 1
    ack(end, 0.0, 0)
    assert send(end, 0.0, 99999)[0].tx_sequence is not None


# ------------------------------------------------------------ the receiving side


def test_acks_travel_with_the_next_packet() -> None:
    end = Reliability()
    for number in range(3):
        assert end.incoming(received(number, 50 + number), 0.0)
    assert [packet.acks for packet in send(end, 0.001, 1, 2)] == [(eight(50), eight(51), eight(52)), ()]
    assert end.next_wake() == 1.001 and due(end, 0.1) == []


@pytest.mark.parametrize("mtu", [128, 576, 1400, 9000, None])
@given(waiting=st.integers(0, 800), size=st.integers(1, 8000))
def test_acks_stay_within_the_mtu(mtu: int | None, waiting: int, size: int) -> None:
    """On a stream within the largest packet (NFD: piggyback)."""
    end = Reliability()
    for number in range(waiting):
        end.incoming(received(number, number), 0.0)
    limit = mtu or 8800
    fragment = b"\x05" * min(size, limit - TX_SEQUENCE_BYTES - 10 - 8)
    (wire,) = end.outgoing([piece(1, fragment)], 0.0, mtu_bytes=mtu)
    flushed = end.due(IDLE_ACK_S, mtu_bytes=mtu)
    assert max(map(len, [wire, *flushed])) <= min(limit, 8800)
    packets = [lp.decode_lp(each) for each in (wire, *flushed)]
    assert packets[0].fragment == fragment and all(packet.acks and not packet.fragment for packet in packets[1:])
    assert [each for packet in packets for each in packet.acks] == [eight(number) for number in range(waiting)]
    if len(packets[0].acks) < waiting:  # it took all it had room for
        assert len(wire) > min(limit, 8800) - 4 - TX_SEQUENCE_BYTES


def test_idle_packets_after_five_milliseconds() -> None:
    """NFD: the timer starts with the first Ack that waits, and all that wait then go."""
    end = Reliability()
    end.incoming(received(1, 1), 10.0)
    end.incoming(received(2, 2), 10.004)
    assert end.next_wake() == 10.0 + IDLE_ACK_S and end.due(10.0049, mtu_bytes=MTU) == []
    (idle,) = due(end, 10.0 + IDLE_ACK_S)
    assert idle == lp.LpPacket(acks=(eight(1), eight(2)))
    assert end.next_wake() is None and held(end) == 0


def test_idle_packets_are_not_acknowledged_themselves() -> None:
    end = Reliability()
    assert end.incoming(lp.LpPacket(acks=(eight(5),)), 0.0)
    assert end.incoming(lp.LpPacket(tx_sequence=eight(5)), 0.0)
    assert held(end) == 0 and end.next_wake() is None


def test_duplicates_are_dropped_and_acknowledged_again() -> None:
    """The Ack of the first copy may be what was lost (NFD: DropDuplicateReceivedSequence)."""
    end = Reliability()
    assert end.incoming(received(7, 1), 0.0)
    assert not end.incoming(received(7, 2), 1.0)
    assert not end.incoming(received(7, 2), 3.9)
    assert end.counters.duplicates == 2
    assert [packet.acks for packet in due(end, 4.0)] == [(eight(1), eight(2), eight(2))]


def test_sequences_are_forgotten_in_time() -> None:
    """A peer that starts anew begins with the same numbers."""
    end = Reliability()
    assert end.incoming(received(7, 1), 0.0)
    assert end.incoming(received(7, 1), 8.1)
    assert not end.incoming(received(7, 1), 8.2)


def test_packets_without_reliability_fields_pass() -> None:
    end = Reliability()
    for _ in range(2):
        assert end.incoming(lp.LpPacket(b"\x05\x00"), 0.0)
        assert end.incoming(lp.LpPacket(b"\x05\x00", sequence=eight(1)), 0.0)
        assert end.incoming(lp.LpPacket(b"\x05\x00", tx_sequence=eight(1)), 0.0)  # no Sequence to know it by


def test_what_a_peer_can_make_us_keep_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RECENT", 100)
    end = Reliability()
    for number in range(3 * module.MAX_ACKS):
        end.incoming(received(number, number), 0.0)
    assert len(end._acks) == module.MAX_ACKS and len(end._recent) + len(end._older) <= 200
    assert not end.incoming(received(number, 0), 0.0)
    assert sum(len(packet.acks) for packet in due(end, 1.0)) == module.MAX_ACKS


# ------------------------------------------------------------ two ends


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
