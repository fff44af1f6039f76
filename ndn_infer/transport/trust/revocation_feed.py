"""The deny list on its way: fetched by name, heeded by a validator, kept in a file for the next start.

Owns: when it is looked for, and what is made of it. Must not know: what it denies (security/revocation.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from typing import Final

from ndn_infer import clock, records
from ndn_infer.errors import BadRecord, NdnInferError, StorageError
from ndn_infer.files import write_at_once
from ndn_infer.namespace import CatalogRecord
from ndn_infer.security.revocation import LIST_ID, LIST_KIND, RevocationList
from ndn_infer.security.validator import Validator
from ndn_infer.transport.objects.fetch import Fetcher

log = logging.getLogger(__name__)

REFRESH_S: Final = 300.0
FRESHNESS_MS: Final = 60_000
"""Of the list in caches: so long a revocation may take to be seen beyond REFRESH_S."""

MAX_FILE_BYTES: Final = 8 << 20


class RevocationFeed:
    """`file` holds everything that was denied in lists of this network, 0600 like the keys beside it."""

    def __init__(self, fetcher: Fetcher, validator: Validator, file: Path) -> None:
        self._fetcher = fetcher
        self._validator = validator
        self._file = file
        self._base = CatalogRecord(LIST_KIND, LIST_ID).to_name(validator.net)
        self._task: asyncio.Task[None] | None = None
        self._load()

    def _load(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            try:
                with self._file.open("rb") as opened:
                    if os.fstat(opened.fileno()).st_mode & 0o022:
                        raise StorageError(f"{self._file} can be changed by others", hint=f"chmod 600 {self._file}")
                    self._validator.deny(records.decode(RevocationList, opened.read(MAX_FILE_BYTES)))
            except FileNotFoundError:
                raise
            except (OSError, BadRecord) as error:
                log.warning("the deny list in %s cannot be used: %s", self._file, error)

    async def refresh(self) -> bool:
        """Look for a newer list; whether there is one that is valid now. Never raises for what the network does."""
        try:
            fetched = await self._fetcher.fetch(self._base, most=records.most_bytes(RevocationList))
            new = records.decode(RevocationList, fetched.content)
        except NdnInferError as error:
            log.debug("no deny list: %s", error)
        else:
            self._heed(new)
        return self._validator.denied.fresh(self._validator.now())

    def _heed(self, new: RevocationList) -> None:
        denied = self._validator.denied
        before = denied.as_list(0)
        self._validator.deny(new)
        if denied.as_list(0) != before or new.until > self._validator.now():
            try:
                write_at_once(self._file, records.encode(denied.as_list(new.until)))
            except (StorageError, BadRecord) as error:
                log.warning("what is revoked is known until this process ends only: %s", error)

    def start(self) -> None:
        """Look for it now and from time to time."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            began = clock.monotonic()
            await self.refresh()
            await asyncio.sleep(max(REFRESH_S - (clock.monotonic() - began), 1.0))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
