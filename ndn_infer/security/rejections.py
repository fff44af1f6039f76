"""Counts what was not believed, by kind of error.

Owns: the counter. Must not know: what is judged.
"""

from __future__ import annotations

from collections import Counter

from ndn_infer.errors import TrustError


class Rejections:
    """A block in which judging happens: a TrustError that leaves it is counted."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: object) -> None:
        if isinstance(value, TrustError):
            self.counts[type(value).__name__] += 1
