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

MATCHES: Final = ((2, 0.3), (3, 0.5), (5, 0.7), (8, 0.85), (12, 0.9))
"""Tokens that match, at least, and how often the next one does then, before a stream has shown it."""
HELD_BEFORE: Final = 4.0
"""So many tries the shares of MATCHES count for."""
REMEMBERED: Final = 32.0
"""Tries after which older ones count for half."""

_STEP: Final = 1 / 8
_BACK: Final = 1 / 64
_LEAST_PRICE: Final = 0.02
"""Of RowPrice: weight of a new measurement, way back to the first price in a step without guesses, least price seen."""


class Drafter(Protocol):
    """Guesses how a sequence goes on. One for each stream; a model on another node can stand behind it."""

    def extend(self, ids: Sequence[int]) -> None:
        """The sequence has these further tokens."""
        ...

    def propose(self, most: int, price: float) -> list[int]:
        """At most `most` tokens that may come next; [] when there is no good guess. `price`: what a guess costs, in
        tokens (RowPrice); who weighs it guesses only what holds more often. Equal sequences, outcomes and prices
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

    def propose(self, most: int, price: float = 0.0) -> list[int]:
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


class CopyDrafter:
    """Guesses that a text goes on as it did after the same words before, where that is right often enough to pay.

    One earlier place is followed: the last one after the same PAIR of tokens, until it is wrong. Each token that comes
    says whether the place was right, guessed or not, so that what is learnt costs nothing: how often a place is right
    that matched so many tokens (MATCHES). A first guess is made where that is above its price, a further one where all
    up to it are. So prose has next to none, an answer that copies from its prompt has many, and a stream that begins or
    ends to copy is noticed within a few tokens.
    """

    def __init__(self, ids: Sequence[int] = ()) -> None:
        self._ids: list[int] = []
        self._after: dict[tuple[int, int], int] = {}
        self._place: int | None = None
        self._matched = 0
        self._right = [HELD_BEFORE * share for _, share in MATCHES]
        self._tried = [HELD_BEFORE] * len(MATCHES)
        for token in ids:
            self._index(token)
        self._look()

    def extend(self, ids: Sequence[int]) -> None:
        for token in ids:
            right = self._place is not None and self._ids[self._place] == token
            if self._place is not None:
                self._learn(_kind(self._matched), right)
            self._index(token)
            if right and self._place is not None:
                self._place += 1
                self._matched += 1
            else:
                self._look()

    def propose(self, most: int, price: float) -> list[int]:
        if self._place is None:
            return []
        count, chance = 0, 1.0
        while count < most:
            kind = _kind(self._matched + count)
            chance *= self._right[kind] / self._tried[kind]
            if chance <= price:
                break
            count += 1
        return self._ids[self._place : self._place + count]

    def outcome(self, proposed: int, held: int) -> None:
        """Nothing to do: `extend` says it."""

    def _index(self, token: int) -> None:
        """What ended before this token is now known to have a continuation."""
        known = self._ids
        if len(known) >= 2:
            self._after[known[-2], known[-1]] = len(known)
        known.append(token)

    def _look(self) -> None:
        """The last place after the last two tokens, and how many tokens before it are the same."""
        known = self._ids
        self._place = self._after.get((known[-2], known[-1])) if len(known) >= 2 else None
        if self._place is not None:
            most, end, place = min(MATCHES[-1][0], self._place), len(known), self._place
            self._matched = next((n for n in range(2, most) if known[end - n - 1] != known[place - n - 1]), most)

    def _learn(self, kind: int, right: bool) -> None:
        self._right[kind] += right
        self._tried[kind] += 1
        if self._tried[kind] > REMEMBERED:
            self._right[kind] /= 2
            self._tried[kind] /= 2


def _kind(matched: int) -> int:
    return next(at for at in reversed(range(len(MATCHES))) if matched >= MATCHES[at][0])


class RowPrice:
    """What a guess costs, in tokens: the time that its row adds to a step, over the time that a token takes in it.

    Measured by the engine's own steps (`took`), for each number of streams apart, since a row is dearer in company and
    with a long context. `share` is where it begins, and what it goes back to while nothing is guessed: what a row adds
    to a step of one row. 1 where rows are computed one by one: then nothing is ever worth a guess.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._plain: dict[int, float] = {}
        self._prices: dict[int, float] = {}

    def of(self, streams: int) -> float:
        """In a step of so many streams; 1 at most."""
        streams = max(streams, 1)
        return self._prices.get(streams, self._before(streams))

    def took(self, streams: int, rows: int, seconds: float) -> None:
        """A step computed so many rows, one for each stream and the others for guesses, in `seconds` of processors."""
        plain, price = self._plain.get(streams), self.of(streams)
        if rows == streams:
            self._plain[streams] = seconds if plain is None else plain + _STEP * (min(seconds, 2 * plain) - plain)
            self._prices[streams] = price + _BACK * (self._before(streams) - price)
        elif plain:
            seen = streams * (seconds / plain - 1) / (rows - streams)
            self._prices[streams] = price + _STEP * (min(max(seen, _LEAST_PRICE), 1.0) - price)

    def _before(self, streams: int) -> float:
        return min(self._share * streams / (1 + self._share * (streams - 1)), 1.0)


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
