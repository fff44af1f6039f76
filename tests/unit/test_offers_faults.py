"""Asking auditors whom not to ask: it ends with the offers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from ndn_infer.offers.live.chooser import OfferChooser
from ndn_infer.offers.live.faults import Faults
from ndn_infer.offers.live.offers import Offers
from tests.offer_kit import NET, identity


async def test_auditors_that_say_nothing_are_waited_for_no_longer_than_there_is_anybody() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def ask(*_: object) -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    offers = Offers(SimpleNamespace(net=NET, endpoint=SimpleNamespace(detour=None)))  # type: ignore[arg-type]
    faults = Faults(SimpleNamespace(), [identity(role="audit")])  # type: ignore[arg-type]
    OfferChooser(offers, faults)
    faults.listen(SimpleNamespace(ask=ask))  # type: ignore[arg-type]
    await asked.wait()
    await offers.close()
    assert left.is_set() and asyncio.all_tasks() == {asyncio.current_task()}
