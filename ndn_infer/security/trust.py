"""The trust schema: which key may sign which name, and in words why not.

Owns: loading schemas/ndn-infer.lvs for one network and judging pairs of names with python-ndn's Light VerSec checker.
Must not know: keys, signatures, certificates' contents, sockets. Pure: the same pair always gets the same verdict.

Names of Interests are judged with `32=interest` appended, because the schema knows names only, and who may ask for a
name is not who may answer under it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

import lark
from ndn.app_support.light_versec import DEFAULT_USER_FNS, Checker, SemanticError, compile_lvs

from ndn_infer import ndn
from ndn_infer.errors import ConfigError
from ndn_infer.namespace import classify
from ndn_infer.ndn.name import Name
from ndn_infer.security.certificate import KeyLocator, split_locator
from ndn_infer.security.identity import Identity, parse_identity

INTEREST: Final = ndn.keyword("interest")

_NET_RULE: Final = re.compile(r"^[ \t]*#net[ \t]*:[^\n]*$", re.MULTILINE)
_ANY_ISSUER: Final = ndn.generic("NA") + ndn.version(0)
_CACHE: Final = 4096


Likeness = tuple[bytes | tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`rule` is the rule that allows it ("" when none does); `explanation` says in words why it is not allowed."""

    allowed: bool
    rule: str = ""
    explanation: str = ""


class TrustSchema:
    """A schema bound to one network. Make it with `TrustSchema.load`."""

    def __init__(self, net: Name, model: Any) -> None:
        self.net = net
        self._checker: Any = Checker(model, DEFAULT_USER_FNS)
        if not self._checker.validate_user_fns():
            raise ConfigError("the trust schema calls functions other than $eq and $eq_type")
        self._signers = _signers_by_rule(model)
        self._literals = _literals(model) | {ndn.generic("KEY")}
        self._allowed: dict[tuple[Name, Likeness], Verdict] = {}
        self._check = lru_cache(_CACHE)(self._check_alike)
        self._key_parts = lru_cache(_CACHE)(lambda name: frozenset(ndn.components(name)))
        self._rules_of = lru_cache(_CACHE)(self._match)
        self._owner = lru_cache(_CACHE)(self._parse_key)

    @classmethod
    def load(cls, net: Name, source: str | Path | None = None) -> TrustSchema:
        """The schema for the network `net` (one component at least).

        `source` is a path, or the text itself, or None for the schema that comes with this package. Its `#net` rule is
        replaced by `net`. Raises ConfigError for a file that cannot be read or compiled.
        """
        if not net:
            raise ConfigError("a network's name has one component at least", hint="for example /ndn-infer/local")
        text = _read(source)
        literal = "/".join(map(_literal, ndn.components(net)))
        text, count = _NET_RULE.subn(lambda _: f"#net: {literal}", text)
        if count != 1:
            raise ConfigError(f"a trust schema defines #net once, on a line of its own; this one {count} times")
        return cls(net, _compile(text))

    def check(self, data_name: Name, key_name: Name) -> Verdict:
        """Whether the key may sign Data (or a certificate) of this name.

        `key_name` is the name of a certificate or of a key (then any issuer will do).
        """
        return self._check(data_name, key_name)

    def check_interest(self, interest_name: Name, key_name: Name) -> Verdict:
        """Whether the key may sign an Interest of this name (its ParametersSha256Digest included)."""
        return self._check(interest_name + INTEREST, key_name)

    def rules_for(self, data_name: Name) -> tuple[str, ...]:
        """The rules whose pattern this name fits, without "#"."""
        return tuple(sorted(self._rules_of(data_name)))

    def signers_for(self, data_name: Name) -> tuple[str, ...]:
        """The rules of keys that may sign this name, without "#"."""
        return tuple(sorted({signer for rule in self._rules_of(data_name) for signer in self._signers.get(rule, ())}))

    # ------------------------------------------------------------

    def _check_alike(self, data_name: Name, key_name: Name) -> Verdict:
        """As `_judge`, which takes 100 us, once for all names that are alike: blocks of KV differ in one component."""
        alike = (key_name, self._likeness(data_name, key_name))
        verdict = self._allowed.get(alike)
        if verdict is None:
            verdict = self._judge(data_name, key_name)
            if verdict.allowed and split_locator(data_name) is None:
                if len(self._allowed) >= _CACHE:
                    self._allowed.clear()
                self._allowed[alike] = verdict
        return verdict

    def _likeness(self, data_name: Name, key_name: Name) -> Likeness:
        """All that Light VerSec can tell of a name: which components are literals of the schema, or parts of the key's
        name, the types of the others, and which of these are equal. Constraints are equality and functions of equality
        and type (`__init__` refuses others), so names that are alike are judged alike."""
        key_parts, numbers = self._key_parts(key_name), dict[bytes, int]()
        return tuple(
            part
            if part in self._literals or part in key_parts
            else (ndn.component_type(part), numbers.setdefault(part, len(numbers)))
            for part in ndn.components(data_name)
        )

    def _judge(self, data_name: Name, key_name: Name) -> Verdict:
        if _has_digest(data_name) or _has_digest(key_name):
            # The checker would cut a digest off the end and judge another name than the one that is used.
            return Verdict(False, explanation=f"{ndn.to_uri(data_name)}: signed names contain no implicit digest")
        located, owner = self._owner(key_name)
        if located is None:
            return self._refuse(data_name, f"{ndn.to_uri(key_name)} is not the name of a key or certificate")
        if owner is None:
            identity = ndn.to_uri(located.identity)
            return self._refuse(
                data_name, f"the key is of {identity}, which is not an identity of {ndn.to_uri(self.net)}"
            )
        certified = split_locator(data_name)
        if certified is not None and parse_identity(self.net, certified.identity) is None:
            return Verdict(False, explanation=f"{ndn.to_uri(certified.identity)} is not an identity that may own keys")
        full_name = key_name if located.is_certificate else key_name + _ANY_ISSUER
        if data_name and self._checker.check(ndn.components(data_name), ndn.components(full_name)):
            return Verdict(True, rule=min(self._rules_that_allow(data_name, full_name)))
        return self._refuse(data_name, f"this key is of {owner.words()}")

    def _parse_key(self, key_name: Name) -> tuple[KeyLocator | None, Identity | None]:
        located = split_locator(key_name)
        return located, parse_identity(self.net, located.identity) if located is not None else None

    def _match(self, name: Name) -> frozenset[str]:
        if not name:
            return frozenset()
        matches: Iterator[tuple[list[str], object]] = self._checker.match(ndn.components(name))
        return frozenset(rule.removeprefix("#") for rules, _ in matches for rule in rules if not rule.startswith("#_"))

    def _rules_that_allow(self, data_name: Name, full_name: Name) -> Iterator[str]:
        """Rules of the name whose signers the key is, with the same components where both patterns have one."""
        keys = list(self._checker.match(ndn.components(full_name)))
        for rules, bound in self._checker.match(ndn.components(data_name)):
            for key_rules, key_bound in keys:
                if all(key_bound.get(tag, value) == value for tag, value in bound.items()):
                    named = {rule.removeprefix("#") for rule in key_rules}
                    found = (rule.removeprefix("#") for rule in rules)
                    yield from (rule for rule in found if self._signers.get(rule, frozenset()) & named)

    def _refuse(self, name: Name, why: str) -> Verdict:
        request = name.endswith(INTEREST)
        base = name.removesuffix(INTEREST) if request else name
        rules = self.rules_for(name)
        if not rules:
            found = classify(self.net, base).kind
            what = f"{ndn.to_uri(base)} ({found.title})" if found is not None else ndn.to_uri(base)
            verb = "ask for" if request else "sign"
            return Verdict(False, explanation=f"no rule lets anybody {verb} {what}; {why}")
        kinds = " or ".join(rule.replace("_", " ") for rule in rules)
        signers = self.signers_for(name)
        allowed = "keys of " + " or ".join(signers) if signers else "only itself"
        tied = " of the same name" if {"role", "site", "node"} & set(signers) else ""
        return Verdict(False, explanation=f"{ndn.to_uri(base)} counts as {kinds}: {allowed}{tied} may sign it; {why}")


def _signers_by_rule(model: Any) -> dict[str, frozenset[str]]:
    """For every rule the rules of the keys that may sign it, read off the compiled schema."""
    signers: dict[str, set[str]] = {}
    for node in model.nodes:
        for rule in node.rule_name:
            names = {name for key in node.sign_cons for name in model.nodes[key].rule_name}
            signers.setdefault(rule.removeprefix("#"), set()).update(name.removeprefix("#") for name in names)
    return {rule: frozenset(names) for rule, names in signers.items()}


def _literals(model: Any) -> frozenset[bytes]:
    """Every component that a compiled schema compares others with."""
    found: set[bytes] = set()
    for node in model.nodes:
        found.update(bytes(edge.value) for edge in node.v_edges)
        options = [option for edge in node.p_edges for cons in edge.cons_sets for option in cons.options]
        values = [option.value for option in options]
        values += [argument.value for option in options if option.fn is not None for argument in option.fn.args]
        found.update(bytes(value) for value in values if value is not None)
    return frozenset(found)


def _literal(component: ndn.Component) -> str:
    """A component as a literal of Light VerSec: type number and escaped bytes, so nothing in it can end the literal.

    Not the canonical URI: python-ndn does not know its rule for components of dots.
    """
    value = "".join(f"%{byte:02X}" for byte in ndn.component_value(component))
    return f'"{ndn.component_type(component)}={value}"'


def _has_digest(name: Name) -> bool:
    return any(ndn.component_type(part) == ndn.IMPLICIT_DIGEST for part in ndn.components(name))


def _read(source: str | Path | None) -> str:
    if isinstance(source, str):
        return source
    try:
        if source is None:
            return resources.files("ndn_infer").joinpath("schemas", "ndn-infer.lvs").read_text(encoding="utf-8")
        return source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the trust schema: {error}") from error


@lru_cache(16)
def _compile(text: str) -> Any:
    try:
        return compile_lvs(text)
    except (lark.exceptions.LarkError, SemanticError, ValueError, KeyError, IndexError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"the trust schema does not compile: {first_line}") from error
