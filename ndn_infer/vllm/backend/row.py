"""The choices of one answer inside vLLM, by our sampler.

Owns: which tokens count for one answer, its position, where it stands in its grammar. Must not know: vLLM, torch,
batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndn_infer import records
from ndn_infer.engine.grammar import Grammars, TokenMatcher
from ndn_infer.engine.sampler import TokenHistory, choose
from ndn_infer.records.sampling import Sampling


class AnswerRow:
    """`output`: vLLM's list of the answer's tokens, which grows."""

    def __init__(
        self, extra: Sequence[Any], prompt: Sequence[int], output: Sequence[int], grammars: Grammars | None = None
    ) -> None:
        """`extra`: as mapping.EXTRA says. `grammars`: those of the model. Raises BadRecord, and what
        Grammars.matcher does."""
        encoded, answered, replayed = extra
        self._replayed = tuple(map(int, replayed))
        self._params = records.decode(Sampling, bytes.fromhex(encoded))
        self._prompt, self._output = len(prompt), output
        asked = len(prompt) - int(answered)
        self._history = TokenHistory(prompt[:asked], prompt[asked:]) if self._params.needs_history else None
        self._counted = 0
        self._matcher: TokenMatcher | None = None
        if self._params.grammar is not None and grammars is not None:
            self._matcher = grammars.matcher(self._params.grammar, prompt[asked:])

    def choose(self, logits: NDArray[np.float32]) -> int:
        """The next token: those that are replayed, then by logits [vocab]. Raises ModelError when they are not numbers,
        or when the answer cannot go on within its grammar."""
        for token in self._output[self._counted :]:
            if self._history is not None:
                self._history.add(token)
            if self._matcher is not None:
                self._matcher.accept(token)
        self._counted = len(self._output)
        if self._counted < len(self._replayed):
            return self._replayed[self._counted]
        allowed = self._matcher.allowed() if self._matcher is not None else None
        return choose(logits, self._params, self._prompt + len(self._output), self._history, allowed).token
