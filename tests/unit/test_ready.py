"""Answers that are ready: for every packet what looking at it alone would give."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import ndn
from ndn_infer.ndn import lp, packet
from ndn_infer.transport.link.ready import Ready
from ndn_infer.wire.peek import interest_name

NAMES = [ndn.from_uri(f"/a/{stem}/seg={number}") for stem in ("x", "y", "long" * 60) for number in (0, 1, 2, 300)]


@st.composite
def asked(draw: st.DrawFn) -> bytes:
    name = draw(st.sampled_from(NAMES))
    wire = packet.encode_interest(name, nonce=draw(st.binary(min_size=4, max_size=4)), hop_limit=draw(st.none()))[0]
    face = draw(st.sampled_from((None, 7, 300)))
    return wire if face is None else lp.encode_lp(lp.LpPacket(wire, incoming_face_id=face))


@given(st.lists(asked() | st.binary(min_size=1, max_size=80), max_size=12), st.sets(st.sampled_from(NAMES)))
def test_the_same_as_one_after_the_other(packets: list[bytes], held: set[bytes]) -> None:
    ready = Ready(lambda name: b"D" + name if name in held else None)
    at, found = 0, []
    while at < len(packets):
        answers = ready.answers(packets, at)
        found += answers
        at += len(answers)
        if not answers:
            wire = packets[at]
            inner = wire if wire[0] == 5 else (lp.peel_interest(wire) or (b"", None))[0]
            answer = ready.first(wire, inner) if inner else None
            found += [answer] if answer is not None else []
            at += 1
    names = [interest_name(wire if wire[0] == 5 else (lp.peel_interest(wire) or (b"", 0))[0]) for wire in packets]
    assert found == [b"D" + name for name in names if name in held]


def test_those_that_are_alike_are_not_looked_at_one_by_one() -> None:
    wires = [packet.encode_interest(ndn.from_uri(f"/a/x/seg={n}"), nonce=bytes(4))[0] for n in range(9)]
    packets = [lp.encode_lp(lp.LpPacket(wire, incoming_face_id=300)) for wire in wires]
    ready = Ready(lambda name: name)
    assert ready.answers(packets, 0) == []
    assert ready.first(packets[0], wires[0]) == ndn.from_uri("/a/x/seg=0")
    assert ready.answers(packets, 1) == [ndn.from_uri(f"/a/x/seg={n}") for n in range(1, 9)]
    assert ready.answers(wires, 1) == [], "without the header it is of another form"
