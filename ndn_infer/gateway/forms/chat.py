"""Answers as OpenAI's chat completions.

Owns: messages and deltas, calls of tools in both. Pure. Must not know: HTTP, where events come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ndn_infer.gateway.forms.completions import Completions, chat_logprobs
from ndn_infer.gateway.forms.form import ServerEvent
from ndn_infer.gateway.growing import ChoiceEvent, GrowingChoice
from ndn_infer.gateway.tools import call_id
from ndn_infer.hermes import ArgumentsPiece, CallBegun, Piece, TextPiece


class ChatForm(Completions):
    prefix = "chatcmpl"
    kind = "chat.completion"
    chunk = "chat.completion.chunk"

    def whole(self, choices: Sequence[GrowingChoice]) -> dict[str, Any]:
        return self.whole_of(choices, [self._choice(choice) for choice in choices])

    def _choice(self, choice: GrowingChoice) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": choice.content, "refusal": None, "annotations": []}
        if choice.calls:
            message["content"] = choice.content or None
            message["tool_calls"] = [
                self._call(choice.index, index, call.name, call.arguments) for index, call in enumerate(choice.calls)
            ]
        logprobs = chat_logprobs(choice.logprobs, self._asked.alternatives)
        return {
            "index": choice.index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": self._finish(choice, choice.finish),
        }

    def _call(self, choice: int, index: int, name: str, arguments: str) -> dict[str, Any]:
        function = {"name": name, "arguments": arguments}
        return {"id": call_id(self._head.key, choice, index), "type": "function", "function": function}

    def opening(self, choices: Sequence[GrowingChoice]) -> Iterable[ServerEvent]:
        for choice in choices:
            yield self._delta(choice.index, {"role": "assistant", "content": None, "refusal": None})

    def growing(self, told: ChoiceEvent) -> Iterable[ServerEvent]:
        """Nothing for an event that adds nothing. Log probabilities of its tokens come with the first thing added."""
        index, event = told.choice.index, told.event
        logprobs = chat_logprobs(event.logprobs, self._asked.alternatives)
        deltas = list(self._deltas(index, told.pieces))
        if not deltas and event.logprobs:
            deltas.append({"content": ""})
        for at, delta in enumerate(deltas):
            yield self._delta(index, delta, None if at else logprobs)
        if event.finish:
            yield self._delta(index, {}, finish=self._finish(told.choice, event.finish))

    def _deltas(self, choice: int, pieces: Sequence[Piece]) -> Iterator[dict[str, Any]]:
        for piece in pieces:
            match piece:
                case TextPiece(text):
                    yield {"content": text}
                case CallBegun(index, name):
                    yield {"tool_calls": [{"index": index, **self._call(choice, index, name, "")}]}
                case ArgumentsPiece(index, text):
                    yield {"tool_calls": [{"index": index, "function": {"arguments": text}}]}

    def _delta(
        self, index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None = None, finish: str | None = None
    ) -> ServerEvent:
        return self.chunk_of({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish})

    def _finish(self, choice: GrowingChoice, finish: str) -> str:
        return "tool_calls" if choice.called else finish
