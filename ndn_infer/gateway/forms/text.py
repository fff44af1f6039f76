"""Answers as OpenAI's (text) completions.

Owns: texts, with the prompts before them that a request wants to have back. Pure. Must not know: HTTP, where events
come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ndn_infer.gateway.forms.completions import Completions, text_logprobs
from ndn_infer.gateway.forms.form import Head, ServerEvent
from ndn_infer.gateway.growing import ChoiceEvent, GrowingChoice
from ndn_infer.gateway.sampling import ChoiceOptions


class TextForm(Completions):
    """`echoes` has the text before each choice."""

    prefix = "cmpl"
    kind = "text_completion"
    chunk = "text_completion"

    def __init__(self, head: Head, asked: ChoiceOptions, echoes: Sequence[str]) -> None:
        super().__init__(head, asked)
        self._echoes = echoes

    def whole(self, choices: Sequence[GrowingChoice]) -> dict[str, Any]:
        return self.whole_of(choices, [self._choice(choice) for choice in choices])

    def _choice(self, choice: GrowingChoice) -> dict[str, Any]:
        logprobs = text_logprobs(choice.logprobs, self._asked.alternatives, 0)
        text = self._echoes[choice.index] + choice.text
        return {"index": choice.index, "text": text, "logprobs": logprobs, "finish_reason": choice.finish}

    def opening(self, choices: Sequence[GrowingChoice]) -> Iterable[ServerEvent]:
        for index, echo in enumerate(self._echoes):
            if echo:
                yield self._piece(index, echo)

    def growing(self, told: ChoiceEvent) -> Iterable[ServerEvent]:
        """Nothing for an event without text."""
        index, event = told.choice.index, told.event
        if event.text or event.logprobs:
            before = len(self._echoes[index]) + len(told.before)
            logprobs = text_logprobs(event.logprobs, self._asked.alternatives, before)
            yield self._piece(index, event.text, logprobs)
        if event.finish:
            yield self._piece(index, "", finish=event.finish)

    def _piece(
        self, index: int, text: str, logprobs: dict[str, Any] | None = None, finish: str | None = None
    ) -> ServerEvent:
        return self.chunk_of({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish})
