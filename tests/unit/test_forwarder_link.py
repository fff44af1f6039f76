"""The link service: header fields, fragmentation and reassembly, and what hostile fragments may cost."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer.errors import BadPacket
from ndn_infer.forwarder.link.link_service import FRAGMENT_OVERHEAD_BYTES, MIN_MTU_BYTES, LinkService
from ndn_infer.forwarder.link.reassembly import MAX_PARTIAL_PACKETS, Reassembler
from ndn_infer.ndn import lp
from tests.forwarder_world import data, link

MOST_HEADER_BYTES = 34 + 9 + 9
"""A PIT token of 32 bytes, a congestion mark, a Nack with its reason."""
LARGE = data("/large", content=bytes(range(256)) * 32)


def service(sent: list[bytes], **options: int) -> LinkService:
    return LinkService(sent.append, **options)  # type: ignore[arg-type]


@given(
    wire=st.binary(min_size=1, max_size=8800),
    mtu=st.integers(MIN_MTU_BYTES, 9000),
    token=st.binary(max_size=32),
    mark=st.integers(0, 70000),
    reason=st.sampled_from([None, 0, 50, 150]),
    order=st.randoms(use_true_random=False),
)
def test_what_is_sent_arrives(
    wire: bytes, mtu: int, token: bytes, mark: int, reason: int | None, order: random.Random
) -> None:
    """Any packet, any MTU, fragments in any order: the same packet with the same header fields (LP, Fragmentation).
    Nothing is sent, and that is counted, where header fields leave no room for a byte of it."""
    sent: list[bytes] = []
    wire = b"\x05" + wire[1:]
    sender = service(sent, mtu_bytes=mtu)
    sender.send(wire, 0.0, token=token, mark=mark, nack_reason=reason)
    if not sent:
        assert sender.counters.dropped == 1 and mtu < FRAGMENT_OVERHEAD_BYTES + MOST_HEADER_BYTES
        return
    assert all(len(packet) <= mtu for packet in sent)
    if len(sent) == 1 and sent[0] == wire:  # bare
        assert not token and not mark and reason is None
        return
    order.shuffle(sent)
    other = LinkService(lambda _: None)
    whole = [packet for packet in (other.unwrap(piece, 0.0) for piece in sent) if packet is not None]
    assert len(whole) == 1 and len(other.reassembler) == 0
    found = whole[0]
    assert (found.fragment, found.pit_token, found.congestion_mark) == (wire, token, mark)
    assert found.nack_reason == reason


def test_two_packets_interleaved() -> None:
    sent: list[bytes] = []
    sender = service(sent, mtu_bytes=1400)
    sender.send(LARGE, 0.0)
    first, sent[:] = list(sent), []
    sender.send(LARGE[:5000], 0.0)
    other = LinkService(lambda _: None)
    arrived = [
        other.unwrap(piece, 0.0) for pair in zip(first, sent + [b""] * 9, strict=False) for piece in pair if piece
    ]
    assert [packet.fragment for packet in arrived if packet] == [LARGE[:5000], LARGE]


def fragment(index: int, count: int, payload: bytes = b"x", sequence: int = 100) -> lp.LpPacket:
    return lp.LpPacket(payload, sequence=(sequence + index).to_bytes(8, "big"), frag_index=index, frag_count=count)


def test_fragments_expire_after_half_a_second() -> None:
    """NFD's reassembly timeout."""
    reassembler = Reassembler()
    assert reassembler.add(fragment(0, 2), 0.0) is None
    assert reassembler.add(fragment(0, 2, sequence=500), 0.51) is None
    assert len(reassembler) == 1
    assert reassembler.add(fragment(1, 2), 0.52) is None  # its sibling is gone


def test_a_lost_fragment_costs_its_packet_only() -> None:
    reassembler = Reassembler()
    assert reassembler.add(fragment(0, 2, sequence=10), 0.0) is None
    assert reassembler.add(fragment(0, 2, b"a", sequence=20), 0.0) is None
    whole = reassembler.add(fragment(1, 2, b"b", sequence=20), 0.0)
    assert whole is not None and whole.fragment == b"ab"


@pytest.mark.parametrize(
    "bad",
    [
        lambda: lp.LpPacket(b"x", frag_index=0, frag_count=2),
        lambda: fragment(0, 401),
        lambda: fragment(1, 3, b"y"),
        lambda: fragment(1, 2, bytes(8801)),
    ],
    ids=["no sequence", "more than 400 fragments", "another count", "larger than a packet"],
)
def test_bad_fragments(bad: Callable[[], lp.LpPacket]) -> None:
    reassembler = Reassembler()
    reassembler.add(fragment(0, 2), 0.0)
    with pytest.raises(BadPacket):
        reassembler.add(bad(), 0.0)


def test_duplicate_fragments_change_nothing() -> None:
    reassembler = Reassembler()
    assert reassembler.add(fragment(0, 2, b"a"), 0.0) is None
    assert reassembler.add(fragment(0, 2, b"z"), 0.0) is None
    whole = reassembler.add(fragment(1, 2, b"b"), 0.0)
    assert whole is not None and whole.fragment == b"ab"


def test_partial_packets_are_bounded() -> None:
    reassembler = Reassembler()
    for number in range(10 * MAX_PARTIAL_PACKETS):
        reassembler.add(fragment(0, 400, bytes(8000), sequence=1000 * number), 0.0)
    assert len(reassembler) == MAX_PARTIAL_PACKETS


@given(
    before=st.integers(0, 300),
    pieces=st.lists(st.binary(min_size=1, max_size=20), min_size=2, max_size=300),
    order=st.randoms(use_true_random=False),
)
def test_sequences_go_round(before: int, pieces: list[bytes], order: random.Random) -> None:
    """They count modulo 2^64, and those of every UDP face of NFD begin just below."""
    first = 2**64 - 1 - before % len(pieces)
    packets = [
        lp.LpPacket(
            piece, sequence=((first + index) % 2**64).to_bytes(8, "big"), frag_index=index, frag_count=len(pieces)
        )
        for index, piece in enumerate(pieces)
    ]
    order.shuffle(packets)
    reassembler = Reassembler()
    whole = [found for packet in packets if (found := reassembler.add(packet, 0.0)) is not None]
    assert [packet.fragment for packet in whole] == [b"".join(pieces)] and reassembler.used_bytes == 0


def test_a_sender_whose_sequences_go_round_is_understood() -> None:
    sent: list[bytes] = []
    sender, receiver = service(sent, mtu_bytes=1400), LinkService(lambda _: None)
    sender._sequence = 2**64 - 2
    sender.send(LARGE, 0.0)
    whole = [packet for packet in (receiver.unwrap(piece, 0.0) for piece in sent) if packet is not None]
    assert [packet.fragment for packet in whole] == [LARGE]


def test_local_fields_only_where_enabled() -> None:
    """IncomingFaceId is for applications that asked for it (NFD GenericLinkService)."""
    sent: list[bytes] = []
    face = service(sent)
    face.send(LARGE, 0.0, incoming_face_id=300)
    face.local_fields = True
    face.send(LARGE, 0.0, incoming_face_id=300)
    assert sent == [LARGE, link(LARGE, incoming_face_id=300)]


def test_marking_follows_the_queue_and_can_be_switched_off() -> None:
    sent: list[bytes] = []
    queue = [100_000]
    face = LinkService(sent.append, queued_bytes=lambda: queue[0])

    def marked(now: float) -> bool:
        face.send(LARGE, now)
        return lp.decode_lp(sent[-1]).congestion_mark == 1

    assert [marked(now) for now in (0.0, 0.09, 0.1, 0.11, 0.17, 0.18)] == [False, False, True, False, False, True]
    queue[0] = 0
    assert not marked(1.0)
    queue[0] = 100_000
    assert [marked(now) for now in (2.0, 2.05, 2.11)] == [False, False, True]
    face.congestion_marking = False
    assert not any(marked(3 + now / 10) for now in range(20))
    face.congestion_marking, face.threshold_bytes = True, 200_000
    assert not any(marked(9 + now / 10) for now in range(20))
    assert face.counters.marked == 3


def test_idle_and_garbage() -> None:
    face = LinkService(lambda _: None)
    assert face.unwrap(link(b""), 0.0) is None
    for wire in (b"\x64", b"\x64\x02\x50\x05", b"\x08\x01a", b"", b"\x64\x03\x52\x01\x01"):
        with pytest.raises(BadPacket):
            face.unwrap(wire, 0.0)


def test_a_reliable_link_repairs_what_it_loses() -> None:
    """NDNLPv2 reliability at both ends: a third of all packets lost, large Data arrives whole and once."""
    rng = random.Random(4)
    air: list[tuple[LinkService, bytes]] = []
    near = LinkService(lambda wire: air.append((far, wire)), mtu_bytes=1400)
    far = LinkService(lambda wire: air.append((near, wire)), mtu_bytes=1400)
    for end in (near, far):
        end.set_reliability(True, first=rng.getrandbits(64))
    arrived: list[bytes] = []
    now = 0.0
    for number in range(600):
        if number < 100:
            near.send(LARGE + bytes((number,)), now, token=b"\1")
        now += 0.01
        for end in (near, far):
            if (wake := end.next_wake()) is not None and wake <= now:
                end.tick(now)
        on_the_way, air[:] = list(air), []
        for end, wire in on_the_way:
            assert len(wire) <= 1400
            if rng.random() < 0.67 and (packet := end.unwrap(wire, now)) is not None:
                arrived.append(packet.fragment)
    assert len(arrived) == len(set(arrived)) > 60
    assert near.next_wake() is None is far.next_wake()


def test_long_packets_of_a_stream_are_not_copied_and_short_ones_are_one_piece() -> None:
    pieces: list[bytes] = []
    room = 100_000

    def take_all(some: Sequence[bytes], size: int) -> bool:
        if size > room:
            return False
        pieces.extend(some)
        return True

    reference: list[bytes] = []
    plain = service(reference, local_fields=True)
    face = LinkService(pieces.append, local_fields=True, transmit_all=take_all)
    long, short = [bytes(8000), bytes(7000)], [b"\5\3abc", b"\5\4abcd"]
    for wires in (long, short):
        face.send_all(wires, 0.0, incoming_face_id=300)
    face.send(long[0], 0.0, token=b"\1", incoming_face_id=300)
    assert [piece for piece in pieces if len(piece) >= 7000] == [*long, long[0]]
    assert any(piece is long[0] for piece in pieces) and len(pieces) == 4 + 1 + 2
    room = 0
    face.send_all(long, 0.0, incoming_face_id=300)
    for wire in (*long, *short):
        plain.send(wire, 0.0, incoming_face_id=300)
    plain.send(long[0], 0.0, token=b"\1", incoming_face_id=300)
    for wire in long:
        plain.send(wire, 0.0, incoming_face_id=300)
    assert b"".join(pieces) == b"".join(reference)
    assert face.counters.out_bytes == plain.counters.out_bytes
