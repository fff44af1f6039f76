"""Forwarding strategies: whom to ask.

Owns: best-route and multicast, retransmission suppression, the choice of a strategy by prefix. Pure. Must not know:
bytes, queues, management. Source: NFD developer guide, section 5 (best-route version 5, multicast version 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from ndn_infer.forwarder.tables import NextHop, PitEntry, PrefixTable
from ndn_infer.name import Name, from_uri

SUPPRESS_INITIAL_S: Final = 0.010
SUPPRESS_MAX_S: Final = 0.250

BEST_ROUTE: Final = from_uri("/localhost/nfd/strategy/best-route")
MULTICAST: Final = from_uri("/localhost/nfd/strategy/multicast")
VERSION_5: Final = from_uri("/v=5")


class Strategy(Protocol):
    """`choose` returns the faces to send an Interest to: [] to wait (suppressed), None when there is no route."""

    name: Name

    def choose(self, entry: PitEntry, hops: Sequence[NextHop], now: float) -> list[int] | None: ...


def suppressed(entry: PitEntry, now: float) -> bool:
    """Exponential suppression of retransmissions: the first Interest passes, then at least 10, 20, ... 250 ms apart."""
    if not any(record.expires > now for record in entry.outs.values()):
        entry.suppress_s = SUPPRESS_INITIAL_S
        entry.suppress_until = now + entry.suppress_s
        return False
    if now < entry.suppress_until:
        return True
    entry.suppress_s = min(entry.suppress_s * 2, SUPPRESS_MAX_S)
    entry.suppress_until = now + entry.suppress_s
    return False


class BestRoute:
    """The cheapest next hop; a retransmission goes to the cheapest not asked yet, else to the one asked longest ago."""

    name = BEST_ROUTE + VERSION_5

    def choose(self, entry: PitEntry, hops: Sequence[NextHop], now: float) -> list[int] | None:
        if not hops:
            return None
        if suppressed(entry, now):
            return []
        asked = {face_id: record for face_id, record in entry.outs.items() if record.expires > now}
        for hop in hops:
            if hop.face_id not in asked:
                return [hop.face_id]
        return [min(hops, key=lambda hop: asked[hop.face_id].sent).face_id]


class Multicast:
    """Every next hop."""

    name = MULTICAST + VERSION_5

    def choose(self, entry: PitEntry, hops: Sequence[NextHop], now: float) -> list[int] | None:
        if not hops:
            return None
        if suppressed(entry, now):
            return []
        return [hop.face_id for hop in hops]


STRATEGIES: Final[tuple[Strategy, ...]] = (BestRoute(), Multicast())


class StrategyChoice(PrefixTable):
    """Which strategy rules which prefix; NFD's defaults."""

    entries: dict[Name, Strategy]

    def __init__(self) -> None:
        super().__init__()
        best_route, multicast = STRATEGIES
        self.entries[from_uri("/")] = best_route
        self.entries[from_uri("/localhost")] = multicast
        self.entries[from_uri("/localhost/nfd")] = best_route
        self.entries[from_uri("/ndn/broadcast")] = multicast

    def of(self, name: Name) -> Strategy:
        found = self.longest(name)
        assert found is not None
        strategy: Strategy = found[1]
        return strategy

    def set(self, prefix: Name, strategy_name: Name) -> Strategy | None:
        """Choose by strategy name, with or without version; None when there is no such strategy."""
        for strategy in STRATEGIES:
            if strategy.name == strategy_name or strategy.name.startswith(strategy_name + b"\x36"):
                self.entries[prefix] = strategy
                return strategy
        return None

    def unset(self, prefix: Name) -> None:
        self.entries.pop(prefix, None)
