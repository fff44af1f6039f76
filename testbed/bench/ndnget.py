"""`ndnget` and `ndnserve` (ndncatchunks, ndnputchunks) as clients that are measured.

Owns: whether a name is served, what ndnget says of a download. Must not know: what is compared with what.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ndn_infer.testbed.bench.children import background
from ndn_infer.testbed.bench.forwarders import CannotMeasure

_GOODPUT: Final = re.compile(r"Goodput: ([\d.]+) ([GMk]?)bit/s")
_LAST: Final = "RTT min/avg/max"
_UNITS: Final = {"G": 1.0, "M": 1e-3, "k": 1e-6, "": 1e-9}
SERVE_READY_S: Final = 60.0
GET_S: Final = 120.0
LAST_LINES_S: Final = 0.5


def wait_until_served(name: str, environment: dict[str, str]) -> None:
    """ndnserve signs all segments before it registers; one version discovery tells that it is there. Raises
    CannotMeasure."""
    deadline = time.monotonic() + SERVE_READY_S
    peek = shutil.which("ndnpeek")
    if peek is None:
        time.sleep(10)
        return
    while time.monotonic() < deadline:
        command = [peek, "-P", "-f", "-p", "-w", "200", f"{name}/32=metadata"]
        if subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.1)
    raise CannotMeasure(f"ndnserve: nobody serves {name}")


def download(command: Sequence[str], environment: dict[str, str]) -> tuple[float, str]:
    """Gbit/s of one run of ndnget, and all it said. It sometimes stays after it has everything and has told its
    goodput: then it is ended. Raises CannotMeasure."""
    deadline = time.monotonic() + GET_S
    with tempfile.TemporaryFile("w+") as said, background(
        list(command), env=environment, output=subprocess.DEVNULL, stderr=said
    ) as process:  # fmt: skip
        text = ""
        while time.monotonic() < deadline:
            ended = process.poll() is not None
            said.seek(0)
            text = said.read()
            match = _GOODPUT.search(text)
            if match is not None and (ended or _LAST in text):
                return float(match[1]) * _UNITS[match[2]], text
            if match is not None:  # a few lines more
                deadline = min(deadline, time.monotonic() + LAST_LINES_S)
            if ended:
                break
            time.sleep(0.02)
        match = _GOODPUT.search(text)
    if match is None:
        raise CannotMeasure(f"{Path(command[0]).name} failed: {text[-300:]}")
    return float(match[1]) * _UNITS[match[2]], text
