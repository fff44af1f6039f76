"""Tenants of the gateway: for each API key its domain and its quota, as the key file says now.

Owns: reading the file again when it has changed, what each key has used. Must not know: the form of the file (keys.py),
how is counted (quotas.py), HTTP. Quotas are those of this process: two gateways with one key file count apart.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ndn_infer import clock
from ndn_infer.errors import NdnInferError
from ndn_infer.gateway.keys import ApiKey, ApiKeys
from ndn_infer.gateway.quotas import Quota

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often the file is looked at, while somebody asks."""


@dataclass(slots=True)
class Tenant:
    """Whoever asks with one key."""

    key: ApiKey
    quota: Quota = field(default_factory=Quota)

    @property
    def owner(self) -> str:
        """As ApiKey.owner."""
        return self.key.owner

    def spend(self, tokens: int) -> None:
        self.quota.spend(tokens, clock.monotonic())


class Tenants:
    """By their keys; without a file, one that is everybody."""

    def __init__(self, path: Path | None = None, domain_known: Callable[[str], object] = lambda name: None) -> None:
        """`domain_known` raises for a name of no domain of this machine. Raises ConfigError, and what it raises."""
        self._path = path
        self._known = domain_known
        self._stamp: object = None
        self._looked_at = 0.0
        self._tenants: dict[bytes, Tenant] = {}
        self._keys = ApiKeys([])
        self._read()

    def __bool__(self) -> bool:
        """Whether a key is wanted."""
        return self._path is not None

    def find(self, headers: Mapping[str, str]) -> Tenant | None:
        """Who asks; None for nobody who may."""
        self._look()
        key = self._keys.find(headers)
        return None if key is None else self._tenants.setdefault(key.digest, Tenant(key))

    def _look(self) -> None:
        """A file that cannot be used changes nothing, and is told once."""
        now = clock.monotonic()
        if self._path is None or now < self._looked_at + LOOK_S:
            return
        self._looked_at = now
        if stamp_of(self._path) == self._stamp:
            return
        try:
            self._read()
        except NdnInferError as error:
            log.error("%s; the keys that were read before hold on", error)
        else:
            log.info("read %d API keys again", len(self._keys.keys))

    def _read(self) -> None:
        self._stamp = stamp_of(self._path) if self._path is not None else None
        keys, now = ApiKeys.read(self._path), clock.monotonic()
        for key in keys.keys:
            for domain in filter(None, (key.domain, *key.salts)):
                self._known(domain)
        tenants = {}
        for key in keys.keys:
            quota = self._tenants[key.digest].quota if key.digest in self._tenants else Quota()
            quota.change(key.limits, now)
            tenants[key.digest] = Tenant(key, quota)
        self._keys, self._tenants = keys, tenants


def stamp_of(path: Path) -> object:
    """What changes when a file does; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode
