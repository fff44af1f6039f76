"""The forwarder's core with tables and management, in virtual time, fed with hostile packets.

Owns: the faces around the core, what may leave it, which bounds hold, what an honest pair sees. Must not know: how the
packets came to be.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from ndn_infer import ndn
from ndn_infer.errors import BadPacket
from ndn_infer.forwarder.core import pit
from ndn_infer.forwarder.core.content_store import ContentStore
from ndn_infer.forwarder.core.dead_nonce_list import CAPACITY as DEAD_NONCES
from ndn_infer.forwarder.core.faces import MANAGEMENT_FACE_ID, Face
from ndn_infer.forwarder.core.parsing import MAX_LIFETIME_MS, parse_data, parse_interest
from ndn_infer.forwarder.core.pipeline import LOCALHOST, Forwarder
from ndn_infer.forwarder.core.rib import CAPTURE
from ndn_infer.forwarder.core.strategy import BEST_ROUTE, StrategyChoice
from ndn_infer.forwarder.link.face_uri import FaceUri
from ndn_infer.forwarder.link.link_service import LinkService
from ndn_infer.forwarder.link.reassembly import FACE_BYTES, MAX_PARTIAL_PACKETS
from ndn_infer.forwarder.management.commands import FaceDone
from ndn_infer.forwarder.management.encoding import ControlParameters
from ndn_infer.forwarder.management.events import REMEMBERED
from ndn_infer.forwarder.management.manager import MAX_REMEMBERED_SEGMENTS, Management
from ndn_infer.ndn import lp, packet, tlv
from tests.fuzz.packets import WALL_US, command_v2, command_v3

PIT_CAPACITY: Final = 100
CS_PACKETS: Final = 200
CS_BYTES: Final = 100_000
ANSWERED: Final = 0.3
"""Of the Interests that reach a client, this share gets an answer, so that Data are relayed and cached too."""
MADE_FACES: Final = 32
CLIENTS: Final[tuple[dict[str, Any], ...]] = (
    {"local": True, "local_fields": True}, {"local": True}, {"local": False}, {"local": False, "mtu_bytes": 1400},
    {"local": True, "mtu_bytes": 128},
)  # fmt: skip


class CoreTarget:
    """`feed` one packet after the other; `check_bounds` and `check_service` now and then."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.core = Forwarder(ContentStore(CS_PACKETS, CS_BYTES), pit_capacity=PIT_CAPACITY, seed=seed)
        self.management = Management(
            self.core, wall_us=lambda: WALL_US + int(self.now * 1e6), make_face=self._make_face, neighbours=True
        )
        self.relayed = 0
        self.malformed = 0
        self._asked: deque[tuple[Face, bytes]] = deque(maxlen=20)
        self._privileged = False
        self._rng = random.Random(seed)
        self._rounds = 0
        self._clients: list[Face] = []
        self._connect()

    # ------------------------------------------------------------ faces

    def _connect(self) -> None:
        """Clients in the place of those that are gone, and the routes that a network has."""
        for face in self._clients:
            self.malformed += face.counters.malformed
            self.core.remove_face(face.id)
        self._clients = [self._face(**options) for options in CLIENTS]
        self.core.fib.add(ndn.from_uri("/a"), self._clients[1].id, 0)
        self.core.fib.add(ndn.from_uri("/a"), self._clients[3].id, 5)
        self.core.fib.add(ndn.from_uri("/h"), self._clients[2].id, 5)

    def _face(self, *, local: bool, uri: str = "", into: list[bytes] | None = None, **options: Any) -> Face:
        def transmit(wire: bytes) -> None:
            self._check_sent(face, wire)
            if into is not None:
                into.append(lp.decode_lp(wire).fragment)

        number = self.core.new_face_id()
        face = Face(number, uri or f"fuzz://{number}", "fuzz://", LinkService(transmit, **options), local=local)
        self.core.add_face(face)
        return face

    def _make_face(self, uri: FaceUri, persistency: int, mtu: int | None, done: FaceDone) -> None:
        if sum(face.uri.startswith(("udp", "tcp")) for face in self.core.faces.values()) >= MADE_FACES:
            done(None, 504, "enough of them")
            return
        face = self._face(local=False, uri=str(uri), mtu_bytes=min(mtu or 1400, 9400) if uri.kind == "udp" else None)
        face.persistency = persistency
        done(face, 200, "OK")

    def _check_sent(self, face: Face, wire: bytes) -> None:
        """Only whole, well-formed packets leave, and none larger than its link takes."""
        self.relayed += 1
        sent = lp.decode_lp(wire)
        assert sent.fragment or sent.acks, "an empty packet was sent"
        limit = face.link.mtu_bytes or tlv.MAX_PACKET_BYTES + tlv.MAX_LP_OVERHEAD_BYTES
        assert len(wire) <= limit, f"{len(wire)} bytes on a link of {limit}"
        if sent.frag_count == 1 and sent.fragment:
            if sent.fragment[0] == tlv.INTEREST:
                interest = parse_interest(sent.fragment)
                assert face.local or self._privileged or not interest.name.startswith(LOCALHOST)
                assert interest.nonce or sent.nack_reason is not None
                self._asked.append((face, interest.name))
            else:
                parse_data(sent.fragment)

    # ------------------------------------------------------------ packets and time

    def feed_any(self, wire: bytes) -> None:
        """From one of the clients or of the faces that commands made, after a moment."""
        faces = self._clients
        if self._rng.random() < 0.05:
            faces = [face for face in self.core.faces.values() if face.id != MANAGEMENT_FACE_ID] or faces
        face = self._rng.choice(faces)
        if self._asked and self._rng.random() < ANSWERED:
            self._answer(*self._asked.popleft())
        if face.id not in self.core.faces:  # destroyed by command: it connects again
            self._connect()
            return
        self.feed(face, wire, self._rng.expovariate(3000.0))

    def _answer(self, face: Face, name: bytes) -> None:
        try:
            wire = packet.encode_data(name, self._rng.randbytes(100), freshness_ms=self._rng.choice((0, 10, 1000)))
        except BadPacket:  # the name alone fills a packet
            return
        if face.id in self.core.faces:
            self.feed(face, wire)

    def feed(self, face: Face, wire: bytes, wait_s: float = 0.0) -> None:
        # An application that may choose its next hop may send anything anywhere (NFD, onContentStoreMiss).
        self._privileged = b"\xfd\x03\x30" in wire
        self.pass_time(wait_s)
        self.core.receive_all(face, [wire], self.now)
        self.management.run(self.now)

    def pass_time(self, seconds: float) -> None:
        """As a shell does: a tick whenever one is due."""
        self.now += seconds
        before = None
        while (wake := self.core.next_wake()) is not None and wake <= self.now:
            assert wake != before, "the forwarder wants to be woken for ever"
            before = wake
            self.core.tick(wake)

    # ------------------------------------------------------------ what has to hold

    def check_bounds(self) -> None:
        core, management = self.core, self.management
        assert core.pit_size <= PIT_CAPACITY
        assert len(core.cs) <= core.cs.capacity_packets and core.cs.used_bytes <= CS_BYTES
        assert sum(kind.packets for kind in core.cs.classes.all()) == len(core.cs)
        assert sum(kind.used_bytes for kind in core.cs.classes.all()) == core.cs.used_bytes
        assert len(core._dead) <= DEAD_NONCES
        assert len(management._segments) <= MAX_REMEMBERED_SEGMENTS
        assert len(management._events._stored) <= REMEMBERED
        assert not (management._requests or management._replies), "management left something undone"
        for face in core.faces.values():
            assert len(face.link.reassembler) <= MAX_PARTIAL_PACKETS and face.link.reassembler.used_bytes <= FACE_BYTES
        held = [face.link.reassembler.used_bytes for face in core.faces.values()]
        assert core.fragments.used_bytes == sum(held) <= core.fragments.capacity_bytes
        assert core._pit.used_bytes == sum(
            entry.cost
            + pit.OUT_BYTES * max(0, len(entry.outs) - 1)
            + sum(pit.IN_BYTES + len(record.wire) for record in entry.ins.values())
            for entry in core._pit
        )
        known = core.faces.keys()
        assert {hop.face_id for _, hops in core.fib.items() for hop in hops} <= known, "a next hop without a face"
        assert {route.face_id for _, routes in core.rib.items() for route in routes} <= known, "a route without a face"

    def check_service(self) -> None:
        """Clients go, all lifetimes pass: nothing is left of them, and two honest applications are served."""
        self._rounds += 1
        if self.core.pit_size < PIT_CAPACITY:
            self._exchange(f"/honest/now/{self._rounds}")
        self._connect()
        self.pass_time(MAX_LIFETIME_MS / 1000 + 1)
        assert self.core.pit_size == 0, f"{self.core.pit_size} Interests pend for ever"
        assert not any(self.core._pit._by_name) and not self.core._pit._prefix_depths and self.core._pit._digests == 0
        assert self.core._pit.used_bytes == self.core.fragments.used_bytes == 0
        assert not any(face.share.held or face.share.entries for face in self.core.faces.values())
        self._forget()
        self._exchange(f"/honest/later/{self._rounds}")

    def _forget(self) -> None:
        """Undo what commands may do for good: faces, routes of the internal face, strategies, switches of the store."""
        for face in list(self.core.faces.values()):
            if face.id != MANAGEMENT_FACE_ID and face not in self._clients:
                self.core.remove_face(face.id)
        for prefix, _ in [*self.core.fib.items()]:
            if not prefix.startswith((ndn.from_uri("/localhost/nfd"), ndn.from_uri("/localhop/nfd"))):
                self.core.fib.remove(prefix, MANAGEMENT_FACE_ID)
        defaults = {prefix for prefix, _ in StrategyChoice().items()}
        for prefix in {prefix for prefix, _ in self.core.strategies.items()} - defaults:
            self.core.strategies.unset(prefix)
        self.core.strategies.set(b"", BEST_ROUTE)
        cs = self.core.cs
        assert len(cs) <= cs.capacity_packets
        cs.capacity_packets, cs.admit, cs.serve = CS_PACKETS, True, True

    def _exchange(self, uri: str) -> None:
        """Two fresh applications: one registers (inheriting nothing from routes to /), the other asks and gets its
        Data."""
        asked: list[bytes] = []
        got: list[bytes] = []
        producer, consumer = self._face(local=True, into=asked), self._face(local=True, into=got)
        prefix = ndn.from_uri(uri)
        name = prefix + ndn.segment(0)
        command = command_v2 if self._rounds % 2 else command_v3
        self.feed(producer, command("rib", "register", ControlParameters(name=prefix, flags=CAPTURE)))
        asked.clear()
        self.feed(consumer, packet.encode_interest(name, nonce=self._rng.randbytes(4))[0], 0.1)
        assert [packet.decode_interest(wire).name for wire in asked] == [name], "the honest Interest went nowhere"
        answer = packet.encode_data(name, b"yes")
        self.feed(producer, answer, 0.1)
        assert got == [answer], "the honest consumer got no Data"
        for face in (producer, consumer):
            self.core.remove_face(face.id)
        assert not self.core.fib.get(prefix)

    def entries(self) -> Iterator[tuple[str, int]]:
        """Sizes of the tables, for the report."""
        yield "faces", len(self.core.faces)
        yield "routes", sum(1 for _ in self.core.rib.items())
        yield "strategies", len(self.core.strategies)
        yield "PIT", self.core.pit_size
        yield "Content Store", len(self.core.cs)
