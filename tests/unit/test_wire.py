"""The pure state machines, in virtual time: objects, puller, congestion, streams, calls."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndn_infer import name as ndn
from ndn_infer import packet
from ndn_infer.errors import BadPacket, DigestMismatch
from ndn_infer.wire.call import TRANSITIONS, CallEvent, CallMachine, CallState
from ndn_infer.wire.congestion import CubicWindow, RttEstimator
from ndn_infer.wire.manifest import (
    INLINE_BYTES,
    SEGMENT_BYTES,
    Manifest,
    absent,
    build_object,
    decode_manifest,
    encode_manifest,
    is_absent,
    seal_stream,
)
from ndn_infer.wire.puller import Puller
from ndn_infer.wire.stream import StreamReader, StreamWriter

BASE = ndn.from_uri("/net/object")

# ---------------------------------------------------------------- objects


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES, INLINE_BYTES + 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 1_700_000])
def test_objects_are_cut_and_joined(size: int) -> None:
    content = random.Random(size).randbytes(size)
    built = build_object(BASE, 42, content, packet.encode_data)
    data = packet.decode_data(built.metadata)
    manifest = decode_manifest(data)
    assert manifest.name == BASE + ndn.version(42) and manifest.size == size
    assert (manifest.inline == content) is (size <= INLINE_BYTES)
    if manifest.manifest_digests:
        pieces = []
        for number in range(len(manifest.manifest_digests) // 32):
            wire = built.packets[manifest.manifest_name(number)]
            manifest.check_manifest_segment(number, wire)
            pieces.append(packet.decode_data(wire).content)
        manifest = manifest.with_digests(b"".join(pieces))
    parts = []
    for number in range(manifest.segments):
        wire = built.packets[manifest.segment_name(number)]
        manifest.check_segment(number, wire)
        segment = packet.decode_data(wire)
        assert segment.final_block == ndn.segment(manifest.segments - 1) and len(wire) <= 8800
        parts.append(segment.content)
    assert b"".join(parts) == content


def test_first_field_of_metadata_is_the_versioned_name_as_rdr_asks() -> None:
    content = packet.decode_data(build_object(BASE, 7, b"x", packet.encode_data).metadata).content
    name = ndn.encode_name(BASE + ndn.version(7))
    assert content.startswith(name)


def test_any_flipped_byte_of_a_segment_is_noticed() -> None:
    built = build_object(BASE, 1, b"y" * 9000, packet.encode_data)
    wire = built.packets[built.manifest.segment_name(1)]
    for at in range(len(wire)):
        changed = bytearray(wire)
        changed[at] ^= 1
        with pytest.raises(DigestMismatch):
            built.manifest.check_segment(1, bytes(changed))
    with pytest.raises(DigestMismatch):
        built.manifest.check_segment(0, wire)


def _metadata(name: ndn.Name, manifest: Manifest) -> packet.Data:
    return packet.decode_data(
        packet.encode_data(name + ndn.METADATA + ndn.version(1) + ndn.segment(0), encode_manifest(manifest))
    )


@pytest.mark.parametrize(
    "manifest",
    [
        Manifest(ndn.from_uri("/net/other/v=1"), 1, 1, bytes(32)),
        Manifest(BASE, 1, 1, bytes(32)),
        Manifest(BASE + ndn.version(1) + ndn.segment(0), 1, 1, bytes(32)),
        Manifest(BASE + ndn.version(1), 1, 2, bytes(32)),
        Manifest(BASE + ndn.version(1), 10**12, 1, bytes(32)),
        Manifest(BASE + ndn.version(1), 5, 1, bytes(32), inline=b"four"),
        Manifest(BASE + ndn.version(1), 1, 10**7, b"", bytes(32)),
    ],
)
def test_manifests_that_contradict_themselves_or_their_name(manifest: Manifest) -> None:
    with pytest.raises(BadPacket):
        decode_manifest(_metadata(BASE, manifest))


@given(st.binary(max_size=200))
def test_random_metadata_raises_nothing_but_bad_packet(content: bytes) -> None:
    name = BASE + ndn.METADATA + ndn.version(1) + ndn.segment(0)
    with pytest.raises(BadPacket):
        decode_manifest(packet.decode_data(packet.encode_data(name, content)))


def test_absent_is_told_from_present() -> None:
    assert is_absent(packet.decode_data(absent(BASE, 1, packet.encode_data)))
    assert not is_absent(packet.decode_data(build_object(BASE, 1, b"", packet.encode_data).metadata))


def test_sealed_stream_is_an_object() -> None:
    segments = [
        packet.decode_data(packet.encode_data(BASE + ndn.version(9) + ndn.segment(number), bytes([number % 256])))
        for number in range(300)
    ]
    sealed = seal_stream(BASE, 9, segments, packet.encode_data)
    manifest = decode_manifest(packet.decode_data(sealed.metadata))
    assert manifest.segments == 300 and manifest.size == 300 and len(manifest.manifest_digests) == 64


# ---------------------------------------------------------------- congestion


def test_rtt_follows_rfc_6298() -> None:
    rtt = RttEstimator()
    assert rtt.rto_s == 1.0
    rtt.sample(0.5)
    assert (rtt.smoothed_s, rtt.variation_s, rtt.rto_s) == (0.5, 0.25, 1.5)
    rtt.sample(0.1)
    assert rtt.smoothed_s == pytest.approx(0.45) and rtt.variation_s == pytest.approx(0.2875)
    rtt.back_off()
    assert rtt.rto_s == pytest.approx(2 * (0.45 + 4 * 0.2875))
    for _ in range(100):
        rtt.sample(0.001)
    assert rtt.rto_s == 0.2  # never below the minimum


def test_window_grows_shrinks_once_per_round_trip_and_recovers() -> None:
    window = CubicWindow(size=2)
    for _ in range(30):
        window.on_data(0.0, 0.01)
    assert window.size == 32
    assert window.on_congestion(1.0, sent_at=0.9) and window.size == pytest.approx(22.4)
    assert not window.on_congestion(1.1, sent_at=0.95) and window.size == pytest.approx(22.4)
    assert window.on_congestion(1.3, sent_at=1.2)
    low, now = window.size, 1.3
    for _ in range(4000):
        now += 0.001
        window.on_data(now, 0.01)
    assert low < window.size <= window.limit
    for sent in range(50):
        window.on_congestion(10.0 + sent, sent_at=9.5 + sent)
    assert window.size == 2.0


# ---------------------------------------------------------------- puller


def simulate(
    keys: int, *, seed: int, loss: float, duplicate: float = 0.0, mark: float = 0.0, nack: float = 0.0,
    delay: float = 0.02,
) -> tuple[Puller, float]:  # fmt: skip
    """A network in virtual time; returns the puller and when it was done."""
    rng, puller, now = random.Random(seed), Puller(), 0.0
    events: list[tuple[float, int, str]] = []
    for key in range(keys):
        puller.want(key, give_up_at=300.0)
    while not puller.idle and now < 400:
        puller.on_timer(now)
        for key in puller.due(now):
            assert isinstance(key, int)
            if rng.random() < loss:
                continue
            kind = "nack" if rng.random() < nack else "mark" if rng.random() < mark else "data"
            for _ in range(1 + (rng.random() < duplicate)):
                events.append((now + delay * rng.uniform(0.5, 2), key, kind))
        events.sort(reverse=True)
        wake = puller.next_wake()
        assert wake is not None or events or puller.idle, "stalled: something is wanted and nobody will wake us"
        now = min([event[0] for event in events[-1:]] + [wake if wake is not None else 1e9])
        while events and events[-1][0] <= now:
            _, key, kind = events.pop()
            if kind == "nack":
                puller.on_nack(key, 50, now)
            else:
                puller.on_data(key, marked=kind == "mark", now=now)
    return puller, now


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 300), st.integers(0, 10**6), st.sampled_from([0.0, 0.05, 0.3]), st.sampled_from([0.0, 0.2]),
    st.sampled_from([0.0, 0.05]), st.sampled_from([0.0, 0.02]),
)  # fmt: skip
def test_everything_arrives_whatever_the_network_does(
    keys: int, seed: int, loss: float, duplicate: float, mark: float, nack: float
) -> None:
    puller, _ = simulate(keys, seed=seed, loss=loss, duplicate=duplicate, mark=mark, nack=nack)
    assert puller.idle and not puller.failures
    assert puller.stats.received == keys and puller.in_flight == 0
    assert puller.stats.sent >= keys and puller.stats.retransmitted == puller.stats.sent - keys


def test_nothing_is_sent_twice_without_loss() -> None:
    puller, took = simulate(2000, seed=1, loss=0.0)
    assert puller.stats.sent == 2000 and puller.stats.timeouts == 0
    assert puller.window.size > 100 and took < 3.0


def test_dead_network_fails_clearly() -> None:
    puller, now = Puller(max_attempts=4), 0.0
    puller.want("a", give_up_at=1000.0)
    while not puller.idle:
        puller.on_timer(now)
        puller.due(now)
        now = max(puller.next_wake() or now, now + 0.001)
    assert [(failure.key, failure.reason) for failure in puller.failures] == [("a", "timeout")]
    assert puller.stats.sent == 4


def test_no_route_fails_after_few_nacks_and_refused_data_is_asked_again() -> None:
    puller, now = Puller(), 0.0
    puller.want("a", give_up_at=1000.0)
    while not puller.idle:
        for key in puller.due(now):
            puller.on_nack(key, 150, now)
        now += 0.01
    assert puller.failures[0].reason == "nack" and puller.failures[0].nack_reason == 150 and now < 2
    puller = Puller()
    puller.want("b", give_up_at=10.0)
    assert puller.due(0.0) == ["b"]
    puller.refused("b", 0.1)
    assert puller.due(0.1) == ["b"] and puller.window.size >= 16
    assert puller.on_data("b", marked=False, now=0.2) and not puller.on_data("b", marked=False, now=0.3)


# ---------------------------------------------------------------- streams


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.4]))
def test_two_ends_of_a_stream(count: int, seed: int, loss: float) -> None:
    """Writer and reader back to back; Interests and segments are lost, delayed, reordered."""
    rng, now = random.Random(seed), 0.0
    writer: StreamWriter[int] = StreamWriter()
    reader = StreamReader(0.0, ahead=4, lifetime_s=1.0, idle_s=60.0)
    arriving: list[tuple[float, int]] = []
    received: list[bytes] = []
    produced_at = [0.1 * number for number in range(count)]
    while not reader.done:
        assert not reader.stalled(now) and now < 300
        for number in reader.due(now):
            if rng.random() >= loss:
                if writer.ask(number, number, expires=now + 1.0) is not None:
                    arriving.append((now + rng.uniform(0.01, 0.2), number))
        now += 0.02
        while len(writer.segments) < count and produced_at[len(writer.segments)] <= now:
            number = len(writer.segments)
            for waiter in writer.append(b"%d" % number, now, final=number == count - 1):
                arriving.append((now + rng.uniform(0.01, 0.2), waiter))
        for arrival in [item for item in arriving if item[0] <= now]:
            arriving.remove(arrival)
            if rng.random() >= loss:
                final = count - 1 if arrival[1] == count - 1 else None
                received += reader.on_segment(arrival[1], writer.segments[arrival[1]], final=final, now=now)
    assert received == [b"%d" % number for number in range(count)]


def test_stream_forgets_the_oldest_waiters_first_and_expired_ones() -> None:
    writer: StreamWriter[str] = StreamWriter(max_waiting=2)
    for number, waiter in enumerate("abc"):
        assert writer.ask(number, waiter, expires=10.0) is None
    assert writer.append(b"0", 0.0) == []
    assert writer.append(b"1", 20.0) == []
    assert writer.append(b"2", 5.0, final=True) == ["c"]
    assert writer.ask(7, "x", 30.0) is None and writer.ask(1, "x", 30.0) == b"1"


def test_silent_stream_stalls() -> None:
    reader = StreamReader(0.0, idle_s=5.0)
    assert reader.due(0.0) == [0, 1, 2, 3] and reader.due(0.1) == []
    assert reader.next_wake(0.1) == 4.0 and reader.due(4.0) == [0, 1, 2, 3]
    assert not reader.stalled(4.9) and reader.stalled(5.0)


# ---------------------------------------------------------------- calls


def test_every_transition_of_the_table_is_reachable_and_others_are_defects() -> None:
    reachable = {CallState.ASKING} | {after for (_, _), after in TRANSITIONS.items()}
    assert reachable == set(CallState)
    machine = CallMachine(10.0)
    with pytest.raises(KeyError):
        machine.on(CallEvent.RESULT_COMPLETE, 0.0)


def test_life_of_a_call() -> None:
    machine = CallMachine(give_up_at=100.0, max_attempts=3, max_rounds=1)
    machine.ask()
    assert machine.on(CallEvent.NO_ANSWER, 1.0) is CallState.ASKING and machine.salt == 0
    machine.ask()
    assert machine.on(CallEvent.ELSEWHERE, 2.0) is CallState.READING
    assert machine.on(CallEvent.RESULT_LOST, 3.0) is CallState.ASKING and machine.salt == 1
    machine.ask()
    assert machine.on(CallEvent.ELSEWHERE, 4.0) is CallState.READING
    assert machine.on(CallEvent.RESULT_LOST, 5.0) is CallState.FAILED
    late = CallMachine(give_up_at=1.0)
    late.ask()
    assert late.on(CallEvent.DISTRUSTED, 2.0) is CallState.FAILED
