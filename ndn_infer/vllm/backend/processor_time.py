"""Processor time of a process and of its children: what vLLM's processes took.

Owns: reading it from the system, and how often. Pure of clocks: `now` is passed in. Must not know: vLLM, answers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

READ_S: Final = 0.05
"""An engine step may be shorter; what several of them took is told with the last one."""
FAMILY_S: Final = 1.0
"""So old may be what is known of children: finding them walks all threads of all these processes."""


class ProcessorTime:
    """Of `pid` and its children and theirs, as long as they live."""

    def __init__(self, pid: int, now: float) -> None:
        self._pid = pid
        self._seconds: dict[int, float] = {}
        self._family: list[int] = []
        self._read_at = self._found_at = float("-inf")
        self.since(now)

    def since(self, now: float, *, exact: bool = False) -> float:
        """Seconds since the last reading; 0 where that is less than READ_S old, unless it is to be `exact`, or where
        the system does not tell. What a process took before it was found here is not counted."""
        if now - self._read_at < READ_S and not exact:
            return 0.0
        self._read_at = now
        if now - self._found_at >= FAMILY_S:
            self._family, self._found_at = family_of(self._pid), now
        before, self._seconds = self._seconds, {pid: cpu_s(pid) for pid in self._family}
        return sum(max(spent - before.get(pid, spent), 0.0) for pid, spent in self._seconds.items())


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


def cpu_s(pid: int) -> float:
    """Seconds that a process has computed so far, all threads, user and system; 0 when it is gone."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0
