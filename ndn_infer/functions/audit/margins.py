"""When margins of an answer that was read as a prompt look wrong.

Owns: thresholds, and what they are. Must not know: how margins are computed. Pure. Margins: engine/sampler.margin_of.

Honest answers have margins too, since the last bits of a reading are others than those of decoding, and those of
another class are more than last bits. Within a class an alarm costs only that the tokens up to it are computed exactly,
so thresholds are low. Across classes an alarm is all there is, so they are high; `python -m tests.load.dishonest`
with `--across N` counts their false alarms (docs/audit.md has what was counted).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """`most`: the largest margin; `share` of positions that have any."""

    most: float
    share: float


SAME: Final = {True: Limits(0.1, 0.03), False: Limits(0.05, 0.25)}
"""Of one class, by whether the answer is greedy: logits there, else a share of all weight."""
OTHER: Final = {True: Limits(3.0, 0.35), False: Limits(0.25, 0.5)}
LEAST: Final = 8
"""Positions from which on their share is looked at."""


@dataclass(frozen=True, slots=True)
class LooksWrong:
    """`position`: where most; `upto`: the last one that has to be computed again to know."""

    position: int
    upto: int
    words: str


def suspicion(margins: Sequence[float]) -> float:
    """The share of positions that have a margin."""
    return sum(margin > 0 for margin in margins) / len(margins) if margins else 0.0


def looks_wrong(margins: Mapping[int, float], *, greedy: bool, same_class: bool) -> LooksWrong | None:
    """`margins` by position."""
    if not margins:
        return None
    limits = (SAME if same_class else OTHER)[greedy]
    position = max(margins, key=lambda at: margins[at])
    if margins[position] > limits.most:
        last = max(at for at, margin in margins.items() if margin > limits.most)
        words = f"token {position} is off by {margins[position]:.3g}, more than {limits.most}"
        return LooksWrong(position, last, words)
    share = suspicion(list(margins.values()))
    off = sorted(at for at, margin in margins.items() if margin > 0)
    if len(margins) >= LEAST and len(off) >= 2 and share > limits.share:
        words = f"{len(off)} of {len(margins)} tokens are not the choice, more than {limits.share:.0%}"
        return LooksWrong(position, off[-1], words)
    return None
