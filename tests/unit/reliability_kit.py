"""Packets of one end of a reliable link, written and read."""

from __future__ import annotations

from ndn_infer.forwarder.link.reliability import (
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
