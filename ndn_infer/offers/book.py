"""The book of offers: which producers there are, what each said last, and what calls to it taught since.

Owns: taking offers (of whom, how long, how many), forgetting them, what is known of a producer beside its own words:
round trip, when it is busy or gone, calls sent to it since its last word, prefixes it was seen to have. Must not know:
how offers come (sources), who is asked (choice.py). Pure: `now` is monotonic seconds, `wall_us` the Unix epoch's.

Whatever is stale here costs a call a detour and nothing else: who is asked in vain says so, or says nothing, and the
next one is asked.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ndn_infer import ndn
from ndn_infer.errors import BadRecord, NdnInferError
from ndn_infer.namespace import Instance
from ndn_infer.ndn.name import Name
from ndn_infer.offers.prefixes import held_blocks
from ndn_infer.records.offer import VALID_S, ProducerOffer

MAX_OFFERS: Final = 4096
MAX_PROCESSES: Final = 16
"""Of one identity."""
FUTURE_US: Final = 60_000_000
GONE_S: Final = 2.0
"""Who was lost is not asked for so long, and then not before it says something new; where nobody else is left, not
before it says something that is newer than its loss."""
UNKNOWN_CALL_S: Final = 10.0
UNKNOWN_PROMPT_S: Final = 0.5
MAX_ASKED: Final = 64
MAX_SEEN: Final = 4096
RTT_WEIGHT: Final = 0.3


@dataclass(slots=True, eq=False)
class OfferEntry:
    """One producer process. `until`: when its offer ends. `queue` is the newest word on it, of its offer or an answer;
    `asked` are the times of calls sent to it since. `backlog_s`: prompts it had to compute at `backlog_at`."""

    offer: ProducerOffer
    identity: Name
    hint: Name
    until: float
    heard: float
    queue: int = 0
    backlog_s: float = 0.0
    backlog_at: float = 0.0
    round_trip_s: float | None = None
    busy_until: float = 0.0
    gone_since: float | None = None
    asked: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_ASKED))
    seen: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    """Chain values of prompts that it had in its hands."""

    def pending(self, now: float) -> int:
        """Calls sent to it that its newest word does not count, as far as they may still have a place."""
        last_s = self.offer.call_s or UNKNOWN_CALL_S
        return sum(now - at < last_s for at in self.asked)

    def ahead_s(self, now: float) -> float:
        """Seconds until prompts that it had are computed, those of calls sent there included: they run off."""
        return max(self.backlog_s - (now - self.backlog_at), 0.0)

    def told_queue(self, queue: int, now: float, more_s: float = 0.0) -> None:
        """Its own word: so many calls wait there, beside one of ours that takes `more_s`."""
        self.queue = queue
        self.backlog_s, self.backlog_at = queue * (self.offer.prompt_s or UNKNOWN_PROMPT_S) + more_s, now

    def held(self, values: Sequence[bytes]) -> int:
        """Of how many of the first blocks it has KV, by its hint and by what it was seen to have."""
        hint, seen = self.offer.held, 0
        for value in values:
            if value not in self.seen:
                break
            seen += 1
        return max(seen, held_blocks(hint, values) if hint is not None else 0)


@dataclass(frozen=True, slots=True)
class Answering:
    """What an answer teaches: it took `seconds` (0: a cache may have had it), `queue` calls are before this one, whose
    prompt takes `prompt_s` by the estimate."""

    seconds: float
    queue: int = 0
    prompt_s: float = 0.0


class Book:
    """Offers by the forwarding hint that leads to their producer."""

    def __init__(self, net: Name, *, most: int = MAX_OFFERS) -> None:
        self._net = net
        self._most = most
        self._entries: OrderedDict[Name, OfferEntry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def take(
        self, offer: ProducerOffer, signer: Name, now: float, wall_us: int, *, sought: bool = False
    ) -> OfferEntry | None:  # fmt: skip
        """An offer whose signature was verified as that of the identity `signer`. `sought`: it was asked for as nobody
        else is left. None for one that says nothing new: older than the last, or over. Raises BadRecord for one that
        speaks for somebody else."""
        hint = self._hint(offer, signer)
        known = self._entries.get(hint)
        if offer.until_us <= wall_us or (known is not None and offer.made_us <= known.offer.made_us):
            return None
        if offer.made_us > wall_us + FUTURE_US:
            raise BadRecord(f"an offer of {offer.identity[:200]} is dated in the future; compare the clocks")
        until = now + min((offer.until_us - wall_us) / 1e6, VALID_S)
        if known is None:
            known = OfferEntry(offer, signer, hint, until, now, offer.queue)
            self._make_room(signer, now)
        elif known.gone_since is not None:
            lost_us = wall_us - (now - known.gone_since) * 1e6
            if now - known.gone_since >= GONE_S or (sought and offer.made_us > lost_us):
                known.gone_since = None
        known.offer, known.until, known.heard = offer, until, now
        known.told_queue(offer.queue, now)
        known.asked.clear()
        self._entries[hint] = known
        self._entries.move_to_end(hint)
        return known

    def _hint(self, offer: ProducerOffer, signer: Name) -> Name:
        try:
            identity, hint = ndn.from_uri(offer.identity), ndn.from_uri(offer.hint)
        except NdnInferError as error:
            raise BadRecord(f"an offer names nobody: {error}") from error
        if identity != signer:
            raise BadRecord(f"{ndn.to_uri(signer)} makes an offer in the name of {offer.identity[:200]}")
        if hint != identity and not (Instance.parse(self._net, hint) and hint.startswith(identity)):
            raise BadRecord(
                f"the offer of {offer.identity[:200]} leads to {offer.hint[:200]}, which is not its own name"
            )
        return hint

    def _make_room(self, signer: Name, now: float) -> None:
        """For one more of this identity: what is over goes first, then what was heard of longest ago."""
        self.expire(now)
        siblings = [entry for entry in self._entries.values() if entry.identity == signer]
        for entry in siblings[: len(siblings) - MAX_PROCESSES + 1] if len(siblings) >= MAX_PROCESSES else ():
            del self._entries[entry.hint]
        while len(self._entries) >= self._most:
            self._entries.popitem(last=False)

    def expire(self, now: float) -> None:
        """Forget offers that are over."""
        for hint in [hint for hint, entry in self._entries.items() if entry.until <= now]:
            del self._entries[hint]

    def entries(self, now: float) -> Iterator[OfferEntry]:
        """Those that are valid, whatever calls to them taught."""
        return (entry for entry in tuple(self._entries.values()) if entry.until > now)

    def entry(self, hint: Name) -> OfferEntry | None:
        """Whom this forwarding hint leads to, if its offer is known."""
        return self._entries.get(hint)

    def identities(self, now: float) -> list[Name]:
        """Of producers that may be asked, those heard of last first."""
        live = [entry for entry in self.entries(now) if entry.gone_since is None]
        return list(dict.fromkeys(entry.identity for entry in reversed(live)))

    # ------------------------------------------------------------ what calls teach

    def asked(self, hint: Name, now: float, prompt_s: float = 0.0) -> None:
        """A call was sent there whose prompt takes `prompt_s` by the estimate."""
        entry = self._entries.get(hint)
        if entry is not None:
            entry.asked.append(now)
            entry.backlog_s, entry.backlog_at = entry.ahead_s(now) + prompt_s, now

    def answered(self, hint: Name, answer: Answering, now: float) -> None:
        """It answered a call."""
        entry = self._entries.get(hint)
        if entry is None:
            return
        old, new = entry.round_trip_s, answer.seconds
        if new > 0:
            entry.round_trip_s = new if old is None else (1 - RTT_WEIGHT) * old + RTT_WEIGHT * new
        entry.busy_until, entry.gone_since = 0.0, None
        entry.told_queue(answer.queue, now, answer.prompt_s)
        entry.asked.clear()
        entry.asked.append(now)

    def has(self, hint: Name, values: Iterable[bytes], now: float) -> None:
        """It took on a prompt with these chain values: their KV is there from now on."""
        entry = self._entries.get(hint)
        if entry is None:
            return
        for value in values:
            entry.seen[value] = None
            entry.seen.move_to_end(value)
        while len(entry.seen) > MAX_SEEN:
            entry.seen.popitem(last=False)

    def busy(self, hint: Name, back_s: float, now: float) -> None:
        """It takes no call for `back_s`."""
        entry = self._entries.get(hint)
        if entry is not None:
            entry.busy_until = max(entry.busy_until, now + back_s)

    def gone(self, hint: Name, now: float) -> None:
        """It did not answer, or a stream of it broke: not asked before it says something new."""
        entry = self._entries.get(hint)
        if entry is not None and entry.gone_since is None:
            entry.gone_since = now
