"""NDN software of others, beside our forwarder: found on PATH, started privately, stopped by pid.

Owns: which programs there are and under which names, a HOME and a client transport for every program, and that nothing
outlives a test. Must not know: what is tested with them.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from ndn_infer.testbed.nfd import NfdSettings, write_configuration
from tests.daemons import stop

NAMES: Final[dict[str, tuple[str, ...]]] = {
    "ndnget": ("ndnget", "ndncatchunks"),  # ndn-tools renamed them after 24.07
    "ndnserve": ("ndnserve", "ndnputchunks"),
}
TOOL_S: Final = 60.0
READY_S: Final = 30.0
LOOK_AGAIN_S: Final = 0.02
LINGER_S: Final = 2.0
OLD_LIST_S: Final = 1.05
"""NFD gives a list again for a second, however it changed meanwhile (ndn-cxx, Dispatcher)."""
SUMMARY_BEGINS: Final = "All segments have been received."


def find(program: str) -> str | None:
    return next((path for name in NAMES.get(program, (program,)) if (path := shutil.which(name))), None)


def needs(*programs: str) -> list[pytest.MarkDecorator]:
    """Marks of a module that runs these programs: deselected with `-m 'not nfd'`, skipped where they are absent."""
    missing = [" or ".join(NAMES.get(program, (program,))) for program in programs if find(program) is None]
    return [pytest.mark.nfd, pytest.mark.skipif(bool(missing), reason=f"not on PATH: {', '.join(missing)}")]


def until(condition: Callable[[], bool], what: str, *, timeout_s: float = READY_S) -> None:
    """Look again and again."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(LOOK_AGAIN_S)


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended."""

    code: int
    out: bytes
    error: str

    @property
    def text(self) -> str:
        return self.out.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What ndnget wrote. `code` is negative when it had to be ended after it had everything."""

    code: int
    content: bytes
    report: str

    def count(self, what: str) -> int:
        """A number of its summary: "Timeouts", "Congestion marks", "Retransmitted segments"."""
        match = re.search(rf"^{what}: (\d+)", self.report, re.MULTILINE)
        assert match is not None, self.report
        return int(match[1])


@dataclass
class Peer:
    """A running forwarder, ours or NFD, and the programs that use it."""

    title: str
    directory: Path
    tcp_port: int
    udp_port: int
    process: subprocess.Popen[str] | None = None

    @property
    def socket(self) -> Path:
        return self.directory / "nfd.sock"

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def log(self) -> Path:
        return self.directory / "forwarder.log"

    def uri(self, kind: str) -> str:
        """ "unix", "tcp" or "udp" as a client or a neighbour names this forwarder."""
        return {
            "unix": f"unix://{self.socket}",
            "tcp": f"tcp4://127.0.0.1:{self.tcp_port}",
            "udp": f"udp4://127.0.0.1:{self.udp_port}",
        }[kind]

    def environment(self, kind: str = "unix") -> dict[str, str]:
        return {**clean_environment(self.home), "NDN_CLIENT_TRANSPORT": self.uri(kind)}

    def run(
        self, program: str, *arguments: str, text: bytes = b"", kind: str = "unix", limit_s: float = TOOL_S
    ) -> Done:
        """To its end."""
        path = find(program)
        assert path is not None, program
        done = subprocess.run(
            [path, *arguments], env=self.environment(kind), input=text, capture_output=True, timeout=limit_s,
            check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))

    def good(self, program: str, *arguments: str, text: bytes = b"", kind: str = "unix") -> Done:
        """Run a program that must succeed."""
        done = self.run(program, *arguments, text=text, kind=kind)
        assert done.code == 0, (self.title, program, arguments, done)
        return done

    def nfdc(self, *arguments: str) -> str:
        return self.good("nfdc", *arguments).text

    @contextlib.contextmanager
    def serving(
        self, program: str, *arguments: str, prefix: str, text: bytes = b"", kind: str = "unix"
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A server program; the block begins when `prefix` has a route, and the program is stopped at its end."""
        path = find(program)
        assert path is not None, program
        with tempfile.TemporaryFile() as given, (self.directory / f"{program}.log").open("ab") as log:
            given.write(text)
            given.seek(0)
            process = subprocess.Popen(
                [path, *arguments], env=self.environment(kind), stdin=given, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
            try:
                until(lambda: self.routed(prefix) or process.poll() is not None, f"{program} registers {prefix}")
                assert process.poll() is None, f"{program} ended with {process.returncode}"
                yield process
            finally:
                _end(process)

    def routed(self, prefix: str) -> bool:
        """In the FIB: NFD accepts a registration before it forwards by it, and keeps old lists for a second."""
        return f" {prefix} nexthops=" in self.nfdc("fib", "list")

    def fetch(self, name: str, *options: str, kind: str = "unix") -> Fetched:
        """What ndnget gets. It is done when it says so: when repeated Data arrive after the last segment, it may
        wait for ever for more (ndn-cxx stops reading only if nothing is being read at that moment; with NFD too)."""
        program = find("ndnget")
        assert program is not None
        out, error = self.directory / "ndnget.out", self.directory / "ndnget.err"
        with out.open("wb") as stdout, error.open("wb") as stderr:
            process = subprocess.Popen(
                [program, *options, name], env=self.environment(kind), stdin=subprocess.DEVNULL, stdout=stdout,
                stderr=stderr, start_new_session=True,
            )  # fmt: skip
            try:
                until(
                    lambda: process.poll() is not None or SUMMARY_BEGINS in error.read_text(), f"ndnget {name}",
                    timeout_s=TOOL_S,
                )  # fmt: skip
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LINGER_S)
            finally:
                _end(process)
        return Fetched(process.returncode, out.read_bytes(), error.read_text())

    def face(self, uri: str) -> int:
        """Id of the face with this remote URI."""
        listed = self.nfdc("face", "list", "remote", uri)
        match = re.search(r"faceid=(\d+)", listed)
        assert match is not None, listed
        return int(match[1])

    def counters(self, uri: str) -> dict[str, int]:
        """Counters of the face with this remote URI: inInterests, inData, inNacks, inBytes, and out..."""
        listed = self.nfdc("face", "list", "remote", uri)
        match = re.search(
            r"counters=\{in=\{(\d+)i (\d+)d (\d+)n (\d+)B\} out=\{(\d+)i (\d+)d (\d+)n (\d+)B\}\}", listed
        )
        assert match is not None, listed
        keys = [way + what for way in ("in", "out") for what in ("Interests", "Data", "Nacks", "Bytes")]
        return dict(zip(keys, map(int, match.groups()), strict=True))


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def clean_environment(home: Path) -> dict[str, str]:
    """A HOME of its own, and nothing of the user's NDN."""
    home.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "NDN_"))}
    return {**kept, "HOME": str(home)}


# ---------------------------------------------------------------- our forwarder


@contextlib.contextmanager
def our_forwarder(directory: Path, **settings: str) -> Iterator[Peer]:
    """`ndn-infer forwarder` as a process; `settings` are options of section [forwarder]."""
    directory.mkdir(parents=True, exist_ok=True)
    peer = Peer("ndn-infer", directory, free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM))
    given = {"loopback_commands": "any", **settings}
    options = [f"--set=forwarder.{key}={value}" for key, value in given.items()]
    command = [
        sys.executable, "-m", "ndn_infer", "forwarder", "--unix", str(peer.socket),
        "--tcp", f"127.0.0.1:{peer.tcp_port}", "--udp", f"127.0.0.1:{peer.udp_port}", *options,
    ]  # fmt: skip
    with _started(peer, command):
        yield peer


# ---------------------------------------------------------------- NFD


@contextlib.contextmanager
def nfd(
    directory: Path, *, listen: bool = True, udp_mtu_bytes: int = 8800, log_level: str = "INFO", localhop: bool = False
) -> Iterator[Peer]:
    """A private NFD; with `localhop` it takes routes from applications of other hosts, whoever signs.

    With `listen` it takes TCP and UDP faces, on every address of the machine: it cannot be told
    another; without it makes faces only when told to."""
    directory.mkdir(parents=True, exist_ok=True)
    peer = Peer("NFD", directory, free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM))
    settings = NfdSettings(
        peer.udp_port, peer.tcp_port, listen=listen, mtu=udp_mtu_bytes, log_level=log_level, localhop=localhop
    )  # fmt: skip
    configuration = write_configuration(directory, peer.socket, settings)
    path = find("nfd")
    assert path is not None
    with _started(peer, [path, "--config", str(configuration)]):
        yield peer


@contextlib.contextmanager
def _started(peer: Peer, command: list[str]) -> Iterator[None]:
    """A forwarder until the block ends; ready when it answers `nfdc status show`."""
    with peer.log.open("w") as log:
        peer.process = process = subprocess.Popen(
            command, env=clean_environment(peer.home), stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            until(lambda: process.poll() is not None or _answers(peer), f"{peer.title} answers")
            assert process.poll() is None, f"{peer.title} ended: {peer.log.read_text()[-2000:]}"
            yield
        finally:
            stop(process)


def _answers(peer: Peer) -> bool:
    return peer.socket.exists() and peer.run("nfdc", "status", "show").code == 0
