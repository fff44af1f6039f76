"""Answers as OpenAI's chat completions.

Owns: messages and deltas. Pure. Must not know: HTTP, where events come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ndn_infer.gateway.forms.completions import Completions, chat_logprobs
from ndn_infer.gateway.forms.form import ServerEvent
from ndn_infer.gateway.growing import ChoiceEvent, GrowingChoice


class ChatForm(Completions):
    prefix = "chatcmpl"
    kind = "chat.completion"
    chunk = "chat.completion.chunk"

    def whole(self, choices: Sequence[GrowingChoice]) -> dict[str, Any]:
        return self.whole_of(choices, [self._choice(choice) for choice in choices])

    def _choice(self, choice: GrowingChoice) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None, "annotations": []}
        logprobs = chat_logprobs(choice.logprobs, self._asked.alternatives)
        return {"index": choice.index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish}

    def opening(self, choices: Sequence[GrowingChoice]) -> Iterable[ServerEvent]:
        for choice in choices:
            yield self._delta(choice.index, {"role": "assistant", "content": "", "refusal": None})

    def growing(self, told: ChoiceEvent) -> Iterable[ServerEvent]:
        """Nothing for an event without text."""
        index, event = told.choice.index, told.event
        if event.text or event.logprobs:
            logprobs = chat_logprobs(event.logprobs, self._asked.alternatives)
            yield self._delta(index, {"content": event.text}, logprobs)
        if event.finish:
            yield self._delta(index, {}, finish=event.finish)

    def _delta(
        self, index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None = None, finish: str | None = None
    ) -> ServerEvent:
        return self.chunk_of({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish})
