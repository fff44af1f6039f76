"""Who may ask: API keys from a file, one a line.

Owns: reading the file, comparing in constant time. Must not know: HTTP beyond the two headers that carry a key.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ndn_infer.errors import ConfigError

MAX_FILE: Final = 1 << 20
MIN_KEY: Final = 8


class ApiKeys:
    """Digests of the keys. Without any, everybody may ask."""

    def __init__(self, keys: list[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    @classmethod
    def read(cls, path: Path | None) -> ApiKeys:
        """Blank lines and those that begin with # are no keys. Raises ConfigError."""
        if path is None:
            return cls([])
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FILE + 1)
            lines = [line.strip() for line in content.decode("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the API keys in {path} cannot be read: {error}") from error
        keys = [line for line in lines if line and not line.startswith("#")]
        if len(content) > MAX_FILE or not keys or any(len(key) < MIN_KEY for key in keys):
            raise ConfigError(
                f"{path} must have API keys of {MIN_KEY} characters and more, one a line", hint="openssl rand -hex 32"
            )
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def admit(self, headers: Mapping[str, str]) -> bool:
        """Whether a request may be served: `Authorization: Bearer KEY`, or `X-Api-Key: KEY`."""
        if not self._digests:
            return True
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = headers.get("X-Api-Key", "")
        found = [hmac.compare_digest(digest, _digest(given.strip())) for digest in self._digests]
        return any(found)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
