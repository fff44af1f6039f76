"""Speculation: tokens guessed cheaply, checked by the model all at once.

Owns: guessing from the sequence itself (prompt lookup), how many to guess, and which guesses hold. Must not know:
models, torch, where another drafter runs.

Guesses never change what comes out. Every position is sampled from the model's own distribution with the number that
belongs to that position (sampler.py), exactly as if tokens came one at a time; a guess only says which token to compute
the next distribution after, and it holds when the sampled token equals it. So greedy decoding stays the argmax, and
sampling keeps its distribution and even its tokens (rejection sampling, Leviathan et al., 2023, keeps the distribution
alone), on one condition: the logits of several rows computed together must be those of single rows, which
engine/linear.py promises where it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Final, Protocol, TypeVar

R = TypeVar("R")
C = TypeVar("C", bound="Chosen")

LONGEST: Final = 3
SHORTEST: Final = 1
MOST_DRAFTS: Final = 8


class Drafter(Protocol):
    """Guesses how a sequence goes on. One for each stream; a model on another node can stand behind it."""

    def extend(self, ids: Sequence[int]) -> None:
        """The sequence has these further tokens."""
        ...

    def propose(self, most: int) -> list[int]:
        """At most `most` tokens that may come next; [] when there is no good guess. Equal sequences and equal outcomes
        give equal guesses."""
        ...

    def outcome(self, proposed: int, held: int) -> None:
        """Of the last `proposed` guesses `held` were right."""
        ...


class NgramDrafter:
    """Prompt lookup (Saxena, 2023; vLLM's ngram, transformers' prompt_lookup_num_tokens): the longest suffix of
    LONGEST to SHORTEST tokens that occurred before, and what followed it there, the last time.

    The index grows with the sequence, so a guess costs a few look-ups however long the sequence is. How many tokens are
    guessed follows how many held: doubled when all did, halved when less than half did.
    """

    def __init__(self, ids: Sequence[int] = ()) -> None:
        self._ids: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        self._drafts = 4
        self.extend(ids)

    def extend(self, ids: Sequence[int]) -> None:
        known = self._ids
        for token in ids:
            # what ends before this token is now known to have a continuation
            for size in range(SHORTEST, LONGEST + 1):
                if len(known) >= size:
                    self._after[tuple(known[-size:])] = len(known)
            known.append(token)

    def propose(self, most: int) -> list[int]:
        known = self._ids
        most = min(most, self._drafts)
        for size in range(min(LONGEST, len(known)), SHORTEST - 1, -1):
            at = self._after.get(tuple(known[-size:]))
            if at is not None and most > 0:
                return known[at : at + most]
        return []

    def outcome(self, proposed: int, held: int) -> None:
        if held == proposed:
            self._drafts = min(self._drafts * 2, MOST_DRAFTS)
        elif 2 * held < proposed:
            self._drafts = max(self._drafts // 2, 1)


class Chosen(Protocol):
    """What a choice of a token came to."""

    @property
    def token_id(self) -> int: ...

    @property
    def finished(self) -> str | None: ...


def verify(guesses: Sequence[int], rows: Iterable[R], choose: Callable[[R], C]) -> list[C]:
    """The choices that hold: one for the row after the sequence, and one more for each guess that was right; none after
    one that has `finished`. `rows` has one more than `guesses`: row i follows the sequence and guesses[:i]."""
    chosen: list[C] = []
    for guess, row in zip_longest(guesses, rows):
        chosen.append(choose(row))
        if chosen[-1].finished is not None or chosen[-1].token_id != guess:
            break
    return chosen
