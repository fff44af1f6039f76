"""What is asked of an auditor, and of producers about their answers.

Owns: these records. Must not know: how an audit is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from ndn_infer.records.bounds import AtMost, Between, Label, Size, Uri, Words
from ndn_infer.records.forms import Reply, Request

MADE: Final = "made"
"""The topic of the question which public answers a producer made lately."""
VERDICTS: Final = "verdicts"
"""The topic of the question which faults an auditor found."""
MOST_MADE: Final = 32
MOST_VERDICTS: Final = 8

Share = Annotated[float, Between(1e-6, 1.0)]


@dataclass(frozen=True, slots=True)
class AuditRequest(Request):
    """Compute the answer `name` again, or with `kv` the KV of its prompt and tokens: `share` of it, drawn by `seed`."""

    name: Uri
    share: Share = 1.0
    seed: Annotated[int, Between(0, (1 << 64) - 1)] = 0
    kv: bool = False


@dataclass(frozen=True, slots=True)
class AuditDone(Reply):
    """`verdict` names the signed record, which its auditor at `hint` serves; the rest says what is in it."""

    verdict: Uri
    hint: Uri
    result: Label
    words: Words = ""


@dataclass(frozen=True, slots=True)
class MadeQuery(Request):
    """Which public answers did you make after this one? `after_us`: its version, 0 for the oldest you remember."""

    model: Label
    after_us: Size = 0


@dataclass(frozen=True, slots=True)
class MadeAnswers(Reply):
    """Names with versions, the oldest first."""

    names: Annotated[tuple[Uri, ...], AtMost(MOST_MADE)] = ()


@dataclass(frozen=True, slots=True)
class VerdictQuery(Request):
    """Which verdicts with a proof did you make lately?"""


@dataclass(frozen=True, slots=True)
class FoundFault(Reply):
    """`identity` until `until_us` (Unix epoch), by the verdict of this name."""

    identity: Uri
    until_us: Size
    verdict: Uri
    words: Words = ""


@dataclass(frozen=True, slots=True)
class FoundFaults(Reply):
    faults: Annotated[tuple[FoundFault, ...], AtMost(MOST_VERDICTS)] = ()
