"""The choices of one answer inside vLLM, by our sampler.

Owns: which tokens count for one answer, and its position. Pure: numpy alone. Must not know: vLLM, torch, batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ndn_infer import records
from ndn_infer.engine.sampler import TokenHistory, choose
from ndn_infer.records.sampling import Sampling


class AnswerRow:
    """`output`: vLLM's list of the answer's tokens, which grows."""

    def __init__(self, extra: Sequence[Any], prompt: Sequence[int], output: Sequence[int]) -> None:
        """`extra`: as mapping.EXTRA says. Raises BadRecord."""
        encoded, answered = extra
        self._params = records.decode(Sampling, bytes.fromhex(encoded))
        self._prompt, self._output = len(prompt), output
        asked = len(prompt) - int(answered)
        self._history = TokenHistory(prompt[:asked], prompt[asked:]) if self._params.needs_history else None
        self._counted = 0

    def choose(self, logits: NDArray[np.float32]) -> int:
        """The next token by logits [vocab]. Raises ModelError when they are not numbers."""
        if self._history is not None:
            for token in self._output[self._counted :]:
                self._history.add(token)
            self._counted = len(self._output)
        return choose(logits, self._params, self._prompt + len(self._output), self._history).token
