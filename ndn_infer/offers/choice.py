"""Choosing: which producers can answer a call at all, and in which order they are asked.

Owns: the estimate of the time to the first token, and the order that follows from it. Pure: numbers in, an order out.
Must not know: names of calls, packets, clocks, how a choice is carried out (chooser.py).

The estimate of a producer is

    round trip + wait for its turn + (tokens it has no KV of) / prefill speed

where tokens whose KV others have may be fetched by it instead, at the speed it measured. What nobody measured yet is
taken as the best that is known of the others: trying is how one learns.

Estimates are off by a few per cent, and offers are a moment old. So the order is by estimate, each moved by a small
amount drawn from the call's digest and the producer's name (Gumbel noise: a soft minimum). Of producers that are about
equal, different calls then ask different ones, and nobody runs after the one that was idle a second ago; equal calls,
of whomever, ask the same one, where they are one run. Who is slower by more than MOST_NOISE times the scale comes later
in every case.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ndn_infer.ndn.name import Name
from ndn_infer.offers.book import OfferEntry
from ndn_infer.records.offer import ProducerOffer

SCALE: Final = 0.05
SCALE_S: Final = 0.005
"""The scale of the noise: so much of the best estimate, and so many seconds more."""
LEAST_DRAW: Final = 1e-3
MOST_NOISE: Final = -math.log(-math.log(1 - LEAST_DRAW)) + math.log(-math.log(LEAST_DRAW))
"""Between the smallest and the largest draw, in units of the scale: 8.8."""
LEAST_GAIN_S: Final = 0.1
"""A call that was taken on goes elsewhere for more than this: it is one more question."""
MOST_DIVIDED: Final = 256
UNKNOWN_TPS: Final = 1000.0
LEAST_TPS: Final = 1e-3
"""Whoever offers less is taken for this: seconds stay finite, and the order one."""
UNKNOWN_CALL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a call needs of its producer. `tokens`: of its prompt; `values`: chain values of its full blocks by block
    size, for the public domain; `engine` and `codec`: pinned, "" when not. `seed`: the digest of the request."""

    function: str
    subject: tuple[str, str]
    seed: bytes
    private: bool = False
    tokens: int = 0
    values: Mapping[int, Sequence[bytes]] = field(default_factory=dict)
    engine: str = ""
    codec: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """Seconds to the first token at one producer, and what they are made of. `held`: tokens of the prompt whose KV it
    has; `before`: calls that `wait_s` counts; `each_s`: what the prompt of a call like this one takes there once they
    have what anybody holds of it."""

    entry: OfferEntry
    held: int
    wait_s: float
    prompt_s: float
    round_trip_s: float
    before: int = 0
    each_s: float = 0.0

    @property
    def total_s(self) -> float:
        return self.wait_s + self.prompt_s + self.round_trip_s


def can_answer(entry: OfferEntry, wanted: Wanted) -> bool:
    """Whether its offer says that it takes such a call."""
    offer = entry.offer
    if wanted.engine and offer.engine and wanted.engine != offer.engine:
        return False
    if wanted.codec and offer.codec and wanted.codec != offer.codec:
        return False
    if offer.context and wanted.tokens >= offer.context:
        return False
    asked = (wanted.function, *wanted.subject)
    return any(
        (one.function, one.subject_kind, one.subject) == asked and (one.private or not wanted.private)
        for one in offer.functions
    )


def estimates(wanted: Wanted, entries: Iterable[OfferEntry], now: float) -> list[Estimate]:
    """Of those that can answer and are not gone, in no order."""
    able = [entry for entry in entries if entry.gone_since is None and can_answer(entry, wanted)]
    held = [_held_tokens(entry, wanted) for entry in able]
    most = max(held, default=0)
    best_tps = max((entry.offer.prefill_tps for entry in able), default=0.0) or UNKNOWN_TPS
    least_rtt = min((entry.round_trip_s for entry in able if entry.round_trip_s is not None), default=0.0)
    found = []
    for entry, tokens in zip(able, held, strict=True):
        rtt = least_rtt if entry.round_trip_s is None else entry.round_trip_s
        prompt_s = _prompt_s(entry, wanted.tokens, tokens, most, best_tps)
        before, each_s = entry.queue + entry.pending(now), _computed_s(entry, wanted.tokens - most, best_tps)
        found.append(Estimate(entry, tokens, _wait_s(entry, now), prompt_s, rtt, before, each_s))
    return found


def rank(wanted: Wanted, entries: Iterable[OfferEntry], now: float) -> list[Estimate]:
    """Whom to ask first, second, and so on. The same whatever the order of `entries`."""
    found = estimates(wanted, entries, now)
    if not found:
        return []
    scale = SCALE_S + SCALE * min(one.total_s for one in found)
    return sorted(found, key=lambda one: (one.total_s - scale * _noise(wanted.seed, one.entry.hint), one.entry.hint))


def belongs_to(taken: Estimate, queue: int, others: Sequence[Estimate]) -> Estimate:
    """Where a call is best off that was taken on at `taken`, behind `queue` others: there, or at one of `others`.

    What is more there than its offer told came in the same moment, by the same offers. Taken to be like this call, all
    of those reckon alike: one after the other, in the order of their places, goes where it begins soonest then. So a
    crowd divides itself among producers although each of its callers sees none of the rest but its own place.
    """
    more = min(queue - taken.before, MOST_DIVIDED)
    if more <= 0:
        return taken
    load = dict.fromkeys((taken, *others), 0)
    for _ in range(more + 1):
        best = min(load, key=lambda one: _behind_s(one, load[one]) + (0.0 if one is taken else LEAST_GAIN_S))
        load[best] += 1
    return best


def _behind_s(one: Estimate, more: int) -> float:
    """Seconds to the first token behind so many calls more than it was estimated with."""
    offer, before = one.entry.offer, one.before
    waits_s = _turns_s(offer, before + more) - _turns_s(offer, before)
    return one.total_s + more * one.each_s + waits_s


def _turns_s(offer: ProducerOffer, before: int) -> float:
    """Until one of its places is free for a call behind so many."""
    if not offer.places or before < offer.free:
        return 0.0
    return (before - offer.free + 1) / offer.places * (offer.call_s or UNKNOWN_CALL_S)


def _held_tokens(entry: OfferEntry, wanted: Wanted) -> int:
    """The last token of a prompt is computed in any case."""
    hint = entry.offer.held
    size = hint.block_tokens if hint is not None else next(iter(wanted.values), 0)
    values = wanted.values.get(size, ())
    return min(size * entry.held(values), max(wanted.tokens - 1, 0)) if values else 0


def _prompt_s(entry: OfferEntry, tokens: int, held: int, most: int, best_tps: float) -> float:
    """From its turn to the first token: what it has not got is computed, or fetched where others have it."""
    if not tokens:
        return 0.0
    computed, fetch_tps = _computed_s(entry, tokens - held, best_tps), entry.offer.fetch_tps
    if not fetch_tps or most <= held:
        return computed
    return min(computed, (most - held) / fetch_tps + _computed_s(entry, tokens - most, best_tps))


def _computed_s(entry: OfferEntry, tokens: int, best_tps: float) -> float:
    return tokens / max(entry.offer.prefill_tps or best_tps, LEAST_TPS)


def _wait_s(entry: OfferEntry, now: float) -> float:
    """Until its turn: the prompts before ours are computed first, and without a free place somebody has to end."""
    offer, pending = entry.offer, entry.pending(now)
    wait = entry.ahead_s(now)
    if offer.places and pending >= offer.free:
        turns = (entry.queue + pending - offer.free + 1) / offer.places
        wait += turns * (offer.call_s or UNKNOWN_CALL_S)
    return max(wait, entry.busy_until - now, 0.0)


def _noise(seed: bytes, hint: Name) -> float:
    """Gumbel noise of a call and a producer, the same for everybody."""
    drawn = int.from_bytes(hashlib.sha256(seed + hint).digest()[:8], "big") / 2.0**64
    return -math.log(-math.log(min(max(drawn, LEAST_DRAW), 1 - LEAST_DRAW)))
