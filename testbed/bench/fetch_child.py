"""What the measurements of `bench fetch` have in common: a content, client processes, and the check of what came out.

Owns: contents in RAM, running a client as a process of its own that prints one JSON line, comparing SHA-256. Must not
know: who fetches, or from whom.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ndn_infer.errors import NdnInferError
from ndn_infer.testbed.bench.children import run_to_end
from ndn_infer.testbed.bench.forwarders import CannotMeasure

RAM: Final = Path("/dev/shm")
CLIENT_S: Final = 300.0
MB: Final = 1e6
PIECE_BYTES: Final = 1 << 26
"""Random gives less than 256 MiB at once."""

Sample = dict[str, Any]
"""One measurement: `mb_s`, and whatever else the client tells."""


class WrongBytes(NdnInferError):
    """A client returned other bytes than were published: no figure of such a run means anything."""


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes to be fetched, in a file."""

    path: Path
    size: int
    sha256: str

    def judge(self, who: str, found: Mapping[str, Any]) -> Sample:
        """The sample of a client's figures (`seconds`, `sha256`, more). Raises WrongBytes."""
        if found["sha256"] != self.sha256:
            raise WrongBytes(f"{who} returned other bytes than were published", hint="no figure of this run is valid")
        rest = {key: value for key, value in found.items() if key not in ("seconds", "sha256")}
        return {"mb_s": self.size / found["seconds"] / MB, **rest}


def make_content(path: Path, size: int) -> Content:
    """Random bytes, the same for every run of one size: nothing on the way can compress them."""
    generator = random.Random(size)
    content = b"".join(generator.randbytes(min(PIECE_BYTES, size - at)) for at in range(0, size, PIECE_BYTES))
    path.write_bytes(content)
    path.chmod(0o644)
    return Content(path, size, hashlib.sha256(content).hexdigest())


def ram_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that no disk slows, where the system has one."""
    usable = RAM.is_dir() and os.access(RAM, os.W_OK)
    return tempfile.TemporaryDirectory(prefix="ndn-infer-bench-", dir=RAM if usable else None)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def command(module: str, what: str, options: Mapping[str, Any]) -> list[str]:
    return [sys.executable, "-m", f"ndn_infer.testbed.bench.{module}", what, json.dumps(options)]


def run_client(module: str, what: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Run a client to its end; what it printed. Raises CannotMeasure."""
    try:
        done = run_to_end(command(module, what, options), timeout=CLIENT_S)
    except subprocess.TimeoutExpired as error:
        raise CannotMeasure(f"{module} {what} takes longer than {CLIENT_S:.0f} s") from error
    lines = done.stdout.strip().splitlines()
    document: dict[str, Any] = json.loads(lines[-1]) if lines else {"error": done.stderr.strip()[-300:]}
    if "error" in document:
        raise CannotMeasure(f"{module} {what}: {document['error']}")
    if done.stderr and options.get("profile"):
        sys.stderr.write(done.stderr)
    return document


def client_main(clients: Mapping[str, Callable[..., Mapping[str, Any]]], arguments: list[str]) -> int:
    """The main function of a client's module: `WHAT OPTIONS`, one JSON line."""
    try:
        figures = clients[arguments[0]](**json.loads(arguments[1]))
    except (NdnInferError, OSError) as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
        return 1
    print(json.dumps(figures), flush=True)
    return 0
