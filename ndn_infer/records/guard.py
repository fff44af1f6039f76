"""What is asked of a guard, and its verdicts.

Owns: these records. Must not know: how a guard judges, what a reader does with a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from ndn_infer.records import StreamEvent
from ndn_infer.records.bounds import (
    MAX_TEXT,
    AtMost,
    Between,
    Count,
    Digest,
    Label,
    OneOf,
    Size,
    TokenCount,
    Uri,
    Words,
)
from ndn_infer.records.codes import PASSING
from ndn_infer.records.forms import Reply, Request

SUBJECT: Final = ("service", "guard")
"""What calls of a guard are about."""
JUDGE: Final = "judge"
SCREEN: Final = "screen"

ALLOW: Final = "allow"
BLOCK: Final = "block"
REDACT: Final = "redact"
ACTIONS: Final = (ALLOW, REDACT, BLOCK)
"""From the mildest to the strictest."""

MAX_POLICY: Final = 1 << 18
"""Bytes of a policy in its canonical form."""
MAX_HITS: Final = 16
"""Rules and spans named in one verdict; a judge that finds more blocks."""


@dataclass(frozen=True, slots=True)
class PolicyRecord(Reply):
    """What a policy's alias means, by the operator's word: `policy` is its canonical form, `digest` the SHA-256."""

    alias: Label
    digest: Digest
    policy: Annotated[bytes, AtMost(MAX_POLICY)]


@dataclass(frozen=True, slots=True)
class JudgeRequest(Request):
    """Judge an answer under the policy with the digest `policy`, while it is made or afterwards.

    `answer`: its stream, with version; `key` (name): the key that signed the answer to the call, which alone may speak
    of the stream; `hint`: a routable prefix of its producer. `before`: text that the reader was shown by a stream that
    broke off, after which this one goes on: it is judged with the rest, and positions and digests count this stream
    alone. `given`: the policy itself, in private calls; otherwise it is fetched by its name.
    """

    policy: Digest
    answer: Uri
    key: Uri
    hint: Uri = ""
    before: Annotated[str, AtMost(MAX_TEXT)] = ""
    given: Annotated[bytes, AtMost(MAX_POLICY)] = b""


@dataclass(frozen=True, slots=True)
class ScreenRequest(Request):
    """Judge texts that belong together (a prompt's messages) under the policy with the digest `policy`; `given` as in
    JudgeRequest."""

    policy: Digest
    texts: Annotated[tuple[Annotated[str, AtMost(MAX_TEXT)], ...], AtMost(1024)]
    given: Annotated[bytes, AtMost(MAX_POLICY)] = b""


@dataclass(frozen=True, slots=True)
class Redaction(Reply):
    """Characters `start` to `end` (of the stream's text, or of text number `text`) are not shown; `label` is."""

    start: Annotated[int, Between(0, MAX_TEXT)]
    end: Annotated[int, Between(0, MAX_TEXT)]
    label: Label
    text: Annotated[int, Between(0, 1023)] = 0


Rules = Annotated[tuple[Label, ...], AtMost(MAX_HITS)]
Redactions = Annotated[tuple[Redaction, ...], AtMost(MAX_HITS)]


@dataclass(frozen=True, slots=True)
class VerdictEvent(Reply, StreamEvent):
    """One segment of a verdict stream: what holds for the answer up to its token `tokens`, by everything before.

    `events` segments of the answer have these tokens and `digest` is what guard/covered.py makes of them, so that a
    verdict fits one answer alone. `action`: with "allow" and "redact" they may be shown until `until_us` (microseconds
    of the Unix epoch), but for `redactions`; "block": nothing more may be shown, `rules` say why. The last one has
    `last`. With `error` the guard could not judge, and nothing more may be shown; `code` as that of a CallAnswer.
    """

    policy: Digest
    answer: Uri
    tokens: TokenCount
    events: Count
    digest: Digest
    action: Annotated[str, OneOf(ACTIONS)]
    until_us: Size
    rules: Rules = ()
    redactions: Redactions = ()
    last: bool = False
    error: Words = ""
    code: Label = ""

    @property
    def broken(self) -> str:
        """As StreamEvent.broken."""
        return self.error or self.code if self.code in PASSING else ""


@dataclass(frozen=True, slots=True)
class TextVerdict(Reply):
    """What holds for the texts whose SHA-256, each of them after its length, is `digest`; fields as in VerdictEvent."""

    policy: Digest
    digest: Digest
    action: Annotated[str, OneOf(ACTIONS)]
    until_us: Size
    rules: Rules = ()
    redactions: Redactions = ()
