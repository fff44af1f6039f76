"""Offers by State Vector Sync: a producer publishes its own, everybody hears those of all.

Owns: the group of offers, when this machine's are published. Must not know: what stands in an offer, who chooses.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ndn_infer import clock, records
from ndn_infer.errors import NdnInferError
from ndn_infer.namespace import Sync
from ndn_infer.ndn.name import Name
from ndn_infer.offers.changes import LEAST_GAP_S, due
from ndn_infer.offers.live.offers import Offers
from ndn_infer.records.offer import ProducerOffer
from ndn_infer.security.crypto import Signer
from ndn_infer.sync.fetching import Publication
from ndn_infer.sync.group import SyncGroup
from ndn_infer.transport.link.registration import Registrar

log = logging.getLogger(__name__)

GROUP = "offers"


class OfferGroup:
    """Membership of one identity's process, or of an observer. `close` ends it."""

    def __init__(self, offers: Offers, *, registrar: Registrar, me: Name = b"", signer: Signer | None = None) -> None:
        """`me`: the name of this process, below which it answers for what it published."""
        self._offers = offers
        where = offers.where
        self._group = SyncGroup(
            where.endpoint, where.validator, Sync(GROUP).to_name(where.net), me=me, signer=signer,
            registrar=registrar, on_publication=self._heard,
        )  # fmt: skip
        self._publishing: asyncio.Task[None] | None = None

    async def open(self, make: Callable[[], ProducerOffer] | None = None) -> None:
        """Join; with `make` publish what it gives when that is due."""
        await self._group.open()
        if make is not None:
            self._publishing = asyncio.get_running_loop().create_task(self._publish(make))

    async def close(self) -> None:
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.gather(self._publishing, return_exceptions=True)
        await self._group.close()

    async def _publish(self, make: Callable[[], ProducerOffer]) -> None:
        """As long as it lives: what goes wrong once is tried again."""
        last, at = None, 0.0
        while True:
            try:
                offer, now = make(), clock.monotonic()
                if due(last, offer, now - at):
                    self._group.publish(records.encode(offer))
                    last, at = offer, now
            except NdnInferError as error:
                log.warning("an offer is not published: %s", error)
            except Exception:
                log.exception("an offer cannot be made")
            await asyncio.sleep(LEAST_GAP_S)

    def _heard(self, publication: Publication) -> None:
        try:
            self._offers.take_wire(publication.content, publication.validated)
        except NdnInferError as error:
            log.info("an offer in the group is not believed: %s", error)
