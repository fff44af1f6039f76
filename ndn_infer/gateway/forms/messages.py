"""Answers as Anthropic's messages, and errors as that API has them.

Owns: the message object, content blocks, its events. Pure. Must not know: HTTP, where events come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from ndn_infer.errors import BadRecord
from ndn_infer.gateway.forms.form import Head, ServerEvent
from ndn_infer.gateway.growing import ChoiceEvent, GrowingChoice, Used
from ndn_infer.gateway.refusal import Refusal
from ndn_infer.gateway.tools import call_id
from ndn_infer.guard.enforcement import FILTERED
from ndn_infer.hermes import ArgumentsPiece, CallBegun, CallEnded, Piece, TextPiece
from ndn_infer.records.tools import object_of

_ERRORS: Final = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error",
}  # fmt: skip


class MessagesForm:
    """One choice. A block is open at most: the last one."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._blocks = 0
        self._open = False

    def whole(self, choices: Sequence[GrowingChoice]) -> dict[str, Any]:
        (choice,) = choices
        blocks: list[dict[str, Any]] = []
        for piece in choice.pieces():
            self._gather(piece, blocks)
        for block in blocks:
            if block["type"] == "tool_use":
                block["input"] = _input(block["input"])
        message = self._message(_usage(Used.by([choice])))
        return {**message, "content": blocks or [_text_block()], **_stopped(choice)}

    def _gather(self, piece: Piece, blocks: list[dict[str, Any]]) -> None:
        if isinstance(piece, TextPiece):
            if not blocks or blocks[-1]["type"] != "text":
                blocks.append(_text_block())
            blocks[-1]["text"] += piece.text
        elif isinstance(piece, CallBegun):
            blocks.append({**self._tool_block(piece), "input": ""})
        elif isinstance(piece, ArgumentsPiece):
            blocks[-1]["input"] += piece.text

    # ------------------------------------------------------------ a stream

    def opening(self, choices: Sequence[GrowingChoice]) -> Iterable[ServerEvent]:
        """How much of the prompt was found is not known yet; `closing` tells."""
        used = Used(choices[0].prompt_tokens, 0, 0)
        yield _event("message_start", message=self._message(_usage(used)))

    def growing(self, told: ChoiceEvent) -> Iterable[ServerEvent]:
        for piece in told.pieces:
            yield from self._piece(piece)
        if told.event.finish:
            if not self._blocks:
                yield self._start(_text_block())
            yield from self._stop()

    def _piece(self, piece: Piece) -> Iterator[ServerEvent]:
        if isinstance(piece, TextPiece):
            if not self._open:
                yield self._start(_text_block())
            yield self._delta("text_delta", text=piece.text)
        elif isinstance(piece, CallBegun):
            yield from self._stop()
            yield self._start(self._tool_block(piece))
        elif isinstance(piece, ArgumentsPiece):
            yield self._delta("input_json_delta", partial_json=piece.text)
        elif isinstance(piece, CallEnded):
            yield from self._stop()

    def _start(self, block: dict[str, Any]) -> ServerEvent:
        self._blocks, self._open = self._blocks + 1, True
        return _event("content_block_start", index=self._blocks - 1, content_block=block)

    def _delta(self, kind: str, **fields: str) -> ServerEvent:
        return _event("content_block_delta", index=self._blocks - 1, delta={"type": kind, **fields})

    def _stop(self) -> Iterator[ServerEvent]:
        if self._open:
            self._open = False
            yield _event("content_block_stop", index=self._blocks - 1)

    def closing(self, choices: Sequence[GrowingChoice]) -> Iterable[ServerEvent]:
        (choice,) = choices
        delta = {"container": None, "stop_details": None, **_stopped(choice)}
        yield _event("message_delta", delta=delta, usage=_tokens(Used.by([choice])))
        yield _event("message_stop")

    def failing(self, refusal: Refusal) -> Iterable[ServerEvent]:
        return (ServerEvent(error_document(refusal), "error"),)

    def keep_alive(self) -> ServerEvent:
        return _event("ping")

    def ending(self) -> Iterable[ServerEvent]:
        return ()

    # ------------------------------------------------------------ the message

    def _message(self, used: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": f"msg_{self._head.key}", "type": "message", "role": "assistant", "model": self._head.model,
            "content": [], "stop_reason": None, "stop_sequence": None, "stop_details": None, "container": None,
            "usage": used,
        }  # fmt: skip

    def _tool_block(self, begun: CallBegun) -> dict[str, Any]:
        identifier = call_id(self._head.key, 0, begun.index, "toolu_")
        return {"type": "tool_use", "id": identifier, "name": begun.name, "input": {}, "caller": {"type": "direct"}}


def error_document(refusal: Refusal) -> dict[str, Any]:
    """A refusal in Anthropic's form."""
    kind = _ERRORS.get(refusal.status, "api_error" if refusal.status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": refusal.message}, "request_id": None}


def _event(kind: str, **fields: Any) -> ServerEvent:
    return ServerEvent({"type": kind, **fields}, kind)


def _text_block() -> dict[str, Any]:
    return {"type": "text", "text": "", "citations": None}


def _input(arguments: str) -> dict[str, Any]:
    """What the model wrote, as far as it goes: arguments that max_tokens cut are no object."""
    try:
        return object_of(arguments)
    except BadRecord:
        return {}


def _stopped(choice: GrowingChoice) -> dict[str, str | None]:
    """Why it ended."""
    return {"stop_reason": _reason(choice), "stop_sequence": choice.stopped_by or None}


def _reason(choice: GrowingChoice) -> str:
    if choice.finish == "length":
        return "max_tokens"
    if choice.finish == FILTERED:
        return "refusal"
    if choice.called:
        return "tool_use"
    return "stop_sequence" if choice.stopped_by else "end_turn"


def _tokens(used: Used) -> dict[str, Any]:
    """Anthropic counts tokens of the prompt that were found apart from the others."""
    return {
        "input_tokens": used.prompt - used.cached, "cache_read_input_tokens": used.cached,
        "cache_creation_input_tokens": 0, "output_tokens": used.completion, "output_tokens_details": None,
        "server_tool_use": None,
    }  # fmt: skip


def _usage(used: Used) -> dict[str, Any]:
    return {**_tokens(used), "cache_creation": None, "inference_geo": None, "service_tier": "standard"}
