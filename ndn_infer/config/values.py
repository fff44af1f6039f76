"""What one option may hold: types, ranges, choices, and the small grammars of list items.

Owns: the forms of values, from text (flags, environment) and from TOML. In a text the items of a list are separated by
commas, which no item has; in TOML a list is an array. Must not know: which options there are, what an item is for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ndn_infer import ndn
from ndn_infer.addresses import split_host_port
from ndn_infer.errors import BadName, BadPacket, ConfigError
from ndn_infer.ndn.name import Name

TEXTS: Final = tuple[str, ...]
"""The type of a list."""


@dataclass(frozen=True, slots=True)
class ValueLimits:
    """The values that an option takes: one of `choices` where there are any, numbers from `low` to `high`, texts and
    items of lists that `form` reads (it raises ValueError, whose text says what is right)."""

    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = math.inf
    form: Callable[[str], object] | None = None

    def refuses(self, value: Any) -> str:
        """Why `value`, of the right type, cannot be taken; "" when it can."""
        if isinstance(value, tuple):
            return next((reason for reason in map(self._refuses_item, value) if reason), "")
        if isinstance(value, str):
            if self.choices and value not in self.choices:
                return f"is one of {self._words()}, not {value!r}"
            return self._refuses_item(value) if value else ""
        if isinstance(value, float) and not math.isfinite(value):
            return "must be finite"
        if isinstance(value, bool) or self.low <= value <= self.high:
            return ""
        return f"is {self}, not {value}"

    def _refuses_item(self, item: str) -> str:
        if not item.strip() or item != item.strip():
            return f"has an item {item!r}"
        try:
            if self.form is not None:
                self.form(item)
        except ValueError as error:
            return f"has {item!r}: {error}"
        return ""

    def __str__(self) -> str:
        """In words; "" for what takes anything."""
        if self.choices:
            return f"one of {self._words()}"
        if self.high < math.inf:
            return f"{self.low:g} to {self.high:g}"
        return f"{self.low:g} or more"

    def _words(self) -> str:
        return ", ".join(choice or "empty" for choice in self.choices)


@dataclass(frozen=True, slots=True)
class ConfigSection:
    """Options that belong together. One with a value out of its limits cannot be made: ConfigError."""

    def __post_init__(self) -> None:
        for item in fields(self):
            reason = item.metadata["limits"].refuses(getattr(self, item.name))
            if reason:
                raise ConfigError(f"{item.name} {reason}")


def option(default: Any, help_text: str, **limits: Any) -> Any:
    """A field with its meaning and its limits: those of ValueLimits, inclusive."""
    return field(default=default, metadata={"help": help_text, "limits": ValueLimits(**limits)})


_BOOLEANS: Final = {"true": True, "on": True, "yes": True, "1": True}
_BOOLEANS.update({"false": False, "off": False, "no": False, "0": False})


def texts(text: str) -> tuple[str, ...]:
    """The items of a list in a flag or variable."""
    return tuple(part.strip() for part in text.split(",")) if text.strip() else ()


def from_text(kind: type, text: str) -> Any:
    """The value of a flag or variable. Raises ValueError."""
    if kind == TEXTS:
        return texts(text)
    if kind is bool:
        if text.strip().lower() not in _BOOLEANS:
            raise ValueError(text)
        return _BOOLEANS[text.strip().lower()]
    return kind(text)


def from_toml(kind: type, value: Any) -> Any:
    """`value` as the type of an option; of another type it comes back as it is, which `is_of` tells."""
    if kind == TEXTS and isinstance(value, list):
        return tuple(value)
    return float(value) if kind is float and type(value) is int else value


def is_of(kind: type, value: Any) -> bool:
    if kind == TEXTS:
        return type(value) is tuple and all(type(item) is str for item in value)
    return type(value) is kind


def type_words(kind: type) -> str:
    return 'a list, as ["a", "b"] in TOML or a,b in a flag' if kind == TEXTS else f"of type {kind.__name__}"


# ---------------------------------------------------------------- grammars of items


def name(text: str) -> Name:
    """A prefix: an NDN URI that begins with a slash. Raises ValueError."""
    try:
        return ndn.from_uri(text)
    except (BadName, BadPacket) as error:
        raise ValueError(str(error)) from error


address = split_host_port


def grant(text: str) -> tuple[Name, Name]:
    """(identity, prefix) of "identity=prefix". Raises ValueError."""
    identity, _, prefix = text.partition("=")
    if not prefix or identity in ("", "/") or prefix == "/":
        raise ValueError("write identity=prefix, as /ndn-infer/local/home=/ndn-infer/local/model")
    return name(identity), name(prefix)


def named_model(text: str) -> tuple[str, str]:
    """(name, model) of "NAME=MODEL"; the name may be empty. Raises ValueError."""
    label, _, model = text.partition("=")
    if not model:
        raise ValueError("write NAME=MODEL, as gpt-4o-mini=smollm2-135m-instruct")
    return label, model


_SIGNER: Final = re.compile(r"(?:([0-9a-f]{8,64})=)?(/.+)")


def trusted_signer(text: str) -> tuple[str, Name]:
    """(model or "", identity) of an identity, perhaps with "<model digest>=" before it. Raises ValueError."""
    match = _SIGNER.fullmatch(text)
    if match is None:
        raise ValueError("write /ndn-infer/local/home or 3f2a91c0=/ndn-infer/local/lab/gpu1/prefill")
    return match[1] or "", name(match[2])


def store_policy(text: str) -> tuple[Name, float, float, bool]:
    """(prefix, ttl in seconds, share, pinned) of "/prefix=ttl:3600+share:0.25" or "/prefix=pin". Raises ValueError."""
    uri, _, words = text.rpartition("=")
    ttl_s, share, pin = math.inf, 1.0, False
    try:
        for word in words.split("+"):
            key, _, value = word.partition(":")
            if key == "ttl" and float(value) > 0:
                ttl_s = float(value)
            elif key == "share" and 0 < float(value) <= 1:
                share = float(value)
            elif word == "pin":
                pin = True
            else:
                raise ValueError(word)
        return name(uri), ttl_s, share, pin
    except ValueError as error:
        raise ValueError("write /prefix=ttl:SECONDS+share:0.25 or /prefix=pin") from error


def log_policy(text: str) -> tuple[str, Name, str, str]:
    """(domain, log, writer, away) of "public=/net/site/node/log+gateway+refuse". The domain is `public`, a domain's id,
    or `*` for all others; the writer is gateway, decode or producers; away is refuse or spool. Raises ValueError."""
    domain, _, rest = text.partition("=")
    log, *words = rest.split("+")
    writer, away = words if len(words) == 2 else ("", "")
    known = writer in ("gateway", "decode", "producers") and away in ("refuse", "spool")
    if not known or not re.fullmatch(r"\*|public|[0-9a-f]{32}", domain):
        raise ValueError("write public=/ndn-infer/local/home/n1/log+gateway+refuse (domain=log+writer+away)")
    return domain, name(log), writer, away


def device(text: str) -> str:
    """cpu, cuda or cuda:NUMBER. Raises ValueError."""
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,2})?", text):
        raise ValueError("a device is cpu, cuda or cuda:NUMBER")
    return text


def http_url(text: str) -> str:
    """http://host:port or with a path, without a query. Raises ValueError."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("write http://host:port or https://host:port")
    return text


def file_path(text: str) -> Path:
    """A file or a folder, there or not; ~ is a home. Raises ValueError."""
    if "\0" in text:
        raise ValueError("a path has no zero byte")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError("there is no such home here; write the path from / on") from error


def permissions(text: str) -> int:
    """Permission bits of a file, as chmod takes them. Raises ValueError."""
    if not re.fullmatch(r"[0-7]{3}", text):
        raise ValueError("permission bits are three octal digits, as 600")
    return int(text, 8)
