"""Key records of tenant domains by name: an owner's machine answers for its own, members fetch those of others.

Owns: which records are offered, which epochs are asked for, how often. Must not know: functions, calls, what a key is
used for. A record holds no secret in clear (security/domain_keys.py), so anybody may have it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from ndn_infer import clock, ndn, records
from ndn_infer.errors import MissingKey, NdnInferError, NetworkError
from ndn_infer.namespace import DomainKey
from ndn_infer.ndn.name import Name
from ndn_infer.security import domain_store
from ndn_infer.security.domain_keys import DomainKeyRecord
from ndn_infer.security.domain_store import DomainFile, DomainStore, SignedObject
from ndn_infer.security.domains import MAX_EPOCH
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.objects.fetched import Discovered
from ndn_infer.transport.objects.serve import Server

log = logging.getLogger(__name__)

RENEW_S: Final = 5.0
"""Members that ask in an epoch unknown here make us look for it, so often at most."""

MOST_JOINED: Final = 64
"""Epochs that are fetched at one time: a member away for longer gets the newest of those that it missed."""

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
        now = clock.monotonic()
        if self._shop.by_id(domain) is None or now - self._asked.get(domain, float("-inf")) < RENEW_S:
            return False
        self._asked[domain] = now
        try:
            return await self.join(domain) is not None
        except NdnInferError as error:
            log.warning("no newer key of domain %s: %s", domain, error)
            return False

    async def join(self, domain: str) -> DomainFile | None:
        """Join the epochs of the domain of this id after those known here, of many the newest; None when there is none
        that holds a key for us. Raises NetworkError when nobody has the records, MissingKey when we are in none of
        them."""
        known = self._shop.by_id(domain)
        last = 0 if known is None else domain_store.newest(known).epoch
        newest = await self._newest(domain, last)
        joined, refused = None, None
        for epoch in range(max(last, newest - MOST_JOINED) + 1, newest + 1):
            found = await self._look(domain, epoch)
            if found is None:
                continue
            base = DomainKey(domain, str(epoch)).to_name(self._net)
            fetched = await self._fetcher.collect(found, most=records.most_bytes(DomainKeyRecord))
            signed = SignedObject(base, fetched.content, fetched.signed_by.identity)
            try:
                with self._shop.locked():
                    joined = domain_store.join(
                        self._net, signed, self._shop.encryption_keys(), joined or self._shop.by_id(domain)
                    )
            except MissingKey as error:  # before we were a member, or after
                refused = error
        if joined is not None:
            with self._shop.locked():
                self._shop.save(joined)
        elif refused is not None:
            raise refused
        return joined

    async def _newest(self, domain: str, last: int) -> int:
        """The newest epoch that there is after `last`, `last` when there is none: epochs follow each other without a
        gap, so twice as far each time, then halves, whatever their number."""
        there, step = last, 1
        while there + step <= MAX_EPOCH and await self._look(domain, there + step) is not None:
            there, step = there + step, 2 * step
        while step > 1:
            step //= 2
            if there + step <= MAX_EPOCH and await self._look(domain, there + step) is not None:
                there += step
        return there

    async def _look(self, domain: str, epoch: int) -> Discovered | None:
        """The metadata of an epoch's key record, verified; None when there is no such epoch (yet)."""
        try:
            found = await self._fetcher.discover(DomainKey(domain, str(epoch)).to_name(self._net))
        except NetworkError:
            if epoch > 1:
                return None
            raise
        return found if found.manifest is not None else None
