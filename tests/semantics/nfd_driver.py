"""A scenario put to a running forwarder, NFD or ours: applications on Unix sockets and neighbours on UDP send its
packets, management commands make its changes, what they receive is told in the scenario's words.

Owns: which scenarios can be driven from outside, sockets, real time. Must not know: how forwarders start (stations.py),
what is right.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ndn_infer.errors import BadPacket
from ndn_infer.ndn import lp, tlv
from ndn_infer.ndn.tlv import Framer, decode_nonneg, encode_tlv
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
from tests.semantics.stations import Starter, Station, command, connect, name_field, number, outside_address

QUIET_S: Final = 0.045
"""Nothing more comes after this long (half of it on a quiet machine would do)."""
LEAST_GAP_S: Final = 0.05
LONGEST_S: Final = 7.0
SETTLE_S: Final = 0.08
"""NFD answers a registration before it forwards by it."""
FIRST_VIRTUAL_FACE: Final = 256
LARGEST_GIVEN_NONCE: Final = 0xFFFF
"""Scenarios give small nonces; larger ones were drawn by the forwarder."""
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


def used_faces(scenario: Scenario) -> str:
    """Those that have a part in it, in their order."""
    used = {name for _, name, _ in scenario.routes} | set(scenario.local_fields) | set(scenario.mtu)
    for _, name, sent, expected in scenario.steps:
        used |= {name, *(line[0] for line in expected)}
        if isinstance(sent, AddRoute | DropRoute | RemoveFace):
            used.add(sent.face)
    return "".join(name for name in scenario.faces if name in used)


def _is_fragment(sent: object) -> bool:
    """Whether it says it is one of several."""
    if not isinstance(sent, bytes) or sent[:1] != b"\x64":
        return False
    return b"\x53" in {bytes((kind,)) for kind, _, _ in tlv.iterate(sent, tlv.read_header(sent, 0, len(sent))[1])
                       if kind < 256}  # fmt: skip


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
        self._control = connect(station.path)
        self._ends: dict[str, Endpoint] = {}
        self._gone: set[str] = set()

    def close(self) -> None:
        for sock in (self._control, *(end.sock for end in self._ends.values())):
            sock.close()

    def set_up(self) -> None:
        scenario = self._scenario
        for name in used_faces(scenario):
            self._ends[name] = self._local() if name.islower() else self._remote()
        for name in scenario.local_fields:
            flags = number(0x6C, LOCAL_FIELDS) + number(0x70, LOCAL_FIELDS)
            command(self._control, "/faces/update", number(0x69, self._ends[name].face_id) + flags)
        for name, size in scenario.mtu.items():
            command(self._control, "/faces/update", number(0x69, self._ends[name].face_id) + number(0x89, size))
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
        sock = connect(self._station.path)
        done = command(sock, "/faces/update", number(0x6C, 0) + number(0x70, LOCAL_FIELDS))
        return Endpoint(sock, decode_nonneg(done[0x69]), None, Framer())

    def _remote(self) -> Endpoint:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((self._station.udp[0], 0))
        host, port = sock.getsockname()
        done = command(self._control, "/faces/create", encode_tlv(0x72, f"udp4://{host}:{port}".encode()))
        return Endpoint(sock, decode_nonneg(done[0x69]), self._station.udp, Framer())

    def _face(self, name: str) -> bytes:
        return number(0x69, self._ends[name].face_id)

    def _change(self, change: object) -> None:
        match change:
            case RemoveFace(face):
                self._gone.add(face)
                command(self._control, "/faces/destroy", self._face(face))
            case AddRoute(prefix, face, cost, flags, origin, lifetime_ms):
                fields = name_field(prefix) + self._face(face) + number(0x6F, origin) + number(0x6A, cost)
                fields += number(0x6C, flags)
                fields += b"" if lifetime_ms is None else number(0x6D, lifetime_ms)
                command(self._control, "/rib/register", fields)
            case DropRoute(prefix, face, origin):
                command(self._control, "/rib/unregister", name_field(prefix) + self._face(face) + number(0x6F, origin))
            case SetStrategy(prefix, strategy):
                command(
                    self._control, "/strategy-choice/set", name_field(prefix) + encode_tlv(0x6B, name_field(strategy))
                )
            case CsErase(prefix):
                command(self._control, "/cs/erase", name_field(prefix))
            case CsConfig(flag, on, packets):
                bit = {"admit": 1, "serve": 2, "": 0}[flag]
                fields = b"" if packets is None else number(0x83, packets)
                fields += number(0x6C, bit if on else 0) + number(0x70, bit) if bit else b""
                command(self._control, "/cs/config", fields)
            case _:
                raise AssertionError(f"no command for {change}")

    def _with_real_ids(self, wire: bytes) -> bytes:
        """NextHopFaceId: scenarios count faces from 256."""
        if wire[:1] != b"\x64":
            return wire
        with contextlib.suppress(BadPacket):  # not all of them are good packets
            header = lp.decode_lp(wire)
            at = (header.next_hop_face_id or 0) - FIRST_VIRTUAL_FACE
            name = self._scenario.faces[at] if 0 <= at < len(self._scenario.faces) else ""
            if name in self._ends:
                header.next_hop_face_id = self._ends[name].face_id
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


# ---------------------------------------------------------------- plays


def play(scenario: Scenario, starter: Starter) -> list[list[str]]:
    """What went out after each step, at a fresh forwarder."""
    neighbours = any(name.isupper() for name in used_faces(scenario))
    with (
        tempfile.TemporaryDirectory(prefix="ndn-sem-") as folder,
        starter(scenario, Path(folder), neighbours) as station,
    ):
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
