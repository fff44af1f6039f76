"""What hostile or broken clients do to a forwarder, as a process of its own.

    python -m tests.load.attacks NAME '{"unix": "unix:///...", "tcp": ..., "udp": ..., "ws": ..., OPTIONS}'

Prints GO when it has begun, goes on until its standard input closes, then prints one JSON line about what it did. It
runs at low priority: on few cores the forwarder is to be measured, not the scheduler. Must not know: what is measured.
"""

from __future__ import annotations

import json
import os
import random
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np

from ndn_infer import ndn
from ndn_infer.forwarder.management.encoding import ControlParameters
from ndn_infer.ndn import lp, packet
from ndn_infer.ndn.tlv import encode_tlv
from tests.fuzz.packets import command_v3

NICE: Final = 10
BLOB: Final = 1500
"""Packets in one piece of a flood: about 64 KiB."""
NAME_MARK: Final = b"\xa5" * 8
NONCE_MARK: Final = b"\x5a" * 4

Uris = dict[str, str]


class Life:
    """Whether to go on."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        sys.stdin.read()
        self._ended.set()

    @property
    def goes_on(self) -> bool:
        return not self._ended.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it ended meanwhile."""
        return self._ended.wait(seconds)

    def go(self) -> None:
        print("GO", flush=True)


def connect(uri: str) -> socket.socket:
    """A connection; datagram sockets have their peer set."""
    parts = urlsplit(uri)
    if parts.scheme == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(parts.path)
        return sock
    kind = socket.SOCK_DGRAM if parts.scheme.startswith("udp") else socket.SOCK_STREAM
    sock = socket.socket(socket.AF_INET, kind)
    sock.connect((parts.hostname, parts.port))
    return sock


def flood_of(uri: str, count: int, *, lifetime_ms: int = 1000, distinct: bool = True) -> bytes:
    """`count` Interests below `uri`, each with a nonce, and unless not `distinct` a name, of its own."""
    name = ndn.from_uri(uri) + (ndn.generic(NAME_MARK) if distinct else b"")
    template, _ = packet.encode_interest(name, nonce=NONCE_MARK, lifetime_ms=lifetime_ms)
    rows = np.tile(np.frombuffer(template, np.uint8), (count, 1))
    marks = [NONCE_MARK, NAME_MARK] if distinct else [NONCE_MARK]
    for mark in marks:
        at = template.index(mark)
        rows[:, at : at + len(mark)] = np.frombuffer(os.urandom(count * len(mark)), np.uint8).reshape(count, -1)
    return rows.tobytes()


def register(sock: socket.socket, uri: str, **fields: Any) -> None:
    """Send the command; the answer is somebody else's business."""
    body = ControlParameters(name=ndn.from_uri(uri), **fields)
    sock.sendall(command_v3("rib", "register", body, nonce=os.urandom(4)))


def drain(sock: socket.socket) -> int:
    """Read what there is; how many bytes. Raises ConnectionError when the peer has gone."""
    size = 0
    with suppress(BlockingIOError):
        while chunk := sock.recv(1 << 20, socket.MSG_DONTWAIT):
            size += len(chunk)
    return size


# ---------------------------------------------------------------- attacks


def slow_reader(uris: Uris, life: Life, *, prefix: str, clients: int = 4) -> dict[str, int]:
    """Ask for large Data, again and again, and never read."""
    sockets = [connect(uris[("unix", "tcp")[index % 2]]) for index in range(clients)]
    for sock in sockets:
        sock.setblocking(False)
    life.go()
    asked = 0
    while not life.wait(0.02):
        for sock in sockets:
            with suppress(BlockingIOError):
                sock.send(b"".join(flood_of(f"{prefix}/{number}", 1, distinct=False) for number in range(25)))
                asked += 25
    return {"asked": asked}


def half_open(uris: Uris, life: Life, *, count: int = 300) -> dict[str, int]:
    """Connections that say nothing, that stop in the middle of a greeting, that end one direction, that are reset."""
    kept = []
    for index in range(count):
        kind = ("unix", "tcp", "ws")[index % 3]
        sock = connect(uris[kind])
        if kind == "ws":
            sock.sendall(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n")
        elif index % 4 == 1:
            sock.sendall(flood_of("/nowhere", 1))
            sock.shutdown(socket.SHUT_WR)
        elif index % 4 == 2:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
            continue
        kept.append(sock)
    life.go()
    life.wait()
    return {"connections": count, "kept": len(kept)}


def hoard(uris: Uris, life: Life, *, count: int) -> dict[str, int]:
    """More connections than the forwarder has descriptors for."""
    sockets = [connect(uris[("unix", "tcp")[index % 2]]) for index in range(count)]
    life.go()
    life.wait()
    return {"connections": len(sockets)}


def partial(uris: Uris, life: Life, *, count: int = 30) -> dict[str, int]:
    """Connections with routes that stop in the middle of a packet; to be killed."""
    half = packet.encode_data(ndn.from_uri("/half"), bytes(8000))[:4000]
    sockets = [connect(uris[("unix", "tcp")[index % 2]]) for index in range(count)]
    for index, sock in enumerate(sockets):
        register(sock, f"/half/{os.getpid()}/{index}")
        sock.sendall(half)
    life.go()
    life.wait()
    return {"connections": count}


def pending(
    uris: Uris, life: Life, *, count: int, lifetime_ms: int, again: bool = False, reconnect: int = 0
) -> dict[str, int]:
    """Interests from one client for a producer that does not answer; with `again`, more as long as it goes on, and on
    a new connection after every `reconnect` of them."""
    hole, asker = connect(uris["unix"]), connect(uris["unix"])
    register(hole, "/hole")
    hole.recv(1 << 16)
    threading.Thread(target=_swallow, args=(hole,), daemon=True).start()
    life.go()
    sent, replies = 0, 0
    while sent < count or (again and life.goes_on):
        asker.sendall(flood_of("/hole", BLOB, lifetime_ms=lifetime_ms))
        replies += drain(asker)
        sent += BLOB
        if reconnect and sent % reconnect == 0:
            asker.close()
            asker = connect(uris["unix"])
    life.wait()
    return {"asked": sent, "reply_bytes": replies}


def _swallow(sock: socket.socket) -> None:
    with suppress(OSError):
        while sock.recv(1 << 20):
            pass


def flood(uris: Uris, life: Life, *, prefix: str, clients: int = 4, distinct: bool = True) -> dict[str, int]:
    """Interests at full speed on several connections; replies are read and thrown away."""
    sockets = [connect(uris[("unix", "tcp")[index % 2]]) for index in range(clients)]
    left = dict.fromkeys(sockets, b"")
    for sock in sockets:
        sock.setblocking(False)
    life.go()
    sent = 0
    while life.goes_on:
        readable, writable, _ = select.select(sockets, sockets, [], 0.2)
        for sock in readable:
            drain(sock)
        for sock in writable:
            blob = left[sock]
            if not blob:
                blob = flood_of(prefix, BLOB, distinct=distinct)
                sent += BLOB
            with suppress(BlockingIOError):
                blob = blob[sock.send(blob) :]
            left[sock] = blob
    return {"asked": sent}


def garbage(uris: Uris, life: Life) -> dict[str, int]:
    """Connect, send nonsense, connect again. None of it is a packet: a valid one would wait in the PIT."""
    rng = random.Random(1)
    life.go()
    connections = 0
    while life.goes_on:
        for kind in ("unix", "tcp", "ws"):
            with suppress(ConnectionError):
                sock = connect(uris[kind])
                sock.sendall(_nonsense(rng))
                if rng.random() < 0.5:
                    sock.shutdown(socket.SHUT_WR)
                    sock.settimeout(0.2)
                    with suppress(TimeoutError):
                        while sock.recv(1 << 16):
                            pass
                sock.close()
            connections += 1
    return {"connections": connections}


def _nonsense(rng: random.Random) -> bytes:
    match rng.randrange(4):
        case 0:
            return rng.randbytes(2000)
        case 1:  # frames are right, what they hold is not
            return b"".join(
                encode_tlv(kind, b"\0" + rng.randbytes(rng.randrange(900))) for kind in rng.choices((5, 6, 0x64), k=20)
            )
        case 2:  # a length beyond all bounds, or a header that does not end
            return rng.choice((b"\x06\xfe\x7f\xff\xff\xff", b"\x05\xff" + b"\xff" * 8, b"\xfd", b"\x00\x00", b"\x06"))
        case _:
            return b"GET " + b"/" * rng.randrange(9000) + b" HTTP/1.1\r\n\r\n"


def fragments(uris: Uris, life: Life, *, ports: int = 32, pause_s: float = 0.0) -> dict[str, int]:
    """Datagrams with first pieces of packets that never become whole, from several ports."""
    sockets = [connect(uris["udp"]) for _ in range(ports)]
    life.go()
    sent = 0
    while life.goes_on:
        for sock in sockets:
            for _ in range(10):
                count = random.choice((2, 7, 400))
                wire = lp.encode_lp(
                    lp.LpPacket(bytes(1200), sequence=os.urandom(8), frag_index=0, frag_count=count, pit_token=b"tok")
                )
                with suppress(OSError):
                    sock.send(wire)
                    sent += 1
        life.wait(pause_s)
    return {"datagrams": sent}


def udp_faces(uris: Uris, life: Life, *, count: int) -> dict[str, int]:
    """An Interest from each of many ports, as somebody who invents sender addresses would make them."""
    life.go()
    sent = 0
    while sent < count and life.goes_on:
        with connect(uris["udp"]) as sock, suppress(OSError):
            sock.send(flood_of("/nowhere", 1))
        sent += 1
        if sent % 50 == 0:
            life.wait(0.005)
    life.wait()
    return {"ports": sent}


def churn(uris: Uris, life: Life, *, count: int, register_every: int = 2) -> dict[str, int]:
    """Connections that come, register a prefix, and go, one after the other."""
    life.go()
    made = 0
    while made < count and life.goes_on:
        sock = connect(uris[("unix", "tcp")[made % 2]])
        with suppress(ConnectionError):
            if made % register_every == 0:
                register(sock, f"/churn/{made}")
            if made % 4 == 0:
                sock.recv(1 << 16)
        sock.close()
        made += 1
    life.wait()
    return {"connections": made}


def routes(uris: Uris, life: Life, *, count: int) -> dict[str, int]:
    """One client registers many prefixes, waiting for no answer."""
    sock = connect(uris["unix"])
    threading.Thread(target=_swallow, args=(sock,), daemon=True).start()
    life.go()
    made = 0
    while made < count and life.goes_on:
        register(sock, f"/routes/{made}", cost=1)
        made += 1
    life.wait()
    return {"registered": made}


def queries(uris: Uris, life: Life, *, faces: int = 200, clients: int = 4) -> dict[str, int]:
    """Status datasets of a forwarder with many faces, at full speed."""
    idle = [connect(uris["unix"]) for _ in range(faces)]
    sockets = [connect(uris["unix"]) for _ in range(clients)]
    for sock in sockets:
        threading.Thread(target=_swallow, args=(sock,), daemon=True).start()
    life.go()
    asked = 0
    while life.goes_on:
        for sock in sockets:
            sock.sendall(
                b"".join(
                    packet.encode_interest(
                        ndn.from_uri("/localhost/nfd/faces/list"), nonce=os.urandom(4), can_be_prefix=True,
                        must_be_fresh=True,
                    )[0]
                    for _ in range(5)
                )
            )  # fmt: skip
            asked += 5
        life.wait(0.001)
    return {"asked": asked, "faces": len(idle)}


ATTACKS: Final[dict[str, Callable[..., dict[str, int]]]] = {
    attack.__name__: attack
    for attack in (
        slow_reader, half_open, hoard, partial, pending, flood, garbage, fragments, udp_faces, churn, routes, queries,
    )
}  # fmt: skip


def main(name: str, options: str) -> None:
    os.nice(NICE)
    given = json.loads(options)
    uris = {kind: given.pop(kind) for kind in ("unix", "tcp", "udp", "ws")}
    began = time.monotonic()
    report = ATTACKS[name](uris, Life(), **given)
    print(json.dumps({**report, "seconds": round(time.monotonic() - began, 2)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
