"""The certificates that vouch for objects of others: what a repo keeps beside the objects.

Owns: a folder of certificate files, and which certificates lead from an object's signer to the trust anchor. Must not
know: objects, sockets. An object is worth keeping only as long as a reader can verify it, and its producer, who serves
these certificates, may be gone.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from ndn_infer.errors import BadPacket, CertificateExpired, ConfigError
from ndn_infer.files import write_at_once
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import Data
from ndn_infer.security import certificate as certs
from ndn_infer.security.certificate import Certificate
from ndn_infer.security.validator import MAX_DEPTH, Validator

log = logging.getLogger(__name__)

MAX_SEEN: Final = 1024


class CertificateShelf:
    """Certificates in `folder`, which is made if need be. Raises ConfigError when it cannot be.

    `fetch`, wrapped by `recording`, is how the validator gets certificates: what passes by can be kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: OrderedDict[Name, Certificate] = OrderedDict()
        self._kept: dict[Name, Certificate] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            files = sorted(folder.glob("*.cert"))
        except OSError as error:
            raise ConfigError(f"cannot keep certificates in {folder}: {error.strerror}") from error
        for file in files:
            try:
                item = certs.parse(file.read_bytes())
            except (OSError, BadPacket) as error:
                log.warning("%s is not a certificate: %s", file, error)
                continue
            self._kept[item.name] = item

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """All that are kept, newest first."""
        return tuple(sorted(self._kept.values(), key=certs.version_of, reverse=True))

    def recording(self, fetch: Callable[[Name], Awaitable[bytes]]) -> Callable[[Name], Awaitable[bytes]]:
        """`fetch`, with a look at what comes."""

        async def fetch_and_see(name: Name) -> bytes:
            wire = await fetch(name)
            try:
                item = certs.parse(wire)
            except BadPacket:
                return wire
            self.see(item)
            return wire

        return fetch_and_see

    def see(self, *certificates: Certificate) -> None:
        """These may be needed: those of this machine's key directory are never fetched."""
        for item in certificates:
            self._seen[item.name] = item
        while len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)

    async def keep_chain(self, signed: Data, validator: Validator) -> None:
        """Keep the certificates that lead from a verified packet's signer up to the anchor: of each key the newest that
        is valid now, and the one that is named, by which readers begin (expired, it leads them to the other). Raises
        StorageError, or a TrustError when one of them does not verify any more."""
        locator = signed.signature_info.key_locator
        for _ in range(MAX_DEPTH):
            located = certs.split_locator(locator) if locator is not None else None
            if located is None:
                return
            known = [item for item in {**self._seen, **self._kept}.values() if item.key_name == located.key_name]
            valid = [item for item in known if item.valid_at(validator.now())]
            newest = max(valid or known, key=certs.version_of, default=None)
            if newest is None or newest.self_signed:
                return
            for item in known:
                if item is newest or item.name == locator:
                    await self._keep(item, validator)
            locator = newest.issuer_locator

    async def _keep(self, item: Certificate, validator: Validator) -> None:
        if item.name in self._kept:
            return
        try:
            await validator.validate(item.data)
        except CertificateExpired:
            if item.valid_at(validator.now()):
                raise  # another one on its way to the anchor has expired
        path = self._folder / f"{hashlib.sha256(item.wire).hexdigest()[:32]}.cert"
        await asyncio.to_thread(write_at_once, path, item.wire)
        self._kept[item.name] = item
