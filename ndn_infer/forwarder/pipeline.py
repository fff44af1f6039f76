"""The forwarding pipelines: what happens to an Interest, a Data packet and a Nack.

Owns: the order of checks and table updates (NFD developer guide, section 4; NDN Packet Format 0.3; NDNLPv2). Pure:
every entry point takes `now`, packets leave through faces. Must not know: sockets, asyncio, management commands.

Works on bytes: an Interest is parsed for just what forwarding needs, and the received packet is what is sent on, with
its HopLimit patched in place.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from ndn_infer import lp, tlv
from ndn_infer.errors import BadPacket
from ndn_infer.forwarder.content_store import ContentStore
from ndn_infer.forwarder.faces import FIRST_FACE_ID, Face
from ndn_infer.forwarder.strategy import StrategyChoice
from ndn_infer.forwarder.tables import DeadNonces, Fib, InRecord, NextHop, OutRecord, PitEntry, PitKey, Rib
from ndn_infer.name import IMPLICIT_DIGEST, Name, decode_name, from_uri, implicit_digest, prefix_ends
from ndn_infer.tlv import decode_nonneg, read_header

LOCALHOST: Final = from_uri("/localhost")
LOCALHOP: Final = from_uri("/localhop")
DEFAULT_LIFETIME_MS: Final = 4000
MAX_LIFETIME_MS: Final = 300_000


class ParsedInterest(NamedTuple):
    """What forwarding needs of an Interest. `nonce` is b"" when missing; `hop_limit_at` 0 when there is none."""

    name: Name
    can_be_prefix: bool
    must_be_fresh: bool
    hints: tuple[Name, ...]
    nonce: bytes
    lifetime_ms: int
    hop_limit_at: int
    nonce_at: int


def parse_interest(wire: bytes) -> ParsedInterest:  # noqa: C901  (one flat loop on the hot path)
    """Raises BadPacket. Does not look at parameters or signatures: they are the producer's business."""
    _, offset, end = read_header(wire, 0, len(wire))
    kind, value, offset = read_header(wire, offset, end)
    if kind != tlv.NAME or end != len(wire) or value == offset:
        raise BadPacket("an Interest starts with a non-empty Name")
    name = decode_name(wire, value, offset)
    nonce_at = offset
    can_be_prefix = must_be_fresh = False
    hints: tuple[Name, ...] = ()
    nonce, lifetime_ms, hop_limit_at = b"", DEFAULT_LIFETIME_MS, 0
    while offset < end:
        kind, value, offset = read_header(wire, offset, end)
        if kind == 0x0A:
            nonce = wire[value:offset]
            if len(nonce) != 4:
                raise BadPacket("a Nonce has 4 bytes")
        elif kind == 0x21:
            can_be_prefix, nonce_at = True, offset
        elif kind == 0x12:
            must_be_fresh, nonce_at = True, offset
        elif kind == 0x1E:
            hints, nonce_at = _hints(wire, value, offset), offset
        elif kind == 0x0C:
            lifetime_ms = min(decode_nonneg(wire[value:offset]), MAX_LIFETIME_MS)
        elif kind == 0x22:
            if offset - value != 1:
                raise BadPacket("a HopLimit has 1 byte")
            hop_limit_at = value
        elif kind == 0x24:
            break  # what follows belongs to the producer
        elif tlv.is_critical(kind):
            raise BadPacket(f"unknown critical element {kind} in an Interest")
    return ParsedInterest(name, can_be_prefix, must_be_fresh, hints, nonce, lifetime_ms, hop_limit_at, nonce_at)


def _hints(wire: bytes, value: int, end: int) -> tuple[Name, ...]:
    return tuple(decode_name(wire, start, stop) for kind, start, stop in tlv.iterate(wire, value, end) if kind == 0x07)


def parse_data(wire: bytes) -> tuple[Name, int]:
    """Name and FreshnessPeriod (ms) of a Data packet. Raises BadPacket."""
    _, offset, end = read_header(wire, 0, len(wire))
    kind, value, offset = read_header(wire, offset, end)
    if kind != tlv.NAME or end != len(wire) or value == offset:
        raise BadPacket("a Data packet starts with a non-empty Name")
    name = decode_name(wire, value, offset)
    freshness_ms = 0
    if offset < end:
        kind, value, offset = read_header(wire, offset, end)
        if kind == 0x14:
            for kind, start, stop in tlv.iterate(wire, value, offset):
                if kind == 0x19:
                    freshness_ms = decode_nonneg(wire[start:stop])
    return name, freshness_ms


@dataclass(slots=True)
class ForwarderCounters:
    """As in NFD's general status, and why packets were dropped."""

    in_interests: int = 0
    in_data: int = 0
    in_nacks: int = 0
    out_interests: int = 0
    out_data: int = 0
    out_nacks: int = 0
    satisfied: int = 0
    unsatisfied: int = 0
    unsolicited: int = 0
    loops: int = 0
    scope_violations: int = 0
    no_route: int = 0
    pit_full: int = 0


class Forwarder:
    """The core. Faces come and go, packets come in through `receive`, time passes through `tick`."""

    def __init__(
        self,
        cs: ContentStore,
        *,
        producer_regions: Iterable[Name] = (),
        pit_capacity: int = 200_000,
        seed: int | None = None,
    ) -> None:
        self.cs = cs
        self.fib = Fib()
        self.rib = Rib(self.fib)
        self.strategies = StrategyChoice()
        self.faces: dict[int, Face] = {}
        self.counters = ForwarderCounters()
        self._regions = tuple(producer_regions)
        self._pit: dict[PitKey, PitEntry] = {}
        self._by_name: dict[Name, list[PitEntry]] = {}
        self._pit_capacity = pit_capacity
        self._expiries: list[tuple[float, int, PitEntry]] = []
        self._tie = 0
        self._dead = DeadNonces()
        self._next_face_id = FIRST_FACE_ID
        self._random = random.Random(seed)
        self._digests_pending = 0
        self._prefixes_pending = 0

    # ------------------------------------------------------------ faces

    def new_face_id(self) -> int:
        self._next_face_id += 1
        return self._next_face_id - 1

    def add_face(self, face: Face) -> None:
        self.faces[face.id] = face

    def remove_face(self, face_id: int) -> None:
        """A face is gone: all its routes go with it, and nobody waits for it any more."""
        if self.faces.pop(face_id, None) is None:
            return
        self.rib.remove_face(face_id)
        self.fib.remove_face(face_id)
        for entry in [entry for entry in self._pit.values() if face_id in entry.ins or face_id in entry.outs]:
            entry.ins.pop(face_id, None)
            entry.outs.pop(face_id, None)

    @property
    def pit_size(self) -> int:
        return len(self._pit)

    # ------------------------------------------------------------ time

    def tick(self, now: float) -> None:
        """Let PIT entries and routes run out."""
        heap = self._expiries
        while heap and heap[0][0] <= now:
            _, _, entry = heapq.heappop(heap)
            if self._pit.get(entry.key) is not entry:
                continue
            if entry.expires > now:
                self._watch(entry)
            else:
                self._finalize(entry, now)
        self.rib.expire(now)

    def next_wake(self) -> float | None:
        times = [self._expiries[0][0]] if self._expiries else []
        route = self.rib.next_expiry()
        return min([*times, *([route] if route is not None else [])], default=None)

    # ------------------------------------------------------------ packets in

    def receive(self, face: Face, wire: bytes, now: float) -> None:
        """One link packet from a face. Malformed ones are counted and dropped; this never raises for them."""
        face.counters.in_bytes += len(wire)
        try:
            first = wire[0] if wire else 0
            if first == tlv.INTEREST:
                self._on_interest(face, wire, b"", None, now)
            elif first == tlv.DATA:
                self._on_data(face, wire, False, 0, now)
            else:
                self._on_link_packet(face, lp.decode_lp(wire), now)
        except BadPacket:
            face.counters.malformed += 1

    def _on_link_packet(self, face: Face, packet: lp.LpPacket, now: float) -> None:
        if packet.frag_count > 1:
            whole = face.reassembler.add(packet, now)
            if whole is None:
                return
            packet = whole
        if not packet.fragment:
            return  # IDLE: only acknowledgements or nothing at all
        kind = packet.fragment[0]
        if packet.nack_reason is not None:
            self._on_nack(face, packet.fragment, packet.nack_reason, now)
        elif kind == tlv.INTEREST:
            if packet.next_hop_face_id is not None and not face.local_fields:
                face.counters.dropped += 1
                return
            self._on_interest(face, packet.fragment, packet.pit_token, packet.next_hop_face_id, now)
        elif kind == tlv.DATA:
            self._on_data(face, packet.fragment, packet.no_cache, packet.congestion_mark, now)
        else:
            raise BadPacket("a link packet carries neither Interest nor Data")

    # ------------------------------------------------------------ Interest

    def _on_interest(self, face: Face, wire: bytes, token: bytes, next_hop: int | None, now: float) -> None:
        face.counters.in_interests += 1
        self.counters.in_interests += 1
        interest = parse_interest(wire)
        name = interest.name
        hop_limit = wire[interest.hop_limit_at] if interest.hop_limit_at else None
        if hop_limit is not None:
            if hop_limit == 0:
                face.counters.dropped += 1
                return
            hop_limit -= 1
            wire = b"".join((wire[: interest.hop_limit_at], bytes((hop_limit,)), wire[interest.hop_limit_at + 1 :]))
        if not face.local and name.startswith(LOCALHOST):
            self.counters.scope_violations += 1
            return
        nonce = interest.nonce
        if not nonce:
            nonce = self._random.randbytes(4)
            wire = _with_nonce(wire, interest.nonce_at, nonce)
        elif self._dead.has(name, nonce, now):
            self._loop(face, wire, token, now)
            return
        hints = () if self._reached_region(interest.hints) else interest.hints
        key = (name, interest.can_be_prefix, interest.must_be_fresh, hints)
        entry = self._pit.get(key)
        if entry is None:
            found = self.cs.find(
                name, can_be_prefix=interest.can_be_prefix, must_be_fresh=interest.must_be_fresh, now=now
            )
            if found is not None:
                self._send_data(face, found, token, lp.CONTENT_STORE_FACE_ID, 0, now)
                return
            entry = self._insert(key)
            if entry is None:
                return
        elif entry.nonce_elsewhere(nonce, face.id):
            self._loop(face, wire, token, now)
            return
        expires = now + interest.lifetime_ms / 1000
        entry.ins[face.id] = InRecord(nonce, token, expires, now)
        if expires > entry.expires:
            entry.expires = expires
            self._watch(entry)
        self._forward(entry, face, wire, nonce, hop_limit, next_hop, now)

    def _forward(
        self,
        entry: PitEntry,
        face: Face,
        wire: bytes,
        nonce: bytes,
        hop_limit: int | None,
        next_hop: int | None,
        now: float,
    ) -> None:
        if next_hop is not None:
            chosen: list[int] | None = [next_hop] if next_hop in self.faces else None
        else:
            hops = self._eligible(entry, face, hop_limit)
            chosen = self.strategies.of(entry.name).choose(entry, hops, now)
        if chosen is None:
            self.counters.no_route += 1
            record = entry.ins.pop(face.id)
            self._send_nack(face, wire, record.token, lp.REASON_NO_ROUTE, now)
            if not entry.ins:
                self._remove(entry)
            return
        for face_id in chosen:
            entry.outs[face_id] = OutRecord(nonce, entry.expires, now)
            out = self.faces[face_id]
            out.counters.out_interests += 1
            self.counters.out_interests += 1
            out.send(wire, now, incoming_face_id=face.id)

    def _eligible(self, entry: PitEntry, face: Face, hop_limit: int | None) -> list[NextHop]:
        """Next hops that scope, hop limit and common sense allow."""
        name = entry.name
        only_local = hop_limit == 0 or name.startswith(LOCALHOST) or (not face.local and name.startswith(LOCALHOP))
        hops = self.fib.lookup(name)
        if entry.key[3]:
            hops = next((found for found in map(self.fib.lookup, entry.key[3]) if found), ())
        return [
            hop
            for hop in hops
            if hop.face_id != face.id
            and hop.face_id in self.faces
            and (not only_local or self.faces[hop.face_id].local)
        ]

    def _reached_region(self, hints: tuple[Name, ...]) -> bool:
        """A hint that is a prefix of one of our region names has brought the Interest where it wanted to be."""
        return any(region.startswith(hint) for hint in hints for region in self._regions)

    def _loop(self, face: Face, wire: bytes, token: bytes, now: float) -> None:
        self.counters.loops += 1
        self._send_nack(face, wire, token, lp.REASON_DUPLICATE, now)

    # ------------------------------------------------------------ Data

    def _on_data(self, face: Face, wire: bytes, no_cache: bool, mark: int, now: float) -> None:
        face.counters.in_data += 1
        self.counters.in_data += 1
        name, freshness_ms = parse_data(wire)
        if not face.local and name.startswith(LOCALHOST):
            self.counters.scope_violations += 1
            return
        matches = self._matching(name, wire)
        if not matches:
            self.counters.unsolicited += 1
            return
        if not no_cache:
            self.cs.insert(name, wire, freshness_ms, now)
        receivers: dict[int, bytes] = {}
        for entry in matches:
            for face_id, record in entry.ins.items():
                if record.expires > now and face_id != face.id:
                    receivers.setdefault(face_id, record.token)
            entry.satisfied, entry.freshness_ms = True, freshness_ms
            self._finalize(entry, now)
        for face_id, token in receivers.items():
            receiver = self.faces.get(face_id)
            if receiver is not None:
                self._send_data(receiver, wire, token, face.id, mark, now)

    def _matching(self, name: Name, wire: bytes) -> list[PitEntry]:
        """PIT entries that this Data satisfies."""
        matches = list(self._by_name.get(name, ()))
        if self._digests_pending:
            matches += self._by_name.get(name + implicit_digest(hashlib.sha256(wire).digest()), ())
        if self._prefixes_pending:
            for end in prefix_ends(name)[:-1]:
                matches += [entry for entry in self._by_name.get(name[:end], ()) if entry.key[1]]
        return matches

    def _send_data(self, face: Face, wire: bytes, token: bytes, source: int, mark: int, now: float) -> None:
        face.counters.out_data += 1
        self.counters.out_data += 1
        face.send(wire, now, token=token, incoming_face_id=source, mark=mark)

    # ------------------------------------------------------------ Nack

    def _on_nack(self, face: Face, wire: bytes, reason: int, now: float) -> None:
        """A Nack from upstream: once everybody who was asked has refused, the least severe reason goes downstream."""
        face.counters.in_nacks += 1
        self.counters.in_nacks += 1
        interest = parse_interest(wire)
        hints = () if self._reached_region(interest.hints) else interest.hints
        entry = self._pit.get((interest.name, interest.can_be_prefix, interest.must_be_fresh, hints))
        record = entry.outs.get(face.id) if entry is not None else None
        if entry is None or record is None or record.nonce != interest.nonce:
            return
        record.nack_reason = reason
        if any(out.nack_reason is None and out.expires > now for out in entry.outs.values()):
            return
        reasons = [out.nack_reason for out in entry.outs.values() if out.nack_reason is not None]
        for face_id, downstream in list(entry.ins.items()):
            receiver = self.faces.get(face_id)
            if receiver is not None and receiver is not face:
                mine = _with_other_nonce(wire, interest, downstream.nonce)
                self._send_nack(receiver, mine, downstream.token, min(reasons), now)
        entry.ins.clear()
        self._finalize(entry, now)

    def _send_nack(self, face: Face, wire: bytes, token: bytes, reason: int, now: float) -> None:
        face.counters.out_nacks += 1
        self.counters.out_nacks += 1
        face.send(wire, now, token=token, nack_reason=reason)

    # ------------------------------------------------------------ PIT

    def _insert(self, key: PitKey) -> PitEntry | None:
        if len(self._pit) >= self._pit_capacity:
            self.counters.pit_full += 1
            return None
        entry = PitEntry(key)
        self._pit[key] = entry
        self._by_name.setdefault(key[0], []).append(entry)
        self._prefixes_pending += key[1]
        self._digests_pending += _has_digest(key[0])
        return entry

    def _remove(self, entry: PitEntry) -> None:
        if self._pit.pop(entry.key, None) is None:
            return
        same = self._by_name[entry.name]
        same.remove(entry)
        if not same:
            del self._by_name[entry.name]
        self._prefixes_pending -= entry.key[1]
        self._digests_pending -= _has_digest(entry.name)

    def _watch(self, entry: PitEntry) -> None:
        self._tie += 1
        heapq.heappush(self._expiries, (entry.expires, self._tie, entry))

    def _finalize(self, entry: PitEntry, now: float) -> None:
        """The entry leaves the PIT; nonces that may still loop are remembered."""
        if entry.satisfied:
            self.counters.satisfied += 1
        else:
            self.counters.unsatisfied += 1
        if not entry.satisfied or (entry.key[2] and entry.freshness_ms < 6000):
            for record in entry.outs.values():
                self._dead.add(entry.name, record.nonce, now)
        self._remove(entry)


def _has_digest(name: Name) -> bool:
    return len(name) >= 34 and name[-34] == IMPLICIT_DIGEST and name[-33] == 32


def _with_nonce(wire: bytes, at: int, nonce: bytes) -> bytes:
    """Insert a Nonce element: the Interest had none, and PIT and loop detection need one (Packet Format, 3.4)."""
    _, value, _ = read_header(wire, 0, len(wire))
    return tlv.encode_tlv(tlv.INTEREST, wire[value:at] + b"\x0a\x04" + nonce + wire[at:])


def _with_other_nonce(wire: bytes, interest: ParsedInterest, nonce: bytes) -> bytes:
    """The Interest as the downstream sent it: a Nack quotes that one's nonce."""
    at = wire.find(b"\x0a\x04" + interest.nonce, interest.nonce_at)
    return wire if at < 0 else wire[: at + 2] + nonce + wire[at + 6 :]
