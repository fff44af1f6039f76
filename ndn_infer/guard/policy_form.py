"""The written form of a policy: a strict reader, and the canonical JSON whose digest is in names.

Owns: fields, ranges, and the words for what is wrong with them. Must not know: files, what rules do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Final

from ndn_infer.errors import BadRecord
from ndn_infer.evidence.plain_json import canonical, parse_canonical
from ndn_infer.guard import policy as p
from ndn_infer.guard.language import LANGUAGES
from ndn_infer.guard.personal import TYPES
from ndn_infer.records.guard import BLOCK, MAX_POLICY, REDACT

KINDS: Final[dict[str, type[p.GuardRule]]] = {
    "phrases": p.PhraseRule, "pattern": p.PatternRule, "secrets": p.SecretRule, "personal": p.PersonalRule,
    "topics": p.TopicRule, "classifier": p.ClassifierRule, "language": p.LanguageRule, "length": p.LengthRule,
}  # fmt: skip
_WHOLE: Final = (p.TopicRule, p.ClassifierRule, p.LanguageRule, p.LengthRule)
"""Rules about a text as a whole: there is no span of it to redact."""
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_ESCAPED: Final = re.compile(r"\\.", re.DOTALL)
_OTHERWISE: Final = re.compile(r"\{(?!(?:[0-9]+(?:,[0-9]*)?|,[0-9]+)\})|\[:\^?\w+:\]")
"""What `regex` reads as tolerance for errors or as a class by its name, and `re` as text. Escaped characters are
no part of it."""
_URI: Final = re.compile(r"/[^\s]{1,1000}")

Check = Callable[[Any], bool]


def _number(low: float, high: float) -> Check:
    return lambda value: type(value) in (int, float) and low <= value <= high


def _integer(low: int, high: int) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def _texts(most: int, longest: int, least: int = 0) -> Check:
    return lambda value: (
        type(value) in (list, tuple)
        and least <= len(value) <= most
        and all(type(one) is str and 0 < len(one) <= longest and one.strip() for one in value)
    )


def _among(words: Any, least: int = 0) -> Check:
    return lambda value: (
        type(value) in (list, tuple)
        and len(value) >= least
        and len(set(value)) == len(value)
        and all(one in words for one in value)
    )


def _matching(form: re.Pattern[str]) -> Check:
    return lambda value: type(value) is str and form.fullmatch(value) is not None


_RULE: Final[dict[str, tuple[Check, str]]] = {
    "id": (_matching(_LABEL), "a word"),
    "action": (lambda value: value in (BLOCK, REDACT), "block or redact"),
    "where": (_among(p.WHERE, 1), "some of prompt, answer"),
    "phrases": (_texts(p.MAX_PHRASES, p.MAX_PHRASE, 1), f"1 to {p.MAX_PHRASES} texts of {p.MAX_PHRASE} characters"),
    "pattern": (lambda value: type(value) is str and 0 < len(value) <= p.MAX_PATTERN, "a regular expression"),
    "case": (lambda value: type(value) is bool, "true or false"),
    "types": (_among(TYPES), f"some of {', '.join(TYPES)}"),
    "examples": (_texts(p.MAX_EXAMPLES, 1000, 1), f"1 to {p.MAX_EXAMPLES} texts"),
    "similarity": (_number(-1, 1), "-1 to 1"),
    "deny": (lambda value: type(value) is bool, "true or false"),
    "embedder": (lambda value: value == "" or _matching(_NAME)(value), "an alias or digest"),
    "model": (_matching(_NAME), "an alias or digest"),
    "labels": (
        lambda value: _texts(p.MAX_LABELS, 64, 1)(value) and all(_LABEL.fullmatch(one) for one in value),
        f"1 to {p.MAX_LABELS} words",
    ),
    "above": (_number(0, 1), "0 to 1"),
    "allow": (_among(LANGUAGES, 1), f"some of {', '.join(LANGUAGES)}"),
    "tokens": (_integer(0, 1 << 18), "0 to 262,144"),
    "characters": (_integer(0, 1 << 20), "0 to 1,048,576"),
}
_FLOATS: Final = frozenset({"wait_s", "valid_s", "similarity", "above"})
_POLICY: Final[dict[str, tuple[Check, str]]] = {
    "name": (_matching(_LABEL), "a word"),
    "hold_back": (_integer(1, 1024), "1 to 1024 tokens"),
    "past_hold_back": (lambda value: value in (BLOCK, p.SHOW), "block or show"),
    "wait_s": (_number(0.1, 600), "0.1 to 600 s"),
    "valid_s": (_number(1, 366 * 86_400), "1 s to 366 days"),
    "guards": (lambda value: _texts(64, 1000)(value) and all(_URI.fullmatch(one) for one in value), "up to 64 names"),
}


def policy_of(value: Any) -> p.GuardPolicy:
    """A policy as JSON or TOML have it. Raises BadRecord, which names the field."""
    if type(value) is not dict:
        raise BadRecord("a policy is an object with name and rules")
    given = dict(value)
    version, rules = given.pop("version", p.VERSION), given.pop("rules", None)
    if version != p.VERSION or type(version) is not int:
        raise BadRecord(f"policies of version {version!r} are not known; this is version {p.VERSION}")
    read = _checked(given, _POLICY, {"name"}, "the policy, beside its rules")
    if type(rules) is not list or not 1 <= len(rules) <= p.MAX_RULES:
        raise BadRecord(f"rules: a policy has 1 to {p.MAX_RULES}")
    made = tuple(_rule(rule, number) for number, rule in enumerate(rules, 1))
    if len({rule.id for rule in made}) != len(made):
        raise BadRecord("two rules have one id")
    found = p.GuardPolicy(rules=made, **read)
    wire = encode(found)
    if len(wire) > MAX_POLICY:
        raise BadRecord(f"a policy of {len(wire)} bytes; {MAX_POLICY} are the most")
    return replace(found, digest=p.digest_of(wire))


def encode(policy: p.GuardPolicy) -> bytes:
    """Its canonical form: every field, defaults too."""
    top = {item.name: _plain(getattr(policy, item.name)) for item in fields(policy) if item.name in _POLICY}
    names = {kind: name for name, kind in KINDS.items()}
    rules = [
        {"kind": names[type(rule)]} | {item.name: _plain(getattr(rule, item.name)) for item in fields(rule)}
        for rule in policy.rules
    ]
    return canonical(top | {"version": p.VERSION, "rules": rules})


def decode(wire: bytes | memoryview) -> p.GuardPolicy:
    """The policy of these bytes, which are its canonical form. Raises BadRecord."""
    found = policy_of(parse_canonical(wire, MAX_POLICY))
    if encode(found) != bytes(wire):
        raise BadRecord("this policy is not in its canonical form: fields that it leaves out are written there")
    return found


def _rule(value: Any, number: int) -> p.GuardRule:
    if type(value) is not dict or type(value.get("kind")) is not str or value["kind"] not in KINDS:
        raise BadRecord(f"rule {number}: kind is one of {', '.join(KINDS)}")
    kind = KINDS[value["kind"]]
    known = {item.name: _RULE[item.name] for item in fields(kind)}
    needed = {"id"} | _NEEDED.get(kind, set())
    given = {key: item for key, item in value.items() if key != "kind"}
    rule = kind(**_checked(given, known, needed, f"rule {number}"))
    if rule.action == REDACT and isinstance(rule, _WHOLE):
        raise BadRecord(f"rule {rule.id}: {value['kind']} is about a whole text, of which no span can be redacted")
    if isinstance(rule, p.PatternRule):
        _check_pattern(rule)
    return rule


_NEEDED: Final[dict[type[p.GuardRule], set[str]]] = {
    p.PhraseRule: {"phrases"}, p.PatternRule: {"pattern"}, p.TopicRule: {"examples"},
    p.ClassifierRule: {"model", "labels"}, p.LanguageRule: {"allow"},
}  # fmt: skip


def _checked(
    given: Mapping[str, Any], known: Mapping[str, tuple[Check, str]], needed: set[str], what: str
) -> dict[str, Any]:
    for key in given:
        if key not in known:
            raise BadRecord(f"{what}: there is no field {key!r}; fields are {', '.join(known)}")
    if missing := sorted(needed - set(given)):
        raise BadRecord(f"{what}: {missing[0]} is missing")
    for key, item in given.items():
        check, words = known[key]
        if not check(item):
            raise BadRecord(f"{what}: {key} is {words}")
    return {key: _value(key, item) for key, item in given.items()}


def _value(key: str, item: Any) -> Any:
    if key in _FLOATS:
        return float(item)
    return tuple(item) if type(item) is list else item


def _plain(value: Any) -> Any:
    return list(value) if type(value) is tuple else value


def _check_pattern(rule: p.PatternRule) -> None:
    """What Python's own `re` reads, of a bounded width: a match that never ends could never be shown. And nothing that
    `regex`, which guards look with, reads in another way (WantedPattern.of compiles it there): `{e}` is text to `re`,
    and to `regex` leave to match anything."""
    if _OTHERWISE.search(_ESCAPED.sub("_", rule.pattern)):
        raise BadRecord(f"rule {rule.id}: pattern: write \\{{ for the sign {{, and no class by its name")
    try:
        parser: Any = vars(re)["_parser"]
        least, most = parser.parse(rule.pattern).getwidth()
    except (re.error, RecursionError, OverflowError) as error:
        raise BadRecord(f"rule {rule.id}: pattern: {error}") from error
    if least == 0:
        raise BadRecord(f"rule {rule.id}: the pattern matches the empty text")
    if most > p.MAX_WIDTH:
        raise BadRecord(
            f"rule {rule.id}: the pattern matches texts of any length: write {{0,{p.MAX_WIDTH // 8}}} for * and {{1,"
            f"{p.MAX_WIDTH // 8}}} for +; {p.MAX_WIDTH} characters are the most"
        )
