"""Members of a sync group in virtual time: how long until all know, what it costs each node.

Owns: a network that floods Interests as forwarders with the multicast strategy do (each passes on what it has not
seen), with seeded delay and loss a link; the pure cores of all members on it; what is counted. Signatures are left
out: the core is what is measured, and a signature costs the same everywhere. Must not know: tables and plots.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from ndn_infer import ndn
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import SIGNATURE_SHA256_WITH_ECDSA, SignatureInfo
from ndn_infer.sync.core.packets import sign_message, sync_interest, vector_name
from ndn_infer.sync.core.state import Actions, Options, StateMessage, SyncCore, Update
from ndn_infer.sync.core.vector import Entry

GROUP = ndn.from_uri("/ndn-infer/local/sync/offers")
EPOCH = 1_700_000_000.0
SIGNATURE_BYTES = 71
TICK_SLACK_S = 1e-6
SETTLED_S = 5.0
"""All have asked and been answered by then; the load begins, and costs are counted from here."""


@dataclass(frozen=True, slots=True)
class GroupNetwork:
    """Routers and links; members are spread over the routers evenly. `delay_s` is the mean, one way; `loss` of each
    Interest on each link, or, where there is one router only, on the way to each member."""

    routers: int = 1
    chords: int = 0
    delay_s: float = 0.01
    loss: float = 0.0

    def links(self, rng: random.Random) -> list[tuple[int, int]]:
        """A ring with chords: connected, and several hops wide."""
        if self.routers < 2:
            return []
        found = {(at, at + 1) for at in range(self.routers - 1)}
        if self.routers > 2:
            found.add((0, self.routers - 1))
        most = self.routers * (self.routers - 1) // 2
        while len(found) < min(self.routers + self.chords, most):
            one, other = sorted(rng.sample(range(self.routers), 2))
            found.add((one, other))
        return sorted(found)


BROADCAST = GroupNetwork(loss=0.02)
GRAPH = GroupNetwork(routers=20, chords=12, loss=0.01)


@dataclass(frozen=True, slots=True)
class GroupLoad:
    """`members`, of which a share `changing` publishes each second, for `seconds`; then silence for `drain_s`."""

    members: int = 100
    changing: float = 0.01
    seconds: float = 20.0
    drain_s: float = 40.0
    seed: int = 1
    options: Options = Options()


@dataclass(slots=True)
class Figures:
    """`until_all`: seconds from each publication to the last member's knowing; `missed`: publications that somebody
    never heard of. Per member and second of the load: Sync Interests and their bytes that it gets, and
    processor seconds of its core. `newcomer_s`: from when one joins that knows nobody, until it knows all."""

    until_all: list[float] = field(default_factory=list)
    until_most: list[float] = field(default_factory=list)
    missed: int = 0
    interests: float = 0.0
    bytes: float = 0.0
    cpu_s: float = 0.0
    newcomer_s: float | None = None


@dataclass(slots=True)
class _News:
    at: float
    knowing: int = 1
    most_at: float = 0.0


class SyncWorld:
    """All members know each other when it begins. `run` returns the figures."""

    def __init__(self, network: GroupNetwork, load: GroupLoad, *, newcomer: bool = False) -> None:
        self._network, self._load = network, load
        self._random = random.Random(load.seed)
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = count()
        self._away = SETTLED_S if newcomer else 0.0
        """Until then the newcomer, member 0, is not there."""
        self._links: list[list[int]] = [[] for _ in range(network.routers)]
        for one, other in network.links(self._random):
            self._links[one].append(other)
            self._links[other].append(one)
        self.names = [_name(number) for number in range(load.members)]
        self.members = [self._member(number) for number in range(load.members)]
        known = [Entry(name, int(EPOCH) - 100, 1) for name in self.names]
        for number, member in enumerate(self.members):
            if not (newcomer and number == 0):
                member.learn(0.0, [entry for entry in known if entry.name != member.me])
        self._wakes: list[float] = [float("inf")] * load.members
        self._news: dict[tuple[Name, int], _News] = {}
        self._arrived = self._arrived_bytes = 0
        self._cpu = 0.0
        self._newcomer_at: float | None = None
        self._done = Figures()

    def _member(self, number: int) -> SyncCore:
        options = self._load.options
        begun = self._away if number == 0 else 0.0
        return SyncCore(
            self.names[number], begun, epoch=EPOCH, seed=self._load.seed * 100_003 + number, options=options
        )

    # ------------------------------------------------------------ the run

    def run(self) -> Figures:
        load = self._load
        for number in range(load.members):
            self._set_wake(number, 0.0)
        publications = round(load.members * load.changing * load.seconds)
        for turn in range(publications):
            at = SETTLED_S + load.seconds * (turn + self._random.random()) / max(publications, 1)
            self._later(at, self._publication(self._random.randrange(load.members)))
        self._later(SETTLED_S, self._forget_costs)
        self._later(SETTLED_S + load.seconds, self._note_costs)
        end = SETTLED_S + load.seconds + load.drain_s
        while self._events and self._events[0][0] < end:
            now, _, happen = heapq.heappop(self._events)
            happen(now)
        self._done.missed = sum(news.knowing < load.members for news in self._news.values())
        return self._done

    def _forget_costs(self, now: float) -> None:
        self._arrived = self._arrived_bytes = 0
        self._cpu = 0.0

    def _note_costs(self, now: float) -> None:
        done, share = self._done, self._load.members * self._load.seconds
        done.interests, done.bytes, done.cpu_s = self._arrived / share, self._arrived_bytes / share, self._cpu / share

    def _publication(self, number: int) -> Callable[[float], None]:
        def happen(now: float) -> None:
            member = self.members[number]
            self._news[member.me, member.sequence + 1] = _News(now)
            self._act(number, now, self._timed(lambda: member.publish(now)))

        return happen

    def _later(self, at: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), happen))

    def _timed(self, work: Callable[[], Actions]) -> Actions:
        begun = time.process_time()
        actions = work()
        self._cpu += time.process_time() - begun
        return actions

    def _act(self, number: int, now: float, actions: Actions) -> None:
        for update in actions.updates:
            self._note(update, now)
        if actions.message is not None:
            self._flood(number, now, actions.message)
        if number == 0 and self._newcomer_at is None and len(self.members[0].table) >= self._load.members - 1:
            self._newcomer_at = now
            self._done.newcomer_s = now - self._away
        self._set_wake(number, now)

    def _note(self, update: Update, now: float) -> None:
        for sequence in range(update.low, update.high + 1):
            news = self._news.get((update.name, sequence))
            if news is None:
                continue
            news.knowing += 1
            if news.knowing == self._load.members - self._load.members // 100:
                self._done.until_most.append(now - news.at)
            if news.knowing == self._load.members:
                self._done.until_all.append(now - news.at)

    def _set_wake(self, number: int, now: float) -> None:
        at = max(self.members[number].next_wake(), now)
        if at < self._wakes[number] - TICK_SLACK_S:
            self._wakes[number] = at
            self._later(at, self._wake(number))

    def _wake(self, number: int) -> Callable[[float], None]:
        def happen(now: float) -> None:
            if self._wakes[number] > now + TICK_SLACK_S:
                return
            self._wakes[number] = float("inf")
            member = self.members[number]
            self._act(number, now, self._timed(lambda: member.tick(now)))

        return happen

    # ------------------------------------------------------------ the network

    def _flood(self, sender: int, now: float, message: StateMessage) -> None:
        """When it arrives at each router first; every link that a copy goes over may lose it."""
        size = packet_bytes(message)
        home = sender % self._network.routers
        arrival = {home: now}
        frontier = [(now, home, -1)]
        while frontier:
            at, router, came_from = heapq.heappop(frontier)
            if at > arrival[router]:
                continue
            for other in self._links[router]:
                if other == came_from or self._random.random() < self._network.loss:
                    continue
                then = at + self._delay()
                if then < arrival.get(other, float("inf")):
                    arrival[other] = then
                    heapq.heappush(frontier, (then, other, router))
        single = self._network.routers == 1
        for number in range(self._load.members):
            router = number % self._network.routers
            if number == sender or router not in arrival or (single and self._random.random() < self._network.loss):
                continue
            at = arrival[router] + (self._delay() if single else 0.0005)
            self._later(at, self._delivery(number, sender, message, size))

    def _delay(self) -> float:
        return self._network.delay_s * self._random.uniform(0.5, 1.5)

    def _delivery(self, number: int, sender: int, message: StateMessage, size: int) -> Callable[[float], None]:
        def happen(now: float) -> None:
            if number == 0 and now < self._away:
                return
            self._arrived += 1
            self._arrived_bytes += size
            member, origin = self.members[number], self.names[sender]
            self._act(number, now, self._timed(lambda: member.take(now, message.content, message.summary, origin)))

        return happen


def _name(number: int) -> Name:
    return ndn.from_uri(f"/ndn-infer/local/site{number % 20}/n{number}/decode")


class _Sized:
    """Signs with as many bytes as a real key."""

    info = SignatureInfo(
        SIGNATURE_SHA256_WITH_ECDSA, _name(0) + ndn.from_uri("/KEY/%01%02%03%04%05%06%07%08/anchor/v=1700000000000")
    )

    @staticmethod
    def sign(portion: bytes) -> bytes:
        return bytes(SIGNATURE_BYTES)


def packet_bytes(message: StateMessage) -> int:
    """What a Sync Interest takes on the wire."""
    return len(sync_interest(GROUP, sign_message(vector_name(GROUP), message, _Sized())))
