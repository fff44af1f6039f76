"""The adaptive strategy: each Interest goes where Data came from fastest of late.

Owns: round trips and timeouts by FIB prefix and face, the ranking of next hops, probes of the others. Pure. Must not
know: bytes, queues, management. Source: NFD's ASF version 5 (daemon/fw/asf-*.cpp, 24.07); V. Lehman et al., NDN
Technical Report NDN-0042.

NFD has a timer for each face under measurement, its lifetime and the next probe. Here all of them are looked at when
the next Interest under the prefix is to be forwarded: before that, nothing depends on them.
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ndn_infer.forwarder.core.fib import NextHop
from ndn_infer.forwarder.core.pit import PitEntry
from ndn_infer.forwarder.core.strategy_base import (
    SUPPRESS_FACTOR,
    SUPPRESS_INITIAL_S,
    SUPPRESS_MAX_S,
    Probe,
    Strategy,
    StrategyError,
    refusal,
)
from ndn_infer.ndn.name import ROOT, Name, from_uri
from ndn_infer.wire.congestion import RttEstimator

ADAPTIVE: Final = from_uri("/localhost/nfd/strategy/asf")

MIN_PROBING_INTERVAL_S: Final = 1.0
FIRST_PROBE_S: Final = 5.0
"""The first probe under a prefix comes at random within this (NFD: ProbingModule)."""

LATE_S: Final = 4.0
"""How long the slower of two answers is awaited: InterestLifetime's default. (NFD keeps the PIT entry for 50 ms.)"""

MAX_PREFIXES: Final = 65536
MAX_LATE: Final = 4096
MAX_NUMBER: Final = 10**12


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds. `max_timeouts` in a row, and a next hop counts as dead; `measurements_lifetime` after its last
    use a measurement is forgotten."""

    probing_interval: float = 60.0
    max_timeouts: int = 3
    measurements_lifetime: float = 300.0
    retx_suppression_initial: float = SUPPRESS_INITIAL_S
    retx_suppression_max: float = SUPPRESS_MAX_S
    retx_suppression_multiplier: float = SUPPRESS_FACTOR


def parse_settings(parameters: Mapping[str, str]) -> Settings:
    """Settings from NFD's parameters (times in whole milliseconds). Raises StrategyError, for unknown ones too."""
    known = [field.replace("_", "-") for field in Settings.__slots__]
    values: dict[str, float] = {}
    for key, text in parameters.items():
        if key not in known:
            raise StrategyError(f"asf has no parameter {key}; it has {', '.join(known)}")
        if key == "retx-suppression-multiplier":
            values[key] = _decimal(key, text)
        else:
            values[key] = _whole(key, text) / (1 if key == "max-timeouts" else 1000)
    settings = Settings(
        **{key.replace("-", "_"): value for key, value in values.items() if key != "max-timeouts"},
        max_timeouts=int(values.get("max-timeouts", Settings().max_timeouts)),
    )
    if settings.probing_interval < MIN_PROBING_INTERVAL_S:
        raise StrategyError("probing-interval must be at least 1000 (ms)")
    if settings.measurements_lifetime <= settings.probing_interval:
        raise StrategyError("measurements-lifetime must be greater than probing-interval")
    if not 0 < settings.retx_suppression_initial <= settings.retx_suppression_max:
        raise StrategyError("retx-suppression-initial must be above 0 and at most retx-suppression-max")
    if settings.retx_suppression_multiplier < 1:
        raise StrategyError("retx-suppression-multiplier must be at least 1")
    return settings


def _whole(key: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 15 or int(text) > MAX_NUMBER:
        raise StrategyError(f"{key} takes a whole number, not {text[:20]!r}")
    return int(text)


def _decimal(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise StrategyError(f"{key} takes a number, not {text[:20]!r}")
    return value


DEAD: Final = 3
"""The last group of _Region.rank."""


class _Path:
    """What is known of one next hop under one prefix. At most one Interest at a time is watched for a timeout."""

    __slots__ = ("deadline", "dead", "expires", "rtt", "timeouts", "watched")

    def __init__(self) -> None:
        self.rtt = RttEstimator()
        self.timeouts = 0
        self.dead = False
        self.watched: Name | None = None
        self.deadline = 0.0
        self.expires = 0.0

    def unwatch(self, name: Name) -> None:
        if self.watched is not None and name.startswith(self.watched):
            self.watched = None

    def answered(self, name: Name, rtt_s: float) -> None:
        self.rtt.sample(max(0.0, rtt_s))
        self.dead, self.timeouts = False, 0
        self.unwatch(name)


class _Region:
    """The paths of one FIB prefix, by face, and when the next probe is due (None: no Interest has come yet)."""

    __slots__ = ("expires", "paths", "probe_at")

    def __init__(self) -> None:
        self.paths: dict[int, _Path] = {}
        self.probe_at: float | None = None
        self.expires = 0.0

    def rank(self, hop: NextHop) -> tuple[int, float, int, int]:
        """Working ones first, the fastest of them at the head; then the unmeasured, then the dead, by cost."""
        path = self.paths.get(hop.face_id)
        if path is not None and path.dead:
            return DEAD, 0.0, hop.cost, hop.face_id
        if path is None or path.rtt.smoothed_s is None:
            return 2, 0.0, hop.cost, hop.face_id
        return 1, path.rtt.smoothed_s, hop.cost, hop.face_id

    def probe_rank(self, hop: NextHop) -> tuple[int, float, int, int]:
        """As `rank`, but the unmeasured first."""
        group, rtt_s, cost, face_id = self.rank(hop)
        return group if group == DEAD else 3 - group, rtt_s, cost, face_id


class Adaptive(Strategy):
    """Next hops ranked by smoothed round trip; the others are probed now and then. Retransmissions go to the best not
    asked yet, else to the one asked longest ago, each face with its own suppression."""

    name = ADAPTIVE + from_uri("/v=5")
    title = "AsfStrategy"

    def __init__(self, parameters: Mapping[str, str] | None = None, rng: random.Random | None = None) -> None:
        self.settings = parse_settings(parameters or {})
        self._random = rng or random.Random()
        self._regions: OrderedDict[Name, _Region] = OrderedDict()  # the one used longest ago first
        self._late: OrderedDict[tuple[Name, int], tuple[_Region, float]] = OrderedDict()

    def choose(self, entry: PitEntry, hops: Sequence[NextHop], now: float, prefix: Name = ROOT) -> Sequence[int] | None:
        outs = entry.outs
        is_new = not any(record.pending(now) for record in outs.values())
        if not hops:
            return None if is_new else []
        region = entry.strategy_info = self._region(prefix, now)
        if is_new:
            best = self._best(region, hops)
            self._watch(region, best, entry.name, now)
            probe = self._probe(region, [hop for hop in hops if hop.face_id != best], now)
            if probe is None:
                return [best]
            self._watch(region, probe, entry.name, now)
            return [best, Probe(probe)]
        unused = [hop for hop in hops if (record := outs.get(hop.face_id)) is None or record.expires <= now]
        if unused:
            face_id = min(unused, key=region.rank).face_id
        else:
            face_id = min(hops, key=lambda hop: outs[hop.face_id].sent).face_id
        record = outs.get(face_id)
        if record is not None:
            interval = record.suppress_s or self.settings.retx_suppression_initial
            if now - record.sent < interval:
                return []
            record.suppress_s = min(
                interval * self.settings.retx_suppression_multiplier, self.settings.retx_suppression_max
            )
        if unused:
            self._watch(region, face_id, entry.name, now)
        return [face_id]

    def _best(self, region: _Region, hops: Sequence[NextHop]) -> int:
        """Where all are dead, one by lot: for some names the cheapest may be dead and another not, and ASF, which asks
        the cheapest for ever, would find it by a probe, a minute later perhaps."""
        best = min(hops, key=region.rank)
        return best.face_id if region.rank(best)[0] < DEAD else self._random.choice(hops).face_id

    def nacks(self, entry: PitEntry) -> tuple[int, Sequence[int]] | None:
        return refusal(entry)

    def on_nack(self, entry: PitEntry, face_id: int, now: float) -> None:
        """A refusal counts as all the timeouts it takes."""
        region: _Region | None = entry.strategy_info
        path = region.paths.get(face_id) if region is not None else None
        if path is not None:
            path.dead, path.timeouts = True, 0
            path.unwatch(entry.name)

    def on_data(self, entry: PitEntry, face_id: int, now: float) -> None:
        region: _Region | None = entry.strategy_info
        if region is None:  # an application chose the next hop
            return
        for asked, record in entry.outs.items():
            if asked == face_id:
                self._answered(region, face_id, entry.name, now - record.sent, now)
            elif record.nack_reason is None:
                self._await(entry.name, asked, region, record.sent, now)

    def on_late_data(self, name: Name, face_id: int, now: float) -> None:
        """Data of exactly the Interest's name: other Data might answer anything."""
        region, sent = self._late.pop((name, face_id), (None, 0.0))
        if region is not None and now - sent <= LATE_S:
            self._answered(region, face_id, name, now - sent, now)

    def _answered(self, region: _Region, face_id: int, name: Name, rtt_s: float, now: float) -> None:
        path = region.paths.get(face_id)
        if path is not None:
            path.answered(name, rtt_s)
            path.expires = now + self.settings.measurements_lifetime

    def _await(self, name: Name, face_id: int, region: _Region, sent: float, now: float) -> None:
        late = self._late
        while late and (len(late) >= MAX_LATE or now - next(iter(late.values()))[1] > LATE_S):
            late.popitem(last=False)
        late[name, face_id] = region, sent

    # ------------------------------------------------------------ probes and timeouts

    def _probe(self, region: _Region, others: Sequence[NextHop], now: float) -> int | None:
        """The face to probe, once it is time: one without measurement, else by lot, the better ones more often."""
        if region.probe_at is None:
            region.probe_at = now + self._random.uniform(0.0, FIRST_PROBE_S)
        if now < region.probe_at or not others:
            return None
        region.probe_at = now + self.settings.probing_interval
        ranked = sorted(others, key=region.probe_rank)
        if region.probe_rank(ranked[0])[0] == 1:
            return ranked[0].face_id
        return self._random.choices(ranked, weights=range(len(ranked), 0, -1))[0].face_id

    def _watch(self, region: _Region, face_id: int, name: Name, now: float) -> None:
        """The Interest goes to `face_id`: unless another is watched there, it is this one that may time out."""
        path = region.paths.get(face_id)
        if path is None:
            path = region.paths[face_id] = _Path()
        path.expires = now + self.settings.measurements_lifetime
        if path.watched is None:
            path.watched, path.deadline = name, now + path.rtt.rto_s

    def _count_timeouts(self, region: _Region, now: float) -> None:
        for face_id, path in list(region.paths.items()):
            if path.expires <= now:
                del region.paths[face_id]
            elif path.watched is not None and path.deadline <= now:
                path.watched = None
                path.timeouts += 1
                if path.timeouts >= self.settings.max_timeouts:
                    path.dead, path.timeouts = True, 0

    # ------------------------------------------------------------ measurements

    def _region(self, prefix: Name, now: float) -> _Region:
        """The measurements of a FIB prefix, brought up to date. Those unused for long make room."""
        regions = self._regions
        while regions and next(iter(regions.values())).expires <= now:
            regions.popitem(last=False)
        region = regions.get(prefix)
        if region is None:
            if len(regions) >= MAX_PREFIXES:
                regions.popitem(last=False)
            region = regions[prefix] = _Region()
        region.expires = now + self.settings.measurements_lifetime
        regions.move_to_end(prefix)
        self._count_timeouts(region, now)
        return region
