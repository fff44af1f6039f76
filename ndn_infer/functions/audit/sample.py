"""Which part of an answer or of its KV is checked.

Owns: what a share and a seed draw. Must not know: how anything is checked. Pure: whoever has share and seed draws the
same, and who does not know the seed beforehand cannot tell what is drawn.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class AnswerSpan(NamedTuple):
    """Tokens `first` to `end` - 1 of an answer, all in one KV block."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class AuditSample:
    """Which part is checked: `share` of it, drawn by `seed`."""

    share: float = 1.0
    seed: int = 0

    def of(self, count: int) -> list[int]:
        """So many of range(count), one at least where there is any, in order."""
        wanted = min(math.ceil(self.share * count), count)
        return sorted(random.Random(self.seed).sample(range(count), wanted))

    def spans(self, prompt: int, count: int, block: int) -> list[AnswerSpan]:
        """Of an answer of `count` tokens after `prompt` others, the parts in KV blocks of `block` tokens that are
        drawn, in order."""
        first, last = prompt // block, (prompt + count - 1) // block
        drawn = [first + at for at in self.of(last - first + 1)] if count else []
        return [AnswerSpan(max(at * block - prompt, 0), min((at + 1) * block - prompt, count)) for at in drawn]

    def doubtful(self, margins: Mapping[int, float]) -> int:
        """Of the positions whose token is not the choice by these margins the last one that is drawn: a share of them,
        on average, larger margins more often. -1 where none is. (Efraimidis and Spirakis, "Weighted random sampling
        with a reservoir", 2006.)"""
        rng = random.Random(self.seed)
        keys = {at: rng.random() ** (1 / margins[at]) for at in sorted(margins) if margins[at] > 0}
        wanted = math.floor(self.share * len(keys) + rng.random())
        return max(sorted(keys, key=lambda at: keys[at], reverse=True)[:wanted], default=-1)
