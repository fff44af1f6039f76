"""Scorers: how right an answer is, from 0 to 1, by rules that have a name and a version.

Owns: what each scorer does. A rule that changes gets another version: scores name both. Pure. Must not know: suites,
how answers are made; patterns of others are run elsewhere, with a limit on their time (live/scoring.py).

| scorer | an answer is right when |
|---|---|
| exact | it is one of the targets, but for white space around it and, without `case`, upper and lower case |
| contains | a target stands in it as whole words; `case` as above |
| numeric | its last number (the first with `first`), commas left out, is within `tolerance` of a target's |
| regex | a target's pattern (Python's) is found in it; `case` as above |
| choice | the target is the likeliest choice: by the sum, with `normalise` the mean, of its tokens' log probabilities |
| reasoning-gym | what the package's own scorer says of the text in the last <answer> tags, or of all of it: 0 to 1 |
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ndn_infer.errors import BadRecord
from ndn_infer.evidence.json_fields import JsonObject

VERSIONS: Final = {"exact": "1", "contains": "1", "numeric": "1", "regex": "1", "choice": "1", "reasoning-gym": "1"}
OF_GENERATORS: Final = "reasoning-gym"
CHOICE: Final = "choice"
REGEX: Final = "regex"
_OPTIONS: Final[dict[str, dict[str, type]]] = {
    "exact": {"case": bool}, "contains": {"case": bool}, "regex": {"case": bool}, "choice": {"normalise": bool},
    "numeric": {"first": bool, "tolerance": float}, "reasoning-gym": {},
}  # fmt: skip
_NUMBER: Final = re.compile(r"-?\d[\d,]{0,40}(?:\.\d{1,40})?(?:[eE][+-]?\d{1,3})?")
_TAGGED: Final = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
MAX_SCORER_OPTIONS: Final = 8


@dataclass(frozen=True, slots=True)
class Scorer:
    id: str
    version: str = "1"
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"id": self.id, "version": self.version, "options": dict(self.options)}

    @classmethod
    def read(cls, given: JsonObject) -> Scorer:
        """Raises BadRecord."""
        return cls(given.text("id", 32), given.text("version", 32), given.scalars("options", MAX_SCORER_OPTIONS))

    def check(self, generated: bool, chosen: Sequence[bool]) -> None:
        """Whether it is one of ours, in this version, with options that it has, and can score such items: made by a
        generator; with choices or not. Raises BadRecord."""
        if VERSIONS.get(self.id) != self.version:
            known = ", ".join(f"{name} {version}" for name, version in VERSIONS.items())
            raise BadRecord(f"there is no scorer {self.id!r} {self.version!r} here, only {known}")
        for name, value in self.options.items():
            kind = _OPTIONS[self.id].get(name)
            if kind is None or (type(value) is not kind and not (kind is float and type(value) is int)):
                raise BadRecord(f"scorer {self.id} has no option {name}={value!r:.40}")
        if generated != (self.id == OF_GENERATORS):
            raise BadRecord(f"scorer {self.id} is {'not' if generated else 'only'} for generated items")
        if not generated and any(one != (self.id == CHOICE) for one in chosen):
            raise BadRecord("items have choices where the scorer is 'choice', and nowhere else")

    def flag(self, name: str) -> bool:
        return self.options.get(name) is True

    @property
    def binary(self) -> bool:
        return self.id != OF_GENERATORS


def score_text(scorer: Scorer, targets: Sequence[str], text: str) -> float:
    """By one of the scorers of a text that run here: exact, contains, numeric. Raises BadRecord for another one."""
    if scorer.id == "numeric":
        return float(_numeric(scorer, targets, text))
    if scorer.id not in ("exact", "contains"):
        raise BadRecord(f"scorer {scorer.id} does not score a text here")
    fold = str if scorer.flag("case") else str.casefold
    answer, wanted = fold(text).strip(), [fold(target).strip() for target in targets]
    if scorer.id == "exact":
        return float(answer in wanted)
    return float(any(_has_words(answer, one) for one in wanted))


def _has_words(text: str, words: str) -> bool:
    """Whether `words` stands in `text` with no letter or digit right before or after it."""
    begin = text.find(words) if words else -1
    while begin >= 0:
        end = begin + len(words)
        before = begin > 0 and words[0].isalnum() and text[begin - 1].isalnum()
        after = end < len(text) and words[-1].isalnum() and text[end].isalnum()
        if not before and not after:
            return True
        begin = text.find(words, begin + 1)
    return False


def _numeric(scorer: Scorer, targets: Sequence[str], text: str) -> bool:
    found = _NUMBER.findall(text)
    if not found:
        return False
    value = _number(found[0 if scorer.flag("first") else -1])
    tolerance = float(scorer.options.get("tolerance", 0.0))
    wanted = [_number(one[0]) for one in map(_NUMBER.findall, targets) if one]
    return any(math.isfinite(value) and abs(value - one) <= tolerance for one in wanted)


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def likeliest(scorer: Scorer, logprobs: Sequence[Sequence[float]]) -> int:
    """Which choice a model prefers: `logprobs` has those of each choice's tokens. The first of equals."""
    sums = [math.fsum(one) / (len(one) if scorer.flag("normalise") and one else 1) for one in logprobs]
    return max(range(len(sums)), key=lambda place: sums[place])


def answer_part(text: str) -> str:
    """What a scorer of reasoning-gym is given: the last <answer>...</answer>, else the text."""
    tagged = _TAGGED.findall(text)
    return (tagged[-1] if tagged else text).strip()
