"""NDNLPv2 headers: what travels around a network packet on one link.

Owns: the LpPacket fields this project reads and writes (NDNLPv2 revision 4; numbers in the constants). Must not know:
faces, reassembly (forwarder/link/), forwarding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ndn_infer.errors import BadPacket
from ndn_infer.ndn import tlv
from ndn_infer.ndn.tlv import decode_nonneg, encode_nonneg, encode_tlv, read_header

FRAGMENT: Final = 0x50
SEQUENCE: Final = 0x51
FRAG_INDEX: Final = 0x52
FRAG_COUNT: Final = 0x53
PIT_TOKEN: Final = 0x62
NACK: Final = 0x0320
NACK_REASON: Final = 0x0321
INCOMING_FACE_ID: Final = 0x032C
NEXT_HOP_FACE_ID: Final = 0x0330
CACHE_POLICY: Final = 0x0334
CACHE_POLICY_TYPE: Final = 0x0335
CONGESTION_MARK: Final = 0x0340
ACK: Final = 0x0344
TX_SEQUENCE: Final = 0x0348
NON_DISCOVERY: Final = 0x034C
PREFIX_ANNOUNCEMENT: Final = 0x0350

FIELDS: Final = frozenset(
    (
        0x51,
        0x52,
        0x53,
        0x62,
        0x0320,
        0x032C,
        0x0330,
        0x0334,
        0x0340,
        ACK,
        TX_SEQUENCE,
        NON_DISCOVERY,
        PREFIX_ANNOUNCEMENT,
    )
)

REASON_NONE: Final = 0
REASON_CONGESTION: Final = 50
REASON_DUPLICATE: Final = 100
REASON_NO_ROUTE: Final = 150
REASON_TEXT: Final = {0: "no reason given", 50: "congestion", 100: "duplicate nonce", 150: "no route"}

CONTENT_STORE_FACE_ID: Final = 254
"""IncomingFaceId of Data that a forwarder took from its own Content Store (NFD's reserved face id)."""


@dataclass(slots=True)
class LpPacket:
    """One link packet. `fragment` is a whole Interest or Data, or a piece of one when `frag_count` > 1; b"" is IDLE.

    `nack_reason` is None when the packet is no Nack. Optional numbers are None when absent.
    """

    fragment: bytes = b""
    sequence: bytes | None = None
    frag_index: int = 0
    frag_count: int = 1
    pit_token: bytes = b""
    nack_reason: int | None = None
    incoming_face_id: int | None = None
    next_hop_face_id: int | None = None
    no_cache: bool = False
    congestion_mark: int = 0
    acks: tuple[bytes, ...] = ()
    tx_sequence: bytes | None = None
    non_discovery: bool = False
    prefix_announcement: bytes | None = None


def misplaced(packet: LpPacket) -> bool:
    """Whether a header field stands on a packet for which it is not: NextHopFaceId and NonDiscovery are for Interests,
    CachePolicy and PrefixAnnouncement for Data, none of them for Nacks (NDNLPv2; NFD, decodeInterest and so on)."""
    for_interests = packet.next_hop_face_id is not None or packet.non_discovery
    for_data = packet.no_cache or packet.prefix_announcement is not None
    if packet.nack_reason is not None:
        return for_interests or for_data
    return for_data if packet.fragment[:1] == b"\x05" else for_interests


def encode_lp(packet: LpPacket) -> bytes:
    """The LpPacket TLV, header fields in ascending order as NDNLPv2 requires, the fragment last."""
    fields = _hop_fields(packet)
    if packet.incoming_face_id is not None:
        fields.append(encode_tlv(INCOMING_FACE_ID, encode_nonneg(packet.incoming_face_id)))
    if packet.next_hop_face_id is not None:
        fields.append(encode_tlv(NEXT_HOP_FACE_ID, encode_nonneg(packet.next_hop_face_id)))
    if packet.no_cache:
        fields.append(encode_tlv(CACHE_POLICY, encode_tlv(CACHE_POLICY_TYPE, b"\x01")))
    if packet.congestion_mark:
        fields.append(encode_tlv(CONGESTION_MARK, encode_nonneg(packet.congestion_mark)))
    fields.extend(encode_tlv(ACK, ack) for ack in packet.acks)
    if packet.tx_sequence is not None:
        fields.append(encode_tlv(TX_SEQUENCE, packet.tx_sequence))
    if packet.non_discovery:
        fields.append(encode_tlv(NON_DISCOVERY))
    if packet.prefix_announcement is not None:
        fields.append(encode_tlv(PREFIX_ANNOUNCEMENT, packet.prefix_announcement))
    if packet.fragment:
        fields.append(encode_tlv(FRAGMENT, packet.fragment))
    return encode_tlv(tlv.LP_PACKET, b"".join(fields))


def _hop_fields(packet: LpPacket) -> list[bytes]:
    """Fields 0x51 to 0x0320: fragmentation, PIT token and Nack."""
    fields: list[bytes] = []
    if packet.sequence is not None:
        fields.append(encode_tlv(SEQUENCE, packet.sequence))
    if packet.frag_count > 1:
        fields.append(encode_tlv(FRAG_INDEX, encode_nonneg(packet.frag_index)))
        fields.append(encode_tlv(FRAG_COUNT, encode_nonneg(packet.frag_count)))
    if packet.pit_token:
        fields.append(encode_tlv(PIT_TOKEN, packet.pit_token))
    if packet.nack_reason is not None:
        reason = encode_tlv(NACK_REASON, encode_nonneg(packet.nack_reason)) if packet.nack_reason else b""
        fields.append(encode_tlv(NACK, reason))
    return fields


def decode_lp(wire: bytes) -> LpPacket:
    """A link packet from bytes; a bare Interest or Data counts as one without headers.

    Raises BadPacket. Unknown fields in 800..959 whose low two bits are 00 are ignored, others refused (NDNLPv2).
    """
    first = wire[0] if wire else 0
    if first in (tlv.INTEREST, tlv.DATA):
        return LpPacket(wire)
    type_number, offset, end = read_header(wire, 0, len(wire))
    if type_number != tlv.LP_PACKET or end != len(wire):
        raise BadPacket(f"neither Interest, Data nor LpPacket: type {type_number}")
    packet = LpPacket()
    acks: list[bytes] = []
    last = 0
    while offset < end:
        type_number, value, offset = read_header(wire, offset, end)
        if type_number == FRAGMENT:
            if offset != end:
                raise BadPacket("the Fragment is the last field")
            packet.fragment = wire[value:offset]
            break
        if type_number not in FIELDS:
            if not (800 <= type_number <= 959 and type_number & 3 == 0):
                raise BadPacket(f"unknown NDNLPv2 field {type_number}")
            continue
        if type_number < last or (type_number == last and type_number != ACK):
            raise BadPacket(f"NDNLPv2 field {type_number:#x} is repeated or out of order")
        last = type_number
        if type_number == ACK:
            acks.append(_eight(wire[value:offset]))
        else:
            _set_field(packet, type_number, wire[value:offset])
    packet.acks = tuple(acks)
    if packet.frag_index >= packet.frag_count:
        raise BadPacket("FragIndex is not below FragCount")
    return packet


def peel(wire: bytes) -> tuple[bytes, bool, int | None] | None:
    """(packet, marked, IncomingFaceId) of a link packet with no other fields than a consumer's Data has, quickly.

    None for any other packet, well-formed or not: `decode_lp` says what it is.
    """
    size = len(wire)
    if size < 16 or wire[0] != tlv.LP_PACKET or wire[1] != 0xFD or (wire[2] << 8 | wire[3]) + 4 != size:
        return None
    offset, marked, face_id = 4, False, None
    if wire[4:7] == _FACE_ID_TYPE and wire[7] in (1, 2, 4):
        offset = 8 + wire[7]
        face_id = int.from_bytes(wire[8:offset], "big")
    if wire[offset : offset + 4] == _MARK_OF_ONE_BYTE:
        marked = wire[offset + 4] > 0
        offset += 5
    if wire[offset : offset + 2] != b"\x50\xfd" or (wire[offset + 2] << 8 | wire[offset + 3]) + offset + 4 != size:
        return None
    return wire[offset + 4 :], marked, face_id


def peel_interest(wire: bytes) -> tuple[bytes, int | None] | None:
    """(Interest, IncomingFaceId) of a link packet with no other fields than a producer's Interest has, quickly.

    None for any other packet, well-formed or not: `decode_lp` says what it is.
    """
    size = len(wire)
    if size < 16 or wire[0] != tlv.LP_PACKET or wire[1] > 0xFD:
        return None
    offset, length = (4, wire[2] << 8 | wire[3]) if wire[1] == 0xFD else (2, wire[1])
    if offset + length != size:
        return None
    face_id = None
    if wire[offset : offset + 3] == _FACE_ID_TYPE and wire[offset + 3] in (1, 2, 4):
        end = offset + 4 + wire[offset + 3]
        face_id = int.from_bytes(wire[offset + 4 : end], "big")
        offset = end
    if offset + 5 > size or wire[offset] != 0x50 or wire[offset + 1] > 0xFD:
        return None
    short = wire[offset + 1] < 0xFD
    start, length = (2, wire[offset + 1]) if short else (4, wire[offset + 2] << 8 | wire[offset + 3])
    start += offset
    return (wire[start:], face_id) if start + length == size and wire[start] == tlv.INTEREST else None


_FACE_ID_TYPE: Final = encode_tlv(INCOMING_FACE_ID)[:3]
_MARK_OF_ONE_BYTE: Final = encode_tlv(CONGESTION_MARK, b"\0")[:4]


def _set_field(packet: LpPacket, type_number: int, raw: bytes) -> None:  # noqa: C901  (one flat table)
    match type_number:
        case 0x51:
            packet.sequence = _eight(raw)
        case 0x52:
            packet.frag_index = decode_nonneg(raw)
        case 0x53:
            packet.frag_count = decode_nonneg(raw)
        case 0x62:
            if not 1 <= len(raw) <= 32:
                raise BadPacket("a PIT token has 1 to 32 bytes")
            packet.pit_token = raw
        case 0x0320:
            packet.nack_reason = _nack_reason(raw)
        case 0x032C:
            packet.incoming_face_id = decode_nonneg(raw)
        case 0x0330:
            packet.next_hop_face_id = decode_nonneg(raw)
        case 0x0334:
            packet.no_cache = _cache_policy(raw) == 1
        case 0x0340:
            packet.congestion_mark = decode_nonneg(raw)
        case 0x0348:
            packet.tx_sequence = _eight(raw)
        case 0x034C:
            packet.non_discovery = True
        case 0x0350:
            packet.prefix_announcement = raw


def _eight(raw: bytes) -> bytes:
    if len(raw) != 8:
        raise BadPacket("a sequence number has 8 bytes")
    return raw


def _nack_reason(raw: bytes) -> int:
    for type_number, value, after in tlv.iterate(raw):
        if type_number == NACK_REASON:
            reason = decode_nonneg(raw[value:after])
            return reason if reason in REASON_TEXT else REASON_NONE
    return REASON_NONE


def _cache_policy(raw: bytes) -> int:
    for type_number, value, after in tlv.iterate(raw):
        if type_number == CACHE_POLICY_TYPE:
            return decode_nonneg(raw[value:after])
    raise BadPacket("CachePolicy has no CachePolicyType")
