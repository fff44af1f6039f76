"""classify: what a discriminative model says of texts: a score for each of its labels.

Owns: this function. Must not know: what follows from scores: a guard's policy says which are too high.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from ndn_infer.errors import PromptError
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.models.linear_text import LinearText, read_classifier
from ndn_infer.records.classify import ClassifyRequest, ScoreRow, Scores
from ndn_infer.security.crypto import Signer


class ClassifyTexts(NamedFunction[ClassifyRequest]):
    function = "classify"
    role = "classify"
    request_type = ClassifyRequest
    private = True
    unit_s = 1e-4

    def __init__(self, model: str, folder: Path) -> None:
        self.subject = ("model", model)
        self._folder = folder
        self._model: LinearText | None = None

    async def start(self, host: Host, signer: Signer) -> None:
        self._model = await asyncio.to_thread(read_classifier, self._folder)

    def units(self, request: ClassifyRequest) -> float:
        """Hundreds of characters."""
        return sum(1 + len(text) / 100 for text in request.texts)

    async def run(self, request: ClassifyRequest, job: Job) -> Scores:
        assert self._model is not None
        if not request.texts:
            raise PromptError("classify takes texts")
        job.host.counters["texts_classified"] += len(request.texts)
        return Scores(self._model.labels, await asyncio.to_thread(_rows, self._model, request.texts))


def _rows(model: LinearText, texts: Sequence[str]) -> tuple[ScoreRow, ...]:
    return tuple(ScoreRow(tuple(model.scores(text))) for text in texts)
