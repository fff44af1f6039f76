"""What a log is asked, what it answers, and what a record in it says.

Owns: these records. Must not know: how they travel, who may ask what (the trust schema).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from ndn_infer.prompt_log.entries import KEY_ID_BYTES, MAX_RECORD_BYTES
from ndn_infer.records import Reply, Request
from ndn_infer.records.bounds import MAX_TEXT, AtMost, Ids, Label, OneOf, Size, TokenCount, Uri, Uris
from ndn_infer.records.chat import MAX_MESSAGES, ChatMessage

ASKED: Final = "asked"
ANSWERED: Final = "answered"
GONE: Final = "gone"
"""Why an answer ended that nobody read to its end."""
STOPPED: Final = "stopped"
"""The same of one whose producer stopped before its end, whoever read it."""
ERROR: Final = "error"
INLINE_BYTES: Final = 6000
"""A sealed entry of up to so many bytes travels in the command itself."""

User = Annotated[bytes, AtMost(16, 16)]
"""Which user: namelessly, a digest of log and user."""


@dataclass(frozen=True, slots=True)
class PromptRecord(Reply):
    """One record in clear. `kind`: asked or answered; `call` is the same for both. `by`: the identity that wrote it.
    What was asked is `messages`, `text` or `ids`, as far as the writer knew it; what was answered `text` and `ids`.
    `name`: the stream (URI) that was read or made; `finish`: why it ended, as its last event says, or GONE, STOPPED."""

    max_bytes: ClassVar[int] = MAX_RECORD_BYTES
    kind: Annotated[str, OneOf((ASKED, ANSWERED))]
    call: Label
    time_us: Size
    user: Annotated[str, AtMost(256)]
    by: Uri
    model: Label = ""
    domain: Label = ""
    function: Label = ""
    messages: Annotated[tuple[ChatMessage, ...], AtMost(MAX_MESSAGES)] = ()
    text: Annotated[str, AtMost(MAX_TEXT)] = ""
    ids: Ids = ()
    name: Uri = ""
    finish: Label = ""
    tokens: TokenCount = 0


@dataclass(frozen=True, slots=True)
class UserQuestion(Request):
    """Asks for the public key to which records about this user are encrypted."""

    user: User


@dataclass(frozen=True, slots=True)
class UserKey(Reply):
    """A P-256 point (SEC 1, 65 bytes)."""

    public: Annotated[bytes, AtMost(65, 65)]


@dataclass(frozen=True, slots=True)
class AppendCommand(Request):
    """Have a sealed entry recorded: itself (an encoded SealedEntry), or its object `source`, which `hints` lead to."""

    entry: Annotated[bytes, AtMost(INLINE_BYTES)] = b""
    source: Uri = ""
    hints: Uris = ()


@dataclass(frozen=True, slots=True)
class Appended(Reply):
    """The entry is leaf `index` of a tree of at least `size`, on disk. `erased`: its user's key is gone, so nobody will
    read it; ask for the user's new one."""

    index: Size
    size: Size
    erased: bool = False


@dataclass(frozen=True, slots=True)
class EraseCommand(Request):
    """Destroy the key of this user."""

    user: User


@dataclass(frozen=True, slots=True)
class ErasedUser(Reply):
    """The key that was destroyed, and the leaf that says so; b"" where the log had none."""

    key: Annotated[bytes, AtMost(KEY_ID_BYTES)] = b""
    index: Size = 0


@dataclass(frozen=True, slots=True)
class SawCheckpoint(Request):
    """What a reader saw of a log, for a witness of that log: an encoded Checkpoint."""

    checkpoint: Annotated[bytes, AtMost(2048)]


@dataclass(frozen=True, slots=True)
class Saw(Reply):
    """What a checkpoint is to the witness: consistent, fork, truncated, rewritten, or newer (it looks)."""

    verdict: Label
