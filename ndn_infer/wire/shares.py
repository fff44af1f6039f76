"""Shares of bounded things among askers whom nobody vouches for: nobody's rubbish stops anybody else.

Owns: who gets a seat where work is done (`Seats`), who gives way where too many wait for others (`Crowd`), how often
one asker is told that something is wrong (`Allowance`). Must not know: what is shared. Pure: callers pass `now`.

An asker is any hashable value that tells one source from another: a verified key where there is one, else the face that
Interests came from.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Final

SHARE: Final = 3
"""One asker may have so many times what it leaves free: three quarters of everything when it is alone, and a newcomer
always finds something free (the dynamic threshold of shared-memory switches)."""


class Seats:
    """`limit` seats, a quarter of them kept for askers whose key was verified.

    A seat counts as one of its asker's, and as one of the neighbour's (`hop`) that brought the call: keys cost whoever
    may issue them nothing, so a neighbour that brings calls of a thousand keys has a share, too.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._for_strangers = limit - limit // 4
        self._taken: dict[Hashable, int] = {}
        self._by_hop: dict[Hashable, int] = {}
        self._strangers = 0

    @property
    def taken(self) -> int:
        return sum(self._taken.values())

    @property
    def free(self) -> int:
        return self._limit - self.taken

    def take(self, who: Hashable, *, known: bool, hop: Hashable = None) -> bool:
        """One seat for `who`, whose key was verified (`known`) or not, by neighbour `hop` (None: not known, which has
        no share of its own); whether there was one."""
        free = self.free
        if hop is not None and self._by_hop.get(hop, 0) >= SHARE * free:
            return False
        if not known:
            free = min(free, self._for_strangers - self._strangers)
        mine = self._taken.get(who, 0)
        if free < 1 or mine >= SHARE * free:
            return False
        self._taken[who] = mine + 1
        if hop is not None:
            self._by_hop[hop] = self._by_hop.get(hop, 0) + 1
        self._strangers += not known
        return True

    def give(self, who: Hashable, *, known: bool, hop: Hashable = None) -> None:
        """Give one seat back."""
        _one_less(self._taken, who)
        if hop is not None:
            _one_less(self._by_hop, hop)
        self._strangers -= not known


def _one_less(counts: dict[Hashable, int], key: Hashable) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


@dataclass(slots=True)
class Seat:
    """What one call has or has not: a seat. Taking and giving twice is once. `on_given` is told of each that becomes
    free."""

    seats: Seats
    who: Hashable
    known: bool = False
    taken: bool = False
    hop: Hashable = None
    on_given: Callable[[], None] | None = None

    def take(self) -> bool:
        self.taken = self.taken or self.seats.take(self.who, known=self.known, hop=self.hop)
        return self.taken

    def give(self) -> None:
        if self.taken:
            self.taken = False
            self.seats.give(self.who, known=self.known, hop=self.hop)
            if self.on_given is not None:
                self.on_given()

    def hand_over(self) -> Seat:
        """Another that has from now on what this one had."""
        other, self.taken = replace(self), False
        return other


@dataclass(slots=True, eq=False)
class Place:
    """One that waits in a Crowd. `evicted` says that it had to give way."""

    who: Hashable
    evict: Callable[[], object]
    weight: int = 0
    evicted: bool = False


@dataclass(slots=True)
class Crowd:
    """Those who wait for others: for certificates, for inputs. Whoever is silent would hold a place for long, so nobody
    is turned away: the oldest place of the asker that has most gives way. Places of at most `limit`, together at most
    `weight_limit`."""

    limit: int
    weight_limit: int = 0
    _places: dict[Hashable, dict[Place, None]] = field(default_factory=dict)
    _weight: int = 0

    def __len__(self) -> int:
        return sum(map(len, self._places.values()))

    def enter(self, who: Hashable, evict: Callable[[], object]) -> Place:
        """A place for `who`. `evict` is called once if it must give way before `leave`."""
        if len(self) >= self.limit:
            most = max(self._places.values(), key=len)
            self._out(next(iter(most)))
        place = Place(who, evict)
        self._places.setdefault(who, {})[place] = None
        return place

    def weigh(self, place: Place, weight: int) -> bool:
        """`place` is going to need `weight`. Whether it may: others who have more give way, or it does itself."""
        if place.evicted:
            return False
        self._weight += weight - place.weight
        place.weight = weight
        while self._weight > self.weight_limit and not place.evicted:
            heaviest = max(self._places.values(), key=lambda places: sum(one.weight for one in places))
            self._out(next(one for one in heaviest if one.weight))
        return not place.evicted

    def leave(self, place: Place) -> None:
        """Needs no place any more; also after an eviction."""
        places = self._places.get(place.who, {})
        if place in places:
            del places[place]
            self._weight -= place.weight
            if not places:
                del self._places[place.who]

    def _out(self, place: Place) -> None:
        self.leave(place)
        place.evicted = True
        place.evict()


@dataclass(slots=True)
class Allowance:
    """At most `burst` at once and `rate` a second for one asker, and for all strangers together four times that."""

    rate: float
    burst: float
    max_askers: int = 256
    _left: OrderedDict[Hashable, tuple[float, float]] = field(default_factory=OrderedDict)

    def spend(self, who: Hashable, now: float) -> bool:
        """Whether `who` is allowed one more."""
        return self._spend(who, now, 1) and self._spend(("all",), now, 4)

    def _spend(self, who: Hashable, now: float, times: int) -> bool:
        burst = self.burst * times
        left, then = self._left.pop(who, (burst, now))
        left = min(burst, left + (now - then) * self.rate * times)
        self._left[who] = (left - 1 if left >= 1 else left, now)
        while len(self._left) > self.max_askers:
            self._left.popitem(last=False)
        return left >= 1
