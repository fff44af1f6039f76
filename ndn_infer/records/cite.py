"""What is asked of the check of citations, and what it finds.

Owns: these records. Must not know: how it is found (evidence/citations.py), who asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from ndn_infer.records.bounds import MAX_HITS, MAX_TEXT, AtMost, Between, Count, Uri, Words
from ndn_infer.records.forms import Reply, Request

CITE: Final = "cite"
SUBJECT: Final = ("service", CITE)
"""What its calls are about."""
MAX_STRANGE: Final = 64
"""Words named in one answer."""


@dataclass(frozen=True, slots=True)
class CiteRequest(Request):
    """Does `answer` cite what it was given? `passages`: the object names (URI, no version) of the passages in its
    prompt, in their order there: the first is [1]. `question`: what was asked; its words are nobody's invention."""

    question: Annotated[str, AtMost(MAX_TEXT)]
    answer: Annotated[str, AtMost(MAX_TEXT)]
    passages: Annotated[tuple[Uri, ...], AtMost(MAX_HITS, 1)]


Number = Annotated[int, Between(0, 999)]


@dataclass(frozen=True, slots=True)
class Citations(Reply):
    """Numbers of passages that an answer cites and was given (`cited`), or was not given (`unknown`). Of its longer
    `words` (each once), `foreign` stand in no passage, title or question; the first of them, by the alphabet, are
    `strange`."""

    cited: Annotated[tuple[Number, ...], AtMost(MAX_HITS)] = ()
    unknown: Annotated[tuple[Number, ...], AtMost(MAX_HITS)] = ()
    words: Count = 0
    foreign: Count = 0
    strange: Annotated[tuple[Words, ...], AtMost(MAX_STRANGE)] = ()
