"""Two forwarder cores back to back in virtual time: small datagrams, loss, reordering, tokens, Nacks, marks."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.forwarder.core.content_store import ContentStore
from ndn_infer.forwarder.core.faces import Face
from ndn_infer.forwarder.core.pipeline import Forwarder
from ndn_infer.forwarder.link.link_service import LinkService
from ndn_infer.ndn import lp, packet

PREFIX = ndn.from_uri("/far")


@dataclass
class Pair:
    """consumer - near == far - producer; the link between the cores has a small MTU and shuffles datagrams."""

    seed: int = 0
    loss: float = 0.0
    double: float = 0.0
    mtu_bytes: int = 1400
    queued: int = 0
    now: float = 0.0
    got: list[lp.LpPacket] = field(default_factory=list)
    datagrams: int = 0

    def __post_init__(self) -> None:
        self.random, self.tie = random.Random(self.seed), itertools.count()
        self.events: list[tuple[float, int, Forwarder, Face, bytes]] = []
        self.near, self.far = Forwarder(ContentStore(0, 0), seed=1), Forwarder(ContentStore(0, 0), seed=2)
        self.consumer = self.face(self.near, lambda wire: self.got.append(lp.decode_lp(wire)))
        self.producer = self.face(self.far, self.produce)
        to_far, to_near = self.link(self.near, lambda: self.far_face), self.link(self.far, lambda: self.near_face)
        self.near_face, self.far_face = to_far, to_near
        self.near.fib.add(PREFIX, self.near_face.id, 0)
        self.far.fib.add(PREFIX + ndn.generic("made"), self.producer.id, 0)

    def face(self, core: Forwarder, transmit, *, local: bool = True, **options) -> Face:  # type: ignore[no-untyped-def]
        face = Face(core.new_face_id(), "test://", "test://", LinkService(transmit, **options), local=local)
        core.add_face(face)
        return face

    def link(self, core: Forwarder, peer) -> Face:  # type: ignore[no-untyped-def]
        def transmit(wire: bytes) -> None:
            assert len(wire) <= self.mtu_bytes
            other = self.far if core is self.near else self.near
            self.datagrams += 1
            for _ in range(1 + (self.random.random() < self.double)):
                if self.random.random() >= self.loss:
                    self.later(self.random.uniform(0.001, 0.05), other, peer(), wire)

        return self.face(core, transmit, local=False, mtu_bytes=self.mtu_bytes, queued_bytes=lambda: self.queued)

    def later(self, after_s: float, core: Forwarder, face: Face, wire: bytes) -> None:
        heapq.heappush(self.events, (self.now + after_s, next(self.tie), core, face, wire))

    def produce(self, wire: bytes) -> None:
        name = packet.decode_interest(lp.decode_lp(wire).fragment).name
        size = ndn.component_number(ndn.components(name)[-1], ndn.SEGMENT)
        self.later(0.01, self.far, self.producer, packet.encode_data(name, bytes(size)))

    def ask(self, wire: bytes, until: float) -> list[lp.LpPacket]:
        """Send an Interest from the consumer; what came back until then."""
        self.got.clear()
        self.near.receive(self.consumer, wire, self.now)
        while self.events and self.events[0][0] <= until:
            self.now, _, core, face, sent = heapq.heappop(self.events)
            for ticking in (self.near, self.far):
                ticking.tick(self.now)
            core.receive(face, sent, self.now)
        self.now = until
        return self.got


def interest(uri: str, nonce: int = 1, token: bytes = b"") -> bytes:
    wire, _ = packet.encode_interest(ndn.from_uri(uri), nonce=nonce.to_bytes(4, "big"))
    return lp.encode_lp(lp.LpPacket(wire, pit_token=token))


@settings(max_examples=80)
@given(
    st.integers(0, 8500), st.integers(128, 9000), st.integers(0, 10**6), st.binary(min_size=1, max_size=32),
    st.sampled_from([0.0, 0.5]),
)  # fmt: skip
def test_any_size_crosses_any_mtu(size: int, mtu_bytes: int, seed: int, token: bytes, double: float) -> None:
    """Fragments come shuffled and doubled; the Data arrives once, whole, with the consumer's own token."""
    pair = Pair(seed, double=double, mtu_bytes=mtu_bytes)
    [answer] = pair.ask(interest(f"/far/made/seg={size}", token=token), 1.0)
    assert packet.decode_data(answer.fragment).content == bytes(size) and answer.pit_token == token
    assert pair.near.pit_size == pair.far.pit_size == 0
    assert not len(pair.near_face.link.reassembler) or double


@given(st.integers(0, 10**6), st.sampled_from([0.05, 0.3]))
def test_lost_fragments_cost_a_retransmission_and_nothing_else(seed: int, loss: float) -> None:
    pair = Pair(seed, loss=loss, mtu_bytes=3000)
    for attempt in range(200):
        answers = pair.ask(interest("/far/made/seg=8000", attempt + 1), pair.now + 0.6)
        if answers:
            assert len(answers) == 1 and len(packet.decode_data(answers[0].fragment).content) == 8000
            break
    else:
        raise AssertionError("it never arrived")
    assert len(pair.near_face.link.reassembler) <= 64 and pair.near_face.counters.malformed == 0


def test_a_nack_crosses_with_the_nonce_and_token_of_the_consumer() -> None:
    pair = Pair(mtu_bytes=200)
    wire, _ = packet.encode_interest(ndn.from_uri("/far/unknown"), nonce=b"abcd", hop_limit=9, parameters=bytes(400))
    [answer] = pair.ask(lp.encode_lp(lp.LpPacket(wire, pit_token=b"tok")), 1.0)
    quoted = packet.decode_interest(answer.fragment)
    assert answer.nack_reason == lp.REASON_NO_ROUTE and answer.pit_token == b"tok"
    assert quoted.nonce == b"abcd" and quoted.hop_limit == 8 and quoted.parameters_digest_matches()


def test_a_congested_link_marks_and_the_mark_reaches_the_consumer() -> None:
    pair = Pair(mtu_bytes=9000, queued=70_000)
    marks = [
        pair.ask(interest(f"/far/made/seg={number}", number + 1), pair.now + 0.2)[0].congestion_mark
        for number in range(4)
    ]
    assert marks[0] == 0 and marks[-1] == 1


def test_what_both_would_send_to_the_other_does_not_circle() -> None:
    """Routes that point at each other: HopLimit and nonces end it, with a Nack."""
    pair = Pair()
    pair.far.fib.add(ndn.from_uri("/far/loop"), pair.far_face.id, 0)
    pair.near.fib.add(ndn.from_uri("/far/loop"), pair.near_face.id, 0)
    [answer] = pair.ask(interest("/far/loop/x"), 2.0)
    assert answer.nack_reason is not None and pair.datagrams <= 4
