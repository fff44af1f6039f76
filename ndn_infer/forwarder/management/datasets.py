"""NFD's status datasets: the tables of a forwarder as TLV.

Owns: the bytes of faces, fib, rib, cs, strategy-choice and status datasets. Pure. Must not know: Interests, replies.
Source: NFD management protocol; field order as ndn-cxx encodes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ndn_infer import ndn
from ndn_infer.forwarder.core.faces import Face
from ndn_infer.forwarder.core.pipeline import Forwarder
from ndn_infer.forwarder.core.rib import Route
from ndn_infer.forwarder.management.encoding import FaceFilter, number, numbers, text
from ndn_infer.ndn.tlv import MAX_PACKET_BYTES, encode_tlv

VERSION_TEXT: Final = "24.07+ndn-infer-0.1"
LOCAL_FIELDS: Final = 1
RELIABILITY: Final = 2
CONGESTION_MARKING: Final = 4


def face_flags(face: Face) -> int:
    link = face.link
    reliable = link.reliability is not None
    return LOCAL_FIELDS * link.local_fields | RELIABILITY * reliable | CONGESTION_MARKING * link.congestion_marking


def cs_flags(forwarder: Forwarder) -> int:
    return int(forwarder.cs.admit) | int(forwarder.cs.serve) << 1


def face_mtu(face: Face) -> int:
    """The MTU as NFD tells it: no more than a packet may have."""
    return min(face.link.mtu_bytes or MAX_PACKET_BYTES, MAX_PACKET_BYTES)


def face_statuses(faces: Iterable[Face]) -> bytes:
    return b"".join(_face_status(face) for face in faces)


def matches(face: Face, wanted: FaceFilter) -> bool:
    scheme = wanted.uri_scheme
    return (
        wanted.face_id in (None, face.id)
        and (scheme is None or scheme in (face.uri.partition("://")[0], face.local_uri.partition("://")[0]))
        and wanted.uri in (None, face.uri)
        and wanted.local_uri in (None, face.local_uri)
        and wanted.scope in (None, int(face.local))
        and wanted.persistency in (None, face.persistency)
        and wanted.link_type in (None, 0)
    )


def _face_status(face: Face) -> bytes:
    counters = face.counters
    expires_in_s = face.expires_in_s()
    head = number(0x69, face.id) + text(0x72, face.uri) + text(0x81, face.local_uri)
    if expires_in_s is not None:
        head += number(0x6D, max(0, int(expires_in_s * 1000)))
    values = {
        0x84: int(face.local),
        0x85: face.persistency,
        0x86: 0,
        0x87: face.link.mark_interval_ns,
        0x88: face.link.threshold_bytes,
        0x89: face_mtu(face),
        0x90: counters.in_interests,
        0x91: counters.in_data,
        0x97: counters.in_nacks,
        0x92: counters.out_interests,
        0x93: counters.out_data,
        0x98: counters.out_nacks,
        0x94: counters.in_bytes,
        0x95: counters.out_bytes,
        0x6C: face_flags(face),
    }
    return encode_tlv(0x80, head + numbers(values))


def channels(uris: Iterable[str]) -> bytes:
    return b"".join(encode_tlv(0x82, text(0x81, uri)) for uri in uris)


def fib_entries(forwarder: Forwarder) -> bytes:
    entries = []
    for prefix, hops in forwarder.fib.items():
        records = [encode_tlv(0x81, numbers({0x69: hop.face_id, 0x6A: hop.cost})) for hop in hops]
        entries.append(encode_tlv(0x80, ndn.encode_name(prefix) + b"".join(records)))
    return b"".join(entries)


def rib_entries(forwarder: Forwarder, now: float) -> bytes:
    entries = []
    for prefix, routes in forwarder.rib.items():
        records = b"".join(encode_tlv(0x81, _route(route, now)) for route in routes)
        entries.append(encode_tlv(0x80, ndn.encode_name(prefix) + records))
    return b"".join(entries)


def _route(route: Route, now: float) -> bytes:
    fields = numbers({0x69: route.face_id, 0x6F: route.origin, 0x6A: route.cost, 0x6C: route.flags})
    if route.expires is not None:
        fields += number(0x6D, max(0, int((route.expires - now) * 1000)))
    return fields


def cs_info(forwarder: Forwarder) -> bytes:
    cs = forwarder.cs
    values = {0x83: cs.capacity_packets, 0x6C: cs_flags(forwarder), 0x87: len(cs), 0x81: cs.hits, 0x82: cs.misses}
    return encode_tlv(0x80, numbers(values))


def strategy_choices(forwarder: Forwarder) -> bytes:
    return b"".join(
        encode_tlv(0x80, ndn.encode_name(prefix) + encode_tlv(0x6B, ndn.encode_name(strategy.name)))
        for prefix, strategy in forwarder.strategies.items()
    )


def general_status(forwarder: Forwarder, started_ms: int, now_ms: int) -> bytes:
    counters = forwarder.counters
    values = {
        0x81: started_ms,
        0x82: now_ms,
        0x83: len(forwarder.fib) + forwarder.pit_size,
        0x84: len(forwarder.fib),
        0x85: forwarder.pit_size,
        0x86: 0,
        0x87: len(forwarder.cs),
        0x90: counters.in_interests,
        0x91: counters.in_data,
        0x97: counters.in_nacks,
        0x92: counters.out_interests,
        0x93: counters.out_data,
        0x98: counters.out_nacks,
        0x99: counters.satisfied,
        0x9A: counters.unsatisfied,
    }
    return text(0x80, VERSION_TEXT) + numbers(values)
