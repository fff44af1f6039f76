"""A scenario put to a real NFD: applications on Unix sockets send its packets, what they receive is told in its words.

Owns: which scenarios can be driven from outside, the sockets, time. Must not know: what is right.
"""

from __future__ import annotations

import re
import select
import socket
import tempfile
import time
from pathlib import Path
from typing import Final

from ndn_infer import name as ndn
from ndn_infer import tlv
from ndn_infer.testbed.bench.forwarders import nfd
from ndn_infer.testbed.bench.packet_load import LoadFailed, command
from ndn_infer.tlv import Framer
from tests.forwarder_world import describe
from tests.semantics.scenario import DRAWN, Scenario

QUIET_S: Final = 0.045
"""Nothing more comes after this long (half of it on a quiet machine would do)."""
LEAST_GAP_S: Final = 0.05
LONGEST_S: Final = 2.5
SETTLE_S: Final = 0.08
"""NFD answers a registration before it forwards by it."""


def why_not(scenario: Scenario) -> str:
    """Why NFD cannot be asked, "" if it can."""
    if scenario.ours:
        return scenario.ours
    if scenario.regions or scenario.mtu or scenario.cs_packets != 100:
        return "configured otherwise than by commands"
    if any(callable(sent) for _, _, sent, _ in scenario.steps):
        return "something changes in between that has no packet"
    times = [now for now, *_ in scenario.steps]
    if times[-1] > LONGEST_S or any(0 < b - a < LEAST_GAP_S for a, b in zip(times, times[1:], strict=False)):
        return "its times are too long or too short for a real clock"
    text = f"{scenario.rule} {scenario.routes}"
    if "/localho" in text and any(name.isupper() for name in scenario.faces if name in _used(scenario)):
        return "all faces of one machine's sockets are local"
    if "HopLimit" in text and any(name.isupper() for _, name, _ in scenario.routes):
        return "all faces of one machine's sockets are local"
    if "Fragmentation" in text or "LpReassembler" in text:
        return "NFD takes fragments on datagram faces only"
    if "MAX_NDN_PACKET_SIZE" in text:
        return "it ends a stream"
    if "NextHopFaceId" in text:
        return "face ids are NFD's own"
    if any(str(DRAWN) in line for *_, expected in scenario.steps for line in expected):
        return "the nonce is drawn"
    return ""


def _used(scenario: Scenario) -> set[str]:
    return {name for _, name, *_ in scenario.steps} | {name for _, name, _ in scenario.routes}


def masked(lines: list[str]) -> list[str]:
    """Face ids are the forwarder's own, but for the Content Store's."""
    return sorted(re.sub(r"from=(?!254\b)\d+", "from=…", line) for line in lines)


def play(scenario: Scenario) -> list[list[str]]:
    """What went out after each step, at a fresh NFD."""
    with tempfile.TemporaryDirectory(prefix="ndn-sem-") as folder, nfd(Path(folder), 1000) as target:
        applications = {name: _connect(target.path) for name in scenario.faces}
        try:
            _set_up(scenario, applications)
            return _steps(scenario, applications)
        finally:
            for sock in applications.values():
                sock.close()


def _connect(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(path)
    return sock


def _set_up(scenario: Scenario, applications: dict[str, socket.socket]) -> None:
    _until_ready(next(iter(applications.values())))
    for prefix, name, cost in scenario.routes:
        fields = ndn.encode_name(ndn.from_uri(prefix)) + tlv.encode_tlv(0x6A, tlv.encode_nonneg(cost))
        command(applications[name], "/rib/register", fields)
    for name in scenario.local_fields:
        command(applications[name], "/faces/update", b"\x6c\x01\x01\x70\x01\x01")
    prefix, strategy = scenario.strategy
    if prefix:
        fields = ndn.encode_name(ndn.from_uri(prefix)) + tlv.encode_tlv(0x6B, ndn.encode_name(ndn.from_uri(strategy)))
        command(next(iter(applications.values())), "/strategy-choice/set", fields)
    time.sleep(SETTLE_S)


def _until_ready(sock: socket.socket) -> None:
    """NFD listens before its RIB does."""
    for _ in range(20):
        try:
            command(sock, "/rib/unregister", ndn.encode_name(ndn.from_uri("/nothing")), timeout_s=0.5)
            return
        except (TimeoutError, LoadFailed):
            continue
    raise AssertionError("NFD takes no commands")


def _steps(scenario: Scenario, applications: dict[str, socket.socket]) -> list[list[str]]:
    framers = {name: Framer() for name in applications}
    began, results = time.monotonic(), []
    for at, (now, name, sent, _) in enumerate(scenario.steps):
        time.sleep(max(0.0, began + now - time.monotonic()))
        assert isinstance(sent, bytes)
        applications[name].sendall(sent)
        following = [step[0] for step in scenario.steps[at + 1 :]]
        together = bool(following) and following[0] == now
        results.append(_collect(applications, framers, QUIET_S / 3 if together else QUIET_S))
    return results


def _collect(applications: dict[str, socket.socket], framers: dict[str, Framer], quiet_s: float) -> list[str]:
    heard: list[str] = []
    names = {sock: name for name, sock in applications.items()}
    while True:
        ready, _, _ = select.select(list(names), [], [], quiet_s)
        if not ready:
            return sorted(heard)
        for sock in ready:
            chunk = sock.recv(65536)
            if not chunk:
                heard.append(f"{names.pop(sock)} closed")
                continue
            heard += [f"{names[sock]}<{describe(wire)}" for wire in framers[names[sock]].feed(chunk)]
