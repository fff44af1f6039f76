"""What a form of the API is: how the answers of one request are written, whole and as a stream.

Owns: the contract between what reads answers (streaming.py) and what writes them, and the bytes of a server-sent event.
Pure. Must not know: any one form.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ndn_infer.gateway.growing import ChoiceEvent, GrowingChoice
from ndn_infer.gateway.refusal import Refusal

KEEP_ALIVE: Final = b": keep-alive\n\n"
"""A comment, which clients skip."""


@dataclass(frozen=True, slots=True)
class Head:
    """What any form says of a request. `key` is random hexadecimal, of which a form makes its identifiers; `model` is
    the name that the request gave."""

    key: str
    created: int
    model: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of a stream: a JSON document, or a word that is none. `name`: its `event:` line, if it has one."""

    data: dict[str, Any] | str
    name: str = ""

    def encode(self, identifier: str = "") -> bytes:
        """`identifier`: its `id:` line; "" for none."""
        data = self.data if isinstance(self.data, str) else json.dumps(self.data, ensure_ascii=False)
        named = f"event: {self.name}\n" if self.name else ""
        numbered = f"\nid: {identifier}" if identifier else ""
        return f"{named}data: {data}{numbered}\n\n".encode()


DONE: Final = ServerEvent("[DONE]")


class AnswerForm(Protocol):
    """Writes the answers of one request, made anew for each, so it may hold state. Of a stream, `opening` is called
    once, then `growing` for each event, then `closing` once every choice has had its last one; an error may come at any
    place instead of what follows, by `failing`. `ending` stands behind both. What is returned is sent in order."""

    def whole(self, choices: Sequence[GrowingChoice]) -> dict[str, Any]:
        """One document. Each choice is complete."""

    def opening(self, choices: Sequence[GrowingChoice]) -> Iterable[ServerEvent]:
        """What stands before the first token; `choices` are still empty, or hardly begun."""

    def growing(self, told: ChoiceEvent) -> Iterable[ServerEvent]:
        """What an event adds, and the end of its choice when `told.event.finish` says so."""

    def closing(self, choices: Sequence[GrowingChoice]) -> Iterable[ServerEvent]:
        """What stands behind the last choice: usage, the end of the answer."""

    def failing(self, refusal: Refusal) -> Iterable[ServerEvent]:
        """An error in the stream."""

    def keep_alive(self) -> ServerEvent | None:
        """What says that a stream is alive; None for a comment."""

    def ending(self) -> Iterable[ServerEvent]:
        """The last word of any stream, for forms that have one."""
