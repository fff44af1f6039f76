"""Forwarding strategies: whom to ask, and what to tell those who asked.

Owns: best-route and multicast, retransmission suppression, the choice of a strategy by prefix. Pure. Must not know:
bytes, queues, management. Source: NFD developer guide, section 5 (best-route version 5, multicast version 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ndn_infer.forwarder.fib import NextHop
from ndn_infer.forwarder.pit import PitEntry
from ndn_infer.forwarder.tables import PrefixTable
from ndn_infer.name import ROOT, VERSION, Name, component_type, components, from_uri, prefix_ends

SUPPRESS_INITIAL_S: Final = 0.010
SUPPRESS_MAX_S: Final = 0.250
SUPPRESS_FACTOR: Final = 2.0
MAX_DEPTH: Final = 32
"""Longest prefix of a choice, as NFD's name tree has it."""

BEST_ROUTE: Final = from_uri("/localhost/nfd/strategy/best-route")
MULTICAST: Final = from_uri("/localhost/nfd/strategy/multicast")
VERSION_5: Final = from_uri("/v=5")


class Strategy:
    """What a strategy decides. The hooks that only inform do nothing here; an adaptive strategy overrides them."""

    name: Name = ROOT
    asks_new_hops = False
    """Whether pending Interests go to next hops that come later."""

    def choose(self, entry: PitEntry, hops: Sequence[NextHop], now: float) -> Sequence[int] | None:
        """Faces to send an Interest to; [] to stay quiet, None to refuse it with Nack NoRoute.

        `hops` are those that scope and HopLimit allow, cheapest first, without the face it came from.
        """
        raise NotImplementedError

    def nacks(self, entry: PitEntry) -> tuple[int, Sequence[int]] | None:
        """After an upstream refused: the reason, and the downstreams to be told; None to wait on."""
        return None

    def on_data(self, entry: PitEntry, face_id: int, now: float) -> None:
        """Data came from `face_id`; the entry's records are still there."""

    def on_timeout(self, entry: PitEntry, now: float) -> None:
        """Nobody answered."""


class BestRoute(Strategy):
    """The cheapest next hop; a retransmission goes to the cheapest not asked yet, else to the one asked longest ago.

    Retransmissions sooner than 10, 20, ... 250 ms after the last Interest that went out are suppressed.
    """

    name = BEST_ROUTE + VERSION_5

    def choose(self, entry: PitEntry, hops: Sequence[NextHop], now: float) -> Sequence[int] | None:
        outs = entry.outs
        if not outs or not any(record.pending(now) for record in outs.values()):
            return [hops[0].face_id] if hops else None
        interval = entry.suppress_s or SUPPRESS_INITIAL_S
        if now - max(record.sent for record in outs.values()) < interval:
            return []
        entry.suppress_s = min(interval * SUPPRESS_FACTOR, SUPPRESS_MAX_S)
        if not hops:
            return []
        for hop in hops:
            record = outs.get(hop.face_id)
            if record is None or record.expires < now:
                return [hop.face_id]
        return [min(hops, key=lambda hop: outs[hop.face_id].sent).face_id]

    def nacks(self, entry: PitEntry) -> tuple[int, Sequence[int]] | None:
        """Once everybody who was asked has refused, the least severe reason goes to all; when all but one have, and
        that one also asks us, it goes to that one alone: we two wait for each other (NFD, ProcessNackTraits)."""
        reasons = [record.nack_reason for record in entry.outs.values() if record.nack_reason is not None]
        reason = min((given for given in reasons if given), default=0)  # 0, no reason given, is the most severe
        waiting = [face_id for face_id, record in entry.outs.items() if record.nack_reason is None]
        if not waiting:
            return reason, list(entry.ins)
        if len(waiting) == 1 and waiting[0] in entry.ins:
            return reason, waiting
        return None


class Multicast(Strategy):
    """Every next hop, each with its own suppression; no Nack ever goes downstream."""

    name = MULTICAST + VERSION_5
    asks_new_hops = True

    def choose(self, entry: PitEntry, hops: Sequence[NextHop], now: float) -> Sequence[int] | None:
        chosen = []
        for hop in hops:
            record = entry.outs.get(hop.face_id)
            if record is None:
                chosen.append(hop.face_id)
                continue
            interval = record.suppress_s or SUPPRESS_INITIAL_S
            if now - record.sent >= interval:
                record.suppress_s = min(interval * SUPPRESS_FACTOR, SUPPRESS_MAX_S)
                chosen.append(hop.face_id)
        return chosen


STRATEGIES: Final[tuple[Strategy, ...]] = (BestRoute(), Multicast())


class StrategyChoice(PrefixTable[Strategy]):
    """Which strategy rules which prefix; NFD's defaults."""

    def __init__(self) -> None:
        super().__init__()
        best_route, multicast = STRATEGIES
        self.put(from_uri("/"), best_route)
        self.put(from_uri("/localhost"), multicast)
        self.put(from_uri("/localhost/nfd"), best_route)
        self.put(from_uri("/ndn/broadcast"), multicast)

    def of(self, name: Name, ends: Sequence[int] | None = None) -> Strategy:
        found = self.longest(name, prefix_ends(name) if ends is None else ends)
        assert found is not None  # the root always has one
        return found

    def set(self, prefix: Name, strategy_name: Name) -> Strategy | None:
        """Choose by strategy name, with its version or without one; None when there is no such strategy."""
        for strategy in STRATEGIES:
            if strategy_name in (strategy.name, _unversioned(strategy.name)):
                self.put(prefix, strategy)
                return strategy
        return None

    def unset(self, prefix: Name) -> None:
        if prefix != ROOT:
            self.delete(prefix)


def _unversioned(name: Name) -> Name:
    parts = components(name)
    return b"".join(parts[:-1]) if component_type(parts[-1]) == VERSION else name
