"""When margins of an answer that was read as a prompt look wrong.

Owns: thresholds, and what they are. Must not know: how margins are computed. Pure. Margins: engine/sampler.margin_of.

Honest answers have margins too, since the last bits of a reading are others than those of decoding, and those of
another class are more than last bits. Within a class an alarm costs only that the tokens up to it are computed exactly,
so thresholds are low. Across classes an alarm is all there is, so they are high; their false alarms are measured by
`python -m tests.load.dishonest` (docs/audit.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

SAME_GREEDY: Final = 0.3
SAME_SAMPLED: Final = 0.02
SAME_SHARE: Final = 0.06
"""Of one class: the largest margin, in logits or as a share of all weight; and the share of positions that have any."""
OTHER_GREEDY: Final = 3.0
OTHER_SAMPLED: Final = 0.25
OTHER_SHARE: Final = 0.35
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
    most = (SAME_GREEDY if greedy else SAME_SAMPLED) if same_class else (OTHER_GREEDY if greedy else OTHER_SAMPLED)
    position = max(margins, key=lambda at: margins[at])
    if margins[position] > most:
        first = min(at for at, margin in margins.items() if margin > most)
        return LooksWrong(position, first, f"token {position} is off by {margins[position]:.3g}, more than {most}")
    share, limit = suspicion(list(margins.values())), SAME_SHARE if same_class else OTHER_SHARE
    off = sorted(at for at, margin in margins.items() if margin > 0)
    if len(margins) >= LEAST and len(off) >= 2 and share > limit:
        words = f"{len(off)} of {len(margins)} tokens are not the choice, more than {limit:.0%}"
        return LooksWrong(position, off[-1], words)
    return None
