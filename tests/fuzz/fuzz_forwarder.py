"""Mutated packets against the forwarder, in memory and over real sockets; then an honest client must be served.

    python -m tests.fuzz.fuzz_forwarder COUNT SEED [memory|sockets|both]

Mutations start from valid packets of all kinds: bit flips, truncation, splices, lengths and types that lie, pieces
doubled or left out. What may not happen: an exception, a packet sent on that is no packet, a table beyond its bound,
an honest exchange that fails.
"""

from __future__ import annotations

import asyncio
import random
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ndn_infer import lp, packet, tlv
from ndn_infer import name as ndn
from ndn_infer.errors import BadPacket
from ndn_infer.forwarder.content_store import ContentStore
from ndn_infer.forwarder.daemon import ForwarderDaemon
from ndn_infer.forwarder.faces import Face
from ndn_infer.forwarder.link_service import LinkService
from ndn_infer.forwarder.management import Management
from ndn_infer.forwarder.mgmt_tlv import ControlParameters
from ndn_infer.forwarder.options import ForwarderOptions
from ndn_infer.forwarder.pipeline import Forwarder
from ndn_infer.transport.endpoint import Endpoint, Request
from ndn_infer.transport.links import connect

CHECK_EVERY: Final = 20_000
PIT_CAPACITY: Final = 2000
CS_PACKETS: Final = 500
CS_BYTES: Final = 1 << 20
DIGEST: Final = packet.SignatureInfo(packet.SIGNATURE_DIGEST_SHA256, nonce=b"12345678", time_ms=1)


@dataclass
class Result:
    """What a run did. `malformed` (packets refused) is counted in memory only: over sockets the faces come and go."""

    packets: int = 0
    malformed: int = 0
    relayed: int = 0
    honest: int = 0
    seconds: float = 0.0


# ---------------------------------------------------------------- packets


def command(module: str, verb: str, fields: ControlParameters) -> bytes:
    """A v0.3 signed management command."""
    name = ndn.from_uri(f"/localhost/nfd/{module}/{verb}") + ndn.generic(fields.encode())
    return packet.encode_interest(name, nonce=b"cmd1", parameters=b"", info=DIGEST, signer=packet.digest_signer)[0]


def seeds() -> list[bytes]:
    """Valid packets of every kind that a forwarder knows."""
    a = ndn.from_uri("/a/b")
    plain, _ = packet.encode_interest(a, nonce=b"abcd")
    rich, _ = packet.encode_interest(
        ndn.from_uri("/a/b/32=metadata/v=7"), nonce=b"efgh", can_be_prefix=True, must_be_fresh=True,
        hints=(ndn.from_uri("/h/1"), ndn.from_uri("/localhost/nfd")), lifetime_ms=250, hop_limit=3, parameters=b"hello",
    )  # fmt: skip
    data = packet.encode_data(a, b"content" * 20, freshness_ms=1000, final_block=ndn.segment(3))
    digest = a + ndn.implicit_digest(packet.decode_data(data).implicit_digest())
    large = packet.encode_data(ndn.from_uri("/a/large/v=1/seg=0"), bytes(8000))
    pieces: list[bytes] = []
    LinkService(pieces.append, mtu_bytes=1400).send(large, 0.0, token=b"tok")
    deep, _ = packet.encode_interest(b"\x08\x00" * 400, nonce=b"deep", lifetime_ms=100)
    prefix = ndn.from_uri("/a")
    return [
        plain, rich, data, large, deep,
        packet.encode_interest(digest, nonce=b"dig1")[0],
        packet.encode_interest(prefix, nonce=b"pre1", can_be_prefix=True)[0],
        packet.encode_data(ndn.from_uri("/localhost/x"), b""),
        lp.encode_lp(lp.LpPacket(plain, pit_token=b"12345678", next_hop_face_id=257)),
        lp.encode_lp(lp.LpPacket(plain, nack_reason=lp.REASON_NO_ROUTE)),
        lp.encode_lp(lp.LpPacket(data, pit_token=b"1", congestion_mark=1, no_cache=True, incoming_face_id=3)),
        lp.encode_lp(lp.LpPacket(acks=(b"\0" * 8,), tx_sequence=b"\1" * 8, non_discovery=True)),
        *pieces,
        command("rib", "register", ControlParameters(name=prefix, expiration_ms=50)),
        command("rib", "unregister", ControlParameters(name=prefix)),
        command("fib", "add-nexthop", ControlParameters(name=prefix, cost=3)),
        command("faces", "create", ControlParameters(uri="udp4://127.0.0.1:9")),
        command("faces", "update", ControlParameters(flags=1, mask=1)),
        command("cs", "config", ControlParameters(capacity=CS_PACKETS)),
        command("cs", "erase", ControlParameters(name=prefix, count=3)),
        command("strategy-choice", "set", ControlParameters(
            name=prefix, strategy=ndn.from_uri("/localhost/nfd/strategy/multicast"))),
        *(
            packet.encode_interest(ndn.from_uri(f"/localhost/nfd/{name}"), nonce=b"list", can_be_prefix=True)[0]
            for name in ("faces/list", "rib/list", "fib/list", "cs/info", "status/general", "strategy-choice/list")
        ),
    ]  # fmt: skip


def _flip(rng: random.Random, wire: bytearray) -> None:
    for _ in range(rng.randint(1, 8)):
        wire[rng.randrange(len(wire))] ^= 1 << rng.randrange(8)


def _lie(rng: random.Random, wire: bytearray) -> None:
    """Change a type or a length near the front, where most headers are."""
    at = rng.randrange(min(len(wire), 48))
    wire[at] = rng.choice((0, 1, 2, 5, 6, 7, 8, 100, 127, 252, 253, 254, 255, max(wire[at] - 1, 0)))


def _cut(rng: random.Random, wire: bytearray) -> None:
    start = rng.randrange(len(wire))
    del wire[start : start + rng.randint(1, 40)]


def _double(rng: random.Random, wire: bytearray) -> None:
    start = rng.randrange(len(wire))
    wire[start:start] = wire[start : start + rng.randint(1, 40)]


def _truncate(rng: random.Random, wire: bytearray) -> None:
    del wire[rng.randrange(len(wire)) :]


def _number(rng: random.Random, wire: bytearray) -> None:
    """An unusual multi-byte number somewhere."""
    at = rng.randrange(len(wire))
    wire[at : at + 1] = rng.choice((b"\xfd\x00\x05", b"\xfd\x01\x00", b"\xfe\x00\x01\x00\x00", b"\xff" + b"\xff" * 8))


MUTATIONS: Final[tuple[Callable[[random.Random, bytearray], None], ...]] = (
    _flip, _flip, _lie, _lie, _cut, _double, _truncate, _number,
)  # fmt: skip


def mutate(rng: random.Random, corpus: list[bytes]) -> bytes:
    """A packet that was valid once; one in ten still is, with a fresh nonce."""
    wire = bytearray(rng.choice(corpus))
    if rng.random() < 0.2:
        other = rng.choice(corpus)
        wire[rng.randrange(len(wire)) :] = other[rng.randrange(len(other)) :]
    elif rng.random() < 0.5:  # let nonces differ, so that not everything is a loop
        at = wire.find(b"\x0a\x04")
        if at >= 0:
            wire[at + 2 : at + 6] = rng.randbytes(4)
    if rng.random() < 0.9:
        for _ in range(rng.randint(1, 3)):
            if wire:
                rng.choice(MUTATIONS)(rng, wire)
    if len(wire) > 4 and rng.random() < 0.3:  # put the outer length right, so that the inside is reached
        return _rewrap(bytes(wire))
    return bytes(wire)


def _rewrap(wire: bytes) -> bytes:
    try:
        kind, after = tlv.read_number(wire, 0, len(wire))
        _, value = tlv.read_number(wire, after, len(wire))
    except BadPacket:
        return wire
    return tlv.encode_tlv(kind, wire[value:])


# ---------------------------------------------------------------- in memory


class MemoryTarget:
    """The core with management and a few faces; what it sends is checked."""

    def __init__(self, seed: int) -> None:
        self.core = Forwarder(ContentStore(CS_PACKETS, CS_BYTES), pit_capacity=PIT_CAPACITY, seed=seed)
        self.management = Management(self.core, wall_us=lambda: 1)
        self.relayed = 0
        self.now = 0.0
        self.faces = [
            self.face(local=True), self.face(local=True, local_fields=True), self.face(local=False),
            self.face(local=False, mtu_bytes=1400),
        ]  # fmt: skip
        self.core.fib.add(ndn.from_uri("/a"), self.faces[0].id, 0)
        self.core.fib.add(ndn.from_uri("/a"), self.faces[3].id, 5)
        self.core.fib.add(ndn.from_uri("/h"), self.faces[2].id, 5)

    def face(self, *, local: bool, into: list[bytes] | None = None, **options: Any) -> Face:
        def transmit(wire: bytes) -> None:
            sent = lp.decode_lp(wire)  # raises BadPacket for what is none
            assert len(wire) <= tlv.MAX_PACKET_BYTES + tlv.MAX_LP_OVERHEAD_BYTES and sent.fragment
            self.relayed += 1
            if into is not None:
                into.append(sent.fragment)

        number = self.core.new_face_id()
        face = Face(number, f"fuzz://{number}", "fuzz://", LinkService(transmit, **options), local=local)
        self.core.add_face(face)
        return face

    def feed(self, face: Face, wire: bytes, wait_s: float) -> None:
        self.now += wait_s
        wake = self.core.next_wake()
        if wake is not None and wake <= self.now:
            self.core.tick(self.now)
        self.core.receive(face, wire, self.now)
        self.management.run(self.now)

    def check_bounds(self) -> None:
        assert self.core.pit_size <= PIT_CAPACITY
        assert len(self.core.cs) <= max(CS_PACKETS, self.core.cs.capacity_packets)
        assert self.core.cs.used_bytes <= CS_BYTES
        assert all(len(face.link.reassembler) <= 64 for face in self.core.faces.values())

    def honest(self, number: int) -> None:
        """Two fresh applications: one registers, the other asks and gets its Data."""
        asked: list[bytes] = []
        got: list[bytes] = []
        producer, consumer = self.face(local=True, into=asked), self.face(local=True, into=got)
        prefix = ndn.from_uri(f"/honest/{number}")
        self.feed(producer, command("rib", "register", ControlParameters(name=prefix)), 7.0)
        self.feed(consumer, packet.encode_interest(prefix + ndn.segment(0), nonce=b"hone")[0], 0.1)
        assert asked and packet.decode_interest(asked[-1]).name == prefix + ndn.segment(0)
        answer = packet.encode_data(prefix + ndn.segment(0), b"yes")
        self.feed(producer, answer, 0.1)
        assert got == [answer]
        for face in (producer, consumer):
            self.core.remove_face(face.id)


def run_memory(count: int, seed: int) -> Result:
    """Feed `count` packets to the core. Raises what the core raises: nothing, one hopes."""
    rng, corpus, started = random.Random(seed), seeds(), time.monotonic()
    target, result = MemoryTarget(seed), Result()
    for number in range(count):
        wire = mutate(rng, corpus)
        try:
            target.feed(target.faces[rng.randrange(4)], wire, rng.expovariate(1000.0))
        except Exception as error:
            raise AssertionError(f"packet {number} of seed {seed}: {wire.hex()}") from error
        if number % CHECK_EVERY == CHECK_EVERY - 1 or number == count - 1:
            target.check_bounds()
            target.honest(number)
            result.honest += 1
    result.packets, result.relayed = count, target.relayed
    result.malformed = sum(face.counters.malformed for face in target.faces)
    result.seconds = time.monotonic() - started
    return result


# ---------------------------------------------------------------- sockets


async def _honest_client(daemon: ForwarderDaemon, number: int) -> None:
    uri = f"unix://{daemon.options.unix_path}"
    producer, consumer = Endpoint(lambda: connect(uri, 3.0)), Endpoint(lambda: connect(uri, 3.0))
    prefix = ndn.from_uri(f"/honest/{number}")

    def answer(request: Request) -> None:
        request.reply(packet.encode_data(request.interest.name, b"yes"))

    await producer.open()
    await consumer.open()
    try:
        producer.attach(prefix, answer)
        wire = command("rib", "register", ControlParameters(name=prefix))
        reply, _ = await producer.exchange(wire, packet.decode_interest(wire).name)
        assert b"Success" in reply.content
        data, _ = await consumer.express(prefix + ndn.segment(0), lifetime_ms=8000)
        assert data.content == b"yes"
    finally:
        await producer.close()
        await consumer.close()


async def _spray_unix(path: str, packets: list[bytes]) -> None:
    """One connection, all packets in one stream; the forwarder may close it in the middle."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, path)
        try:
            for wire in packets:
                await loop.sock_sendall(sock, wire)
            sock.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(sock, 1 << 16):
                pass
        except (BrokenPipeError, ConnectionResetError):
            return


async def _spray_udp(sock: socket.socket, packets: list[bytes]) -> None:
    for wire in packets:
        try:
            sock.send(wire)
        except BlockingIOError:
            await asyncio.sleep(0)
    await asyncio.sleep(0)


async def _run_sockets(count: int, seed: int, directory: Path) -> Result:
    rng, corpus, started, result = random.Random(seed), seeds(), time.monotonic(), Result()
    raised: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    daemon = ForwarderDaemon(
        ForwarderOptions(unix_path=str(directory / "fuzz.sock"), udp_bind="127.0.0.1:0", pit_capacity=PIT_CAPACITY)
    )
    await daemon.start()
    assert daemon.udp_address is not None and daemon.options.unix_path is not None
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.setblocking(False)
            udp.connect(daemon.udp_address)
            while result.packets < count:
                packets = [mutate(rng, corpus) for _ in range(min(rng.randint(1, 60), count - result.packets))]
                if rng.random() < 0.5:
                    await _spray_unix(daemon.options.unix_path, packets)
                else:
                    await _spray_udp(udp, packets)
                if result.packets // CHECK_EVERY != (result.packets + len(packets)) // CHECK_EVERY:
                    await _honest_client(daemon, result.packets)
                    result.honest += 1
                result.packets += len(packets)
        await _honest_client(daemon, result.packets)
        result.honest += 1
        assert not raised, raised[0]
        assert daemon.core.pit_size <= PIT_CAPACITY
        result.relayed = daemon.core.counters.out_data + daemon.core.counters.out_interests
    finally:
        await daemon.close()
    result.seconds = time.monotonic() - started
    return result


def run_sockets(count: int, seed: int) -> Result:
    """Feed `count` packets to a running daemon, half over a Unix socket, half over UDP."""
    with tempfile.TemporaryDirectory(prefix="ndn-fuzz-") as directory:
        return asyncio.run(_run_sockets(count, seed, Path(directory)))


def main(count: int, seed: int, mode: str = "both") -> list[Result]:
    """`count` packets in all; in mode "both" a quarter of them over sockets."""
    over_sockets = {"memory": 0, "sockets": count, "both": count // 4}[mode]
    results = []
    if count - over_sockets:
        results.append(run_memory(count - over_sockets, seed))
    if over_sockets:
        results.append(run_sockets(over_sockets, seed))
    return results


if __name__ == "__main__":
    for outcome in main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:4]):
        sys.stdout.write(f"{outcome}\n")
