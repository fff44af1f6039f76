"""Processor time of a process and of its children: what vLLM's processes took.

Owns: reading it from the system. Must not know: vLLM, answers.
"""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


class ProcessorTime:
    """Of `pid` and its children and theirs, as long as they live."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._last = self.read()

    def since(self) -> float:
        """Seconds since the last call; 0 where the system does not tell."""
        now = self.read()
        spent, self._last = now - self._last, now
        return max(spent, 0.0)

    def read(self) -> float:
        return sum(_seconds(pid) for pid in family_of(self._pid))


def family_of(pid: int) -> list[int]:
    """The process, its children and theirs, as far as they run."""
    found = [pid]
    for one in found:
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except (OSError, ValueError):
            continue
    return found


def _seconds(pid: int) -> float:
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / _TICKS
    except (OSError, ValueError, IndexError):
        return 0.0
