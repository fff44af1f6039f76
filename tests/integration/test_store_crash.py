"""The store's process is killed at 200 random moments: names answer correctly or not at all, and pins that were
acknowledged are all there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_killed_at_two_hundred_moments(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.integration.store_crasher", str(tmp_path), "200", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found["rounds"] == 200
    assert found["wrong"] == found["partial"] == found["lost"] == found["damaged"] == 0
    assert found["acknowledged"] > 200 and found["objects"] > 2000, "too little was written to show anything"
