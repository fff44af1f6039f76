"""What the system tells about a network of processes: who is there, memory, descriptors, processor time.

Owns: reading /proc below one process. Must not know: what the processes do.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
PROC: Final = Path("/proc")


@dataclass(frozen=True)
class Sizes:
    """One process at one moment. `pss_kib` counts pages that several processes map in equal parts."""

    pid: int
    pss_kib: int
    descriptors: int
    cpu_s: float


@dataclass(frozen=True)
class Look:
    """All processes of a network at one moment, by title. `at` is the monotonic clock, seconds."""

    at: float
    of: dict[str, Sizes]

    @property
    def pss_mib(self) -> float:
        return round(sum(sizes.pss_kib for sizes in self.of.values()) / 1024, 1)

    def busy_since(self, earlier: Look) -> dict[str, float]:
        """Share of a core that each process used since. One that is new counts from its start."""
        passed = max(self.at - earlier.at, 1e-9)
        before = {sizes.pid: sizes.cpu_s for sizes in earlier.of.values()}
        return {
            title: round((sizes.cpu_s - before.get(sizes.pid, 0.0)) / passed, 4) for title, sizes in self.of.items()
        }


def look(root: int) -> Look:
    """The process `root` and all below it. Those that end meanwhile are left out."""
    found: dict[str, Sizes] = {}
    for pid in sorted(_tree(root)):
        with contextlib.suppress(OSError, ValueError):
            sizes = Sizes(pid, _pss_kib(pid), len(list((PROC / str(pid) / "fd").iterdir())), _cpu_s(pid))
            title = _title(pid)
            found[title if title not in found else f"{title} {pid}"] = sizes
    return Look(time.monotonic(), found)


def _tree(root: int) -> set[int]:
    parents = dict(_parents())
    found = {root} & parents.keys()
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _parents() -> Iterator[tuple[int, int]]:
    """(pid, pid of its parent) of all processes that are no zombies."""
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = _stat(int(entry.name))[:2]
                if state != "Z":
                    yield int(entry.name), int(parent)


def _stat(pid: int) -> list[str]:
    """The fields after the name."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _cpu_s(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS


def _pss_kib(pid: int) -> int:
    lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _title(pid: int) -> str:
    """What it runs: "up", "forwarder", the functions of a producer."""
    words = (PROC / str(pid) / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    if "--functions" in words and "produce" in words:
        return words[words.index("--functions") + 1]
    if "ndn_infer" in words:
        return words[words.index("ndn_infer") + 1]
    return words[-2] if len(words) > 1 else str(pid)
