"""What failover.py heard, how two answers differ, and the figures of its last line.

Owns: comparison and summary. Must not know: how answers are asked for, what was killed. Pure.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ndn_infer.client.answer import Move

PARTS: Final = ("detect", "choose", "token", "kv", "compute")


@dataclass
class Heard:
    """One answer as it came: `events` are (when, tokens until then)."""

    ids: tuple[int, ...] = ()
    text: str = ""
    logprobs: tuple[float, ...] = ()
    events: list[tuple[float, int]] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    by: str = ""
    """The node that gave its end."""
    finish: str = ""
    error: str = ""

    def gap_s(self, since: float) -> float:
        """The longest silence after `since`."""
        times = [when for when, _ in self.events]
        return max((later - max(earlier, 0.0) for earlier, later in zip(times, times[1:], strict=False)
                    if later > since), default=0.0)  # fmt: skip


@dataclass
class Round:
    what: str
    kind: str
    position: int
    complete: bool
    identical: bool
    continued: int
    gap_s: float
    error: str = ""
    differs: str = ""
    parts: dict[str, float] = field(default_factory=dict)


def difference(heard: Heard, whole: Heard) -> str:
    """Where two answers differ first; "" where they do not. Text is compared as far as both have it: the last event may
    bring more tokens than are compared."""
    for what in ("ids", "logprobs", "text"):
        one, other = getattr(heard, what), getattr(whole, what)
        for place, (mine, theirs) in enumerate(zip(one, other, strict=False)):
            if mine != theirs:
                return f"{what} at {place}: {mine!r}, undisturbed {theirs!r}"
        if what != "text" and len(one) != len(other):
            return f"{len(one)} {what}, undisturbed {len(other)}"
    return ""


def share(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def report(what: str, rounds: Sequence[Round], seconds: float) -> dict[str, Any]:
    gaps = [one.gap_s for one in rounds]
    parts = {
        part: {"p50": share(values, 0.5), "p95": share(values, 0.95)}
        for part in PARTS if (values := [one.parts[part] for one in rounds if part in one.parts])
    }  # fmt: skip
    without_recompute = [one.gap_s - one.parts.get("compute", 0.0) for one in rounds]
    return {
        "what": what, "rounds": len(rounds), "complete": sum(one.complete for one in rounds),
        "identical": sum(one.identical for one in rounds), "continued": sum(one.continued for one in rounds),
        "gap_p50_s": share(gaps, 0.5), "gap_p95_s": share(gaps, 0.95), "gap_worst_s": share(gaps, 1.0),
        "gap_without_compute_p95_s": round(share(without_recompute, 0.95), 3), "parts_s": parts,
        "errors": [one.error for one in rounds if one.error], "differs": [one.differs for one in rounds if one.differs],
        "seconds": round(seconds, 1), "cpus": os.cpu_count(), "load": os.getloadavg()[0],
    }  # fmt: skip
