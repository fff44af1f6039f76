"""Forwarders to be measured: ours and, where it is installed, NFD; each private, on a Unix socket, stopped by pid.

Owns: starting and stopping them, and programs that use them. Must not know: what is measured.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ndn_infer.errors import NdnInferError
from ndn_infer.testbed.bench.children import background, run_to_end

READY_S: Final = 30.0
LOAD_S: Final = 600.0
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
  }}
}}
face_system {{
  general {{ enable_congestion_marking yes }}
  unix {{ path {path} }}
}}
authorizations {{ authorize {{ certfile any privileges {{ faces fib cs strategy-choice }} }} }}
rib {{ localhost_security {{ trust-anchor {{ type any }} }} auto_prefix_propagate {{ refresh_interval 300 }} }}
"""


class CannotMeasure(NdnInferError):
    """A forwarder or a load did not start."""


@dataclass(frozen=True, slots=True)
class Target:
    """A running forwarder. `home` is a private HOME for tools."""

    title: str
    path: str
    home: str
    pid: int

    def environment(self) -> dict[str, str]:
        return {**os.environ, "HOME": self.home, "NDN_CLIENT_TRANSPORT": f"unix://{self.path}"}

    def load(self, what: str, **options: Any) -> dict[str, float]:
        """Run a load to its end; its figures. Raises CannotMeasure."""
        done = run_to_end(_load(what, {"path": self.path, **options}), timeout=LOAD_S)
        lines = done.stdout.strip().splitlines()
        document: dict[str, Any] = json.loads(lines[-1]) if lines else {"error": done.stderr[-300:]}
        if "error" in document:
            raise CannotMeasure(f"{what} at {self.title}: {document['error']}")
        return document

    @contextmanager
    def producer(self, **options: Any) -> Iterator[None]:
        """A producer in the background."""
        with background(_load("produce", {"path": self.path, **options})) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            if "ready" not in line:
                raise CannotMeasure(f"the producer did not start at {self.title}: {line.strip()}")
            yield

    def memory_mib(self) -> float:
        """Resident memory of the forwarder."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0


def _load(what: str, options: dict[str, Any]) -> list[str]:
    return [sys.executable, "-m", "ndn_infer.testbed.bench.packet_load", what, json.dumps(options)]


@contextmanager
def ours(directory: Path, packets: int) -> Iterator[Target]:
    path = str(directory / "ours.sock")
    settings = (f"forwarder.cs_capacity_packets={packets}", "forwarder.cs_capacity_mib=4096")
    command = [sys.executable, "-m", "ndn_infer", "forwarder", "--unix", path]
    for setting in settings:
        command += ["--set", setting]
    with background(command) as process:
        assert process.stdout is not None
        if not process.stdout.readline().startswith("READY"):
            raise CannotMeasure("our forwarder did not start")
        yield Target("ndn-infer", path, str(directory), process.pid)


@contextmanager
def nfd(directory: Path, packets: int) -> Iterator[Target]:
    path, conf = directory / "nfd.sock", directory / "nfd.conf"
    conf.write_text(NFD_CONF.format(packets=packets, path=path))
    environment = {**os.environ, "HOME": str(directory)}
    with (
        (directory / "nfd.log").open("w") as log,
        background([str(shutil.which("nfd")), "--config", str(conf)], env=environment, stderr=log) as process,
    ):
        deadline = time.monotonic() + READY_S
        while not path.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise CannotMeasure(f"NFD did not start: {(directory / 'nfd.log').read_text()[-300:]}")
            time.sleep(0.05)
        yield Target("NFD", str(path), str(directory), process.pid)


def nfd_version() -> str | None:
    """None where NFD is absent."""
    if shutil.which("nfd") is None:
        return None
    done = subprocess.run(["nfd", "--version"], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().splitlines()[-1]
