"""Answers as OpenAI's responses (the Open Responses specification of 2026-04-24).

Owns: the response object, its events and their sequence numbers. Pure. Must not know: how items grow (items.py), HTTP,
where events come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ndn_infer.gateway.forms.form import DONE, Head, ServerEvent
from ndn_infer.gateway.forms.items import OutputItems, Told
from ndn_infer.gateway.growing import ChoiceEvent, GrowingChoice, Used
from ndn_infer.gateway.refusal import Refusal
from ndn_infer.guard.enforcement import FILTERED

_INCOMPLETE = {"length": "max_output_tokens", FILTERED: "content_filter"}


class ResponsesForm:
    """`said` is what a response says again of its request; `now` gives the time, in seconds of Unix. One choice."""

    def __init__(
        self, head: Head, *, said: Mapping[str, Any], alternatives: int | None, now: Callable[[], float]
    ) -> None:
        self._head = head
        self._said = said
        self._now = now
        self._items = OutputItems(head.key, alternatives)
        self._number = -1

    def whole(self, choices: Sequence[GrowingChoice]) -> dict[str, Any]:
        (choice,) = choices
        self._items.hold(choice.logprobs)
        for piece in choice.pieces():
            self._gather(self._items.take(piece))
        self._gather(self._items.end(_status(choice.finish)))
        return self._complete(choice)

    def _gather(self, told: Iterator[Told]) -> None:
        """Items grow as their events are made; of a whole answer nobody reads those."""
        for _ in told:
            pass

    # ------------------------------------------------------------ a stream

    def opening(self, choices: Sequence[GrowingChoice]) -> Iterable[ServerEvent]:
        yield self._event("response.created", {"response": self._resource("in_progress")})
        yield self._event("response.in_progress", {"response": self._resource("in_progress")})

    def growing(self, told: ChoiceEvent) -> Iterable[ServerEvent]:
        self._items.hold(told.event.logprobs)
        for piece in told.pieces:
            yield from self._tell(self._items.take(piece))
        if told.event.finish:
            yield from self._tell(self._items.end(_status(told.event.finish)))

    def closing(self, choices: Sequence[GrowingChoice]) -> Iterable[ServerEvent]:
        (choice,) = choices
        yield self._event(f"response.{_status(choice.finish)}", {"response": self._complete(choice)})

    def failing(self, refusal: Refusal) -> Iterable[ServerEvent]:
        error = refusal.document["error"]
        yield self._event("error", {"error": error})
        failed = self._resource("failed")
        failed["error"] = {"code": error["code"] or error["type"], "message": error["message"]}
        yield self._event("response.failed", {"response": failed})

    def keep_alive(self) -> None:
        return None

    def ending(self) -> Iterable[ServerEvent]:
        return (DONE,)

    def _tell(self, told: Iterator[Told]) -> Iterator[ServerEvent]:
        for kind, fields in told:
            yield self._event(f"response.{kind}", fields)

    def _event(self, kind: str, fields: dict[str, Any]) -> ServerEvent:
        self._number += 1
        return ServerEvent({"type": kind, "sequence_number": self._number, **fields}, kind)

    # ------------------------------------------------------------ the response

    def _complete(self, choice: GrowingChoice) -> dict[str, Any]:
        status = _status(choice.finish)
        made = self._resource(status)
        made["usage"] = _usage(Used.by([choice]))
        if status == "completed":
            made["completed_at"] = int(self._now())
        else:
            made["incomplete_details"] = {"reason": _INCOMPLETE[choice.finish]}
        return made

    def _resource(self, status: str) -> dict[str, Any]:
        head = self._head
        return {
            "id": f"resp_{head.key}", "object": "response", "created_at": head.created, "completed_at": None,
            "status": status, "incomplete_details": None, "error": None, "model": head.model,
            "output": list(self._items.items), "usage": None, **self._said,
        }  # fmt: skip


def _status(finish: str) -> str:
    return "incomplete" if finish in _INCOMPLETE else "completed"


def _usage(used: Used) -> dict[str, Any]:
    return {
        "input_tokens": used.prompt, "input_tokens_details": {"cached_tokens": used.cached},
        "output_tokens": used.completion, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used.prompt + used.completion,
    }  # fmt: skip
