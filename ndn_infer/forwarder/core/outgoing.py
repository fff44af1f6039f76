"""What leaves a forwarder, and how a pending Interest ends.

Owns: the outgoing pipelines (Interest, Data, Nack) with their counters and trace, and the end of a PIT entry (NFD
developer guide, sections 4.2.5, 4.2.6, 4.3.3, 4.4.2). Pure. Must not know: what comes in, who is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from ndn_infer.forwarder.core.dead_nonce_list import DeadNonceList
from ndn_infer.forwarder.core.faces import Face
from ndn_infer.forwarder.core.pit import InRecord, OutRecord, Pit, PitEntry
from ndn_infer.forwarder.link.counters import ForwarderCounters, Trace
from ndn_infer.ndn.name import Name


class Outgoing:
    """Faces and pending Interests, and what is sent for them."""

    def __init__(self, pit: Pit) -> None:
        self.faces: dict[int, Face] = {}
        self.counters = ForwarderCounters()
        self.trace: Trace | None = None
        self._pit = pit
        self._dead = DeadNonceList()

    @property
    def pit_size(self) -> int:
        return len(self._pit)

    def bound_pit(self, capacity: int, capacity_bytes: int) -> None:
        """Other bounds from now on; entries stay."""
        self._pit.capacity, self._pit.capacity_bytes = capacity, capacity_bytes

    def _send_interest(
        self, entry: PitEntry, face_id: int, record: InRecord, source: int, mark: int, now: float
    ) -> None:
        old = entry.outs.get(face_id)
        suppress_s = old.suppress_s if old is not None else 0.0
        out = self.faces[face_id]
        self._pit.put_out(entry, face_id, OutRecord(record.nonce, record.expires, now, suppress_s, out.share))
        if self.trace is not None:
            self.trace(now, "out", face_id, "Interest", entry.name, "")
        out.counters.out_interests += 1
        self.counters.out_interests += 1
        out.link.send(record.wire, now, incoming_face_id=source, mark=mark)

    def _send_data(self, face: Face, wire: bytes, token: bytes, source: int, mark: int, now: float) -> None:
        face.counters.out_data += 1
        self.counters.out_data += 1
        face.link.send(wire, now, token=token, incoming_face_id=source, mark=mark)

    def _send_all_data(self, face: Face, wires: Sequence[bytes], source: int, now: float) -> None:
        """`_send_data` of packets that came together, without tokens and marks."""
        face.counters.out_data += len(wires)
        self.counters.out_data += len(wires)
        face.link.send_all(wires, now, incoming_face_id=source)

    def _send_nack(self, face: Face, wire: bytes, token: bytes, reason: int, now: float) -> None:
        face.counters.out_nacks += 1
        self.counters.out_nacks += 1
        face.link.send(wire, now, token=token, nack_reason=reason)

    def _refused(self, entry: PitEntry, face_id: int, reason: int, now: float) -> None:
        """Whom we asked has refused; what that means for those downstream is the strategy's decision."""
        entry.outs[face_id].nack_reason = reason
        entry.strategy.on_nack(entry, face_id, now)
        decision = entry.strategy.nacks(entry)
        if decision is None:
            return
        told_reason, told = decision
        for downstream in told:
            record = self._pit.take_in(entry, downstream)
            receiver = self.faces.get(downstream)
            if receiver is not None:
                self._send_nack(receiver, record.wire, record.token, told_reason, now)

    def _dropped(self, now: float, face_id: int, kind: str, name: Name, why: str) -> None:
        if self.trace is not None:
            self.trace(now, "drop", face_id, kind, name, why)

    def _finalize(self, entry: PitEntry, now: float) -> None:
        """The entry leaves the PIT; nonces that may still loop are remembered (NFD, insertDeadNonceList)."""
        if not self._pit.remove(entry):
            return
        if entry.satisfied:
            self.counters.satisfied += 1
        else:
            self.counters.unsatisfied += 1
            self._dropped(now, 0, "Interest", entry.name, "no answer in its lifetime, or its consumers are gone")
        if not entry.satisfied or (entry.must_be_fresh and entry.freshness_ms < self._dead.lifetime_s * 1000):
            for record in entry.outs.values():
                self._dead.add(entry.name, record.nonce, now)
