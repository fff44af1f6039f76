"""Memory of this process, for measurements.

Owns: one figure. Must not know: what is measured.
"""

from __future__ import annotations

import os
from pathlib import Path


def resident_mb() -> float:
    """MB that are in memory now, mapped files included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
