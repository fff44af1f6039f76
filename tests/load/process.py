"""A forwarder in a process of its own, and what the system and its own management tell about it.

Owns: starting, stopping, memory and descriptors from /proc, table sizes by management queries.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from ndn_infer.ndn import tlv
from tests.daemons import environment_in, stop, wait_ready
from tests.load.peer import Peer, Unanswered, entries_of, numbers_of, open_peer

SETTLE_S: Final = 20.0
POLL_S: Final = 0.05
COMPLAINTS: Final = ("Traceback", "Error", "error", "exception")
MAX_COMPLAINTS: Final = 5
LOG_TIME: Final = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ ")


@dataclass(frozen=True)
class Sizes:
    """Of a forwarder at one moment. `faces` without the internal one and the one that asks."""

    rss_kib: int
    descriptors: int
    faces: int
    routes: int
    pit: int
    cs: int

    def __str__(self) -> str:
        return ", ".join(f"{key} {value:,}" for key, value in asdict(self).items())


class ForwarderProcess:
    """Started by `running_forwarder`. `uris` has one address a transport."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self._process = process
        self._directory = directory
        self.uris: dict[str, str] = {"unix": f"unix://{directory / 'f.sock'}"}
        self.watcher: Peer

    @property
    def pid(self) -> int:
        return self._process.pid

    async def look(self) -> None:
        """Connect the face that asks, and learn the ports."""
        self.watcher = await open_peer(self.uris["unix"])
        channels = await self.watcher.dataset("faces/channels")
        for _, start, end in tlv.iterate(channels):
            _, value, after = tlv.read_header(channels, start, end)
            uri = channels[value:after].decode()
            self.uris[uri.partition("://")[0].rstrip("46")] = uri

    async def sizes(self) -> Sizes:
        watcher = self.watcher
        status = numbers_of(await watcher.dataset("status/general"))
        return Sizes(
            rss_kib=self.rss_kib(),
            descriptors=self.descriptors(),
            faces=entries_of(await watcher.dataset("faces/list")) - 2,
            routes=entries_of(await watcher.dataset("rib/list")),
            pit=status[0x85],
            cs=status[0x87],
        )

    def rss_kib(self) -> int:
        return self._status("VmRSS")

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def limit_descriptors(self, more: int) -> None:
        """Let it open this many more than it has open now."""
        limit = self.descriptors() + more
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (limit, limit))

    def peak_kib(self) -> int:
        """The most since the start or the last `reset_peak`."""
        return self._status("VmHWM")

    def reset_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def _status(self, key: str) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(key))

    def complaints(self) -> list[str]:
        """Lines of its standard error that tell of a fault within: the most frequent, each with its number."""
        lines = (self._directory / "log").read_text().splitlines()
        told = Counter(LOG_TIME.sub("", line) for line in lines if any(word in line for word in COMPLAINTS))
        return [f"{count} x {line}" for line, count in told.most_common(MAX_COMPLAINTS)]


async def settled(forwarder: ForwarderProcess, before: Sizes, *, within_s: float = SETTLE_S) -> Sizes:
    """Sizes once what came since `before` is gone: faces, routes, descriptors, pending Interests. Those at the end when
    that does not happen: the caller compares. UDP faces stay until they idle out, so give a short idle time. Raises
    AssertionError when management does not answer."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            now = await forwarder.sizes()
        except Unanswered as error:
            assert time.monotonic() < deadline, f"management does not answer: {error}"
            continue
        gone = now.faces <= before.faces and now.routes <= before.routes and now.descriptors <= before.descriptors
        if (gone and now.pit <= before.pit) or time.monotonic() > deadline:
            return now
        await asyncio.sleep(POLL_S)


@contextlib.asynccontextmanager
async def running_forwarder(**settings: object) -> AsyncIterator[ForwarderProcess]:
    """`ndn-infer forwarder` on all transports; `settings` are options of [forwarder]. Raises AssertionError when it
    died meanwhile."""
    directory = Path(tempfile.mkdtemp(prefix="ndn-load-"))
    given = {"loopback_commands": "any", **settings}
    options = {f"NDN_INFER_FORWARDER_{key.upper()}": str(value) for key, value in given.items()}
    arguments = ["--unix", str(directory / "f.sock")]
    for kind in ("tcp", "udp", "ws"):
        arguments += [f"--{kind}", "127.0.0.1:0"]
    process = _start(directory, arguments, options)
    try:
        wait_ready(process, [], directory / "log")
        forwarder = ForwarderProcess(process, directory)
        await forwarder.look()
        yield forwarder
        forwarder.watcher.close()
        assert process.poll() is None, f"the forwarder died: {(directory / 'log').read_text()}"
    finally:
        stop(process)
        shutil.rmtree(directory, ignore_errors=True)


def _start(directory: Path, arguments: list[str], options: dict[str, str]) -> subprocess.Popen[str]:
    with (directory / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "ndn_infer", "forwarder", *arguments],
            env=environment_in(directory, directory / "cache", **options),
            stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
