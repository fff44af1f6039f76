"""Requests in a conversation that has a name: its messages stand before theirs, and its new state is saved.

Owns: what the gateway wants of conversations. Must not know: how they are kept (whoever builds the gateway gives that),
HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ndn_infer.client import Answer, Conversation
from ndn_infer.records import Message, ModelRecord
from ndn_infer.records.tools import Tool


class NamedTalk(Protocol):
    """One request in a conversation."""

    @property
    def name(self) -> str:
        """Below which the new state is saved (URI), for who goes on."""
        ...

    async def prompt(
        self, conversation: Conversation, model: ModelRecord, tools: Sequence[Tool], room: int
    ) -> tuple[int, ...]:
        """Token ids of all that was said, and the request's messages, with room for so many tokens of the answer."""
        ...

    def over(self, answer: Answer) -> None:
        """Nobody reads on: what was said is part of the conversation."""
        ...


class NamedTalks(Protocol):
    async def open(self, name: str, messages: Sequence[Message], domain: str, owner: str) -> NamedTalk:
        """Messages in the conversation of this name, in the domain of this label, by who has this key ("" for
        everybody). The state is that after the answers before. Raises Refusal, a NetworkError, a TrustError."""
        ...
