"""A load of NDN packets for any forwarder: a consumer with a window and a producer, each a process of its own.

Owns: sending and counting, as light as possible, so that the forwarder is what is measured. Packets of one run have one
size, so replies are counted by their bytes; congestion marks are switched off on these faces, because they would change
the size. Data carry a constant signature: forwarders do not look at it. Must not know: which forwarder it is.

    python -m ndn_infer.testbed.bench.packet_load consume '{"socket": ..., "prefix": ...}'   prints one JSON line
"""

from __future__ import annotations

import array
import json
import os
import random
import selectors
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

from ndn_infer import ndn
from ndn_infer.errors import NdnInferError
from ndn_infer.ndn import lp, packet, tlv
from ndn_infer.ndn.tlv import Framer

STALL_S: Final = 10.0
SEND_BUFFER_BYTES: Final = 1 << 20
MANAGEMENT: Final = ndn.from_uri("/localhost/nfd")


class LoadFailed(NdnInferError):
    """Replies stopped coming, or the forwarder refused a command."""


def interest_of(prefix: str, index: int) -> bytes:
    """Interest number `index`, always of the same size."""
    name = ndn.from_uri(prefix) + ndn.generic(b"%07d" % index)
    return packet.encode_interest(name, nonce=os.urandom(4))[0]


def data_of(name: bytes, payload_bytes: int) -> bytes:
    """Data of one size for names of one size; FreshnessPeriod one hour."""
    return packet.encode_data(name, b"x" * payload_bytes, freshness_ms=3_600_000, signer=lambda _: bytes(32))


class _RisingTimes:
    """Milliseconds of the Unix epoch, never the same twice: NFD refuses a second command of one time."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def next(self) -> int:
        with self._lock:
            self._last = max(self._last + 1, time.time_ns() // 1_000_000)
            return self._last


_TIMES: Final = _RisingTimes()


def open_socket(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(path)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return sock


def command(sock: socket.socket, path: str, fields: bytes, *, timeout_s: float = STALL_S) -> None:
    """A management command, before there is other traffic. Raises LoadFailed, TimeoutError."""
    name = MANAGEMENT + ndn.from_uri(path) + ndn.generic(tlv.encode_tlv(0x68, fields))
    info = packet.SignatureInfo(packet.SIGNATURE_DIGEST_SHA256, nonce=os.urandom(8), time_ms=_TIMES.next())
    wire, _ = packet.encode_interest(
        name, nonce=os.urandom(4), must_be_fresh=True, parameters=b"", info=info, signer=packet.digest_signer
    )
    sock.settimeout(timeout_s)
    sock.sendall(wire)
    framer = Framer()
    while True:
        for reply in framer.feed(_some(sock)):
            link = lp.decode_lp(reply)
            if link.nack_reason is not None:
                raise LoadFailed(f"nobody takes {path}")
            content = packet.decode_data(link.fragment).content
            if b"\x66\x01\xc8" not in content[:8]:  # StatusCode 200
                raise LoadFailed(f"the forwarder refuses {path}: {content!r}")
            return


def _some(sock: socket.socket) -> bytes:
    chunk = sock.recv(65536)
    if not chunk:
        raise LoadFailed("the forwarder closed a connection")
    return chunk


def without_marks(sock: socket.socket) -> None:
    command(sock, "/faces/update", b"\x6c\x01\x00\x70\x01\x04")


# ---------------------------------------------------------------- consumer


@dataclass(frozen=True, slots=True)
class PacketLoad:
    """`count` names from number `first` on, on `faces` connections with `window` Interests in flight on all together,
    `passes` times, in order or in random order."""

    first: int
    count: int
    faces: int
    window: int
    payload_bytes: int
    passes: int = 1
    shuffle: bool = False


def consume(path: str, prefix: str, wanted: PacketLoad) -> dict[str, float]:
    """Ask for all of them; seconds, packets and bytes. Raises LoadFailed."""
    order = list(range(wanted.first, wanted.first + wanted.count))
    if wanted.shuffle:
        random.Random(1).shuffle(order)
    size = len(data_of(ndn.from_uri(prefix) + ndn.generic(b"0000000"), wanted.payload_bytes))
    sockets = [open_socket(path) for _ in range(wanted.faces)]
    for sock in sockets:
        without_marks(sock)
        sock.setblocking(False)
    elapsed = 0.0
    for _ in range(wanted.passes):
        interests = [interest_of(prefix, index) for index in order]
        began = time.perf_counter()
        _drive(sockets, interests, size, max(1, wanted.window // wanted.faces))
        elapsed += time.perf_counter() - began
    for sock in sockets:
        sock.close()
    packets = wanted.count * wanted.passes
    return {"seconds": elapsed, "packets": packets, "bytes": packets * wanted.payload_bytes}


def _drive(sockets: list[socket.socket], interests: list[bytes], size: int, window: int) -> None:
    """Every connection asks for its share; a reply makes room for the next Interest."""
    selector = selectors.DefaultSelector()
    shares = {sock: interests[at :: len(sockets)] for at, sock in enumerate(sockets)}
    done = dict.fromkeys(sockets, 0)
    partial = dict.fromkeys(sockets, 0)
    sent = {}
    sock: Any
    for sock in sockets:
        selector.register(sock, selectors.EVENT_READ)
        sent[sock] = min(window, len(shares[sock]))
        sock.sendall(b"".join(shares[sock][:window]))
    open_sockets = {sock for sock in sockets if shares[sock]}
    while open_sockets:
        events = selector.select(STALL_S)
        if not events:
            lost = sum(sent[sock] - done[sock] for sock in open_sockets)
            raise LoadFailed(f"{lost} Interests got no answer within {STALL_S:.0f} s")
        for key, _ in events:
            sock = key.fileobj
            chunk = sock.recv(1 << 20)
            if not chunk:
                raise LoadFailed("the forwarder closed a connection")
            whole, partial[sock] = divmod(partial[sock] + len(chunk), size)
            done[sock] += whole
            share, at = shares[sock], sent[sock]
            if at < len(share):
                sock.sendall(b"".join(share[at : at + whole]))
                sent[sock] = min(at + whole, len(share))
            if done[sock] >= len(share):
                open_sockets.discard(sock)
    selector.close()


def round_trips(path: str, prefix: str, *, first: int, count: int, payload_bytes: int) -> dict[str, float]:
    """One Interest at a time: median and 99th percentile of the delay, microseconds."""
    size = len(data_of(ndn.from_uri(prefix) + ndn.generic(b"0000000"), payload_bytes))
    sock = open_socket(path)
    if "direct" not in prefix:
        without_marks(sock)
    sock.settimeout(STALL_S)
    delays = array.array("d")
    for index in range(first, first + count):
        wire = interest_of(prefix, index)
        began = time.perf_counter()
        sock.sendall(wire)
        left = size
        while left > 0:
            left -= len(_some(sock))
        delays.append(time.perf_counter() - began)
    sock.close()
    ordered = sorted(delays)
    return {"p50_us": ordered[count // 2] * 1e6, "p99_us": ordered[int(count * 0.99)] * 1e6}


# ---------------------------------------------------------------- producer


def produce(path: str, prefix: str, *, payload_bytes: int, listen: bool = False) -> None:
    """Answer every Interest until the connection ends. With `listen` this is the other end of the socket itself: a
    consumer without any forwarder between, for comparison."""
    template = data_of(ndn.from_uri(prefix) + ndn.generic(b"0000000"), payload_bytes)
    name_bytes = len(ndn.encode_name(ndn.from_uri(prefix) + ndn.generic(b"0000000")))
    at = template.index(ndn.encode_name(ndn.from_uri(prefix))[2:8]) - 2
    head, tail = template[:at], template[at + name_bytes :]
    if listen:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.bind(path)
        server.listen(1)
        print(json.dumps({"ready": True}), flush=True)
        sock, _ = server.accept()
    else:
        sock = open_socket(path)
        without_marks(sock)
        command(sock, "/rib/register", ndn.encode_name(ndn.from_uri(prefix)))
        print(json.dumps({"ready": True}), flush=True)
    sock.settimeout(None)
    framer = Framer()
    while chunk := sock.recv(65536):
        replies: list[bytes] = []
        for wire in framer.feed(chunk):
            replies += (head, wire[2 : 2 + name_bytes], tail)
        sock.sendall(b"".join(replies))


def main(arguments: list[str]) -> int:
    what, options = arguments[0], json.loads(arguments[1])
    if what == "produce":
        produce(**options)
        return 0
    if what == "consume":
        figures = consume(options.pop("path"), options.pop("prefix"), PacketLoad(**options))
    else:
        figures = round_trips(**options)
    print(json.dumps(figures), flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (LoadFailed, OSError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        sys.exit(1)
