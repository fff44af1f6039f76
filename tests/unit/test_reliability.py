"""Link reliability in virtual time, one end: what it sends again, what it acknowledges, what it keeps.

Clauses: LP = NDNLPv2 wiki, "Reliability"; NFD = daemon/face/lp-reliability.cpp (24.07).
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.forwarder.link import reliability as module
from ndn_infer.forwarder.link.reliability import (
    IDLE_ACK_S,
    MAX_RETRANSMISSIONS,
    MAX_UNACKED,
    TX_SEQUENCE_BYTES,
    Reliability,
)
from ndn_infer.ndn import lp
from tests.unit.reliability_kit import MTU, ack, due, eight, held, numbers, piece, received, send, tx

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
