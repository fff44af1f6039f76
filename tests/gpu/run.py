"""Everything that needs a GPU, in one command of under ten minutes:

    python -m tests.gpu.run [FOLDER]

runs the tests, then measures (`ndn-infer bench device`); what both print goes to FOLDER too (default: nowhere else).
Exits with the first status that is not 0. Owns: this order and its time limits.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

STEPS: Final = {
    "tests": (240, ["pytest", "-q", "-p", "no:cacheprovider", "--timeout=120", "--durations=8", "tests/gpu"]),
    "figures": (330, ["ndn_infer", "bench", "device", "--runs", "2", "--set", "engine.device=cuda"]),
}
"""Seconds at most, and the module to run with its arguments."""


def main(arguments: list[str]) -> int:
    worst = 0
    for name, (seconds, command) in STEPS.items():
        log = Path(arguments[0]) / f"{name}.log" if arguments else Path("/dev/null")
        with log.open("w") as kept:
            status = _run([sys.executable, "-m", *command], seconds, kept)
        print(f"{name}: status {status}", flush=True)
        worst = worst or status
    return worst


def _run(command: list[str], seconds: int, kept: object) -> int:
    """Its output goes here and to `kept`. 124: it took longer."""
    tee = ["timeout", str(seconds), *command]
    with subprocess.Popen(tee, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            print(line, end="", flush=True, file=kept)  # type: ignore[arg-type]
        return process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
