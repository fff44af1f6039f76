"""`ChoosesByPosition`: vLLM's logits processor that leaves one token, the one that our sampler chooses.

Owns: from vLLM's batch to rows (row.py) and back. Imports vLLM. Must not know: how a token is chosen.

A request takes part that has `extra_args` of ours; of all others the logits stay as they are. Log probabilities are
taken by vLLM before this (logprobs_mode raw_logprobs), as our engine tells them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from vllm.v1.sample.logits_processor.interface import BatchUpdate, LogitsProcessor, MoveDirectionality

from ndn_infer.engine.grammar import Grammars
from ndn_infer.errors import ModelError, NdnInferError
from ndn_infer.vllm.backend.mapping import EXTRA
from ndn_infer.vllm.backend.row import AnswerRow

log = logging.getLogger(__name__)


class ChoosesByPosition(LogitsProcessor):  # type: ignore[misc,unused-ignore]
    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._rows: dict[int, AnswerRow | None] = {}
        """None: of an answer that cannot be gone on with."""
        model = vllm_config.model_config
        self._grammars = Grammars(Path(model.model), int(model.get_vocab_size()))

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if batch_update is None:
            return
        for index in batch_update.removed:
            self._rows.pop(index, None)
        for index, params, prompt, output in batch_update.added:
            self._rows.pop(index, None)
            extra = (params.extra_args or {}).get(EXTRA)
            if extra is not None:
                self._rows[index] = self._row(extra, prompt or (), output)
        for one, other, direction in batch_update.moved:
            there = {at: self._rows.pop(at) for at in (one, other) if at in self._rows}
            if one in there:
                self._rows[other] = there[one]
            if other in there and direction == MoveDirectionality.SWAP:
                self._rows[one] = there[other]

    def _row(self, extra: Sequence[Any], prompt: Sequence[int], output: Sequence[int]) -> AnswerRow | None:
        """Whatever is wrong with one answer, the others go on: its producer finds the token that does not fit."""
        try:
            return AnswerRow(extra, prompt, output, self._grammars)
        except NdnInferError as error:
            log.error("an answer cannot be made: %s", error)
            return None

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        for index, row in self._rows.items():
            if index >= logits.shape[0]:
                continue
            token = 0
            try:
                token = row.choose(logits[index].float().cpu().numpy()) if row is not None else 0
            except ModelError as error:
                log.error("an answer cannot go on: %s", error)
                self._rows[index] = None
            logits[index].fill_(float("-inf"))
            logits[index, token] = 0.0
        return logits
