"""python-ndn's own management tool, `pynfdc` as installed, against a running ForwarderDaemon: every command it has."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from ndn_infer import ndn
from ndn_infer.forwarder.shell.daemon import ForwarderDaemon
from tests.integration.test_forwarder_clients import fetch_v2, forwarder, producer_v2

PYNFDC = Path(sys.executable).with_name("pynfdc")
PATIENCE_S = 60.0
FAILED = 255
"""What the tool's exit(-1) becomes."""


class Told(NamedTuple):
    code: int
    lines: list[str]


@dataclass
class Operator:
    """Runs pynfdc against one forwarder, in a home of its own."""

    daemon: ForwarderDaemon
    home: Path
    transport: str

    async def run(self, *arguments: str) -> Told:
        """Exit code and the lines of output, blanks at their ends removed."""
        process = await asyncio.create_subprocess_exec(
            str(PYNFDC), *arguments,
            env={"HOME": str(self.home), "NDN_CLIENT_TRANSPORT": self.transport},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert not err, err.decode()
        assert process.returncode is not None
        return Told(process.returncode, [line.rstrip() for line in out.decode().splitlines()])

    async def good(self, *arguments: str) -> list[str]:
        told = await self.run(*arguments)
        assert told.code == 0, told
        return told.lines


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    async with forwarder(tmp_path) as daemon:
        yield Operator(daemon, tmp_path, f"unix://{daemon.options.unix_path}")


def fields(lines: list[str]) -> dict[str, str]:
    """`   key <tab> value` lines."""
    return {key.strip(): value.strip() for key, _, value in (line.partition("\t") for line in lines if "\t" in line)}


def indented(lines: list[str]) -> dict[str, list[str]]:
    """Headings, and the tabbed lines below each."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in lines:
        if line.startswith("\t"):
            found[heading].append(line.strip())
        else:
            heading = line
            found.setdefault(heading, [])
    return found


def peer_face(daemon: ForwarderDaemon, uri: str) -> int:
    [number] = [face.id for face in daemon.core.faces.values() if face.uri == uri]
    return number


@pytest.mark.parametrize("kind", ["unix", "tcp"])
async def test_status(operator: Operator, kind: str) -> None:
    daemon = operator.daemon
    if kind == "tcp":
        operator.transport = "tcp4://{}:{}".format(*daemon.tcp_address or ())
    async with producer_v2(daemon, "unix", "/py"):
        await fetch_v2(daemon, "unix", "/py/x")
        lines = await operator.good("status")
    assert lines[0] == "General status:"
    told = fields(lines)
    assert told["version"].startswith("24.07") and re.fullmatch(r"0:00:\d\d\.\d+", told["upTime"])
    assert told["nFibEntries"] == "2" and told["nCsEntries"] == "1"
    assert int(told["nInInterests"]) >= 3 and int(told["nOutData"]) >= 2 and told["nOutNacks"] == "0"
    assert set(told) >= {"nNameTreeEntries", "nPitEntries", "nMeasurementsEntries", "nSatisfiedInterests"}


async def test_faces(operator: Operator) -> None:
    """New-Face, Get-Face (all, by id, by URI, by local URI), Remove-Face (by id, by URI)."""
    daemon = operator.daemon
    assert await operator.good("New-Face", "127.0.0.1:7001") == ["200 OK"]
    assert await operator.good("nf", "udp4://127.0.0.1:7001") == ["409 Face with remote URI already exists"]
    number = peer_face(daemon, "udp4://127.0.0.1:7001")

    header, _, *rows = await operator.good("Get-Face")
    assert header.startswith("FaceID") and header.endswith("LocalURI")
    by_id = {row.split()[0]: row.split()[1:] for row in rows}
    local_uri = daemon.core.faces[number].local_uri
    assert by_id[str(number)] == ["udp4://127.0.0.1:7001", local_uri]
    assert by_id["1"] == ["internal://", "internal://"] and len(by_id) == 3  # with pynfdc's own

    for query in (str(number), "udp4://127.0.0.1:7001"):
        told = fields(await operator.good("face", query))
        assert told["Face ID"] == str(number) and told["Remote URI"] == "udp4://127.0.0.1:7001"
        assert told["Local URI"] == local_uri and told["Persistency"] == "PERSISTENT"
        assert told["Link Type"] == "POINT_TO_POINT" and told["MTU"] == "1400"
        assert told["Counter IN"] == told["Counter OUT"] == "0i 0d 0n 0B"
        assert told["Flags"] in ("4", "FaceFlags.CONGESTION_MARKING_ENABLED")  # by Python's version
    by_local = fields(await operator.good("gf", f"unix://{daemon.options.unix_path}"))
    assert by_local["Remote URI"].startswith("fd://") and by_local["Scope"] == "LOCAL"
    assert await operator.good("gf", "9999") == ["No face is found"]
    assert await operator.good("gf", "udp4://127.0.0.1:7009") == ["No face is found"]

    assert await operator.good("Remove-Face", str(number)) == [f"Removing face {number} ...\t200 OK"]
    assert number not in daemon.core.faces
    assert await operator.good("nf", "127.0.0.1:7002") == ["200 OK"]
    number = peer_face(daemon, "udp4://127.0.0.1:7002")
    assert await operator.good("rf", "udp4://127.0.0.1:7002") == [f"Removing face {number} ...\t200 OK"]
    assert await operator.good("rf", "udp4://127.0.0.1:7002") == ["No face is found"]


async def test_refused_faces(operator: Operator) -> None:
    before = set(operator.daemon.core.faces)
    with socket.socket() as bound:  # and not listening: nobody else can, either
        bound.bind(("127.0.0.1", 0))
        closed = f"tcp4://127.0.0.1:{bound.getsockname()[1]}"
        await _refused(operator, (("ether://[08:00:27:01:01:01]", "406"), (closed, "504"), ("udp4://name", "400")))
    assert set(operator.daemon.core.faces) == before


async def _refused(operator: Operator, expected: Sequence[tuple[str, str]]) -> None:
    for uri, code in expected:
        [line] = await operator.good("nf", uri)
        assert line.startswith(code) and len(line) > len("406 "), (uri, line)


async def test_tcp_face_to_another_forwarder(operator: Operator, tmp_path: Path) -> None:
    """New-Face, New-Route, and a packet over both."""
    near = operator.daemon
    async with forwarder(tmp_path, "far") as far, producer_v2(far, "unix", "/far"):
        uri = "tcp4://{}:{}".format(*far.tcp_address or ())
        assert await operator.good("nf", uri) == ["200 OK"]
        number = peer_face(near, uri)
        [line] = await operator.good("nr", "/far", str(number))
        assert line.startswith("200")
        assert len(await fetch_v2(near, "unix", "/far/x")) > 7000
        assert await operator.good("rf", uri) == [f"Removing face {number} ...\t200 OK"]
        assert ndn.from_uri("/far") not in near.core.fib


async def test_routes(operator: Operator) -> None:
    """New-Route, Get-Route (all, one), Remove-Route."""
    daemon = operator.daemon
    await operator.good("nf", "127.0.0.1:7001")
    number = peer_face(daemon, "udp4://127.0.0.1:7001")
    for prefix in ("/a", "/a/b"):
        [line] = await operator.good("New-Route", prefix, str(number))
        assert line.startswith("200 ")
    lines = await operator.good("Get-Route")
    fib, rib = lines.index("Forwarding Table (FIB)"), lines.index("Routing Table (RIB)")
    assert indented(lines[fib + 1 : rib - 1]) == {
        "/localhost/nfd": ["FaceID=1     Cost=0"],
        "/a": [f"FaceID={number:<5} Cost=0"],
        "/a/b": [f"FaceID={number:<5} Cost=0"],
    }
    told = indented(lines[rib + 1 :])
    [route] = told["/a"]
    assert told == {"/a": [route], "/a/b": [route]}
    flags = "(1|RouteFlags.CHILD_INHERIT)"  # by Python's version
    assert re.fullmatch(rf"FaceID={number} +Cost=0 +Origin=0 +Flags={flags}", route)
    assert (await operator.good("gr", "/a/b"))[-2:] == ["/a/b", f"\t{route}"]

    assert (await operator.good("nr", "/x", "9999"))[0].startswith("410 ")
    [line] = await operator.good("Remove-Route", "/a", str(number))
    assert line.startswith("200 ") and ndn.from_uri("/a") not in daemon.core.fib
    [line] = await operator.good("rr", "/a/b")  # without a face: a route to pynfdc's own, of which there is none
    assert line.startswith("200 ") and ndn.from_uri("/a/b") in daemon.core.fib


async def test_strategies(operator: Operator) -> None:
    """Set-Strategy (by short and by full name), Get-Strategy (all, one), Remove-Strategy."""
    assert indented(await operator.good("Get-Strategy", "/")) == {"/": ["/localhost/nfd/strategy/best-route/v=5"]}
    for name in ("multicast", "/localhost/nfd/strategy/multicast"):
        assert await operator.good("Set-Strategy", "/m", name) == ["200 OK"]
    told = indented(await operator.good("strategy"))
    assert told["/m"] == ["/localhost/nfd/strategy/multicast/v=5"]
    assert {"/", "/localhost", "/m"} <= set(told)
    assert (await operator.good("ss", "/m", "/localhost/nfd/strategy/none"))[0].startswith("404 ")
    assert await operator.good("Remove-Strategy", "/m") == ["200 OK"]
    assert await operator.good("gs", "/m") == []
    assert (await operator.good("rs", "/"))[0].startswith("400 ")


async def test_help_lists_what_is_tested(operator: Operator) -> None:
    """Without a command it lists what it has."""
    told = await operator.run()
    listed = [line.split()[0] for line in told.lines if re.match(r"^  [A-Z][a-z]+-[A-Z]", line)]
    tested = ["Get-Status", "Get-Face", "New-Face", "Remove-Face", "Get-Route", "New-Route", "Remove-Route"]
    assert told.code == FAILED and listed == [*tested, "Get-Strategy", "Set-Strategy", "Remove-Strategy"]
