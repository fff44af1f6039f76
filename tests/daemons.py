"""Real processes for tests: started, awaited by a fact (the READY line), stopped by pid."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

READY_TIMEOUT_S = 120.0


@dataclass
class RunningNetwork:
    """An `ndn-infer up`. `run` starts further commands in the same environment."""

    process: subprocess.Popen[str]
    environment: dict[str, str]
    home: Path
    runtime: Path
    lines: list[str] = field(default_factory=list)

    @property
    def socket(self) -> Path:
        return self.runtime / "forwarder.sock"

    def run(self, *arguments: str, text: str | None = None, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return run_command(*arguments, environment=self.environment, text=text, timeout=timeout)

    def ask(self, prompt: str, *arguments: str) -> dict[str, Any]:
        """The JSON document of one question."""
        done = self.run("ask", "--json", "--no-embedded", *arguments, "--", prompt)
        assert done.returncode == 0, done.stderr + done.stdout
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def status(self) -> dict[str, Any]:
        done = self.run("status", "--json")
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def counters(self, role: str) -> dict[str, float]:
        """Counters of one producer, by its role."""
        for producer in self.status()["producers"]:
            if producer["identity"].endswith(f"/{role}"):
                assert "counters" in producer, producer
                counters: dict[str, float] = producer["counters"]
                return counters
        raise AssertionError(f"no producer {role}")

    def pid(self, role: str) -> int:
        return next(p["pid"] for p in self.status()["producers"] if p["identity"].endswith(f"/{role}"))


def environment_in(directory: Path, model_cache: Path, **more: str) -> dict[str, str]:
    """A fresh HOME in `directory`, models shared."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "NDN_"))}
    return {
        **clean,
        "HOME": str(directory),
        "NDN_INFER_PATHS_CACHE_DIR": str(model_cache),
        "NDN_INFER_NETWORK_NET": "/ndn-infer/local",  # a fresh HOME's network has a name of its own
        **more,
    }


def run_command(
    *arguments: str, environment: dict[str, str], text: str | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ndn_infer", *arguments],
        env=environment, input=text, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


@contextlib.contextmanager
def run_network(
    directory: Path, model_cache: Path, *arguments: str, before_exec: Callable[[], None] | None = None, **more: str
) -> Iterator[RunningNetwork]:
    """`ndn-infer up ARGUMENTS` until the block ends. `before_exec` runs in the child first."""
    runtime = Path(tempfile.mkdtemp(prefix="ndn-infer-t-"))  # short: a Unix socket path has 107 bytes
    environment = environment_in(directory, model_cache, NDN_INFER_PATHS_RUNTIME_DIR=str(runtime), **more)
    log = (directory / "up.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "ndn_infer", "up", *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
        preexec_fn=before_exec,
    )  # fmt: skip
    network = RunningNetwork(process, environment, directory, runtime)
    try:
        wait_ready(process, network.lines, directory / "up.log")
        yield network
    finally:
        stop(process)
        log.close()
        shutil.rmtree(runtime, ignore_errors=True)


@contextlib.contextmanager
def gateway(network: RunningNetwork, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`ndn-infer gateway` on a free port; its base URL."""
    log = (network.home / "gateway.log").open("a")
    process = subprocess.Popen(
        [sys.executable, "-m", "ndn_infer", "gateway", "--listen", "127.0.0.1:0", *arguments],
        env=network.environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
    )  # fmt: skip
    lines: list[str] = []
    try:
        wait_ready(process, lines, network.home / "gateway.log")
        yield lines[-1].split()[1], process
    finally:
        stop(process)
        log.close()


def wait_ready(process: subprocess.Popen[str], lines: list[str], log: Path) -> None:
    assert process.stdout is not None
    deadline = time.monotonic() + READY_TIMEOUT_S
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith("READY"):
            return
        assert time.monotonic() < deadline
    raise AssertionError(f"not ready: {log.read_text()}")


def stop(process: subprocess.Popen[str]) -> int:
    """SIGTERM by pid; SIGKILL after 15 s."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
    return process.returncode


_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def ends_with_us(number: signal.Signals) -> Callable[[], None]:
    """What a child does before it becomes its program, to get this signal when the thread that started it dies, however
    it dies."""
    return lambda: _LIBC.prctl(_PR_SET_PDEATHSIG, number) and None


def processes_of(environment: dict[str, str]) -> list[int]:
    """Pids of living processes with this HOME in their environment: what a command left behind."""
    found = []
    marker = f"HOME={environment['HOME']}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                variables = (entry / "environ").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if marker in variables and state != "Z":
                    found.append(int(entry.name))
    return found


def own_address() -> str:
    """An address of this machine that is not loopback, "" for none: whoever comes from there is of another host."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.254", 9))  # nothing is sent
        except OSError:
            return ""
        address: str = sock.getsockname()[0]
    return "" if address.startswith("127.") else address
