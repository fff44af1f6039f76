"""A node with two interfaces and neighbours that have the same link-local address on each: answers leave where the
question came in. In network namespaces that the test makes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ndn_infer import ndn
from ndn_infer.ndn import lp, tlv
from ndn_infer.ndn.lp import REASON_NO_ROUTE
from tests.daemons import stop
from tests.forwarder_world import interest
from tests.semantics.stations import Refused, command, connect, name_field, number

PORT = 6363
ASK = """
import json, socket, sys
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sock.bind(("::", 6363))
sock.settimeout(5)
scope = socket.if_nametoindex("far")
sock.sendto(bytes.fromhex(sys.argv[1]), (sys.argv[2], 6363, 0, scope))
for _ in range(int(sys.argv[3])):
    wire, peer = sock.recvfrom(9000)
    print(json.dumps([wire.hex(), peer[0]]), flush=True)
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


@contextlib.contextmanager
def star() -> Iterator[tuple[str, list[str]]]:
    """A middle with interfaces `left` and `right`, and a neighbour at each; both neighbours are fe80::2."""
    middle, *ends = names = [f"ndni-ll-{os.getpid()}-{part}" for part in ("m", "left", "right")]
    try:
        for name in names:
            ip("netns", "add", name)
        for end in ends:
            interface = end.rpartition("-")[2]
            ip("-n", middle, "link", "add", interface, "type", "veth", "peer", "name", "far", "netns", end)
            for space, link, address in ((middle, interface, "fe80::1"), (end, "far", "fe80::2")):
                ip("-n", space, "link", "set", link, "addrgenmode", "none")
                ip("-n", space, "addr", "add", f"{address}/64", "dev", link, "nodad")
                ip("-n", space, "link", "set", link, "up")
        yield middle, ends
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def can_make_namespaces() -> bool:
    if os.geteuid() != 0:
        return False
    try:
        with star():
            return True
    except (OSError, subprocess.SubprocessError):
        return False


def ask(end: str, wire: bytes, answers: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["ip", "netns", "exec", end, sys.executable, "-c", ASK, wire.hex(), "fe80::1", str(answers)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.root
def test_answers_leave_by_the_interface_that_the_question_came_in_by(tmp_path: Path) -> None:
    if not can_make_namespaces():
        pytest.skip("no network namespaces here")
    path = tmp_path / "f.sock"
    with star() as (middle, ends):
        forwarder = subprocess.Popen(
            ["ip", "netns", "exec", middle, sys.executable, "-m", "ndn_infer", "forwarder", "--unix", str(path),
             "--udp", f"[::]:{PORT}"], stdout=subprocess.PIPE, text=True, env={**os.environ, "HOME": str(tmp_path)},
        )  # fmt: skip
        try:
            assert forwarder.stdout is not None and forwarder.stdout.readline().startswith("READY")
            asked = []
            for index, end in enumerate(ends):  # one after the other: faces are numbered in that order
                process = ask(end, interest(f"/nobody/{index}", index), 2)
                asked.append(process)
                assert process.stdout is not None
                wire, peer = json.loads(process.stdout.readline())
                nack = lp.decode_lp(bytes.fromhex(wire))
                assert nack.nack_reason == REASON_NO_ROUTE and ndn.from_uri(f"/nobody/{index}") in nack.fragment
                assert peer == "fe80::1"
            with connect(str(path)) as sock:
                for end in ends:  # faces by URI, found again by it
                    uri = f"udp6://[fe80::2%{end.rpartition('-')[2]}]:{PORT}"
                    with pytest.raises(Refused, match="already exists"):
                        command(sock, "/faces/create", tlv.encode_tlv(0x72, uri.encode()))
                for place, end in enumerate(ends):
                    face = number(0x69, 256 + place)
                    command(sock, "/rib/register", name_field(f"/{end}") + face)
                    sock.sendall(interest(f"/{end}/x"))
                for end, process in zip(ends, asked, strict=True):
                    assert process.stdout is not None
                    wire, _ = json.loads(process.stdout.readline())
                    assert ndn.from_uri(f"/{end}/x") in bytes.fromhex(wire)
                    assert process.wait(10) == 0
        finally:
            stop(forwarder)
