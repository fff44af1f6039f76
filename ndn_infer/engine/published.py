"""An answer that somebody published, computed again and compared.

Owns: what is compared at each position, where an answer first differs, how far a published token is from the one that
this engine chooses. Must not know: streams, blocks, how logits are computed, who published it.

Two ways. `PublishedAnswer` is a drafter: the published tokens are the guesses, so many rows are computed at once, each
with the bits that it has alone (linear.py). Within one engine class a guess that does not hold is a token that this
request does not give. `AnswerReading` computes prompt and answer as one prompt, at a fraction of the time, and looks at
the logits of some positions. Their last bits are not those of decoding, so what it says is a margin, not a proof.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ndn_infer.engine.sampler import Choice, TokenHistory, margin_of, told_of
from ndn_infer.engine.scoring import ROWS, GivesLogits
from ndn_infer.records.sampling import Sampling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ndn_infer.engine.grammar import TokenMatcher

DIFFERS: Final = "differs"
"""How a stream ends whose next token is not the published one."""
AGREES: Final = "agrees"
"""How a stream ends that has all published tokens, and would go on."""
MOST_ROWS: Final = 64
"""Published tokens that are checked in one step. More rows cost each of them the same."""

Top = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Where an answer first differs. `index`: of the token in the answer, from 0 on. `published` is -1 where the
    published answer ends and another token had to come, `recomputed` is -1 where the answer had to end. `margin`: see
    sampler.margin_of; 0 where the tokens are equal and what is told of them is not (`what` is "logprob")."""

    index: int
    published: int
    recomputed: int
    margin: float = 0.0
    what: str = "token"


class PublishedAnswer:
    """Proposes the published tokens in order (speculation.Drafter), and compares what is chosen with them.

    `told`: what was published of each token, where the request asks for log probabilities: compared exactly."""

    def __init__(self, ids: Sequence[int], told: Sequence[tuple[float, Top]] = ()) -> None:
        self.ids = tuple(ids)
        self._told = tuple(told)
        self._checked = 0
        self.difference: Difference | None = None

    @property
    def checked(self) -> int:
        """Tokens that were found to be right, in order."""
        return self._checked

    # ------------------------------------------------------------ as a drafter

    def extend(self, ids: Sequence[int]) -> None:
        """`check` counts."""

    def propose(self, most: int, price: float) -> list[int]:
        """Whatever the price; the last token needs no row after it."""
        return list(self.ids[self._checked : len(self.ids) - 1][:most])

    def outcome(self, proposed: int, held: int) -> None:
        """Nothing is learned from it."""

    # ------------------------------------------------------------ comparing

    def check(self, choice: Choice, margin: float) -> bool:
        """Compare the next token. `margin`: of the published one. Whether it is right."""
        index, published = self._checked, self.ids[self._checked]
        if choice.token != published:
            self.difference = Difference(index, published, choice.token, margin)
        elif self._told and (choice.logprob, choice.top) != self._told[index]:
            self.difference = Difference(index, published, published, 0.0, "logprob")
        else:
            self._checked += 1
        return self.difference is None

    @property
    def complete(self) -> bool:
        """All published tokens were checked."""
        return self._checked == len(self.ids)

    @property
    def next_id(self) -> int:
        return self.ids[self._checked]


class AnswerReading:
    """Margins of the published tokens at some positions of an answer that is read as a prompt (a scorer, as
    scoring.PromptScorer). Every token is taken into account for penalties and grammars, in order."""

    def __init__(
        self, prompt: Sequence[int], ids: Sequence[int], params: Sampling, positions: Sequence[int], *,
        answered: int = 0, matcher: TokenMatcher | None = None,
    ) -> None:  # fmt: skip
        """`positions`: indices into `ids`. `answered`: so many of the last of `prompt` are generated ones."""
        asked = len(prompt) - answered
        self._ids, self._params, self._first = tuple(ids), params, len(prompt)
        self.rows_from = len(prompt) - 1
        self._positions = frozenset(positions)
        self._history = TokenHistory(prompt[:asked], prompt[asked:]) if params.needs_history else None
        self._matcher = matcher
        self._next = 0
        self.margins: dict[int, float] = {}
        """By index; infinite where the grammar does not allow the token."""
        self.logprobs: dict[int, float] = {}

    @property
    def complete(self) -> bool:
        return self._next >= len(self._ids)

    def scores(self, head: GivesLogits, hidden: Tensor, first: int) -> tuple[Choice, ...]:
        """As PromptScorer.scores, but nothing is told: see `margins`. `first` is at most `rows_from`."""
        end = min(first + hidden.shape[0] - self._first + 1, len(self._ids))
        wanted = [at for at in range(self._next, end) if at in self._positions]
        rows: dict[int, NDArray[np.float32]] = {}
        for at in range(0, len(wanted), ROWS):
            part = wanted[at : at + ROWS]
            logits = head.logits(hidden[[self._first + index - 1 - first for index in part]]).cpu().numpy()
            rows.update(zip(part, logits, strict=True))
            self._advance(part[-1] + 1, rows)
            rows.clear()
        self._advance(max(end, self._next), rows)
        return ()

    def _advance(self, end: int, rows: Mapping[int, NDArray[np.float32]]) -> None:
        for index, token in self._tokens(end):
            if index in rows:
                self._look(index, token, rows[index])
            if self._history is not None:
                self._history.add(token)
            if self._matcher is not None and not self._takes(token):
                self.margins[index] = float("inf")
                self._next = len(self._ids)  # nothing after it can be judged
                return

    def _tokens(self, end: int) -> Iterator[tuple[int, int]]:
        while self._next < end:
            index = self._next
            self._next += 1
            yield index, self._ids[index]

    def _look(self, index: int, token: int, logits: NDArray[np.float32]) -> None:
        allowed = self._matcher.allowed() if self._matcher is not None else None
        self.margins[index] = margin_of(logits, self._params, self._first + index, token, self._history, allowed)
        self.logprobs[index] = told_of(logits, token, 0).logprob

    def _takes(self, token: int) -> bool:
        assert self._matcher is not None
        if self._matcher.valid([token]) < 1:
            return False
        self._matcher.accept(token)
        return True
