"""Damaged packets against the forwarder: the core in virtual time, and a running daemon over Unix, TCP and UDP.

Seeded, so a failure can be repeated. `python -m tests.integration.test_forwarder_fuzz COUNT [SEED]` runs as many as you
like against both.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from ndn.app_support import nfd_mgmt

from ndn_infer import lp, packet, tlv
from ndn_infer import name as ndn
from ndn_infer.errors import BadPacket
from ndn_infer.forwarder.content_store import ContentStore
from ndn_infer.forwarder.management import Management
from ndn_infer.forwarder.mgmt_tlv import ControlParameters
from ndn_infer.forwarder.pipeline import Forwarder
from tests.forwarder_world import World, data, interest, link, nack
from tests.integration.test_forwarder_clients import CONTENT, fetch_v2, forwarder, producer_v2

COMMAND = packet.SignatureInfo(packet.SIGNATURE_DIGEST_SHA256, nonce=bytes(8), time_ms=1)


def command_v3(module: str, verb: str, **fields: Any) -> bytes:
    """A signed Interest to the management."""
    name = ndn.from_uri(f"/localhost/nfd/{module}/{verb}") + ndn.generic(ControlParameters(**fields).encode())
    return packet.encode_interest(name, nonce=b"abcd", info=COMMAND, signer=packet.digest_signer)[0]


def command_v2(module: str, verb: str, **fields: Any) -> bytes:
    """The older format, by python-ndn: signature components in the name."""
    name = b"".join(bytes(part) for part in nfd_mgmt.make_command(module, verb, **fields))
    return packet.encode_interest(name, nonce=b"abce")[0]


def corpus() -> list[bytes]:
    """Whole link packets of every kind that a face may meet."""
    a, prefix = ndn.from_uri("/a"), ndn.from_uri("/fuzz/prefix")
    plain = interest("/a/b/c", 7)
    full = interest(
        "/a/b/v=3/seg=1/x", 8, can_be_prefix=True, must_be_fresh=True, hints=["/isp/one", "/isp/two"],
        lifetime_ms=1500, hop_limit=3, parameters=b"call",
    )  # fmt: skip
    answer, large = data("/a/b/c", fresh_ms=2000), data("/a/large/seg=0", content=CONTENT)
    pieces = [
        link(large[i * 1200 : (i + 1) * 1200], sequence=(90 + i).to_bytes(8, "big"), frag_index=i, frag_count=7)
        for i in range(7)
    ]
    return [
        plain, full, interest("/a/b/c", None), interest("/localhost/x"), interest("/localhop/x", hop_limit=1), answer,
        large, interest("/a/large/seg=0", 9), *pieces,
        link(full, pit_token=b"token", congestion_mark=1), link(plain, next_hop_face_id=256, pit_token=bytes(32)),
        link(answer, no_cache=True, incoming_face_id=254), link(answer, prefix_announcement=b"\x06\x00"),
        nack(plain, 50), nack(full, 150), link(b"", acks=(bytes(8),)), link(plain, tx_sequence=bytes(8)),
        command_v3("rib", "register", name=prefix, expiration_ms=5000, flags=3),
        command_v3("rib", "unregister", name=prefix), command_v2("rib", "register", name="/fuzz/old"),
        command_v3("faces", "update", flags=1, mask=1), command_v3("faces", "create", uri="udp4://127.0.0.1:9"),
        command_v3("faces", "destroy", face_id=9999), command_v3("cs", "erase", name=a, count=3),
        command_v3("cs", "config", capacity=50, flags=3, mask=3), command_v3("fib", "add-nexthop", name=prefix, cost=4),
        command_v3("strategy-choice", "set", name=prefix, strategy=ndn.from_uri("/localhost/nfd/strategy/multicast")),
        interest("/localhost/nfd/faces/list", 11, can_be_prefix=True, must_be_fresh=True),
        interest("/localhost/nfd/rib/list", 12, can_be_prefix=True, must_be_fresh=True),
        interest("/localhost/nfd/faces/query/%96%03%69%01%01", 13, can_be_prefix=True),
        interest("/localhost/nfd/rib/announce/x", 14),
    ]  # fmt: skip


def mutate(chance: random.Random, samples: list[bytes]) -> bytes:
    """One packet: whole, with damaged elements in a sound frame, or with damaged bytes."""
    wire = chance.choice(samples)
    way = chance.randrange(8)
    if way == 0:  # the tables must not stay empty
        return wire
    if way < 5:
        return _mutate_elements(chance, wire, samples) or b"\0"
    return _mutate_bytes(chance, bytearray(wire), samples) or b"\0"


def _mutate_bytes(chance: random.Random, wire: bytearray, samples: list[bytes]) -> bytes:
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        at = chance.randrange(len(wire) + 1)
        kind = chance.randrange(6)
        if kind == 0 and at < len(wire):
            wire[at] ^= 1 << chance.randrange(8)
        elif kind == 1 and at < len(wire):
            wire[at] = chance.choice((0, 1, 5, 6, 7, 8, 0x64, 0x7F, 0x80, 0xFC, 0xFD, 0xFE, 0xFF))
        elif kind == 2:
            del wire[at:]
        elif kind == 3:
            del wire[at : at + chance.randrange(1, 9)]
        elif kind == 4:
            wire[at:at] = chance.randbytes(chance.randrange(1, 9))
        else:
            other = chance.choice(samples)
            cut = chance.randrange(len(other))
            wire[at:] = other[cut : cut + chance.randrange(1, 400)]
    return bytes(wire)


def _mutate_elements(chance: random.Random, wire: bytes, samples: list[bytes]) -> bytes:
    """Change one element somewhere inside; all lengths around it stay true."""
    try:
        elements = [(kind, wire[start:end]) for kind, start, end in tlv.iterate(wire)]
    except BadPacket:
        elements = []
    if not elements:
        return chance.choice((b"", chance.randbytes(4), wire[: len(wire) // 2], wire + wire))
    at = chance.randrange(len(elements))
    kind, value = elements[at]
    way = chance.randrange(12)
    if way < 7:
        elements[at] = kind, _mutate_elements(chance, value, samples)
    elif way == 7:
        del elements[at]
    elif way == 8:
        elements.insert(at, chance.choice(elements))
    elif way == 9:
        elements[at] = chance.choice((1, 2, 5, 6, 7, 8, 0x0A, 0x1E, 0x22, 0x50, 0x62, 0x64, 800, 70000)), value
    elif way == 10:
        elements[at] = kind, chance.choice(samples)
    else:
        chance.shuffle(elements)
    return b"".join(tlv.encode_tlv(kind, value) for kind, value in elements)


def fuzz_core(count: int, seed: int) -> Counter[str]:
    """`count` damaged packets into a core with management; every packet that leaves it must be well formed.

    Raises AssertionError, or whatever the core lets out.
    """
    chance, samples, outcome = random.Random(seed), corpus(), Counter[str]()
    world = World(Forwarder(ContentStore(200, 1 << 20), pit_capacity=5000, seed=seed))
    management = Management(world.core, wall_us=lambda: 1_700_000_000_000_000)
    for name, options in (("c", {"local_fields": True}), ("p", {}), ("P", {"mtu_bytes": 1400}), ("Q", {})):
        world.add_face(name, **options)
    world.route("/a", "p")
    world.route("/isp", "P")
    now = 0.0
    for _ in range(count):
        now += chance.random() * 0.01
        world.advance(now)
        world.sent.clear()
        face = world.faces[chance.choice("cpPQ")]
        world.core.receive(face, mutate(chance, samples), now)
        management.run(now)
        for _, wire in world.sent:
            header = lp.decode_lp(wire)
            if header.frag_count == 1 and header.nack_reason is None:
                outcome["Interest out" if packet_kind(header.fragment) == tlv.INTEREST else "Data out"] += 1
        assert world.core.pit_size <= 5000 and len(world.core.cs) <= max(200, world.core.cs.capacity_packets)
    for face in world.faces.values():
        outcome["malformed"] += face.counters.malformed
        outcome["in"] += face.counters.in_interests + face.counters.in_data + face.counters.in_nacks
    _exchange(world, now + 400)  # longer than any lifetime: what the damage left behind has run out
    return outcome


def packet_kind(wire: bytes) -> int:
    kind, _, end = tlv.read_header(wire, 0, len(wire))
    assert end == len(wire) <= tlv.MAX_PACKET_BYTES and kind in (tlv.INTEREST, tlv.DATA)
    return kind


def _exchange(world: World, now: float) -> None:
    """An honest consumer and an honest producer."""
    world.add_face("x")
    world.add_face("y")
    world.route("/honest", "y")
    assert "y<I/honest/1#77" in world.receive("x", interest("/honest/1", 77), now)
    assert world.receive("y", data("/honest/1"), now + 0.1) == ["x<D/honest/1"]


async def fuzz_sockets(directory: Path, count: int, seed: int) -> Counter[str]:
    """`count` damaged packets over real connections while python-ndn applications work; returns what happened."""
    chance, samples, outcome = random.Random(seed), corpus(), Counter[str]()
    samples = [wire for wire in samples if b"create" not in wire and b"strategy-choice" not in wire]
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    async with forwarder(directory) as daemon:
        address = daemon.udp_address
        assert address is not None and daemon.tcp_address is not None
        async with producer_v2(daemon, "unix", "/honest"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
                sent = 0
                while sent < count:
                    batch = [mutate(chance, samples) for _ in range(chance.randrange(1, 60))]
                    sent += len(batch)
                    kind = chance.choice(("unix", "tcp", "udp"))
                    outcome[kind] += len(batch)
                    if kind == "udp":
                        for wire in batch:
                            datagrams.sendto(wire, address)
                        await asyncio.sleep(0)
                    elif kind == "unix":
                        await _pour(await asyncio.open_unix_connection(daemon.options.unix_path), batch)
                    else:
                        await _pour(await asyncio.open_connection(*daemon.tcp_address), batch)
            for face in daemon.core.faces.values():
                outcome["malformed"] += face.counters.malformed
        outcome["in"] = daemon.core.counters.in_interests + daemon.core.counters.in_data
        # Damaged commands may have taken routes from applications that were there (whoever is local may manage): one
        # that comes now must be served.
        async with producer_v2(daemon, "unix", "/honest/late"):
            assert await fetch_v2(daemon, "tcp", f"/honest/late/{seed}") == CONTENT
    assert not errors, errors[0]
    return outcome


async def _pour(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], batch: list[bytes]) -> None:
    """Send until the forwarder hangs up, then go, in the middle of a packet perhaps."""
    _, writer = streams
    try:
        for wire in batch:
            writer.write(wire)
        await writer.drain()
    except ConnectionError:
        pass
    writer.transport.abort()
    await asyncio.sleep(0)


def test_damaged_packets_in_the_core() -> None:
    outcome = fuzz_core(4000, 1)
    assert outcome["malformed"] > 500 and outcome["in"] > 500, outcome
    assert outcome["Interest out"] > 50 and outcome["Data out"] > 50, outcome


async def test_damaged_packets_over_sockets(tmp_path: Path) -> None:
    outcome = await fuzz_sockets(tmp_path, 3000, 2)
    assert min(outcome[kind] for kind in ("unix", "tcp", "udp")) > 300, outcome
    assert outcome["in"] > 300 and outcome["malformed"] > 100, outcome


async def test_endless_partial_packet(tmp_path: Path) -> None:
    """A packet that never ends holds one buffer and disturbs nobody; one too long is refused at its header."""
    async with forwarder(tmp_path) as daemon, producer_v2(daemon, "unix", "/honest"):
        reader, writer = await asyncio.open_unix_connection(daemon.options.unix_path)
        writer.write(b"\x06\xfd\x20\x00" + bytes(8000))
        other_reader, other_writer = await asyncio.open_unix_connection(daemon.options.unix_path)
        other_writer.write(b"\x06\xfe\x7f\xff\xff\xff")
        assert await asyncio.wait_for(other_reader.read(), 10) == b""  # hung up on
        assert await fetch_v2(daemon, "unix", "/honest/x") == CONTENT
        assert not reader.at_eof()
        writer.close()
        other_writer.close()


async def test_slow_reader_loses_packets_not_memory(tmp_path: Path) -> None:
    """A consumer that asks and never reads: its queue stays within the bound and what is beyond is counted."""
    async with forwarder(tmp_path, face_queue_bytes=100_000) as daemon, producer_v2(daemon, "unix", "/honest"):
        assert await fetch_v2(daemon, "unix", "/honest/x") == CONTENT
        before = set(daemon.core.faces)
        reader, writer = await asyncio.open_unix_connection(daemon.options.unix_path, limit=1024)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        for nonce in range(1, 301):
            writer.write(interest("/honest/x", nonce))
        for _ in range(500):
            lazy = [face for face in daemon.core.faces.values() if face.id not in before]
            if lazy and lazy[0].counters.in_interests == 300:
                break
            await asyncio.sleep(0.01)
        face = lazy[0]
        assert face.counters.out_data == 300 and face.counters.queue_drops > 100
        assert face.link.queued_bytes() <= 100_000 + tlv.MAX_PACKET_BYTES
        assert await fetch_v2(daemon, "unix", "/honest/x") == CONTENT
        writer.transport.abort()


def main(count: int, seed: int) -> None:
    logging.disable(logging.ERROR)  # python-ndn tells of every Interest that it does not serve
    start = time.perf_counter()
    outcome = fuzz_core(count, seed)
    print(f"core: {count} damaged packets in {time.perf_counter() - start:.0f} s: {dict(outcome)}")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        outcome = asyncio.run(fuzz_sockets(Path(directory), count, seed))
    print(f"sockets: {count} damaged packets in {time.perf_counter() - start:.0f} s: {dict(outcome)}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
