"""Who may ask: API keys from a file, one a line, with what each may do.

Owns: the form of the file, comparing in constant time. Must not know: HTTP beyond the two headers that carry a key,
what domains there are, how quotas are counted.

    # blank lines and comments are skipped
    a-key-of-eight-characters-and-more
    sha256:<64 hexadecimal digits>  name=alice domain=acme requests=8 requests_per_minute=60 tokens_per_minute=90000
"""

from __future__ import annotations

import hashlib
import hmac
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ndn_infer.errors import ConfigError
from ndn_infer.gateway.quotas import KeyLimits

MAX_FILE: Final = 1 << 20
MAX_KEYS: Final = 1024
MIN_KEY: Final = 8
MAX_LIMIT: Final = 10**12
_HASHED: Final = re.compile(r"sha256:([0-9a-f]{64})")
_LIMITS: Final = ("requests", "requests_per_minute", "tokens_per_minute")
_WORDS: Final = ("name", "domain", "salts", "policy", *_LIMITS)
_OTHERS: Final = stat.S_IRWXO | stat.S_IWGRP
"""Who must not read or change a file of keys: all but its owner, and its group for reading."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """`digest` is SHA-256 of the key; `name` is for logs, `domain` that of a tenant domain: empty for the gateway's.
    `salts`: names of other domains that requests may name as their cache_salt."""

    digest: bytes = b""
    name: str = ""
    domain: str = ""
    limits: KeyLimits = KeyLimits()
    salts: tuple[str, ...] = ()
    policy: str = ""
    """What its answers must keep to: file, alias or digest; empty: the gateway's."""

    @property
    def owner(self) -> str:
        """Equal for requests of one key, other for another key; "" where no keys are wanted."""
        return self.digest.hex()[:32]


NOBODY: Final = ApiKey()
"""Who asks where no keys are wanted."""


class ApiKeys:
    """Without any, everybody may ask."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self.keys = tuple(keys)

    @classmethod
    def read(cls, path: Path | None) -> ApiKeys:
        """Raises ConfigError, in words that show no key."""
        if path is None:
            return cls([])
        content = read_secret(path, MAX_FILE, "the API keys")
        try:
            lines = [line.strip() for line in content.decode("utf-8").splitlines()]
        except UnicodeDecodeError as error:
            raise ConfigError(f"the API keys in {path} are no text: {error}") from error
        keys = [_key(line, f"{path}, line {at}") for at, line in enumerate(lines, 1) if line and line[0] != "#"]
        if not 1 <= len(keys) <= MAX_KEYS:
            raise ConfigError(f"{path} must have 1 to {MAX_KEYS} API keys", hint="openssl rand -hex 32")
        if len({key.digest for key in keys}) < len(keys):
            raise ConfigError(f"{path} has a key twice")
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self.keys)

    def find(self, headers: Mapping[str, str]) -> ApiKey | None:
        """Whose key a request has: `Authorization: Bearer KEY`, or `X-Api-Key: KEY`. None for no key of the file."""
        if not self.keys:
            return NOBODY
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = headers.get("X-Api-Key", "")
        digest, found = _digest(given.strip()), None
        for key in self.keys:  # all of them, whichever it is
            found = key if hmac.compare_digest(key.digest, digest) else found
        return found


def read_secret(path: Path, limit: int, what: str) -> bytes:
    """A file that only its owner, and its group, may read. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            content = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(f"{what} in {path} cannot be read: {error.strerror or error}") from error
    if mode & _OTHERS:
        raise ConfigError(
            f"{what} in {path} can be read or changed by others (mode {mode:04o})", hint=f"chmod 600 {path}"
        )
    if len(content) > limit:
        raise ConfigError(f"{path} has more than {limit} bytes")
    return content


def _key(line: str, where: str) -> ApiKey:
    given, *settings = line.split()
    hashed = _HASHED.fullmatch(given)
    if len(given) < MIN_KEY or (given.startswith("sha256:") and hashed is None):
        raise ConfigError(
            f"{where}: a line begins with an API key of {MIN_KEY} characters and more, or sha256: and 64 digits",
            hint="openssl rand -hex 32",
        )
    said: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not value or name in said or name not in _WORDS:
            raise ConfigError(f"{where}: after the key stand {'=, '.join(_WORDS)}=, each once")
        said[name] = value
    limits = KeyLimits(**{name: _limit(said[name], f"{where}: {name}") for name in _LIMITS if name in said})
    digest = bytes.fromhex(hashed[1]) if hashed is not None else _digest(given)
    salts = tuple(filter(None, said.get("salts", "").split(",")))
    return ApiKey(digest, said.get("name", ""), said.get("domain", ""), limits, salts, said.get("policy", ""))


def _limit(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 14 and 1 <= int(text) <= MAX_LIMIT):
        raise ConfigError(f"{where} must be a whole number, 1 at least")
    return int(text)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
