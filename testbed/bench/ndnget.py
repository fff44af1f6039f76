"""`ndnget` and `ndnserve` (ndncatchunks, ndnputchunks) as clients that are measured.

Owns: a name that is served, one download, what ndnget says of it. Must not know: what is compared with what.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ndn_infer.testbed.bench.children import background
from ndn_infer.testbed.bench.forwarders import CannotMeasure, Target

SERVE_READY_S: Final = 60.0
GET_S: Final = 120.0
LAST_LINES_S: Final = 0.5
POLL_S: Final = 0.02
MOST_SAID: Final = 1 << 20
"""Bytes."""
KEYS_IN_MEMORY: Final = {"NDN_CLIENT_PIB": "pib-memory:", "NDN_CLIENT_TPM": "tpm-memory:"}
"""Two tools that begin in an empty home otherwise make one data base at once, and one of them ends."""
_GOODPUT: Final = re.compile(r"Goodput: ([\d.]+) ([GMk]?)bit/s")
_LAST: Final = "RTT min/avg/max"
_UNITS: Final = {"G": 1.0, "M": 1e-3, "k": 1e-6, "": 1e-9}


def tools_environment(target: Target) -> dict[str, str]:
    """Of ndn-tools at this forwarder."""
    return {**target.environment(), **KEYS_IN_MEMORY}


@contextmanager
def served(target: Target, command: Sequence[str], content: Path) -> Iterator[None]:
    """`content` by ndnserve, whose last argument is the name. It signs all segments before it registers; one version
    discovery tells that it is there. Raises CannotMeasure."""
    peek = shutil.which("ndnpeek")
    if peek is None:
        raise CannotMeasure("ndnserve without ndnpeek: nobody tells when it is ready")
    ask = [peek, "-P", "-f", "-p", "-w", "200", f"{command[-1]}/32=metadata"]
    environment, deadline = tools_environment(target), time.monotonic() + SERVE_READY_S
    with (
        content.open("rb") as source,
        tempfile.TemporaryFile() as said,
        background(list(command), env=environment, stdin=source, stderr=said) as process,
    ):
        while subprocess.run(ask, env=environment, capture_output=True, check=False).returncode != 0:
            if process.poll() is not None or time.monotonic() > deadline:
                words = _said(said.fileno()).strip()[-200:] or f"nobody serves {command[-1]}"
                raise CannotMeasure(f"ndnserve at {target.title}: {words}")
            time.sleep(POLL_S)
        yield


def download(command: Sequence[str], environment: Mapping[str, str], *, timeout_s: float = GET_S) -> tuple[float, str]:
    """Gbit/s of one run of ndnget, and all it said. It sometimes stays after it has everything and has told its
    goodput: then it is ended. Raises CannotMeasure."""
    deadline = time.monotonic() + timeout_s
    with tempfile.TemporaryFile() as said, background(
        list(command), env=environment, output=subprocess.DEVNULL, stderr=said
    ) as process:  # fmt: skip
        text, match = "", None
        while time.monotonic() < deadline:
            ended = process.poll() is not None
            text = _said(said.fileno())
            match = _GOODPUT.search(text)
            if ended or (match is not None and _LAST in text):
                break
            if match is not None:  # a few lines more
                deadline = min(deadline, time.monotonic() + LAST_LINES_S)
            time.sleep(POLL_S)
    if match is None:
        words = text.strip()[-300:] or f"not done in {timeout_s:.0f} s"
        raise CannotMeasure(f"{Path(command[0]).name} failed: {words}")
    return float(match[1]) * _UNITS[match[2]], text


def _said(file: int) -> str:
    """Not by seek and read: a child writes on where its parent has read, as both have one position in the file."""
    return os.pread(file, MOST_SAID, 0).decode(errors="replace")
