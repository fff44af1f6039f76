"""Key records of tenant domains by name: an owner's machine answers for its own, members fetch those of others.

Owns: which records are offered, which epochs are asked for, how often. Must not know: functions, calls, what a key is
used for. A record holds no secret in clear (security/domain_keys.py), so anybody may have it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from ndn_infer import name as ndn
from ndn_infer.errors import MissingKey, NdnInferError, NetworkError
from ndn_infer.name import Name
from ndn_infer.namespace import DomainKey
from ndn_infer.security import domain_store
from ndn_infer.security.domain_store import DomainFile, DomainStore, SignedObject
from ndn_infer.transport.fetch import Fetcher
from ndn_infer.transport.serve import Server

log = logging.getLogger(__name__)

RENEW_S: Final = 5.0
"""Members that ask in an epoch unknown here make us look for it, so often at most."""

Offer = Callable[[Name, Name], Awaitable[None]]
"""(prefix, the identity that owns it): answer below it, and tell the network."""


class OwnedRecords:
    """Offers the key records of domains that are owned here, also those that are made while it runs."""

    def __init__(self, net: Name, server: Server, shop: DomainStore, offer: Offer) -> None:
        self._net = net
        self._server = server
        self._shop = shop
        self._offer = offer
        self._offered: set[Name] = set()
        self._stamp: object = None

    async def refresh(self) -> None:
        """Look at the files again, when they have changed. Raises StorageError, RegistrationRefused."""
        stamp = self._shop.stamp()
        if stamp == self._stamp:
            return
        for packets, owner in self._shop.records():
            kept = self._server.store.manifest(packets.base)
            if kept is None or kept.name != packets.manifest.name:
                self._server.put(packets, pinned=True)
            prefix = ndn.prefix(packets.base, -1)
            if prefix not in self._offered:
                await self._offer(prefix, owner)
                self._offered.add(prefix)
        self._stamp = stamp


class Renewal:
    """Joins newer epochs of domains, from the network."""

    def __init__(self, net: Name, fetcher: Fetcher, shop: DomainStore) -> None:
        self._net = net
        self._fetcher = fetcher
        self._shop = shop
        self._asked: dict[str, float] = {}

    async def renew(self, domain: str) -> bool:
        """Whether something newer of a domain that we are in is known now. Never raises for what the network does."""
        now = time.monotonic()
        if self._shop.by_id(domain) is None or now - self._asked.get(domain, float("-inf")) < RENEW_S:
            return False
        self._asked[domain] = now
        try:
            return await self.join(domain) is not None
        except NdnInferError as error:
            log.warning("no newer key of domain %s: %s", domain, error)
            return False

    async def join(self, domain: str) -> DomainFile | None:
        """Join every epoch of the domain of this id after those known here; None when there is none that holds a key
        for us. Raises NetworkError when nobody has the records, MissingKey when we are in none of them."""
        known = self._shop.by_id(domain)
        epoch = 0 if known is None else domain_store.newest(known).epoch
        joined, refused = None, None
        while (signed := await self._fetch(domain, epoch := epoch + 1)) is not None:
            try:
                with self._shop.locked():
                    known = domain_store.join(self._net, signed, self._shop.encryption_keys(), known)
                    self._shop.save(known)
            except MissingKey as error:  # before we were a member, or after
                refused = error
            else:
                joined = known
        if joined is None and refused is not None:
            raise refused
        return joined

    async def _fetch(self, domain: str, epoch: int) -> SignedObject | None:
        """The key record of an epoch, verified; None when there is no such epoch (yet)."""
        base = DomainKey(domain, str(epoch)).to_name(self._net)
        try:
            found = await self._fetcher.discover(base)
        except NetworkError:
            if epoch > 1:
                return None
            raise
        if found.manifest is None:
            return None
        fetched = await self._fetcher.collect(found)
        return SignedObject(base, fetched.content, fetched.signed_by.identity)
