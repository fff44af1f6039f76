"""Forwarding strategies: whom to ask, and what to tell those who asked.

Owns: best-route and multicast, the choice of a strategy by prefix. Pure. Must not know: bytes, queues, management.
Source: NFD developer guide, section 5 (best-route version 5, multicast version 5).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from ndn_infer.forwarder.core.adaptive import Adaptive
from ndn_infer.forwarder.core.fib import NextHop
from ndn_infer.forwarder.core.pit import PitEntry
from ndn_infer.forwarder.core.strategy_base import (
    SUPPRESS_FACTOR,
    SUPPRESS_INITIAL_S,
    SUPPRESS_MAX_S,
    Strategy,
    StrategyError,
    refusal,
)
from ndn_infer.forwarder.core.tables import PrefixTable
from ndn_infer.ndn.name import (
    ROOT,
    VERSION,
    Component,
    Name,
    component_number,
    component_type,
    component_value,
    components,
    from_uri,
    prefix_ends,
    split_version,
)

MAX_DEPTH: Final = 32
"""Longest prefix of a choice, as NFD's name tree has it."""

MAX_CHOICES: Final = 4096

BEST_ROUTE: Final = from_uri("/localhost/nfd/strategy/best-route")
MULTICAST: Final = from_uri("/localhost/nfd/strategy/multicast")
VERSION_5: Final = from_uri("/v=5")


class BestRoute(Strategy):
    """The cheapest next hop; a retransmission goes to the cheapest not asked yet, else to the one asked longest ago.

    Retransmissions sooner than 10, 20, ... 250 ms after the last Interest that went out are suppressed.
    """

    name = BEST_ROUTE + VERSION_5
    title = "BestRouteStrategy"
    asks_cheapest = True
    asks_once = True

    def choose(self, entry: PitEntry, hops: Sequence[NextHop], now: float, prefix: Name = ROOT) -> Sequence[int] | None:
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
        return refusal(entry)


class Multicast(Strategy):
    """Every next hop, each with its own suppression; no Nack ever goes downstream."""

    name = MULTICAST + VERSION_5
    title = "MulticastStrategy"
    asks_new_hops = True
    tells_loops = False

    def choose(self, entry: PitEntry, hops: Sequence[NextHop], now: float, prefix: Name = ROOT) -> Sequence[int] | None:
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


STRATEGIES: Final[tuple[type[Strategy], ...]] = (BestRoute, Multicast, Adaptive)


class StrategyChoice(PrefixTable[Strategy]):
    """Which strategy rules which prefix; NFD's defaults. Prefixes with the same strategy and parameters share it."""

    def __init__(self, rng: random.Random | None = None) -> None:
        super().__init__()
        self._random = rng or random.Random()
        self.changed: Callable[[Name], None] = lambda prefix: None
        best_route, multicast = BestRoute(), Multicast()
        self.put(from_uri("/"), best_route)
        self.put(from_uri("/localhost"), multicast)
        self.put(from_uri("/localhost/nfd"), best_route)
        self.put(from_uri("/ndn/broadcast"), multicast)

    def has_room(self, prefix: Name) -> bool:
        return len(self) < MAX_CHOICES or prefix in self

    def of(self, name: Name, ends: Sequence[int] | None = None) -> Strategy:
        found = self.longest(name, prefix_ends(name) if ends is None else ends)
        assert found is not None  # the root always has one
        return found

    def set(self, prefix: Name, strategy_name: Name) -> Strategy | None:
        """Choose by strategy name, with its version or without one; after the version parameters may follow, as in
        `/localhost/nfd/strategy/asf/v=5/probing-interval~30000`. None when there is no such strategy; raises
        StrategyError for parameters that it does not take."""
        base, given = _split(strategy_name)
        for kind in STRATEGIES:
            _refuse_older(kind, base)
            if base in (kind.name, _unversioned(kind.name)):
                name = kind.name + b"".join(given)
                strategy = next((known for _, known in self.items() if known.name == name), None)
                if strategy is None:
                    strategy = kind(dict(map(_parameter, given)), self._random)
                    strategy.name = name
                self.put(prefix, strategy)
                self.changed(prefix)
                return strategy
        return None

    def unset(self, prefix: Name) -> None:
        if prefix != ROOT:
            self.delete(prefix)
            self.changed(prefix)


def _unversioned(name: Name) -> Name:
    return split_version(name)[0]


def _split(name: Name) -> tuple[Name, list[Component]]:
    """The strategy's name up to its version, and the parameters after that (NFD, Strategy::parseInstanceName)."""
    parts = components(name)
    for index in range(len(parts) - 1, 0, -1):
        if component_type(parts[index]) == VERSION:
            return b"".join(parts[: index + 1]), parts[index + 1 :]
    return name, []


def _refuse_older(kind: type[Strategy], wanted: Name) -> None:
    """A version before ours: NFD finds the strategy for it, which then refuses."""
    plain, own = _unversioned(kind.name), kind.name
    if wanted.startswith(plain) and wanted != plain:
        rest, known = wanted[len(plain) :], own[len(plain) :]
        if len(components(rest)) == 1 and component_type(rest) == VERSION:
            number, ours = component_number(rest, VERSION), component_number(known, VERSION)
            if number < ours:
                raise StrategyError(f"{kind.title} does not support version {number}")


def _parameter(component: Component) -> tuple[str, str]:
    key, separator, value = component_value(component).decode("utf-8", "replace").partition("~")
    if not (key and separator and value):
        raise StrategyError("strategy parameters have the form name~value")
    return key, value
