"""What the benches read of ndnget, and of ndnserve when it fails: stand-ins that say what those say."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ndn_infer.testbed.bench.forwarders import CannotMeasure, Target
from ndn_infer.testbed.bench.ndnget import download, served

SAYS = """
import sys, time
for number in range(60):
    print(f"line {number}", file=sys.stderr, flush=True)
    time.sleep(0.005)
print("Goodput: 2.5 Mbit/s", file=sys.stderr, flush=True)
time.sleep(0.05)
print("RTT min/avg/max = 1/2/3 ms", file=sys.stderr, flush=True)
"""


def test_what_ndnget_says_is_read_whole_while_it_says_it() -> None:
    speed, said = download([sys.executable, "-c", SAYS], os.environ)
    assert speed == 2.5e-3
    lines = [f"line {number}" for number in range(60)]
    assert said.splitlines() == [*lines, "Goodput: 2.5 Mbit/s", "RTT min/avg/max = 1/2/3 ms"]


def test_a_download_that_failed_says_why() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('ERROR: Reached the maximum number of retries')"]
    with pytest.raises(CannotMeasure, match="maximum number of retries"):
        download(command, os.environ)
    with pytest.raises(CannotMeasure, match="not done in 0 s"):
        download([sys.executable, "-c", "import time; time.sleep(60)"], os.environ, timeout_s=0.1)


def test_a_producer_that_ended_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peek = tmp_path / "ndnpeek"
    peek.write_text("#!/bin/sh\nexit 3\n")
    peek.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "content").write_bytes(b"x")
    target = Target("NFD", str(tmp_path / "socket"), str(tmp_path), os.getpid())
    command = [sys.executable, "-c", "import sys; sys.exit('ERROR: database is locked')", "/file"]
    with (
        pytest.raises(CannotMeasure, match="ndnserve at NFD: ERROR: database is locked"),
        served(target, command, tmp_path / "content"),
    ):
        pass
