"""The items of a response as its pieces come: messages and calls, each with the events that tell how it grows.

Owns: the items, their places, and the order of their events. Pure. Must not know: the response around them
(responses.py), sequence numbers, HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

from ndn_infer.gateway.forms.completions import chat_logprobs
from ndn_infer.gateway.tools import call_id
from ndn_infer.hermes import ArgumentsPiece, CallBegun, CallEnded, Piece, TextPiece
from ndn_infer.records import TokenLogprobs

Told = tuple[str, dict[str, Any]]
"""The type of an event, without "response.", and its fields."""


class OutputItems:
    """`alternatives`: as in ChoiceOptions. One item is open at most: the last one."""

    def __init__(self, key: str, alternatives: int | None) -> None:
        self.items: list[dict[str, Any]] = []
        self._key = key
        self._alternatives = alternatives
        self._open = False
        self._untold: list[TokenLogprobs] = []

    def hold(self, logprobs: Sequence[TokenLogprobs]) -> None:
        """Of tokens whose text comes next. Those of a call are not told."""
        self._untold += logprobs

    def take(self, piece: Piece) -> Iterator[Told]:
        if isinstance(piece, TextPiece):
            yield from self._text(piece.text)
            return
        self._untold = []
        if isinstance(piece, CallBegun):
            yield from self._call(piece)
        elif isinstance(piece, ArgumentsPiece):
            self.items[-1]["arguments"] += piece.text
            yield self._of_item("function_call_arguments.delta", delta=piece.text)
        elif isinstance(piece, CallEnded):
            yield from self._close("completed")

    def end(self, status: str) -> Iterator[Told]:
        """The last item ends with this status; an answer without any has an empty message."""
        if not self.items:
            yield from self._message()
        yield from self._close(status)

    # ------------------------------------------------------------ texts

    def _text(self, text: str) -> Iterator[Told]:
        if not self._open or self.items[-1]["type"] != "message":
            yield from self._message()
        part = self.items[-1]["content"][0]
        part["text"] += text
        told = self._logprobs()
        part["logprobs"] += told
        yield self._of_item("output_text.delta", content_index=0, delta=text, logprobs=told)

    def _message(self) -> Iterator[Told]:
        yield from self._close("completed")
        item = {"type": "message", "status": "in_progress", "role": "assistant", "content": []}
        yield self._added(f"msg_{self._key}_{len(self.items)}", item)
        part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self.items[-1]["content"].append(part)
        yield self._of_item("content_part.added", content_index=0, part=deepcopy(part))

    def _logprobs(self) -> list[Any]:
        told, self._untold = chat_logprobs(self._untold, self._alternatives), []
        return list(told["content"]) if told else []

    # ------------------------------------------------------------ calls

    def _call(self, begun: CallBegun) -> Iterator[Told]:
        yield from self._close("completed")
        item = {
            "type": "function_call", "status": "in_progress", "call_id": call_id(self._key, 0, begun.index),
            "name": begun.name, "arguments": "",
        }  # fmt: skip
        yield self._added(f"fc_{self._key}_{begun.index}", item)

    # ------------------------------------------------------------ any item

    def _added(self, identifier: str, item: dict[str, Any]) -> Told:
        self.items.append({"id": identifier, **item})
        self._open = True
        return "output_item.added", {"output_index": len(self.items) - 1, "item": deepcopy(self.items[-1])}

    def _close(self, status: str) -> Iterator[Told]:
        if not self._open:
            return
        self._open, item = False, self.items[-1]
        item["status"] = status
        if item["type"] == "message":
            part = item["content"][0]
            yield self._of_item("output_text.done", content_index=0, text=part["text"], logprobs=part["logprobs"])
            yield self._of_item("content_part.done", content_index=0, part=deepcopy(part))
        else:
            yield self._of_item("function_call_arguments.done", name=item["name"], arguments=item["arguments"])
        yield "output_item.done", {"output_index": len(self.items) - 1, "item": deepcopy(item)}

    def _of_item(self, kind: str, **fields: Any) -> Told:
        return kind, {"item_id": self.items[-1]["id"], "output_index": len(self.items) - 1, **fields}
