"""A policy: by which rules prompts and answers are judged, how long a verdict holds, how much may be held back.

Owns: what a policy says, its canonical form, its digest. Must not know: how a rule is applied (judge.py and the modules
below it), who signed it, files (policy_file.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from ndn_infer.records.guard import BLOCK

PROMPT: Final = "prompt"
ANSWER: Final = "answer"
WHERE: Final = (PROMPT, ANSWER)
SHOW: Final = "show"

VERSION: Final = 1
MAX_RULES: Final = 64
MAX_PHRASES: Final = 2000
MAX_PHRASE: Final = 128
MAX_PATTERN: Final = 1000
MAX_WIDTH: Final = 512
"""Characters of the longest text that a pattern of a policy may match."""
MAX_EXAMPLES: Final = 256
MAX_LABELS: Final = 64


@dataclass(frozen=True, slots=True)
class GuardRule:
    """What all rules have. `action`: block or redact; `where`: prompt, answer or both."""

    id: str
    action: str = BLOCK
    where: tuple[str, ...] = WHERE


@dataclass(frozen=True, slots=True)
class PhraseRule(GuardRule):
    """Words and sentences, however they are written: case, look-alikes, spacing, leet, rot13, base64, hex, percent."""

    phrases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PatternRule(GuardRule):
    """A regular expression over the normalised text, upper and lower case alike unless `case`."""

    pattern: str = ""
    case: bool = False


@dataclass(frozen=True, slots=True)
class SecretRule(GuardRule):
    """Keys and tokens by the rules of `detect-secrets`."""


@dataclass(frozen=True, slots=True)
class PersonalRule(GuardRule):
    """Personal data: `types` of guard/personal.py, all of them where none is named."""

    types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TopicRule(GuardRule):
    """What the text is about, by the nearest of some examples. With `deny` a text nearer than `similarity` (cosine) to
    one of the examples is a hit; without (an allow list) one that is near none of them. `embedder`: alias or digest."""

    examples: tuple[str, ...] = ()
    similarity: float = 0.5
    deny: bool = True
    embedder: str = ""


@dataclass(frozen=True, slots=True)
class ClassifierRule(GuardRule):
    """The scores that a model of the network gives the text for `labels` are together at least `above`. `model`: alias
    or digest of what the function `classify` serves."""

    model: str = ""
    labels: tuple[str, ...] = ()
    above: float = 0.5


@dataclass(frozen=True, slots=True)
class LanguageRule(GuardRule):
    """The text is in one of `allow` (ISO 639-1, those of guard/language.py), as far as it is long enough to tell."""

    allow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LengthRule(GuardRule):
    """At most `tokens` tokens of an answer, `characters` of a prompt or answer; 0: any number."""

    tokens: int = 0
    characters: int = 0


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """`hold_back`: tokens that a guard holds back at most before it decides; `past_hold_back`: what becomes of a match
    that has begun and is longer than that: block, or show. `wait_s`: a reader waits so long for a verdict that is due,
    and for that on a prompt. `valid_s`: for how long a verdict holds. `guards`: identities (URIs) whose verdicts count;
    none: any role `guard` of the network."""

    name: str
    rules: tuple[GuardRule, ...]
    hold_back: int = 32
    past_hold_back: str = BLOCK
    wait_s: float = 10.0
    valid_s: float = 86_400.0
    guards: tuple[str, ...] = ()
    digest: str = ""
    """SHA-256 of its canonical form."""

    def rules_for(self, where: str) -> tuple[GuardRule, ...]:
        return tuple(rule for rule in self.rules if where in rule.where)


def digest_of(canonical: bytes) -> str:
    return hashlib.sha256(canonical).hexdigest()
