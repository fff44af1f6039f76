"""How likely a prompt's own tokens are.

Owns: from hidden states of a prompt's rows to what is told of each of its tokens, a few rows at a time: logits of all
rows together, [tokens, vocab] floats, are never held. Must not know: streams, KV, who wants to know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from ndn_infer.engine.sampler import Choice, told_of

if TYPE_CHECKING:
    from torch import Tensor

ROWS: Final = 32
"""Of logits at a time: 6 MB for a vocabulary of 49,152 tokens, 19 MB for one of 151,936."""


class GivesLogits(Protocol):
    def logits(self, hidden: Tensor) -> Tensor: ...


class PromptScorer:
    """Of one prompt: each token is told once, in order, however often its rows are computed."""

    def __init__(self, prompt: Sequence[int], alternatives: int) -> None:
        """`alternatives`: so many of the most likely tokens are told with each."""
        self._prompt = prompt
        self._alternatives = alternatives
        self._told = 0

    rows_from: Final = 0
    """Rows from this token on are wanted."""

    @property
    def complete(self) -> bool:
        return self._told >= len(self._prompt)

    def scores(self, head: GivesLogits, hidden: Tensor, first: int) -> tuple[Choice, ...]:
        """Of those tokens that are decided by `hidden` (what `head.logits` takes, [n, ...], of the rows from token
        `first` on) and were not told before: a row decides the token after it. The prompt's first token, which no row
        decides, has the log probability 0 and no alternatives. Raises ModelError."""
        found = tuple(self._next(head, hidden, first))
        self._told += len(found)
        return found

    def _next(self, head: GivesLogits, hidden: Tensor, first: int) -> Iterator[Choice]:
        if not self._told:
            yield Choice(self._prompt[0], 0.0)
        position = max(self._told, 1)
        end = min(first + hidden.shape[0] + 1, len(self._prompt))
        while position < end:
            upto = min(position + ROWS, end)
            rows = head.logits(hidden[position - 1 - first : upto - 1 - first]).cpu().numpy()
            for logits, token in zip(rows, self._prompt[position:upto], strict=True):
                yield told_of(logits, token, self._alternatives)
            position = upto
