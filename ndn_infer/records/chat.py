"""A conversation as it is saved: who said what, and to which model.

Owns: its record. Must not know: names, how it is sealed or published (library/saved.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from ndn_infer.records import ROLES
from ndn_infer.records.bounds import MAX_TEXT, AtMost, Label, OneOf
from ndn_infer.records.forms import Reply

MAX_CHAT_BYTES: Final = 1 << 20
"""Of a saved conversation, encoded."""
MAX_MESSAGES: Final = 1024


@dataclass(frozen=True, slots=True)
class ChatMessage(Reply):
    """One message: who speaks, and the text."""

    role: Annotated[str, OneOf(ROLES)]
    content: Annotated[str, AtMost(MAX_TEXT)]


@dataclass(frozen=True, slots=True)
class ChatRecord(Reply):
    """Content of a saved conversation: the messages in their order, and the model that is asked next, by its alias or
    digest in the network."""

    max_bytes: ClassVar[int] = MAX_CHAT_BYTES
    model: Label
    messages: Annotated[tuple[ChatMessage, ...], AtMost(MAX_MESSAGES)] = ()
