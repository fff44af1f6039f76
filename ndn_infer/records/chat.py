"""A conversation as it is saved: who said what, and to which model.

Owns: its record. Must not know: names, how it is sealed or published (library/saved.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Self

from ndn_infer.records import ROLES, Message
from ndn_infer.records.bounds import MAX_TEXT, AtMost, Between, Label, OneOf, Uri, Uris
from ndn_infer.records.forms import Reply
from ndn_infer.records.tools import MAX_CALLS, ToolCall, ToolName

MAX_CHAT_BYTES: Final = 1 << 20
"""Of a saved conversation, encoded."""
MAX_MESSAGES: Final = 1024


@dataclass(frozen=True, slots=True)
class ChatToolCall(Reply):
    """A call that an answer asked for: records.tools.ToolCall, as it is kept."""

    name: ToolName
    arguments: Annotated[str, AtMost(MAX_TEXT)] = "{}"
    id: Label = ""


@dataclass(frozen=True, slots=True)
class ChatMessage(Reply):
    """One message: who speaks, the text, and the calls beside it, as in records.Message."""

    role: Annotated[str, OneOf(ROLES)]
    content: Annotated[str, AtMost(MAX_TEXT)]
    tool_calls: Annotated[tuple[ChatToolCall, ...], AtMost(MAX_CALLS)] = ()
    tool_call_id: Label = ""

    @classmethod
    def of(cls, message: Message) -> Self:
        """As it is kept."""
        calls = tuple(ChatToolCall(call.name, call.arguments, call.id) for call in message.tool_calls)
        return cls(message.role, message.content, calls, message.tool_call_id)

    def message(self) -> Message:
        """As it is asked with."""
        calls = tuple(ToolCall(call.name, call.arguments, call.id) for call in self.tool_calls)
        return Message(self.role, self.content, calls, self.tool_call_id)


CUT: Final = "cut"
SUMMARY: Final = "summary"
MAX_STEPS: Final = 256


@dataclass(frozen=True, slots=True)
class ChatStep(Reply):
    """What was done when a conversation had outgrown the model's context: prompts from then on are without the first
    `upto` messages after the system's, and with `summary`, which the answer of this `name` (URI) gave."""

    kind: Annotated[str, OneOf((CUT, SUMMARY))]
    upto: Annotated[int, Between(1, MAX_MESSAGES)]
    summary: Annotated[str, AtMost(MAX_TEXT)] = ""
    name: Uri = ""


@dataclass(frozen=True, slots=True)
class ChatRecord(Reply):
    """Content of a saved conversation: all messages in their order, and the model that is asked next, by its alias or
    digest in the network. `parent`: the state that it went on from (versioned name); `steps`: what was done to fit the
    model's context; `holders`: where KV of it was last (URIs)."""

    max_bytes: ClassVar[int] = MAX_CHAT_BYTES
    model: Label
    messages: Annotated[tuple[ChatMessage, ...], AtMost(MAX_MESSAGES)] = ()
    parent: Uri = ""
    steps: Annotated[tuple[ChatStep, ...], AtMost(MAX_STEPS)] = ()
    holders: Uris = ()
