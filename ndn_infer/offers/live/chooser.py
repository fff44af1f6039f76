"""The order of candidates for a call, out of the offers that are known, and what calls teach the book.

Owns: what a request wants of its producer, how many candidates are asked before the network is, how long each is waited
for, which equal call is asked where. Must not know: how a call is asked (transport/calls), how offers come (offers.py).
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ndn_infer import chain, clock, ndn
from ndn_infer.namespace import Call, CallClass
from ndn_infer.ndn.name import Name
from ndn_infer.offers.book import Answering, OfferEntry
from ndn_infer.offers.choice import Estimate, Wanted, belongs_to, can_answer, rank
from ndn_infer.offers.live.faults import Faults
from ndn_infer.offers.live.offers import Offers
from ndn_infer.records import GenerateRequest, Record
from ndn_infer.records.prefill import PrefillRequest
from ndn_infer.transport.calls.candidates import PATIENCE_S, Candidate, Outcome, Said

log = logging.getLogger(__name__)

MOST: Final = 4
"""Candidates of a call before whomever the network leads to."""
LEAST_PATIENCE_S: Final = 0.5
ROUND_TRIPS: Final = 4
BUSY_S: Final = 0.5
"""Of a producer that does not say when it has time."""
CANNOT_S: Final = 60.0
EQUAL_S: Final = 10.0
"""A call that is made again within this time is asked where it was asked before."""
MAX_CALLS: Final = 512
MAX_BLOCKS: Final = 8192
BLOCK_TOKENS: Final = 16
"""Where no offer says otherwise."""


@dataclass(slots=True)
class _Made:
    """A call that was made lately: what it wants, where it was asked first."""

    wanted: Wanted
    at: float
    hint: Name = b""
    kind: tuple[str, str, str, str] = field(default=("", "", "", ""))
    estimates: dict[Name, Estimate] = field(default_factory=dict)
    """Of its candidates, by what leads to them."""


class OfferChooser:
    """Chooses for one application (transport.calls.candidates.Chooser)."""

    def __init__(self, offers: Offers, faults: Faults | None = None) -> None:
        """`faults`: whom not to ask; they are closed with the offers."""
        self._offers = offers
        self._faults = faults
        if faults is not None:
            offers.on_close.append(faults.close)
        self._calls: OrderedDict[str, _Made] = OrderedDict()
        self._cannot: dict[tuple[Name, tuple[str, str, str, str]], float] = {}

    async def candidates(self, call: Call, request: Record, *, settled: bool = False) -> Sequence[Candidate]:
        """Best first, MOST at most; none without offers."""
        await self._offers.ready(call.function)
        if self._faults is not None:
            self._faults.listen(self._offers.where.direct)
        if settled:
            await self._offers.settled()
        wanted = self._wanted(call, request)
        order = self._order(call, wanted)
        if not order:
            await self._offers.seek(
                call.function, lambda entry: can_answer(entry, wanted) and not self.refuses(entry.identity)
            )
            order = self._order(call, wanted)
        now = clock.monotonic()
        made = self._calls[call.request]
        if order:
            made.hint = order[0].entry.hint
            made.estimates = {one.entry.hint: one for one in order[:MOST]}
            self._offers.book.asked(made.hint, now, order[0].prompt_s)
            if log.isEnabledFor(logging.DEBUG):  # the words cost more than the choice
                log.debug("%s %s: %s", call.function, call.request[:8], "; ".join(map(_words, order[:MOST])))
        return [Candidate((one.entry.hint,), _patience_s(one.entry)) for one in order[:MOST]]

    def order(self, call: Call, request: Record) -> list[Estimate]:
        """All who can answer, best first, with the estimates."""
        return self._order(call, self._wanted(call, request))

    def _order(self, call: Call, wanted: Wanted) -> list[Estimate]:
        now = clock.monotonic()
        kind = (call.subject_kind, call.subject, call.function, call.call_class)
        order = rank(wanted, [one for one in self._offers.book.entries(now) if not self.refuses(one.identity)], now)
        order = sorted(order, key=lambda one: self._cannot.get((one.entry.hint, kind), 0.0) > now)
        before = self._calls.pop(call.request, None)
        hint = before.hint if before is not None and now - before.at < EQUAL_S else b""
        self._calls[call.request] = _Made(wanted, now, hint, kind)  # asked there still when nobody could be asked now
        while len(self._calls) > MAX_CALLS:
            self._calls.popitem(last=False)
        again = [one for one in order if one.entry.hint == hint and one.entry.busy_until <= now]
        return again + [one for one in order if one not in again]

    def heard(self, call: Call, candidate: Candidate, said: Said) -> None:
        """What became of asking `candidate`."""
        book, now = self._offers.book, clock.monotonic()
        hint = said.hint or (candidate.at[0] if candidate.at else b"")
        made = self._calls.get(call.request)
        if not hint:
            return
        match said.outcome:
            case Outcome.ANSWERED:
                estimate = made.estimates.get(hint) if made is not None else None
                prompt_s = estimate.prompt_s if estimate is not None else 0.0
                book.answered(hint, Answering(said.seconds, said.queue, prompt_s), now)
                if made is not None:
                    made.hint = hint
                    book.has(hint, _values_for(made.wanted, book.entry(hint)), now)
            case Outcome.BUSY | Outcome.UNABLE:
                book.busy(hint, said.back_s or BUSY_S, now)
            case Outcome.CANNOT if made is not None:
                self._cannot = {key: until for key, until in self._cannot.items() if until > now}
                self._cannot[hint, made.kind] = now + CANNOT_S
            case Outcome.SILENT | Outcome.REFUSED | Outcome.DISTRUSTED | Outcome.LOST:
                book.gone(hint, now)
                self._offers.doubt()

    def elsewhere(self, call: Call, said: Said) -> Candidate | None:
        """As transport.calls.candidates.Chooser.elsewhere."""
        made = self._calls.get(call.request)
        taken = None if made is None else made.estimates.get(said.hint)
        if made is None or taken is None:
            return None
        others = [one for one in made.estimates.values() if one is not taken and self._takes_calls(one.entry, made)]
        best = belongs_to(taken, said.queue, others)
        if best is taken:
            return None
        log.debug(
            "%s: %d calls are before it, more than %d: %s", call.request[:8], said.queue, taken.before, _words(best)
        )
        return Candidate((best.entry.hint,), _patience_s(best.entry))

    def _takes_calls(self, entry: OfferEntry, made: _Made) -> bool:
        """As far as is known by now."""
        now = clock.monotonic()
        able = self._cannot.get((entry.hint, made.kind), 0.0) <= now
        return able and entry.gone_since is None and entry.busy_until <= now

    def refuses(self, identity: Name) -> str:
        """As transport.calls.candidates.Chooser.refuses: whoever has a proven fault."""
        return "" if self._faults is None else self._faults.why(identity)

    def _wanted(self, call: Call, request: Record) -> Wanted:
        private = call.call_class == CallClass.PRIVATE
        plain = Wanted(call.function, (call.subject_kind, call.subject), call.request.encode(), private)
        return wanted_by(plain, request, self._block_sizes())

    def _block_sizes(self) -> set[int]:
        hints = [entry.offer.held for entry in self._offers.entries()]
        return {hint.block_tokens for hint in hints if hint is not None} or {BLOCK_TOKENS}


def _words(one: Estimate) -> str:
    parts = f"round trip {one.round_trip_s:.3f}, wait {one.wait_s:.3f}, prompt {one.prompt_s:.3f}"
    return f"{ndn.to_uri(one.entry.hint)} {one.total_s:.3f} s ({parts}; KV of {one.held} tokens)"


def wanted_by(plain: Wanted, request: Record, sizes: set[int]) -> Wanted:
    """What this request wants of its producer. Chain values of private prompts are known to members alone, and no offer
    tells them: only their length counts."""
    values: Mapping[int, Sequence[bytes]] = {}
    match request:
        case GenerateRequest():
            tokens, engine, codec = len(request.prompt), request.engine, ""
            if not plain.private:
                values = {size: chain.chain(request.prompt[: size * MAX_BLOCKS], size) for size in sizes}
        case PrefillRequest():
            size = request.block_tokens
            tokens, engine, codec = size * len(request.blocks), "", request.codec
            if not plain.private:
                values = {size: [bytes.fromhex(value) for value in request.blocks]}
        case _:
            return plain
    return Wanted(
        plain.function, plain.subject, plain.seed, plain.private, tokens=tokens, values=values, engine=engine,
        codec=codec,
    )  # fmt: skip


def _values_for(wanted: Wanted, entry: OfferEntry | None) -> Sequence[bytes]:
    hint = entry.offer.held if entry is not None else None
    size = hint.block_tokens if hint is not None else next(iter(wanted.values), 0)
    return wanted.values.get(size, ())


def _patience_s(entry: OfferEntry) -> float:
    """How long its first answer is awaited: it acknowledges within a round trip and a little more."""
    if entry.round_trip_s is None:
        return PATIENCE_S
    return min(max(LEAST_PATIENCE_S, ROUND_TRIPS * entry.round_trip_s + LEAST_PATIENCE_S / 2), PATIENCE_S)
