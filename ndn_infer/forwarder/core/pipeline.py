"""The forwarding pipelines: what happens to an Interest, a Data packet and a Nack.

Owns: the order of checks and table updates (NFD developer guide, section 4; NDN Packet Format 0.3; NDNLPv2). Pure:
every entry point takes `now`, packets leave through faces. Must not know: sockets, asyncio, management commands.

Works on bytes: an Interest is parsed for just what forwarding needs, and the received packet is what is sent on, with
its HopLimit patched in place.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

from ndn_infer.errors import BadPacket
from ndn_infer.forwarder.core.bursts import Bursts
from ndn_infer.forwarder.core.content_store import ContentStore
from ndn_infer.forwarder.core.faces import CREATED, DESTROYED, FIRST_FACE_ID, Face
from ndn_infer.forwarder.core.fib import NextHop
from ndn_infer.forwarder.core.parsing import ParsedInterest, parse_data, parse_interest
from ndn_infer.forwarder.core.pit import InRecord, Pit, PitEntry
from ndn_infer.forwarder.core.rewriting import probe_of, with_less_hops, with_nonce, without_hints
from ndn_infer.forwarder.core.rib import Rib, Route
from ndn_infer.forwarder.core.scope import LOCALHOST, within_scope
from ndn_infer.forwarder.core.strategy import StrategyChoice
from ndn_infer.forwarder.core.strategy_base import Probe
from ndn_infer.forwarder.link.reassembly import FragmentPool
from ndn_infer.ndn import lp, tlv
from ndn_infer.ndn.name import ROOT, Name, prefix_ends


class Forwarder(Bursts):
    """The core. Faces come and go, packets come in through `receive` and `receive_all`, time passes through `tick`."""

    def __init__(
        self,
        cs: ContentStore,
        *,
        producer_regions: Iterable[Name] = (),
        pit_capacity: int = 200_000,
        pit_capacity_bytes: int = 512 << 20,
        lost_refuse: bool = False,
        one_copy: bool = False,
        seed: int | None = None,
    ) -> None:
        """`lost_refuse`: a face that is gone is one that refused what is pending there with NoRoute; without it, as
        in NFD, what went there alone runs out. `one_copy`: an Interest of another face for what is pending waits with
        it; without, as in NFD, it goes out too, 10 ms and more after the one before."""
        self._random = random.Random(seed)
        super().__init__(Pit(pit_capacity, pit_capacity_bytes), cs, StrategyChoice(self._random))
        self.rib = Rib(self.fib)
        self._reliable: dict[int, Face] = {}
        self.lost_refuse = lost_refuse
        self.one_copy = one_copy
        self.face_changed: Callable[[int, Face], None] = lambda kind, face: None
        self.producer_regions = tuple(producer_regions)
        self.fragments = FragmentPool()
        self.strategies.changed = lambda prefix: self._pit.choose_again(prefix, self.strategies.of)
        self._next_face_id = FIRST_FACE_ID

    # ------------------------------------------------------------ faces

    def new_face_id(self) -> int:
        self._next_face_id += 1
        return self._next_face_id - 1

    def add_face(self, face: Face) -> None:
        self.faces[face.id] = face
        face.link.reassembler.pool = self.fragments
        self.face_changed(CREATED, face)

    def remove_face(self, face_id: int, now: float = 0.0) -> None:
        """A face is gone: its routes, its pending Interests and what waits for its answers are removed."""
        face = self.faces.pop(face_id, None)
        if face is None:
            return
        self._reliable.pop(face_id, None)
        self.face_changed(DESTROYED, face)
        self.rib.remove_face(face_id)
        self.fib.remove_face(face_id)
        face.link.reassembler.clear()
        if self.lost_refuse:
            self._refuse_for(face, now)
        for entry in self._pit.forget_face(face_id, face.share):
            self._finalize(entry, now)

    def _refuse_for(self, lost: Face, now: float) -> None:
        """What is pending at this face has an end at once. A strategy that tells nobody waits for others to come."""
        held = self._pit.held_by(lost.share)
        for entry in [found for found in held if lost.id in found.outs and found.outs[lost.id].pending(now)]:
            self._refused(entry, lost.id, lp.REASON_NO_ROUTE, now)
            if not entry.ins:
                self._finalize(entry, now)

    def set_reliability(self, face: Face, wanted: bool) -> None:
        """Switch NDNLPv2 reliability of a face."""
        face.link.set_reliability(wanted, self._random.getrandbits(64))
        if wanted:
            self._reliable[face.id] = face
        else:
            self._reliable.pop(face.id, None)

    # ------------------------------------------------------------ routes

    def register(self, prefix: Name, route: Route, now: float) -> None:
        """Add or refresh a route; pending Interests of strategies that ask everybody go there at once."""
        self.rib.register(prefix, route)
        self._offer(prefix, route.face_id, now)

    def add_next_hop(self, prefix: Name, face_id: int, cost: int, now: float) -> None:
        """The same for a next hop of the FIB alone."""
        self.fib.add(prefix, face_id, cost)
        self._offer(prefix, face_id, now)

    def _offer(self, prefix: Name, face_id: int, now: float) -> None:
        """A new next hop for what is pending below `prefix` (NFD, Forwarder::onNewNextHop, multicast's
        afterNewNextHop)."""
        out = self.faces.get(face_id)
        choices = ((chosen, strategy) for chosen, strategy in self.strategies.items() if strategy.asks_new_hops)
        if out is None or not any(a.startswith(prefix) or prefix.startswith(a) for a, _ in choices):
            return
        for entry in [found for found in self._pit.below(prefix) if found.expires > now]:
            if not entry.strategy.asks_new_hops or face_id in entry.outs:
                continue
            if all(hop.face_id != face_id for hop in self._next_hops(entry, prefix_ends(entry.name))[1]):
                continue
            for source, record in entry.ins.items():
                asker = self.faces.get(source)
                if asker is not None and asker is not out and within_scope(entry.name, asker, out, record.last_hop):
                    self._send_interest(entry, face_id, record, source, 0, now)
                    break

    # ------------------------------------------------------------ time

    def tick(self, now: float) -> None:
        """Let PIT entries, routes and partial packets run out."""
        for entry in self._pit.due(now):
            self._ran_out(entry, now)
        self.rib.expire(now)
        self.fragments.sweep(now)
        for face in self._reliable.values():
            face.link.tick(now)

    def _ran_out(self, entry: PitEntry, now: float) -> None:
        if entry.strategy is not None:
            entry.strategy.on_timeout(entry, now)
        self._finalize(entry, now)

    def next_wake(self) -> float | None:
        """When `tick` is due next (monotonic seconds), None while nothing can run out."""
        entry, route = self._pit.next_wake(), self.rib.next_expiry()
        if self._reliable or self.fragments.busy:
            links = (face.link.next_wake() for face in self._reliable.values())
            wakes = (entry, route, self.fragments.next_wake(), *links)
            return min((wake for wake in wakes if wake is not None), default=None)
        if entry is None or route is None:
            return route if entry is None else entry
        return min(entry, route)

    # ------------------------------------------------------------ packets in

    def receive(self, face: Face, wire: bytes, now: float) -> None:
        face.counters.in_bytes += len(wire)
        try:
            first = wire[0] if wire else 0
            if first == tlv.INTEREST:
                self._on_interest(face, wire, b"", None, 0, now)
            elif first == tlv.DATA:
                self._on_data(face, wire, False, 0, now)
            else:
                packet = face.link.unwrap(wire, now)
                if packet is not None:
                    self._on_link_packet(face, packet, now)
        except BadPacket as error:
            face.counters.malformed += 1
            self._dropped(now, face.id, "packet", ROOT, f"malformed: {error}")

    def _on_link_packet(self, face: Face, packet: lp.LpPacket, now: float) -> None:
        kind = packet.fragment[0]
        if packet.nack_reason is not None:
            self._on_nack(face, packet.fragment, packet.nack_reason, now)
        elif kind == tlv.INTEREST:
            if packet.next_hop_face_id is not None and not face.link.local_fields:
                face.counters.dropped += 1
                self._dropped(now, face.id, "packet", ROOT, "NextHopFaceId on a face without local fields")
                return
            self._on_interest(
                face, packet.fragment, packet.pit_token, packet.next_hop_face_id, packet.congestion_mark, now
            )
        elif kind == tlv.DATA:
            self._on_data(face, packet.fragment, packet.no_cache, packet.congestion_mark, now)
        else:
            raise BadPacket("a link packet carries neither Interest nor Data")

    # ------------------------------------------------------------ Interest

    def _on_interest(self, face: Face, wire: bytes, token: bytes, next_hop: int | None, mark: int, now: float) -> None:
        interest = parse_interest(wire)
        face.counters.in_interests += 1
        self.counters.in_interests += 1
        if interest.hints and self._reached_region(interest.hints):
            wire = without_hints(wire, interest)
            interest = parse_interest(wire)
        name, nonce = interest.name, interest.nonce
        if self.trace is not None:
            self.trace(now, "in", face.id, "Interest", name, "")
        hop_limit_at = interest.hop_limit_at
        if not self._admissible(face, name, wire[hop_limit_at] if hop_limit_at else 1, now):
            return
        last_hop = False
        if hop_limit_at:
            last_hop = wire[hop_limit_at] == 1
            wire = with_less_hops(wire, hop_limit_at)
        if not nonce:
            nonce = self._random.randbytes(4)
            wire = with_nonce(wire, interest.nonce_at, nonce)
        elif self._dead.has(name, nonce, now):
            self._loop(face, name, wire, token, now)
            return
        entry = self._pit_entry(interest, now)
        if entry is not None and entry.loops(nonce, face.id):
            self._loop(face, name, wire, token, now)
            return
        if entry is None or not entry.ins:
            found = self.cs.find(
                name,
                can_be_prefix=interest.can_be_prefix,
                must_be_fresh=interest.must_be_fresh,
                now=now,
                ends=interest.ends,
            )
            if found is not None:
                self._on_hit(face, name, found, token, entry, now)
                return
        if not self._pit.has_room(face.share, len(wire), name, begins=entry is None):
            self.counters.pit_full += 1
            self._dropped(now, face.id, "Interest", name, "the PIT has no room for more of this face")
            return
        if entry is None:
            entry = self._insert(interest, face)
        record = InRecord(wire, nonce, token, now + interest.lifetime_ms / 1000, face.share, last_hop)
        self._pit.put_in(entry, face.id, record)
        self._forward(entry, interest, record, face, next_hop, mark, now)

    def _admissible(self, face: Face, name: Name, hop_limit: int, now: float) -> bool:
        if hop_limit == 0:
            face.counters.dropped += 1
            self._dropped(now, face.id, "Interest", name, "HopLimit is 0")
            return False
        if not face.local and name.startswith(LOCALHOST):
            self.counters.scope_violations += 1
            self._dropped(now, face.id, "Interest", name, "/localhost from a face that is not local")
            return False
        return True

    def _forward(
        self,
        entry: PitEntry,
        interest: ParsedInterest,
        record: InRecord,
        face: Face,
        next_hop: int | None,
        mark: int,
        now: float,
    ) -> None:
        if next_hop is not None:
            # Scope control is unnecessary: a privileged application wants it so (NFD, onContentStoreMiss).
            out = self.faces.get(next_hop)
            chosen: list[int] | None = [next_hop] if out is not None and (out.local or not record.last_hop) else []
        else:
            chosen = self._choose(entry, interest, face, record, now)
        if chosen is None:
            self._refuse(entry, face, now)
            return
        for face_id in chosen:
            sent = probe_of(record, self._random.randbytes(4)) if isinstance(face_id, Probe) else record
            self._send_interest(entry, face_id, sent, face.id, mark, now)

    def _pit_entry(self, interest: ParsedInterest, now: float) -> PitEntry | None:
        """The entry this Interest belongs to, unless it has run out."""
        entry = self._pit.find(interest.name, interest.can_be_prefix, interest.must_be_fresh, interest.hints)
        if entry is not None and entry.expires <= now:
            self._finalize(entry, now)
            return None
        return entry

    def _reached_region(self, hints: tuple[Name, ...]) -> bool:
        """A hint that is a prefix of one of our region names has brought the Interest where it wanted to be."""
        return any(region.startswith(hint) for hint in hints for region in self.producer_regions)

    def _insert(self, interest: ParsedInterest, face: Face) -> PitEntry:
        entry = PitEntry(
            interest.name, interest.can_be_prefix, interest.must_be_fresh, interest.hints, len(interest.ends) - 1,
            face.share,
        )  # fmt: skip
        entry.strategy = self.strategies.of(interest.name, interest.ends)
        self._pit.insert(entry)
        return entry

    def _on_hit(self, face: Face, name: Name, found: bytes, token: bytes, entry: PitEntry | None, now: float) -> None:
        if self.trace is not None:
            self.trace(now, "hit", face.id, "Interest", name, "")
        self._send_data(face, found, token, lp.CONTENT_STORE_FACE_ID, 0, now)
        if entry is None:
            self.counters.satisfied += 1
        else:
            entry.satisfied = True
            self._finalize(entry, now)

    def _choose(
        self, entry: PitEntry, interest: ParsedInterest, face: Face, record: InRecord, now: float
    ) -> list[int] | None:
        """Whom the strategy asks, of those that scope and HopLimit allow."""
        if self.one_copy and entry.outs and entry.strategy.asks_once and entry.asked_for(record, face.id, now):
            return []
        prefix, hops = self._next_hops(entry, interest.ends)
        eligible: list[NextHop] = []
        exhausted = False
        for hop in hops:
            out = self.faces.get(hop.face_id)
            if out is None or out is face:
                continue
            if within_scope(entry.name, face, out, record.last_hop):
                eligible.append(hop)
            else:
                exhausted = exhausted or record.last_hop
        if exhausted and not eligible:
            self._dropped(now, face.id, "Interest", entry.name, "HopLimit used up")
            return []
        chosen: list[int] | None = entry.strategy.choose(entry, eligible, now, prefix)
        return chosen

    def _next_hops(self, entry: PitEntry, ends: Sequence[int]) -> tuple[Name, Sequence[NextHop]]:
        """The prefix and the next hops of the FIB entry."""
        if not entry.hints:
            return self.fib.match(entry.name, ends) or (ROOT, ())
        found = (self.fib.match(hint, prefix_ends(hint)) for hint in entry.hints)
        return next(filter(None, found), (ROOT, ()))  # the first that can be reached (NFD, Strategy::lookupFib)

    def _refuse(self, entry: PitEntry, face: Face, now: float) -> None:
        """No route: tell this downstream. Others may still wait for what an application asked of a certain face."""
        self.counters.no_route += 1
        record = self._pit.take_in(entry, face.id)
        self._dropped(now, face.id, "Interest", entry.name, "no route")
        self._send_nack(face, record.wire, record.token, lp.REASON_NO_ROUTE, now)
        if not entry.ins:
            self._finalize(entry, now)

    def _loop(self, face: Face, name: Name, wire: bytes, token: bytes, now: float) -> None:
        self.counters.loops += 1
        self._dropped(now, face.id, "Interest", name, "its nonce has been here: a loop")
        if self.strategies.of(name).tells_loops:
            self._send_nack(face, wire, token, lp.REASON_DUPLICATE, now)

    # ------------------------------------------------------------ Data

    def _on_data(self, face: Face, wire: bytes, no_cache: bool, mark: int, now: float) -> None:
        name, freshness_ms, ends = parse_data(wire)
        face.counters.in_data += 1
        self.counters.in_data += 1
        if self.trace is not None:
            self.trace(now, "in", face.id, "Data", name, "")
        if not face.local and name.startswith(LOCALHOST):
            self.counters.scope_violations += 1
            self._dropped(now, face.id, "Data", name, "/localhost from a face that is not local")
            return
        matches = self._awaited(self._pit.matching(name, ends, wire), now)
        if not matches:
            self.counters.unsolicited += 1
            self._dropped(now, face.id, "Data", name, "unsolicited: no pending Interest")
            self.strategies.of(name).on_late_data(name, face.id, now)
            return
        if not no_cache:
            self.cs.insert(name, wire, freshness_ms, now)
        # A downstream that gave several tokens (a forwarder with several entries) gets the Data once for each.
        receivers: dict[tuple[int, bytes], None] = {}
        for entry in matches:
            for face_id, record in entry.ins.items():
                if record.expires > now and face_id != face.id:
                    receivers[face_id, record.token] = None
            entry.strategy.on_data(entry, face.id, now)
            entry.satisfied, entry.freshness_ms = True, freshness_ms
            if entry.can_be_prefix and not no_cache:
                self.cs.answered(entry.name, name)
            self._finalize(entry, now)
        for face_id, token in receivers:
            receiver = self.faces.get(face_id)
            if receiver is not None:
                if self.trace is not None:
                    self.trace(now, "out", face_id, "Data", name, "")
                self._send_data(receiver, wire, token, face.id, mark, now)

    def _awaited(self, matches: list[PitEntry], now: float) -> list[PitEntry]:
        """Those that have not run out; the others end as they do when their turn comes (Pit.due)."""
        late = [entry for entry in matches if entry.expires <= now]
        for entry in late:
            self._ran_out(entry, now)
        return [entry for entry in matches if entry not in late] if late else matches

    # ------------------------------------------------------------ Nack

    def _on_nack(self, face: Face, wire: bytes, reason: int, now: float) -> None:
        """A Nack from upstream."""
        interest = parse_interest(wire)
        face.counters.in_nacks += 1
        self.counters.in_nacks += 1
        if self.trace is not None:
            self.trace(now, "in", face.id, "Nack", interest.name, f"reason {reason}")
        entry = self._pit.asked(interest, face.id)
        if entry is None or entry.expires <= now:
            self._dropped(now, face.id, "Nack", interest.name, "no pending Interest")
            return
        self._refused(entry, face.id, reason, now)
        if not any(out.pending(now) for out in entry.outs.values()):
            self._finalize(entry, now)
