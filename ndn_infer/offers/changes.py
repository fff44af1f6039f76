"""When an offer is published again: something material changed, or it is going to expire.

Owns: what counts as material. Must not know: how offers are made or travel. Pure.

Every publication costs every member of the group a packet. So small things are left to answers, which say the queue
anyway, and what changes often is published at most once in LEAST_GAP_S.
"""

from __future__ import annotations

from typing import Final

from ndn_infer.records.offer import HeldPrefixes, ProducerOffer

LEAST_GAP_S: Final = 1.0
REFRESH_S: Final = 100.0
"""Less than half of what an offer is valid."""
FACTOR: Final = 1.5
"""Of a speed or a time."""
LONG_WAIT_S: Final = 0.5
BITS: Final = 0.1
"""Share of the bits of the hint of held prefixes."""


def due(last: ProducerOffer | None, offer: ProducerOffer, age_s: float) -> bool:
    """Whether `offer` is to be published, `last` having been `age_s` ago."""
    if last is None:
        return True
    return age_s >= REFRESH_S or (age_s >= LEAST_GAP_S and material(last, offer))


def material(old: ProducerOffer, new: ProducerOffer) -> bool:
    """Whether somebody may choose otherwise by the new one."""
    if _fixed(old) != _fixed(new) or (old.free == 0) != (new.free == 0):
        return True
    numbers = ("call_s", "prompt_s", "prefill_tps", "decode_tps", "fetch_tps")
    if any(_far(getattr(old, name), getattr(new, name)) for name in numbers):
        return True
    waited, waits = old.queue * old.prompt_s, new.queue * new.prompt_s
    return abs(waits - waited) > LONG_WAIT_S or _other_prefixes(old.held, new.held)


def _fixed(offer: ProducerOffer) -> tuple[object, ...]:
    return (offer.functions, offer.adapters, offer.engine, offer.codec, offer.context, offer.places)


def _far(old: float, new: float) -> bool:
    low, high = sorted((old, new))
    return high > FACTOR * low


def _other_prefixes(old: HeldPrefixes | None, new: HeldPrefixes | None) -> bool:
    if old is None or new is None or len(old.bits) != len(new.bits) or old.rate != new.rate:
        return old != new
    different = int.from_bytes(old.bits, "big") ^ int.from_bytes(new.bits, "big")
    before = int.from_bytes(old.bits, "big").bit_count()
    return different.bit_count() > BITS * max(before, 1)
