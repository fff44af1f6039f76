"""Processor time of processes, which a busy machine changes far less than it changes the time on the clock.

Owns: reading it from /proc. Linux only: elsewhere it is 0. Must not know: what the processes do.
"""

from __future__ import annotations

import os
from pathlib import Path


def cpu_s(pid: int) -> float:
    """Seconds that a process has computed so far, all threads, user and system; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
