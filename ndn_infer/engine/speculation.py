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

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ndn_infer.engine.sampler import Choice, SamplingParams, TokenHistory, choose

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


def accept(
    logits: NDArray[np.float32],
    draft: Sequence[int],
    params: SamplingParams,
    first_position: int,
    history: TokenHistory | None = None,
) -> list[Choice]:
    """The tokens that hold: at least one, at most len(draft) + 1, none after a stop token.

    logits: [len(draft) + 1, vocab] float32; row i follows the sequence and draft[:i]. `history`, when given, is that of
    the sequence; the chosen tokens are added to it. Raises ModelError when a row has no numbers.
    """
    chosen: list[Choice] = []
    for row in range(len(draft) + 1):
        choice = choose(logits[row], params, first_position + row, history)
        chosen.append(choice)
        if history is not None:
            history.add(choice.token)
        if choice.token in params.stop_ids or row == len(draft) or choice.token != draft[row]:
            break
    return chosen
