"""`ChoosesByPosition`: vLLM's logits processor that leaves one token, the one that our sampler chooses.

Owns: from vLLM's batch to rows (row.py) and back. Imports vLLM. Must not know: how a token is chosen.

A request takes part that has `extra_args` of ours; of all others the logits stay as they are. Log probabilities are
taken by vLLM before this (logprobs_mode raw_logprobs), as our engine tells them.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from vllm.v1.sample.logits_processor.interface import BatchUpdate, LogitsProcessor, MoveDirectionality

from ndn_infer.errors import ModelError
from ndn_infer.vllm.backend.mapping import EXTRA
from ndn_infer.vllm.backend.row import AnswerRow

log = logging.getLogger(__name__)


class ChoosesByPosition(LogitsProcessor):  # type: ignore[misc,unused-ignore]
    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._rows: dict[int, AnswerRow] = {}

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
                self._rows[index] = AnswerRow(extra, prompt or (), output)
        for one, other, direction in batch_update.moved:
            moved, replaced = self._rows.pop(one, None), self._rows.pop(other, None)
            if moved is not None:
                self._rows[other] = moved
            if replaced is not None and direction == MoveDirectionality.SWAP:
                self._rows[one] = replaced

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        for index, row in self._rows.items():
            if index >= logits.shape[0]:
                continue
            try:
                token = row.choose(logits[index].float().cpu().numpy())
            except ModelError as error:  # the likeliest by these is as good as any, and others go on
                log.error("a token is chosen by logits that are not numbers: %s", error)
                continue
            logits[index].fill_(float("-inf"))
            logits[index, token] = 0.0
        return logits
