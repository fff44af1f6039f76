"""Citations: which of the passages that it was given an answer cites, and what in it is from none of them.

Owns: what a citation looks like, what counts as a word, what is said against an answer. Must not know: who asks, where
passages come from. Pure, so that whoever has answer and passages comes to the same. A check of form, not of truth.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ndn_infer.records import PassageRecord
from ndn_infer.records.bounds import MAX_HITS
from ndn_infer.records.cite import MAX_STRANGE, Citations

BEFORE_QUESTION: Final = "\n\nQuestion: "
"""Stands in a message between the last passage and the question."""
STRANGE_PART: Final = 0.5
"""An answer with more of its longer words outside the passages than this is said not to rest on them. A small model
invents: whatever it cites then, it did not take it from there."""

_WORD: Final = re.compile(r"\w{4,}")
_MARK: Final = re.compile(r"\[(\d{1,3})\]", re.ASCII)
_MAX_WORD: Final = 64


def citations(question: str, answer: str, passages: Sequence[PassageRecord]) -> Citations:
    """What is found in an answer to `question` whose prompt held these passages."""
    numbers = sorted({int(number) for number in _MARK.findall(answer)})
    cited = tuple(number for number in numbers if 1 <= number <= len(passages))
    unknown = tuple(number for number in numbers if number not in cited)[:MAX_HITS]
    known = _words(question).union(*(_words(f"{item.title} {item.text}") for item in passages))
    said = _words(_MARK.sub("", answer))
    strange = sorted(said - known)
    named = tuple(word[:_MAX_WORD] for word in strange[:MAX_STRANGE])
    return Citations(cited, unknown, len(said), len(strange), named)


def question_in(message: str, end: int) -> str | None:
    """The question of a message whose last passage ends at this character; None where no question follows it."""
    rest = message[end:]
    return rest[len(BEFORE_QUESTION) :] if rest.startswith(BEFORE_QUESTION) else None


def objections(found: Citations) -> tuple[str, ...]:
    """What speaks against an answer, in words: that it cites none of what it was given, or something that it was not
    given, or that most of its longer words are in none of it."""
    said = [] if found.cited else ["it cites none of the passages that it was given"]
    said += [f"it cites [{number}], which it was not given" for number in found.unknown]
    if found.foreign > STRANGE_PART * found.words:
        more = " ..." if found.foreign > 6 else ""
        said.append(f"words that are in none of them: {', '.join(found.strange[:6])}{more}")
    return tuple(said)


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(text)}
