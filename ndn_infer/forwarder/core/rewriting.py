"""The changes that a forwarder makes to an Interest on its way, as operations on its bytes.

Owns: HopLimit, Nonce, ForwardingHint. Pure. Must not know: when to make them (pipeline.py).
"""

from __future__ import annotations

from ndn_infer.errors import BadPacket
from ndn_infer.forwarder.core.parsing import ParsedInterest, parse_interest
from ndn_infer.forwarder.core.pit import InRecord
from ndn_infer.ndn import tlv
from ndn_infer.ndn.tlv import read_header


def with_less_hops(wire: bytes, at: int) -> bytes:
    """The HopLimit at offset `at`, which is above 0, one lower (Packet Format 0.3, HopLimit)."""
    return b"".join((wire[:at], bytes((wire[at] - 1,)), wire[at + 1 :]))


def without_hints(wire: bytes, interest: ParsedInterest) -> bytes:
    """Without its ForwardingHint: from the producer region on the name leads (NFD guide 4.2.1)."""
    _, value, _ = read_header(wire, 0, len(wire))
    start, end = interest.hints_span
    return tlv.encode_tlv(tlv.INTEREST, wire[value:start] + wire[end:])


def with_nonce(wire: bytes, at: int, nonce: bytes) -> bytes:
    """With a Nonce element inserted: it had none, and PIT and loop detection need one (Packet Format 0.3, Nonce).

    Raises BadPacket when the packet would become too large.
    """
    _, value, _ = read_header(wire, 0, len(wire))
    longer = tlv.encode_tlv(tlv.INTEREST, wire[value:at] + b"\x0a\x04" + nonce + wire[at:])
    if len(longer) > tlv.MAX_PACKET_BYTES:
        raise BadPacket("an Interest of this size leaves no room for the Nonce it lacks")
    return longer


def probe_of(record: InRecord, nonce: bytes) -> InRecord:
    """The Interest with another Nonce: where the paths of the two meet again, this must be no loop (NFD, ASF)."""
    wire = record.wire
    at = wire.index(b"\x0a\x04" + record.nonce, parse_interest(wire).nonce_at) + 2
    return InRecord(
        wire[:at] + nonce + wire[at + 4 :], nonce, record.token, record.expires, record.share, record.last_hop
    )
