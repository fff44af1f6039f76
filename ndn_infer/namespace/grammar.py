"""The grammar of names: what a kind of name is, which texts its components may be.

Owns: building and parsing names by a pattern, words that are reserved. Must not know: which kinds there are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar, Final, Self

from ndn_infer import ndn
from ndn_infer.errors import BadName
from ndn_infer.ndn.name import Name

RESERVED_SITES: Final = frozenset(
    {"KEY", "catalog", "corpus", "domain", "model", "operator", "policy", "service", "sync"}
)
"""First components below `<net>` that are no sites."""

RESERVED_FUNCTIONS: Final = frozenset({"act", "kv", "passage", "result", "tokens"})
"""What stands where the function of a call stands, in names that are no calls."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LAYERS: Final = re.compile(r"(0|[1-9][0-9]{0,4})-(0|[1-9][0-9]{0,4})")


@dataclass(frozen=True, slots=True)
class Kind:
    """Base of all kinds. `to_name` and `parse` are inverse; both raise BadName for values outside the grammar."""

    title: ClassVar[str] = ""
    pattern: ClassVar[str] = ""
    meaning: ClassVar[str] = ""
    example: ClassVar[tuple[str, ...]] = ()
    lasting: ClassVar[bool] = False
    """Whether its newest version replaces all others for good: a reader refuses older ones than it has seen."""

    def __post_init__(self) -> None:
        for name in _form(type(self)).fields:
            _check(name, getattr(self, name))

    def to_name(self, net: Name) -> Name:
        """The name below `net`."""
        return net + b"".join([
            ndn.generic(str(getattr(self, field))) if field else word for field, word in _form(type(self)).encoded
        ])  # fmt: skip

    @classmethod
    def parse(cls, net: Name, name: Name) -> Self | None:
        """The kind that exactly this name (base name, without version and segment) is, or None."""
        return cls._match(texts_of(net, name), exact=True)

    @classmethod
    def parse_prefix(cls, net: Name, name: Name) -> tuple[Self, list[ndn.Component]] | None:
        """Like `parse`, for a name that goes on: the kind and the components after it."""
        texts = texts_of(net, name)
        return cls.among(texts, ndn.components(name[len(net) :])) if texts else None

    @classmethod
    def among(cls, texts: list[str | None], below: list[ndn.Component]) -> tuple[Self, list[ndn.Component]] | None:
        """Like `parse_prefix`, for the components `below` the network's name whose `texts` (texts_of) are known."""
        found = cls._match(texts, exact=False)
        return None if found is None else (found, below[cls.pattern.count("/") :])

    @classmethod
    def _match(cls, texts: list[str | None], *, exact: bool) -> Self | None:
        parts = _form(cls).parts
        if len(texts) < len(parts) or (exact and len(texts) != len(parts)):
            return None
        values: dict[str, str] = {}
        for (field, word), text in zip(parts, texts, strict=False):
            if text is None or (not field and word != text):
                return None
            if field:
                values[field] = text
        try:
            return cls(**values)
        except BadName:
            return None


@dataclass(frozen=True, slots=True)
class _Form:
    """Of a kind: its fields, and its components, each (field, "") or ("", word); `encoded`: words as components."""

    fields: tuple[str, ...]
    parts: tuple[tuple[str, str], ...]
    encoded: tuple[tuple[str, ndn.Component], ...]


_FORMS: Final[dict[type[Any], _Form]] = {}


def _form(kind: type[Any]) -> _Form:
    """Looked at once: names are made and read for every packet of a call."""
    found = _FORMS.get(kind)
    if found is None:
        parts = [
            (part[1:-1].replace("-", "_"), "") if part.startswith("<") else ("", part)
            for part in kind.pattern.split("/")[1:]
        ]  # fmt: skip
        encoded = tuple((field, ndn.generic(word)) for field, word in parts)
        found = _FORMS[kind] = _Form(tuple(item.name for item in fields(kind)), tuple(parts), encoded)
    return found


def texts_of(net: Name, name: Name) -> list[str | None]:
    """Generic components below `net` as text; None for a component that is not generic ASCII."""
    if not name.startswith(net):
        return []
    texts: list[str | None] = []
    for component in ndn.components(name[len(net) :]):
        short = component[1] < 253  # the common case without a call
        value = component[2:] if short else ndn.component_value(component)
        kind = component[0] if short else ndn.component_type(component)
        texts.append(value.decode("ascii") if kind == ndn.GENERIC and value.isascii() else None)
    return texts


def _check(field: str, value: Any) -> None:
    text = str(value)
    if field in _DIGEST_FIELDS:
        if not _DIGEST.fullmatch(text):
            raise BadName(f"{field} is 64 lower-case hex digits, not {text!r}")
    else:
        _check_word(field, text)


@lru_cache(maxsize=4096)
def _check_word(field: str, text: str) -> None:
    """Of a field that is no digest: names of a network have few different ones."""
    if field == "layers":
        match = _LAYERS.fullmatch(text)
        if not match or int(match[1]) > int(match[2]):
            raise BadName(f"layers are written first-last, not {text!r}")
    elif field in _WORDS:
        pattern, meaning = _WORDS[field]
        if not pattern.fullmatch(text):
            raise BadName(f"{meaning}, not {text!r}")
    elif not _LABEL.fullmatch(text) or text == "KEY" or text in _RESERVED.get(field, ()):
        raise BadName(f"{field} is 1 to 64 of A-Z a-z 0-9 . _ - and no reserved word, not {text!r}")


_WORDS: Final = {
    "layer": (re.compile(r"0|[1-9][0-9]{0,4}"), "a layer is a number"),
    "epoch": (re.compile(r"[1-9][0-9]{0,8}"), "epochs count from 1 and have nine digits at most"),
    "level": (re.compile(r"[0-7]"), "a level of a log's tree is 0 to 7"),
    "index": (re.compile(r"0|[1-9][0-9]{0,14}"), "an index is a number"),
    "call_class": (re.compile("shared|private"), "a call is 'shared' or 'private'"),
    "subject_kind": (re.compile("model|corpus|service"), "a call concerns a model, a corpus or a service"),
}
_DIGEST_FIELDS: Final = frozenset({"model", "corpus", "chain", "request", "passage", "content", "log"})
_RESERVED: Final = {"site": RESERVED_SITES, "function": RESERVED_FUNCTIONS}
