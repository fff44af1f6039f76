"""Judging one text under a policy, as it comes: which rules it hits where, and up to where nothing more can be hit.

Owns: which rules look at what, and how far a text is free of matches that have begun. Must not know: tokens, verdicts,
calls. Rules about a text as a whole (topics, language, classifiers) are named here and asked elsewhere: their answers
come back as hits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from ndn_infer.guard.language import language_of
from ndn_infer.guard.normal import Unescape
from ndn_infer.guard.patterns import SETTLED, FoldedText, PatternSearch, WantedPattern
from ndn_infer.guard.personal import FORMS, TYPES
from ndn_infer.guard.phrases import PhraseBook, PhraseSearch, Spotted
from ndn_infer.guard.policy import (
    ClassifierRule,
    GuardPolicy,
    GuardRule,
    LanguageRule,
    LengthRule,
    PatternRule,
    PersonalRule,
    PhraseRule,
    SecretRule,
    TopicRule,
)
from ndn_infer.guard.secrets import secret_forms

LABELS = {PhraseRule: "phrase", PatternRule: "pattern", SecretRule: "secret"}


@dataclass(frozen=True, slots=True)
class RuleHit:
    """`rule` of a policy is hit in characters `start` to `end`; `label` stands there where they are redacted."""

    rule: GuardRule
    start: int
    end: int
    label: str


@dataclass(frozen=True)
class PolicyRules:
    """A policy's rules for prompts or for answers, ready for texts. Made once: patterns are compiled."""

    policy: GuardPolicy
    where: str
    books: dict[tuple[tuple[str, str], ...], PhraseBook] = field(default_factory=dict, compare=False, repr=False)
    """Those that were made, by their phrases: prompts and answers mostly have the same."""

    @cached_property
    def by_id(self) -> dict[str, GuardRule]:
        return {rule.id: rule for rule in self.policy.rules_for(self.where)}

    @cached_property
    def book(self) -> PhraseBook:
        phrases = [rule for rule in self.by_id.values() if isinstance(rule, PhraseRule)]
        pairs = tuple((rule.id, phrase) for rule in phrases for phrase in rule.phrases)
        if pairs not in self.books:
            self.books[pairs] = PhraseBook(pairs)
        return self.books[pairs]

    @cached_property
    def wanted(self) -> tuple[WantedPattern, ...]:
        """The key of each is the rule's id and, behind a line break, what it is called."""
        return tuple(one for rule in self.by_id.values() for one in _wanted(rule))

    @cached_property
    def whole(self) -> tuple[TopicRule | ClassifierRule, ...]:
        """Rules that models of the network decide."""
        return tuple(rule for rule in self.by_id.values() if isinstance(rule, TopicRule | ClassifierRule))

    @cached_property
    def windowed(self) -> bool:
        """Whether some rule looks at more than a match."""
        return bool(self.whole) or any(isinstance(rule, LanguageRule) for rule in self.by_id.values())

    def hit(self, found: Spotted) -> RuleHit:
        rule_id, _, called = found.key.partition("\n")
        rule = self.by_id[rule_id]
        return RuleHit(rule, found.start, found.end, called or LABELS.get(type(rule), rule.id))


def _wanted(rule: GuardRule) -> Iterator[WantedPattern]:
    match rule:
        case PatternRule():
            yield WantedPattern.of(rule.id, rule.pattern, case=rule.case)
        case SecretRule():
            for called, pattern in secret_forms():
                yield WantedPattern.of(f"{rule.id}\n{called}", pattern, case=True)
        case PersonalRule():
            for name in rule.types or TYPES:
                yield WantedPattern.of(f"{rule.id}\n{name}", FORMS[name].pattern, case=True, holds=FORMS[name].holds)


class TextJudge:
    """One text."""

    def __init__(self, rules: PolicyRules) -> None:
        self._rules = rules
        self._units = Unescape()
        self._phrases = PhraseSearch(rules.book)
        self._folded = FoldedText()
        self._patterns = [PatternSearch(wanted) for wanted in rules.wanted]
        self.characters = 0
        self.held = 0
        """Up to here no match can begin any more but those that were told."""

    def push(self, text: str, *, last: bool = False) -> list[RuleHit]:
        """More of it. Raises TimeoutError when a pattern takes too long."""
        self.characters += len(text)
        found: list[Spotted] = []
        for unit in self._units.push(text, last=last):
            found += self._phrases.push(unit)
            self._folded.push(unit)
        if last:
            found += self._phrases.finish(self.characters)
        return self._looked(found, last=last, settled=SETTLED)

    def settle(self) -> list[RuleHit]:
        """Matches that more text might belong to, as they stand: it cannot be waited for. Raises TimeoutError."""
        return self._looked([], last=False, settled=0)

    def _looked(self, found: list[Spotted], *, last: bool, settled: int) -> list[RuleHit]:
        held = [self._units.held, self._phrases.held]
        for search in self._patterns:
            found += search.look(self._folded, last=last, settled=settled)
            if search.held is not None:
                held.append(self._folded.starts_at(search.held))
        self._folded.trim()
        begun = [place for place in held if place is not None]
        self.held = min(begun, default=self.characters) if not last else self.characters
        return [self._rules.hit(one) for one in dict.fromkeys(found)]


def length_hits(rules: PolicyRules, tokens: int, characters: int) -> list[RuleHit]:
    """Rules that allow less than this."""
    limits = [rule for rule in rules.by_id.values() if isinstance(rule, LengthRule)]
    over = [
        rule for rule in limits
        if (rule.tokens and tokens > rule.tokens) or (rule.characters and characters > rule.characters)
    ]  # fmt: skip
    return whole_hits(over, characters)


def language_hits(rules: PolicyRules, text: str) -> list[RuleHit]:
    """Rules that want another language."""
    limits = [rule for rule in rules.by_id.values() if isinstance(rule, LanguageRule)]
    found = language_of(text) if limits else ""
    return whole_hits([rule for rule in limits if found and found not in rule.allow], len(text))


def whole_hits(rules: Iterable[GuardRule], characters: int) -> list[RuleHit]:
    return [RuleHit(rule, 0, characters, rule.id) for rule in rules]
