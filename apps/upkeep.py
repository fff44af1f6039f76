"""What a running producer does for its machine's keys: offers domain keys and the deny list, renews certificates.

Owns: how often these are looked at. Must not know: functions, how keys are made or used.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from ndn_infer import catalog
from ndn_infer.errors import NdnInferError
from ndn_infer.functions.base import Host
from ndn_infer.functions.producer import Producer
from ndn_infer.namespace import operator_identity
from ndn_infer.ndn.name import Name
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domain_store import DomainStore
from ndn_infer.transport.trust.key_records import OwnedRecords

log = logging.getLogger(__name__)

DOMAIN_KEYS_S: Final = 2.0
"""So often this machine's files are looked at for new epochs and revocations."""

CERTIFICATES_S: Final = 3600.0

REVOCATIONS_VALID_S: Final = 30 * 86_400.0
"""Of a deny list; signed again at half of this, by a machine with the operator's key that runs a producer."""


@contextlib.asynccontextmanager
async def upkeep(producer: Producer, host: Host, node: Node, roles: Sequence[str]) -> AsyncIterator[None]:
    """While the block lasts."""
    tasks = [
        asyncio.ensure_future(_offer(producer, host, node)), asyncio.ensure_future(_renew_certificates(node, roles)),
    ]  # fmt: skip
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _offer(producer: Producer, host: Host, node: Node) -> None:
    """Members find the keys of this machine's domains by name, also of epochs that begin while this runs; everybody
    finds the deny list."""

    async def offer(prefix: Name, owner: Name) -> None:
        signer = node.keychain.signer_for(owner)
        await producer.offer_certificates(signer.identity)
        await producer.offer_object(prefix, signer)

    records = OwnedRecords(node.net, host.server, DomainStore(node.config.keys_dir), offer)
    revocations = Revocations(producer, host, node)
    while True:
        try:
            await records.refresh()
            await revocations.refresh()
        except NdnInferError as error:
            log.warning("keys of this machine are not offered: %s", error)
        await asyncio.sleep(DOMAIN_KEYS_S)


class Revocations:
    """The deny list, on the machine that holds the operator's key: others would offer old ones."""

    def __init__(self, producer: Producer, host: Host, node: Node) -> None:
        self._producer = producer
        self._host = host
        self._node = node
        self._stamp: object = None

    async def refresh(self) -> None:
        """Look at the file again when it has changed. Raises BadPacket, BadRecord, RegistrationRefused."""
        directory = self._node.config.catalog_dir
        signer = self._signer()
        if signer is None or self._stamp == (stamp := _stamp(directory)):
            return
        found = catalog.revocations(directory)
        if found is None:
            return
        packets, revoked = found
        if revoked.until - time.time() < REVOCATIONS_VALID_S / 2:
            catalog.revoke(directory, self._node.keychain, (), valid_s=REVOCATIONS_VALID_S)
            return
        self._host.server.put(packets, pinned=True)
        self._node.validator.deny(revoked)
        if self._stamp is None:
            await self._producer.offer_object(packets.base, signer)
        self._stamp = stamp

    def _signer(self) -> Signer | None:
        keychain = self._node.keychain
        for identity in (operator_identity(keychain.net), keychain.net):
            if keychain.usable(identity) is not None:
                return keychain.signer_for(identity)
        return None


def _stamp(directory: Path) -> object:
    with contextlib.suppress(OSError):
        found = catalog.revocation_path(directory).stat()
        return found.st_mtime_ns, found.st_ino, int(time.time() / CERTIFICATES_S)
    return None


async def _renew_certificates(node: Node, roles: Sequence[str]) -> None:
    """Certificates in the last third of their life, where the key that issues them is here; else those that somebody
    brought ('ndn-infer keys import') are found."""
    while True:
        await asyncio.sleep(CERTIFICATES_S)
        try:
            await asyncio.to_thread(ensure_keys, node.config, roles)
            node.keychain.reload()
        except NdnInferError as error:
            log.warning("certificates are not renewed: %s", error)
