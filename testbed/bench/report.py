"""What every benchmark prints last: a table, and one JSON line with figures, peers, ratios, machine and commit."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def print_report(bench: str, figures: Mapping[str, Any], peers: Mapping[str, Any], ratios: Mapping[str, Any]) -> None:
    """`figures` are ours, `peers` others' in the same run, `ratios` ours over theirs; None where a peer is absent."""
    for title, rows in (("figures", figures), ("peers", peers), ("ratios", ratios)):
        if rows:
            print(title)
            for key, value in rows.items():
                print(f"  {key:44} {_text(value)}")
    document = {
        "bench": bench, "figures": dict(figures), "peers": dict(peers), "ratios": dict(ratios),
        "machine": machine(), "commit": commit(),
    }  # fmt: skip
    print(json.dumps(document))


def _text(value: Any) -> str:
    return "absent" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def machine() -> dict[str, Any]:
    """Processor, cores and versions, as far as the system tells."""
    model = ""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        lines = information.read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {"cpu": model or platform.processor(), "cores": os.cpu_count(), "python": platform.python_version()}


def commit() -> str:
    """The checkout's commit, "" for an installed wheel."""
    here = Path(__file__).resolve().parent
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )  # fmt: skip
    return done.stdout.strip()
