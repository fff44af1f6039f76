"""Answers as OpenAI's (text) completions.

Owns: texts, with the prompts before them that a request wants to have back. Pure. Must not know: HTTP, where events
come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ndn_infer.gateway.forms.completions import Completions, text_logprobs, token_text
from ndn_infer.gateway.forms.form import Head, ServerEvent
from ndn_infer.gateway.growing import ChoiceEvent, GrowingChoice
from ndn_infer.gateway.sampling import ChoiceOptions
from ndn_infer.records import TokenLogprobs


class TextForm(Completions):
    """`echoes` has the text before each choice. In a stream log probabilities of the prompt follow it in chunks of
    their own, without text."""

    prefix = "cmpl"
    kind = "text_completion"
    chunk = "text_completion"

    def __init__(self, head: Head, asked: ChoiceOptions, echoes: Sequence[str]) -> None:
        super().__init__(head, asked)
        self._echoes = echoes
        self._offsets: dict[int, int] = {}
        """Characters of a choice's prompt that a stream has told so far."""

    def whole(self, choices: Sequence[GrowingChoice]) -> dict[str, Any]:
        return self.whole_of(choices, [self._choice(choice) for choice in choices])

    def _choice(self, choice: GrowingChoice) -> dict[str, Any]:
        echo = self._echoes[choice.index]
        text, prompt = echo + choice.text, self._of_prompt(choice.prompt, 0, begins=True)
        logprobs = text_logprobs(choice.logprobs, self._asked.alternatives, len(echo))
        if prompt is not None and logprobs is not None:
            logprobs = {name: _joined(prompt[name], value) for name, value in logprobs.items()}
        return {"index": choice.index, "text": text, "logprobs": logprobs, "finish_reason": choice.finish}

    def opening(self, choices: Sequence[GrowingChoice]) -> Iterable[ServerEvent]:
        for index, echo in enumerate(self._echoes):
            if echo:
                yield self._piece(index, echo)

    def growing(self, told: ChoiceEvent) -> Iterable[ServerEvent]:
        """Nothing for an event without text."""
        index, event = told.choice.index, told.event
        if event.prompt:
            begins, offset = index not in self._offsets, self._offsets.get(index, 0)
            self._offsets[index] = offset + sum(len(token_text(one.text)) for one in event.prompt)
            yield self._piece(index, "", self._of_prompt(event.prompt, offset, begins=begins))
        if event.text or event.logprobs:
            before = len(self._echoes[index]) + len(told.before)
            logprobs = text_logprobs(event.logprobs, self._asked.alternatives, before)
            yield self._piece(index, event.text, logprobs)
        if event.finish:
            yield self._piece(index, "", finish=event.finish)

    def _of_prompt(self, told: Sequence[TokenLogprobs], offset: int, *, begins: bool) -> dict[str, Any] | None:
        return text_logprobs(told, self._asked.alternatives, offset, begins=begins) if told else None

    def _piece(
        self, index: int, text: str, logprobs: dict[str, Any] | None = None, finish: str | None = None
    ) -> ServerEvent:
        return self.chunk_of({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish})


def _joined(before: list[Any] | None, after: list[Any] | None) -> list[Any] | None:
    return None if before is None or after is None else before + after
