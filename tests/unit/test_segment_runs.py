"""Segments that are alike are taken together exactly as they would be one by one, whatever comes among them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.config import FetchConfig
from ndn_infer.ndn import lp
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import decode_interest, encode_data
from ndn_infer.ndn.tlv import Framer, Frames
from ndn_infer.transport.link.endpoint import Endpoint, Pending
from ndn_infer.transport.link.links import Receiver
from ndn_infer.transport.objects.pull import PullLoop
from ndn_infer.wire.manifest import SEGMENT_BYTES, ObjectPackets, build_object
from ndn_infer.wire.segment_runs import SHAPES_OF_A_LENGTH, Shapes, run_at, shape_of
from ndn_infer.wire.segments import InterestTemplate, Segments

FIRST, SECOND = ndn.from_uri("/net/kv/" + "a" * 64), ndn.from_uri("/net/kv/" + "b" * 64)
COUNT = 9
"""Segments of each; the last is short."""


def sign(
    name: Name, content: bytes, *, freshness_ms: int = 0, content_type: int = 0, final_block: bytes | None = None
) -> bytes:
    return encode_data(name, content, freshness_ms=freshness_ms, content_type=content_type, final_block=final_block)


@lru_cache
def objects(count: int = COUNT) -> tuple[ObjectPackets, ...]:
    seeded = random.Random(1)
    size = (count - 1) * SEGMENT_BYTES + 4100
    return tuple(build_object(base, 7, seeded.randbytes(size), sign) for base in (FIRST, SECOND))


class KeptLink:
    """A link whose other end is the test."""

    def __init__(self) -> None:
        self.receiver: Receiver = lambda packets: None
        self.lost = lambda: None
        self.local = True
        self.sent: list[Name] = []

    def send(self, wire: bytes) -> None:
        self.send_packed(wire, 1)

    def send_packed(self, wires: bytes, count: int) -> None:
        packets = Framer().feed(wires)
        assert len(packets) == count
        self.sent += [decode_interest(packet).name for packet in packets]

    def flush(self) -> None: ...

    def close(self) -> None: ...


class StillLoop(asyncio.SelectorEventLoop):
    """No time passes: what is sent again follows from packets alone."""

    def time(self) -> float:
        return 1.0


class Reader:
    """Pulls both objects; `kept` contents or contents in their places."""

    def __init__(self, *, kept: bool) -> None:
        self.link, self.heard = KeptLink(), list[bytes]()
        self.endpoint = Endpoint(self._dial)
        self.kept = kept

    async def _dial(self) -> KeptLink:
        return self.link

    async def start(self, exact: Sequence[int]) -> None:
        await self.endpoint.open()
        self.loop = PullLoop(self.endpoint, FetchConfig())
        self.rooms = [bytearray(item.manifest.size) for item in objects()]
        self.pulls = [
            self.loop.pull(
                Segments(
                    item.manifest.name, COUNT, item.manifest.digests, size=item.manifest.size,
                    into=None if self.kept else memoryview(room),
                )
            )
            for item, room in zip(objects(), self.rooms, strict=True)
        ]  # fmt: skip
        for number in exact:
            name = objects()[0].manifest.segment_name(number)
            hear = Pending(name, False, lambda wire, *_: self.heard.append(wire), lambda reason: None)
            self.endpoint._exact.setdefault(name, []).append(hear)

    def outcome(self) -> dict[str, Any]:
        puller = self.loop.puller
        return {
            "contents": [{n: bytes(c) for n, c in pull.segments.partial().items()} for pull in self.pulls],
            "missing": [pull.segments.missing for pull in self.pulls],
            "stored": [pull.segments.from_content_store for pull in self.pulls],
            "refused": [pull.segments.refused for pull in self.pulls],
            "done": [pull.future.done() and repr(pull.future.exception()) for pull in self.pulls],
            "puller": asdict(puller.stats),
            "waiting": (puller.in_flight, puller.idle),
            "endpoint": asdict(self.endpoint.stats),
            "sent": self.link.sent,
            "heard": self.heard,
        }


packets = st.tuples(
    st.integers(0, 1), st.integers(0, COUNT - 1), st.integers(1, COUNT),
    st.sampled_from(["bare", "cached", "cached", "relayed", "relayed", "marked", "nack", "damaged", "other"]),
    st.integers(0, 8300), st.integers(1, 255),
)  # fmt: skip
"""(object, first number, how many in a row, form, where a byte is changed, by what)"""


def stream(mix: Sequence[tuple[int, int, int, str, int, int]]) -> list[bytes]:
    made = []
    for which, first, many, form, at, change in mix:
        item = objects()[which]
        for number in range(first, min(first + many, COUNT)):
            name = item.manifest.segment_name(number)
            wire = item.packets[name]
            if form == "nack":
                asked = InterestTemplate(item.manifest.name).make(number)
                wire = lp.encode_lp(lp.LpPacket(asked, nack_reason=lp.REASON_DUPLICATE))
            elif form == "other":
                wire = sign(name, wire[-SEGMENT_BYTES:][:at], freshness_ms=change)
            elif form != "bare":
                face, mark = (254 if form == "cached" else 300), int(form == "marked")
                wire = lp.encode_lp(lp.LpPacket(wire, incoming_face_id=face, congestion_mark=mark))
            if form == "damaged" and number % 3 == 1:
                place = at % len(wire)
                wire = wire[:place] + bytes((wire[place] ^ change,)) + wire[place + 1 :]
            made.append(wire)
    return made


async def outcomes(sent: Sequence[bytes], reads: Sequence[int], *, kept: bool, exact: Sequence[int]) -> None:
    together, alone = Reader(kept=kept), Reader(kept=kept)
    framer, source, at, turn = Framer(room=bytearray(1 << 18)), b"".join(sent), 0, 0
    for reader in (together, alone):
        await reader.start(exact)
    while at < len(source) and framer.fault is None:
        piece = source[at : at + reads[turn % len(reads)]]
        at, turn = at + len(piece), turn + 1
        frames = framer.frames_from(lambda view, piece=piece: _into(view, piece))  # type: ignore[misc]
        assert isinstance(frames, Frames)
        one_by_one = list(frames)
        together.link.receiver(frames)
        alone.link.receiver(one_by_one)
        framer._room[:] = bytes(len(framer._room))  # the next read overwrites what nobody may have kept
    assert together.outcome() == alone.outcome()


def _into(view: memoryview, piece: bytes) -> int:
    view[: len(piece)] = piece
    return len(piece)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(packets, min_size=1, max_size=8), st.lists(st.integers(3000, 200_000), min_size=1, max_size=3),
    st.booleans(), st.lists(st.integers(0, COUNT - 1), max_size=2, unique=True),
)  # fmt: skip
@example([(0, 0, COUNT, "cached", 0, 1)], [200_000], False, [4])
def test_together_as_alone(
    mix: list[tuple[int, int, int, str, int, int]], reads: list[int], kept: bool, exact: list[int]
) -> None:
    with asyncio.Runner(loop_factory=StillLoop) as runner:
        runner.run(outcomes(stream(mix), reads, kept=kept, exact=exact))


def frames_of(wires: Sequence[bytes]) -> Frames:
    source = b"".join(wires)
    frames = Framer().frames_from(lambda view: _into(view, source))
    assert frames is not None
    return frames


def test_runs_are_found_at_once_for_another_object_and_end_where_packets_differ() -> None:
    """What was learnt of one object's packets holds for those of another whose name is as long."""
    first, second = objects()
    wires = [lp.encode_lp(lp.LpPacket(wire, incoming_face_id=254)) for wire in second.packets.values()]
    shapes = Shapes()
    shapes.learn(lp.encode_lp(lp.LpPacket(first.packets[first.manifest.segment_name(0)], incoming_face_id=254)))
    frames = frames_of(wires)
    found = shapes.find(frames, 0)
    assert found is not None and found[1] == second.manifest.name
    run = run_at(frames, 0, found[0])
    assert run.packets == COUNT - 1  # the last one is shorter
    assert run.names() == [second.manifest.segment_name(number) for number in range(COUNT - 1)]
    wires[4] = lp.encode_lp(lp.LpPacket(wires[4][12:], incoming_face_id=253))
    frames = frames_of(wires)
    assert run_at(frames, 0, found[0]).packets == 4 and shapes.find(frames, 4) is None


def test_a_run_is_taken_without_reading_packets_in_full() -> None:
    """What this is for: a run of an object that is wanted is taken to its end, but for its short last packet."""
    item = objects()[0]
    segments = Segments(item.manifest.name, COUNT, item.manifest.digests, size=item.manifest.size)
    wires = list(item.packets.values())
    shape = shape_of(wires[0])
    assert shape is not None
    assert segments.accept_run(run_at(frames_of(wires), 0, shape)) == list(range(COUNT - 1))
    assert segments.missing == {COUNT - 1}


@given(st.binary(max_size=400), st.integers(0, 200), st.integers(0, 255))
def test_no_bytes_make_a_shape_fail(noise: bytes, at: int, value: int) -> None:
    """A shape is learnt from packets that nobody has judged."""
    wire = bytearray(objects()[0].packets[objects()[0].manifest.segment_name(0)][:400])
    wire[at] = value
    for packet in (noise, bytes(wire), b"\x06\xfd\x01\x2c\x07" + noise.ljust(300, b"\0")):
        shapes = Shapes()
        if packet:
            shapes.learn(packet)
            shapes.find(Frames(packet, memoryview(packet), [0, len(packet)]), 0)
    assert all(len(known) <= SHAPES_OF_A_LENGTH for known in shapes._known.values())


@given(st.sampled_from([0, 250, 300]), st.lists(st.integers(0, 300) | st.just(70_000), min_size=1, max_size=30))
def test_interests_made_together_are_those_made_one_by_one(lifetime_ms: int, numbers: list[int]) -> None:
    for order in (numbers, sorted(numbers), [number % 256 for number in numbers], [256 + n % 9000 for n in numbers]):
        template = InterestTemplate(FIRST, hints=(SECOND,), lifetime_ms=lifetime_ms)
        made = [decode_interest(wire) for wire in Framer().feed(template.many(order))]
        assert [interest.name for interest in made] == [FIRST + ndn.segment(number) for number in order]
        assert {(interest.hints, interest.lifetime_ms) for interest in made} == {((SECOND,), lifetime_ms)}
        nonces = {interest.nonce for interest in made}
        assert len(nonces) == len(order) and None not in nonces
