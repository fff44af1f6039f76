"""A hierarchy of Content Stores under a trace of requests, in virtual time, over the forwarder's own code.

Owns: the trace, which edge a request goes to, how stores are joined (as bare ContentStores, or as whole Forwarders with
links between), and what is counted. Pure: no clock, no socket, no file. Must not know: tables and plots of results.

One block of the trace is one named object. A request asks for all blocks of its prompt at one edge; what the edge has
not goes to the core, what the core has not to the origin, which has or computes everything. Trace: Mooncake (Qin et
al., FAST'25): one JSON object a line with `timestamp` (ms) and `hash_ids` (one id per block of 512 tokens; equal ids
are equal tokens after equal prefixes).
"""

from __future__ import annotations

import hashlib
import heapq
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from itertools import count
from typing import Final, Protocol

from ndn_infer import ndn
from ndn_infer.errors import UsageError
from ndn_infer.forwarder.core.content_store import ContentStore
from ndn_infer.forwarder.core.cs_classes import CsClasses
from ndn_infer.forwarder.core.faces import Face
from ndn_infer.forwarder.core.parsing import parse_interest
from ndn_infer.forwarder.core.pipeline import Forwarder
from ndn_infer.forwarder.core.rib import CHILD_INHERIT, Route
from ndn_infer.forwarder.link.link_service import LinkService
from ndn_infer.namespace import KvBlock
from ndn_infer.ndn import packet, tlv
from ndn_infer.ndn.name import Name

NET: Final = ndn.from_uri("/ndn-infer/local")
MODEL: Final = hashlib.sha256(b"model of the trace").hexdigest()
DOMAIN: Final = "public"
HOT_DOMAIN: Final = "hot"
HINT: Final = "docs/trace.md says what a trace looks like"
UNBOUNDED: Final = 1 << 60
OBJECT: Final = bytes(64)
"""What stands for an object's bytes: all are of one size, so a bound in packets and one in bytes are the same."""
CONSUMERS: Final = 16
"""Faces of applications at each edge; requests take turns."""


# ---------------------------------------------------------------- the trace


@dataclass(frozen=True, slots=True)
class PromptArrival:
    """`at` in seconds; `blocks` from the prompt's first to its last."""

    at: float
    blocks: tuple[int, ...]


def read_trace(lines: Iterable[str]) -> list[PromptArrival]:
    """Requests in order of time. Raises UsageError with the number of the line that is none."""
    requests = []
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line, parse_constant=int)  # refuses NaN and Infinity
            request = PromptArrival(float(found["timestamp"]) / 1000, tuple(map(int, found["hash_ids"])))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise UsageError(f"line {number} of the trace is no request: {error!r}", hint=HINT) from error
        if request.blocks:
            requests.append(request)
    if not requests:
        raise UsageError("the trace has no request", hint=HINT)
    return sorted(requests, key=lambda request: request.at)


def distinct_blocks(requests: Iterable[PromptArrival]) -> int:
    return len({block for request in requests for block in request.blocks})


def asked_often(requests: Iterable[PromptArrival], at_least: int) -> frozenset[int]:
    """Blocks that so many of the requests have."""
    times = Counter(block for request in requests for block in request.blocks)
    return frozenset(block for block, number in times.items() if number >= at_least)


def heads(requests: Iterable[PromptArrival], depth: int) -> frozenset[int]:
    """The first blocks of all prompts: what a publisher knows without any count."""
    return frozenset(block for request in requests for block in request.blocks[:depth])


# ---------------------------------------------------------------- what is simulated


class Assignment(StrEnum):
    """Which edge a request goes to."""

    RANDOM = "random"  # users are anywhere
    SESSION = "session"  # who begins a prompt with the same block comes to the same edge
    AFFINITY = "affinity"  # where the longest prefix was served last; new prompts to the edge that served least


class CacheAdmission(StrEnum):
    """Which stores keep what comes by."""

    EVERYWHERE = "everywhere"  # every store on the path: what forwarders do
    STEPWISE = "stepwise"  # one store further down with each use: the edge keeps only what the core had (LCD)
    DEMOTED = "demoted"  # only the edge; what it evicts goes to the core, and comes back from there


@dataclass(frozen=True, slots=True)
class Setting:
    """`capacity` in blocks, of all stores together. `edges` 0: the core is the one central store. `edge_share` of the
    capacity is divided among the edges, the rest is the core's. `segments` packets make a block."""

    capacity: int
    edges: int = 4
    edge_share: float = 0.5
    assignment: Assignment = Assignment.SESSION
    admission: CacheAdmission = CacheAdmission.EVERYWHERE
    hot: frozenset[int] = frozenset()
    segments: int = 1
    seed: int = 1

    def edge_packets(self) -> int:
        return int(self.capacity * self.edge_share) // self.edges * self.segments if self.edges else 0

    def core_packets(self) -> int:
        return self.capacity * self.segments - self.edges * self.edge_packets()


class Level(IntEnum):
    EDGE = 0
    CORE = 1
    ORIGIN = 2


@dataclass(slots=True)
class Counts:
    """In blocks. `prefix_hits` are hits before the first miss of their request: all that a reader of whole prefixes
    can use. `joined`: asked for while already on the way, so that neither store nor origin was asked."""

    asked: int = 0
    edge_hits: int = 0
    core_hits: int = 0
    origin: int = 0
    joined: int = 0
    prefix_hits: int = 0
    by_edge: Counter[int] = field(default_factory=Counter)

    @property
    def hit_share(self) -> float:
        return (self.edge_hits + self.core_hits) / self.asked

    @property
    def edge_share(self) -> float:
        return self.edge_hits / self.asked

    def add(self, edge: int, levels: Sequence[Level]) -> None:
        """One request: where each of its blocks came from, in order of the prompt."""
        self.asked += len(levels)
        self.by_edge[edge] += len(levels)
        self.edge_hits += levels.count(Level.EDGE)
        self.core_hits += levels.count(Level.CORE)
        self.origin += levels.count(Level.ORIGIN)
        self.prefix_hits += levels.index(Level.ORIGIN) if Level.ORIGIN in levels else len(levels)


class Assigner:
    """Decides the edges of requests, one after the other."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._random = random.Random(setting.seed)
        self._served = dict.fromkeys(range(setting.edges), 0)
        self._last: dict[int, int] = {}

    def edge_of(self, request: PromptArrival) -> int:
        if not self._setting.edges:
            return 0
        if self._setting.assignment is Assignment.RANDOM:
            return self._random.randrange(self._setting.edges)
        if self._setting.assignment is Assignment.SESSION:
            digest = hashlib.sha256(str(request.blocks[0]).encode()).digest()
            return int.from_bytes(digest[:4], "big") % self._setting.edges
        known = next((self._last[block] for block in reversed(request.blocks) if block in self._last), None)
        edge = min(self._served, key=self._served.__getitem__) if known is None else known
        self._served[edge] += len(request.blocks)
        self._last.update(dict.fromkeys(request.blocks, edge))
        return edge


class Naming:
    """Names of a trace's blocks, as `ndn_infer.kv` has them. Hot ones are of a domain of their own: a class of Content
    Store entries is a prefix."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._known: dict[int, list[Name]] = {}

    def names(self, block: int) -> list[Name]:
        """One for each segment."""
        known = self._known.get(block)
        if known is None:
            base = self._base(HOT_DOMAIN if block in self._setting.hot else DOMAIN, block) + ndn.version(1)
            known = self._known[block] = [base + ndn.segment(number) for number in range(self._setting.segments)]
        return known

    def protected(self) -> list[Name]:
        """The prefix of hot blocks, where there are any."""
        return [ndn.prefix(self._base(HOT_DOMAIN, 0), -3)] if self._setting.hot else []

    @staticmethod
    def _base(domain: str, block: int) -> Name:
        return KvBlock(MODEL, domain, "bf16", f"{block:064x}", "0-29").to_name(NET)


# ---------------------------------------------------------------- stores, joined directly


class Path(Protocol):
    def ask(self, edge: int, name: Name) -> Level:
        """One Interest at an edge, and everything it causes."""


def replay(
    requests: Sequence[PromptArrival],
    setting: Setting,
    *,
    counted_from: int = 0,
    join: Callable[[Setting, Sequence[Name]], Path] | None = None,
) -> Counts:
    """All requests, one block after the other, nothing in flight at the same time. Requests before number
    `counted_from` fill the stores and are not counted. A block comes from where the farthest of its segments does."""
    naming, assigner, counts = Naming(setting), Assigner(setting), Counts()
    path = (join or StorePath)(setting, naming.protected())
    for number, request in enumerate(requests):
        edge = assigner.edge_of(request)
        levels = [max([path.ask(edge, name) for name in naming.names(block)]) for block in request.blocks]
        if number >= counted_from:
            counts.add(edge, levels)
    return counts


def make_stores(setting: Setting, protected: Sequence[Name]) -> tuple[list[ContentStore], ContentStore]:
    """The edges' and the core's."""

    def store(packets: int) -> ContentStore:
        return ContentStore(packets, UNBOUNDED, classes=CsClasses(protected=protected))

    return [store(setting.edge_packets()) for _ in range(setting.edges)], store(setting.core_packets())


class StorePath:
    """The stores alone, asked in the order in which forwarders would ask them: a hundred times the speed."""

    def __init__(self, setting: Setting, protected: Sequence[Name] = ()) -> None:
        self.edges, self.core = make_stores(setting, protected)
        self._admission = setting.admission
        if setting.admission is CacheAdmission.DEMOTED:
            for edge in self.edges:
                edge.second = Demotion(self.core)

    def ask(self, edge: int, name: Name) -> Level:
        if not self.edges:
            return self._ask_core(name)
        store = self.edges[edge]
        if self._admission is CacheAdmission.DEMOTED:
            return self._ask_demoted(store, name)
        if store.find(name, can_be_prefix=False, must_be_fresh=False, now=0.0) is not None:
            return Level.EDGE
        level = self._ask_core(name)
        if level is Level.CORE or self._admission is CacheAdmission.EVERYWHERE:
            store.insert(name, OBJECT, 0, 0.0)
        return level

    def _ask_core(self, name: Name) -> Level:
        if self.core.find(name, can_be_prefix=False, must_be_fresh=False, now=0.0) is not None:
            return Level.CORE
        self.core.insert(name, OBJECT, 0, 0.0)
        return Level.ORIGIN

    @staticmethod
    def _ask_demoted(store: ContentStore, name: Name) -> Level:
        second = store.second
        assert isinstance(second, Demotion)
        before = second.found
        if store.find(name, can_be_prefix=False, must_be_fresh=False, now=0.0) is not None:
            return Level.CORE if second.found > before else Level.EDGE
        store.insert(name, OBJECT, 0, 0.0)
        return Level.ORIGIN


class Demotion:
    """The core as the second tier of an edge: what the edge evicts it keeps, what the edge asks for it gives away."""

    def __init__(self, core: ContentStore) -> None:
        self._core = core
        self.found = 0

    def keep(self, name: Name, wire: bytes, fresh_until: float) -> None:
        self._core.insert(name, wire, 0, 0.0)

    def find(
        self, name: Name, *, can_be_prefix: bool, must_be_fresh: bool, now: float
    ) -> tuple[Name, bytes, float] | None:
        wire = self._core.find(name, can_be_prefix=can_be_prefix, must_be_fresh=must_be_fresh, now=now)
        if wire is None:
            return None
        self.found += 1
        self._core.erase(name, 1)
        return name, wire, 0.0

    def forget(self, name: Name) -> None:
        """Names here mean one content for ever: what others demoted is not old."""

    def erase(self, prefix: Name, limit: int) -> int:
        return self._core.erase(prefix, limit)


# ---------------------------------------------------------------- whole forwarders, in virtual time


class ForwarderPath:
    """Edge forwarders, a core forwarder, the origin behind it; delays in seconds, one way. Admission is forwarders':
    everywhere."""

    def __init__(
        self,
        setting: Setting,
        protected: Sequence[Name] = (),
        *,
        edge_delay_s: float = 0.0,
        origin_delay_s: float = 0.0,
    ) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Forwarder, Face, bytes]] = []
        self._numbers = count()
        self._random = random.Random(setting.seed)
        self._turn = count()
        self.edge_stores, self.core_store = make_stores(setting, protected)
        self.core = Forwarder(self.core_store, seed=setting.seed)
        self.edges = [Forwarder(store, seed=setting.seed) for store in self.edge_stores]
        self.delivered = self.origin_asked = 0
        up = self._face(self.core, lambda wire: self._answer(up, wire, origin_delay_s))
        self._route(self.core, up)
        for edge in self.edges:
            self._join(edge, self.core, edge_delay_s)
        entrances = self.edges or [self.core]
        self.consumers = [[self._face(at, self._deliver) for _ in range(CONSUMERS)] for at in entrances]

    def ask(self, edge: int, name: Name) -> Level:
        edge_hits, asked = sum(store.hits for store in self.edge_stores), self.origin_asked
        self.send(edge, next(self._turn) % CONSUMERS, name)
        self.run_until(float("inf"))
        if self.origin_asked > asked:
            return Level.ORIGIN
        return Level.EDGE if sum(store.hits for store in self.edge_stores) > edge_hits else Level.CORE

    def send(self, edge: int, consumer: int, name: Name) -> None:
        """An application's Interest, now."""
        wire, _ = packet.encode_interest(name, nonce=self._random.randbytes(4))
        self._later(0.0, (self.edges or [self.core])[edge], self.consumers[edge][consumer], wire)

    def run_until(self, until: float) -> None:
        """Everything that happens before `until`; PIT entries run out in time."""
        while self._events and self._events[0][0] < until:
            self.now, _, forwarder, face, wire = heapq.heappop(self._events)
            for one in (*self.edges, self.core):
                while (wake := one.next_wake()) is not None and wake <= self.now:
                    one.tick(wake)
            forwarder.receive(face, wire, self.now)
        if until != float("inf"):
            self.now = max(self.now, until)

    def _later(self, delay_s: float, forwarder: Forwarder, face: Face, wire: bytes) -> None:
        heapq.heappush(self._events, (self.now + delay_s, next(self._numbers), forwarder, face, wire))

    def _face(self, forwarder: Forwarder, transmit: Callable[[bytes], None]) -> Face:
        face = Face(forwarder.new_face_id(), "memory://", "memory://", LinkService(transmit))
        forwarder.add_face(face)
        return face

    def _join(self, edge: Forwarder, core: Forwarder, delay_s: float) -> None:
        up = self._face(edge, lambda wire: self._later(delay_s, core, down, wire))
        down = self._face(core, lambda wire: self._later(delay_s, edge, up, wire))
        self._route(edge, up)

    @staticmethod
    def _route(forwarder: Forwarder, face: Face) -> None:
        forwarder.rib.register(NET, Route(face.id, 0, 0, CHILD_INHERIT))

    def _answer(self, face: Face, wire: bytes, delay_s: float) -> None:
        self.origin_asked += 1
        data = packet.encode_data(parse_interest(wire).name, OBJECT)
        self._later(2 * delay_s, self.core, face, data)

    def _deliver(self, wire: bytes) -> None:
        self.delivered += wire[0] == tlv.DATA


def replay_timed(
    requests: Sequence[PromptArrival], setting: Setting, *, edge_delay_s: float, origin_delay_s: float
) -> Counts:
    """All requests at their times, every request's blocks at once, over whole forwarders with delays; a block is one
    packet. Where each came from is known in sum only: `prefix_hits` stays 0. RuntimeError: one was not delivered."""
    naming, assigner, counts = Naming(setting), Assigner(setting), Counts()
    path = ForwarderPath(setting, naming.protected(), edge_delay_s=edge_delay_s, origin_delay_s=origin_delay_s)
    for number, request in enumerate(requests):
        path.run_until(request.at)
        edge = assigner.edge_of(request)
        counts.asked += len(request.blocks)
        counts.by_edge[edge] += len(request.blocks)
        for block in request.blocks:
            path.send(edge, number % CONSUMERS, naming.names(block)[0])
    path.run_until(float("inf"))
    if path.delivered != counts.asked:
        raise RuntimeError(f"{path.delivered} of {counts.asked} packets were delivered")
    counts.edge_hits = sum(store.hits for store in path.edge_stores)
    counts.core_hits = path.core_store.hits
    counts.origin = path.origin_asked
    counts.joined = counts.asked - counts.edge_hits - counts.core_hits - counts.origin
    return counts


def replay_clairvoyant(requests: Sequence[PromptArrival], capacity: int) -> float:
    """Hit share of one store of `capacity` blocks that knows the future (Belady's MIN; what is used later than all it
    holds it does not keep)."""
    sequence = [block for request in requests for block in request.blocks]
    following: dict[int, int] = {}
    next_use = [0] * len(sequence)
    for at in range(len(sequence) - 1, -1, -1):
        next_use[at] = following.get(sequence[at], len(sequence))
        following[sequence[at]] = at
    held: dict[int, int] = {}
    farthest: list[tuple[int, int]] = []
    hits = 0
    for at, block in enumerate(sequence):
        hits += held.pop(block, None) is not None
        if next_use[at] == len(sequence):
            continue
        held[block] = next_use[at]
        heapq.heappush(farthest, (-next_use[at], block))
        while len(held) > capacity:
            use, other = heapq.heappop(farthest)
            if held.get(other) == -use:
                del held[other]
    return hits / len(sequence)
