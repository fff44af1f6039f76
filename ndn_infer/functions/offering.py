"""The offer of a producer: what its functions can do now, as a record.

Owns: what of a process, its functions and its engine stands in an offer. Must not know: how offers travel, who chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ndn_infer import clock, ndn
from ndn_infer.functions.base import Host
from ndn_infer.functions.capacity import Capacity
from ndn_infer.functions.function_server import FunctionServer
from ndn_infer.offers.prefixes import hint_of
from ndn_infer.records.offer import MAX_OFFERED, VALID_S, HeldPrefixes, OfferedFunction, ProducerOffer
from ndn_infer.security.crypto import Signer

LEAST_FRESHNESS_MS: Final = 200
MOST_FRESHNESS_MS: Final = 2000
CROWD_PER_S: Final = 20.0
"""Different calls a second that a crowd makes. Caches give an offer out for as long as such a crowd takes to fill what
is free, within these bounds: meanwhile everybody who reads it goes to the same producer."""


def offer_of(host: Host, signer: Signer, servers: Sequence[FunctionServer]) -> ProducerOffer:
    """The offer of the functions behind one identity, as it is now."""
    now_us = clock.wall_us()
    functions = tuple(
        OfferedFunction(
            one.function.function, *one.function.subject, private=one.function.private and host.access is not None
        )
        for one in servers[:MAX_OFFERED]
    )
    main = max(servers, key=lambda one: one.function.capacity().places)
    can, load = main.function.capacity(), main.load()
    return ProducerOffer(
        ndn.to_uri(signer.identity),
        ndn.to_uri(host.hint(signer)),
        now_us,
        now_us + round(VALID_S * 1e6),
        functions,
        engine=main.function.engine_class(),
        codec=can.codec,
        context=can.context,
        places=can.places or load.running + load.free_seats,
        free=min(can.free, load.free_seats) if can.places else load.free_seats,
        queue=sum(one.load().queue for one in servers),
        call_s=round(can.call_s, 4),
        prompt_s=round(can.prompt_s, 4),
        prefill_tps=round(can.prefill_tps, 1),
        decode_tps=round(can.decode_tps, 1),
        fetch_tps=round(can.fetch_tps, 1),
        load=round(can.load, 2),
        held=_held(can),
    )  # fmt: skip


def freshness_ms(offer: ProducerOffer) -> int:
    """How long caches may give this offer out."""
    return round(min(max(LEAST_FRESHNESS_MS, 1000 * offer.free / CROWD_PER_S), MOST_FRESHNESS_MS))


def _held(can: Capacity) -> HeldPrefixes | None:
    return hint_of(can.held(), can.block_tokens, has=can.has) if can.block_tokens else None
