"""A forwarder in virtual time for tests: packets in as bytes, what came out as short texts.

What leaves a face is told as one line: `I/a/b#1 h3 via=/isp` (Interest, nonce 1, HopLimit 3, ForwardingHint
/isp), `D/a/b t=0102 from=254 marked` (Data with PIT token, IncomingFaceId and congestion mark), `N150/a/b#1` (Nack
NoRoute).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ndn_infer import ndn
from ndn_infer.forwarder.core.content_store import ContentStore
from ndn_infer.forwarder.core.faces import Face
from ndn_infer.forwarder.core.pipeline import Forwarder
from ndn_infer.forwarder.core.rib import CHILD_INHERIT, Route
from ndn_infer.forwarder.core.strategy import MULTICAST
from ndn_infer.forwarder.link.link_service import LinkService
from ndn_infer.ndn import lp, packet, tlv


def interest(uri: str, nonce: int | None = 1, **options: Any) -> bytes:
    """`hints` as URIs; `nonce` None makes an Interest without one."""
    options["hints"] = tuple(ndn.from_uri(hint) for hint in options.get("hints", ()))
    wire, _ = packet.encode_interest(ndn.from_uri(uri), nonce=(nonce or 0).to_bytes(4, "big"), **options)
    if nonce is None:
        wire = wire.replace(b"\x0a\x04\0\0\0\0", b"")
        wire = wire[:1] + bytes((len(wire) - 2,)) + wire[2:]
    return wire


def data(uri: str, *, fresh_ms: int = 0, content: bytes = b"x") -> bytes:
    return packet.encode_data(ndn.from_uri(uri), content, freshness_ms=fresh_ms)


def link(wire: bytes, **fields: Any) -> bytes:
    return lp.encode_lp(lp.LpPacket(wire, **fields))


def nack(wire: bytes, reason: int) -> bytes:
    return link(wire, nack_reason=reason)


def describe(wire: bytes) -> str:
    """One line about a link packet."""
    header = lp.decode_lp(wire)
    if header.frag_count > 1:
        return f"F{header.frag_index}/{header.frag_count}"
    if header.fragment[0] == 0x05:
        fields = _first_of_each(header.fragment)
        kind = "I" if header.nack_reason is None else f"N{header.nack_reason}"
        text = f"{kind}{ndn.to_uri(fields[0x07])}#{int.from_bytes(fields.get(0x0A, b''), 'big')}"
        text += f" h{fields[0x22][0]}" if 0x22 in fields else ""
        hints = fields.get(0x1E, b"")
        for element, start, end in tlv.iterate(hints):
            if element == 31:  # a Delegation of Packet Format 0.2: a Preference, then a Name
                _, (_, start, end) = tlv.iterate(hints, start, end)
            text += f" via={ndn.to_uri(hints[start:end])}"
    else:
        text = f"D{ndn.to_uri(_first_of_each(header.fragment)[0x07])}"
    text += f" t={header.pit_token.hex()}" if header.pit_token else ""
    text += f" from={header.incoming_face_id}" if header.incoming_face_id is not None else ""
    return text + (" marked" if header.congestion_mark else "")


def _first_of_each(wire: bytes) -> dict[int, bytes]:
    """Elements of a packet by type; no check of their order, which is what tests are about."""
    _, start, end = tlv.read_header(wire, 0, len(wire))
    fields: dict[int, bytes] = {}
    for kind, value, after in tlv.iterate(wire, start, end):
        fields.setdefault(kind, wire[value:after])
    return fields


@dataclass
class World:
    """Faces by one-letter name: upper case is non-local, lower case local. Ids count from 256 in order of creation."""

    core: Forwarder = field(default_factory=lambda: Forwarder(ContentStore(100, 1 << 20), seed=1))
    faces: dict[str, Face] = field(default_factory=dict)
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    queued: dict[str, int] = field(default_factory=dict)
    now: float = 0.0

    def add_face(self, name: str, **options: Any) -> Face:
        def transmit(wire: bytes) -> None:
            self.sent.append((name, wire))

        service = LinkService(transmit, queued_bytes=lambda: self.queued.get(name, 0), **options)
        face = Face(self.core.new_face_id(), f"test://{name}", "test://", service, local=name.islower())
        self.faces[name] = face
        self.core.add_face(face)
        return face

    def route(self, uri: str, name: str, cost: int = 0) -> None:
        self.core.rib.register(ndn.from_uri(uri), Route(self.faces[name].id, 0, cost, CHILD_INHERIT))

    def multicast(self, uri: str) -> None:
        assert self.core.strategies.set(ndn.from_uri(uri), MULTICAST) is not None

    def receive(self, name: str, wire: bytes, now: float) -> list[str]:
        """What goes out because of this packet, as `face<description`, sorted."""
        self.advance(now)
        self.sent.clear()
        self.core.receive_all(self.faces[name], [wire], now)
        return self.outgoing()

    def advance(self, now: float) -> None:
        """Let time pass as a shell does: a tick whenever one is due."""
        while (wake := self.core.next_wake()) is not None and wake <= now:
            self.core.tick(wake)

    def outgoing(self) -> list[str]:
        return sorted(f"{name}<{describe(wire)}" for name, wire in self.sent)
