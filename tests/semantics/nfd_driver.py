"""A scenario put to a running forwarder, NFD or ours: applications on Unix sockets and neighbours on UDP send its
packets, management commands make its changes, what they receive is told in the scenario's words.

Owns: which scenarios can be driven from outside, starting the forwarders, sockets, real time. Must not know: what is
right.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ndn_infer import lp, packet, tlv
from ndn_infer import name as ndn
from ndn_infer.forwarder.daemon import ForwarderDaemon
from ndn_infer.forwarder.options import ForwarderOptions
from ndn_infer.tlv import Framer, decode_nonneg, encode_nonneg, encode_tlv
from tests.daemons import stop
from tests.forwarder_world import describe
from tests.semantics.scenario import (
    AddRoute,
    CsConfig,
    CsErase,
    DropRoute,
    Queue,
    RemoveFace,
    Scenario,
    SetStrategy,
)

QUIET_S: Final = 0.045
"""Nothing more comes after this long (half of it on a quiet machine would do)."""
LEAST_GAP_S: Final = 0.05
LONGEST_S: Final = 7.0
SETTLE_S: Final = 0.08
"""NFD answers a registration before it forwards by it."""
READY_S: Final = 20.0
FIRST_VIRTUAL_FACE: Final = 256
LARGEST_GIVEN_NONCE: Final = 0xFFFF
"""Scenarios give small nonces; larger ones were drawn by the forwarder."""
MANAGEMENT: Final = ndn.from_uri("/localhost/nfd")
LOCAL_FIELDS: Final = 1


def why_not(scenario: Scenario) -> str:
    """Why sockets cannot ask this, "" if they can."""
    if scenario.ours:
        return scenario.ours
    if any(isinstance(sent, Queue) for _, _, sent, _ in scenario.steps):
        return "a send queue cannot be filled by command"
    if any(name.islower() for name in scenario.mtu):
        return "streams have no MTU"
    times = [now for now, *_ in scenario.steps]
    if times[-1] > LONGEST_S or any(0 < b - a < LEAST_GAP_S for a, b in zip(times, times[1:], strict=False)):
        return "its times are too long or too short for a real clock"
    if any(name.islower() and _is_fragment(sent) for _, name, sent, _ in scenario.steps):
        return "NFD takes fragments on datagram faces only"
    if any(name.islower() and len(sent) > tlv.MAX_PACKET_BYTES
           for _, name, sent, _ in scenario.steps if isinstance(sent, bytes)):  # fmt: skip
        return "it ends a stream"
    if outside_address() is None and any(name.isupper() for name in used_faces(scenario)):
        return "this machine has no address but loopback, and our forwarder takes that for local"
    return ""


def used_faces(scenario: Scenario) -> set[str]:
    used = {name for _, name, *_ in scenario.steps} | {name for _, name, _ in scenario.routes}
    return used | {change.face for _, _, change, _ in scenario.steps if isinstance(change, AddRoute)}


def outside_address() -> str | None:
    """An IPv4 address of this machine that is not loopback. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        host: str = probe.getsockname()[0]
        return None if host.startswith("127.") else host


def _is_fragment(sent: object) -> bool:
    """Whether it says it is one of several."""
    if not isinstance(sent, bytes) or sent[:1] != b"\x64":
        return False
    return b"\x53" in {bytes((kind,)) for kind, _, _ in tlv.iterate(sent, tlv.read_header(sent, 0, len(sent))[1])
                       if kind < 256}  # fmt: skip


# ---------------------------------------------------------------- forwarders


@dataclass(frozen=True, slots=True)
class Station:
    """A running forwarder: its Unix socket and its UDP port."""

    path: str
    udp: tuple[str, int]


Starter = Callable[[Scenario, Path], contextlib.AbstractContextManager[Station]]

NFD_CONF: Final = """general {{ }}
log {{ default_level ERROR }}
forwarder {{ default_hop_limit 0 }}
tables {{
  cs_max_packets {packets}
  cs_policy lru
  cs_unsolicited_policy drop-all
  strategy_choice {{
    / /localhost/nfd/strategy/best-route
    /localhost /localhost/nfd/strategy/multicast
    /localhost/nfd /localhost/nfd/strategy/best-route
    /ndn/broadcast /localhost/nfd/strategy/multicast
  }}
  network_region {{ {regions} }}
}}
face_system {{
  general {{ enable_congestion_marking yes }}
  unix {{ path {path} }}
  udp {{ listen yes port {port} enable_v4 yes enable_v6 no idle_timeout 600 unicast_mtu 8800 mcast no }}
}}
authorizations {{ authorize {{ certfile any privileges {{ faces fib cs strategy-choice }} }} }}
rib {{ localhost_security {{ trust-anchor {{ type any }} }} readvertise_nlsr no }}
"""


@contextlib.contextmanager
def nfd(scenario: Scenario, folder: Path) -> Iterator[Station]:
    """A private NFD, stopped by pid."""
    path, conf = folder / "nfd.sock", folder / "nfd.conf"
    host = outside_address() or "127.0.0.1"
    port = _free_udp_port(host)
    text = NFD_CONF.format(packets=scenario.cs_packets, path=path, port=port, regions="\n".join(scenario.regions))
    conf.write_text(re.sub(r"([{}])", r"\n\1\n", text))  # one brace a line, as boost's parser of INFO files wants it
    program = shutil.which("nfd")
    assert program is not None
    with (folder / "nfd.log").open("w") as log:
        process = subprocess.Popen(
            [program, "--config", str(conf)], env={**os.environ, "HOME": str(folder)}, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, text=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + READY_S
            while not path.exists():
                assert process.poll() is None and time.monotonic() < deadline, (folder / "nfd.log").read_text()[-500:]
                time.sleep(0.02)
            yield Station(str(path), (host, port))
        finally:
            stop(process)


@contextlib.contextmanager
def ours(scenario: Scenario, folder: Path) -> Iterator[Station]:
    """Our forwarder on a loop of its own, in a thread."""
    path, host = str(folder / "ours.sock"), outside_address() or "127.0.0.1"
    options = ForwarderOptions(
        unix_path=path,
        udp_bind=f"{host}:0",
        cs_capacity_packets=scenario.cs_packets,
        producer_regions=tuple(ndn.from_uri(region) for region in scenario.regions),
        udp_mtu_bytes=8800,
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> ForwarderDaemon:
        daemon = ForwarderDaemon(options)
        await daemon.start()
        return daemon

    try:
        daemon = asyncio.run_coroutine_threadsafe(start(), loop).result(READY_S)
        try:
            assert daemon.udp_address is not None
            yield Station(path, daemon.udp_address)
        finally:
            asyncio.run_coroutine_threadsafe(daemon.close(), loop).result(READY_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(READY_S)
        loop.close()


def _free_udp_port(host: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


# ---------------------------------------------------------------- commands


class Refused(Exception):
    """The forwarder did not do as told."""


_TIMES_LOCK: Final = threading.Lock()
_last_time_ms = 0


def _rising_time_ms() -> int:
    """NFD refuses a second command of one time."""
    global _last_time_ms  # noqa: PLW0603
    with _TIMES_LOCK:
        _last_time_ms = max(_last_time_ms + 1, time.time_ns() // 1_000_000)
        return _last_time_ms


def command(sock: socket.socket, verb: str, fields: bytes, *, timeout_s: float = 10.0) -> dict[int, bytes]:
    """Fields of the ControlParameters in the reply. Raises Refused, TimeoutError."""
    name = MANAGEMENT + ndn.from_uri(verb) + ndn.generic(encode_tlv(0x68, fields))
    info = packet.SignatureInfo(packet.SIGNATURE_DIGEST_SHA256, nonce=os.urandom(8), time_ms=_rising_time_ms())
    wire, _ = packet.encode_interest(
        name, nonce=os.urandom(4), must_be_fresh=True, parameters=b"", info=info, signer=packet.digest_signer
    )
    sock.settimeout(timeout_s)
    sock.sendall(wire)
    framer = Framer()
    while True:
        for reply in framer.feed(sock.recv(65536)):
            link = lp.decode_lp(reply)
            if link.nack_reason is not None:
                raise Refused(f"nobody takes {verb}")
            content = packet.decode_data(link.fragment).content
            if b"\x66\x01\xc8" not in content[:8]:  # StatusCode 200
                raise Refused(f"{verb}: {content!r}")
            response = _fields(content)[0x65]
            return _fields(_fields(response).get(0x68, b""))


def _fields(wire: bytes) -> dict[int, bytes]:
    return {kind: wire[start:end] for kind, start, end in tlv.iterate(wire)}


def _number(kind: int, value: int) -> bytes:
    return encode_tlv(kind, encode_nonneg(value))


def _name(uri: str) -> bytes:
    return ndn.encode_name(ndn.from_uri(uri))


# ---------------------------------------------------------------- faces


@dataclass(slots=True)
class Endpoint:
    """The other end of one face."""

    sock: socket.socket
    face_id: int
    address: tuple[str, int] | None
    framer: Framer

    def send(self, wire: bytes) -> None:
        if self.address is None:
            self.sock.sendall(wire)
        else:
            self.sock.sendto(wire, self.address)

    def receive(self) -> list[bytes] | None:
        """None when the forwarder has closed the connection."""
        try:
            chunk = self.sock.recv(65536)
        except ConnectionError:
            return None
        if self.address is not None:
            return [chunk]
        return self.framer.feed(chunk) if chunk else None


class Stage:
    """A forwarder with the faces of a scenario; `play` gives what went out after each step."""

    def __init__(self, scenario: Scenario, station: Station) -> None:
        self._scenario = scenario
        self._station = station
        self._control = _connect(station.path)
        self._ends: dict[str, Endpoint] = {}
        self._gone: set[str] = set()

    def close(self) -> None:
        for sock in (self._control, *(end.sock for end in self._ends.values())):
            sock.close()

    def set_up(self) -> None:
        scenario = self._scenario
        _until_ready(self._control)
        for name in scenario.faces:
            self._ends[name] = self._local() if name.islower() else self._remote()
        for name in scenario.local_fields:
            flags = _number(0x6C, LOCAL_FIELDS) + _number(0x70, LOCAL_FIELDS)
            command(self._control, "/faces/update", _number(0x69, self._ends[name].face_id) + flags)
        for name, size in scenario.mtu.items():
            command(self._control, "/faces/update", _number(0x69, self._ends[name].face_id) + _number(0x89, size))
        for prefix, name, cost in scenario.routes:
            self._change(AddRoute(prefix, name, cost))
        prefix, strategy = scenario.strategy
        if prefix:
            self._change(SetStrategy(prefix, strategy))
        time.sleep(SETTLE_S)

    def play(self) -> list[list[str]]:
        began, results = time.monotonic(), []
        steps = self._scenario.steps
        for at, (now, name, sent, _) in enumerate(steps):
            time.sleep(max(0.0, began + now - time.monotonic()))
            if isinstance(sent, bytes):
                self._ends[name].send(self._with_real_ids(sent))
            else:
                self._change(sent)
            together = at + 1 < len(steps) and steps[at + 1][0] == now
            results.append(self._collect(QUIET_S / 3 if together else QUIET_S))
        return results

    # ------------------------------------------------------------

    def _local(self) -> Endpoint:
        sock = _connect(self._station.path)
        done = command(sock, "/faces/update", _number(0x6C, 0) + _number(0x70, LOCAL_FIELDS))
        return Endpoint(sock, decode_nonneg(done[0x69]), None, Framer())

    def _remote(self) -> Endpoint:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((self._station.udp[0], 0))
        host, port = sock.getsockname()
        done = command(self._control, "/faces/create", encode_tlv(0x72, f"udp4://{host}:{port}".encode()))
        return Endpoint(sock, decode_nonneg(done[0x69]), self._station.udp, Framer())

    def _face(self, name: str) -> bytes:
        return _number(0x69, self._ends[name].face_id)

    def _change(self, change: object) -> None:
        match change:
            case RemoveFace(face):
                self._gone.add(face)
                command(self._control, "/faces/destroy", self._face(face))
            case AddRoute(prefix, face, cost, flags, origin, lifetime_ms):
                fields = _name(prefix) + self._face(face) + _number(0x6F, origin) + _number(0x6A, cost)
                fields += _number(0x6C, flags)
                fields += b"" if lifetime_ms is None else _number(0x6D, lifetime_ms)
                command(self._control, "/rib/register", fields)
            case DropRoute(prefix, face, origin):
                command(self._control, "/rib/unregister", _name(prefix) + self._face(face) + _number(0x6F, origin))
            case SetStrategy(prefix, strategy):
                command(self._control, "/strategy-choice/set", _name(prefix) + encode_tlv(0x6B, _name(strategy)))
            case CsErase(prefix):
                command(self._control, "/cs/erase", _name(prefix))
            case CsConfig(flag, on, packets):
                bit = {"admit": 1, "serve": 2, "": 0}[flag]
                fields = b"" if packets is None else _number(0x83, packets)
                fields += _number(0x6C, bit if on else 0) + _number(0x70, bit) if bit else b""
                command(self._control, "/cs/config", fields)
            case _:
                raise AssertionError(f"no command for {change}")

    def _with_real_ids(self, wire: bytes) -> bytes:
        """NextHopFaceId: scenarios count faces from 256."""
        if wire[:1] != b"\x64":
            return wire
        with contextlib.suppress(Exception):  # not all of them are good packets
            header = lp.decode_lp(wire)
            at = (header.next_hop_face_id or 0) - FIRST_VIRTUAL_FACE
            if 0 <= at < len(self._scenario.faces):
                header.next_hop_face_id = self._ends[self._scenario.faces[at]].face_id
                return lp.encode_lp(header)
        return wire

    def _in_words(self, name: str, wire: bytes) -> str:
        real = {end.face_id: FIRST_VIRTUAL_FACE + self._scenario.faces.index(face) for face, end in self._ends.items()}
        text = re.sub(r"from=(\d+)", lambda match: f"from={real.get(int(match[1]), int(match[1]))}", describe(wire))
        return f"{name}<{text}"

    def _collect(self, quiet_s: float) -> list[str]:
        heard: list[str] = []
        names = {end.sock: name for name, end in self._ends.items() if name not in self._gone}
        while True:
            ready, _, _ = select.select(list(names), [], [], quiet_s)
            if not ready:
                return sorted(heard)
            for sock in ready:
                name = names[sock]
                wires = self._ends[name].receive()
                if wires is None:
                    heard.append(f"{names.pop(sock)} closed")
                    self._gone.add(name)
                    continue
                heard += [self._in_words(name, wire) for wire in wires]


def _connect(path: str) -> socket.socket:
    """The file is there a moment before somebody listens."""
    deadline = time.monotonic() + READY_S
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(path)
        except ConnectionRefusedError:
            sock.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return sock


def _until_ready(sock: socket.socket) -> None:
    """NFD listens before its RIB does."""
    for _ in range(40):
        with contextlib.suppress(TimeoutError, Refused):
            command(sock, "/rib/unregister", _name("/nothing"), timeout_s=0.5)
            return
        time.sleep(0.02)
    raise AssertionError("the forwarder takes no commands")


# ---------------------------------------------------------------- plays


def play(scenario: Scenario, starter: Starter) -> list[list[str]]:
    """What went out after each step, at a fresh forwarder."""
    with tempfile.TemporaryDirectory(prefix="ndn-sem-") as folder, starter(scenario, Path(folder)) as station:
        stage = Stage(scenario, station)
        try:
            stage.set_up()
            return [masked(lines) for lines in stage.play()]
        finally:
            stage.close()


def masked(lines: list[str]) -> list[str]:
    """Drawn nonces are nobody's business."""
    return sorted(
        re.sub(r"#(\d+)", lambda match: "#drawn" if int(match[1]) > LARGEST_GIVEN_NONCE else match[0], line)
        for line in lines
    )


def told(scenario: Scenario) -> list[list[str]]:
    return [masked(expected) for *_, expected in scenario.steps]
