"""The garbage collector of a command's own process.

Owns: how rarely it looks. Must not know: what the process does. A library leaves its user's collector alone.
"""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (20_000, 20, 50)
"""Packets that come and go are no cycles: at Python's own threshold looking for them takes a tenth of a fetch."""


def settle_collector() -> None:
    """What was imported stays; the collector need not look at it again and again."""
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
