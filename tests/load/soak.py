"""A long mixed load on a forwarder in its own process: does it stay as large as its bounds, is everybody served?

    python -m tests.load.soak SECONDS CLIENTS      sizes at tenths of the way; the last line is JSON

Owns: the mix of clients and what has to hold at the end. All clients are in this process, in one event loop; windows
are small, so the forwarder is busy, not overrun. Content Store and queues are small enough to be full early.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Final

from ndn_infer import ndn
from ndn_infer.forwarder.management.encoding import ControlParameters
from ndn_infer.forwarder.management.manager import MAX_REMEMBERED_SEGMENTS
from ndn_infer.ndn import packet
from tests.load.peer import SUCCESS, Peer, Unanswered, constant_data, open_peer
from tests.load.process import ForwarderProcess, Sizes, running_forwarder, settled

CS_PACKETS: Final = 2000
CS_MIB: Final = 4
SETTINGS: Final[dict[str, object]] = {
    "cs_capacity_packets": CS_PACKETS, "cs_capacity_mib": CS_MIB, "pit_capacity": 20_000, "face_queue_mib": 1,
    "udp_idle_timeout_s": 2.0,
}  # fmt: skip
WINDOW: Final = 4
EVERY_S: Final = 1.0
TRIES: Final = 8
SMALL: Final = 100
LARGE: Final = 8000
HOT_NAMES: Final = 200
MAX_DELAYS: Final = 200_000
LATE_MIB: Final = 10.0
"""What a process that does not leak may still grow after the first tenth: heap that is cut up, tables of Python."""
DATASETS_MIB: Final = MAX_REMEMBERED_SEGMENTS * 8.0 / 1024
"""Segments of datasets are remembered up to a number of them: all that was queried, until there are so many."""


@dataclass
class Tally:
    """What the clients did. `unanswered` had all their retransmissions; `wrong` is Data that was not what was asked."""

    done: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    again: int = 0
    queried_bytes: int = 0
    delays: list[float] = field(default_factory=list)

    def delay_ms(self, share: float) -> float:
        ordered = sorted(self.delays) or [float("nan")]
        return round(ordered[int(share * (len(ordered) - 1))] * 1000, 2)


@dataclass(frozen=True)
class Report:
    """`early` at a tenth of the time, `end` at its end, `after` when all clients had gone."""

    seconds: float
    clients: int
    packets: int
    rate: float
    p50_ms: float
    p99_ms: float
    done: dict[str, int]
    unanswered: dict[str, int]
    wrong: int
    cpu_share: float
    queried_mib: float
    first: Sizes
    early: Sizes
    end: Sizes
    after: Sizes
    complaints: list[str]

    @property
    def growth_mib(self) -> float:
        return round((self.end.rss_kib - self.early.rss_kib) / 1024, 2)

    @property
    def bound_mib(self) -> float:
        return round(LATE_MIB + min(self.queried_mib, DATASETS_MIB), 2)

    def failures(self) -> list[str]:
        found = []
        if self.growth_mib > self.bound_mib:
            found.append(f"grew by {self.growth_mib} MiB after a tenth of the time, allowed are {self.bound_mib}")
        if self.unanswered or self.wrong:
            found.append(f"unanswered: {self.unanswered}, wrong: {self.wrong}")
        if self.end.cs > CS_PACKETS or self.end.pit > self.clients * WINDOW * 4:
            found.append(f"tables beyond their bounds: {self.end}")
        for key in ("faces", "routes", "pit", "descriptors"):
            if getattr(self.after, key) > getattr(self.first, key):
                found.append(f"{key} left when all clients had gone: {self.after}")
        found += [f"the forwarder's log: {line}" for line in self.complaints]
        missing = sorted(set(KINDS) - set(self.done))
        return [*found, f"nothing done: {missing}"] if missing and self.clients >= len(KINDS) else found


# ---------------------------------------------------------------- clients


class Client:
    """One client's life: `run` until cancelled."""

    def __init__(self, number: int, forwarder: ForwarderProcess, tally: Tally) -> None:
        self.number = number
        self.rng = random.Random(number)
        self._forwarder = forwarder
        self._tally = tally
        self._peers: list[Peer] = []

    async def open(self, kind: str) -> Peer:
        peer = await open_peer(self._forwarder.uris[kind])
        self._peers.append(peer)
        return peer

    def close(self) -> None:
        for peer in self._peers:
            peer.close()
        self._peers.clear()

    async def consume(self, kind: str, transport: str, names: Callable[[], bytes], size: int) -> None:
        """WINDOW Interests in flight, for ever."""
        peer = await self.open(transport)
        await asyncio.gather(*(self._ask(kind, peer, names, size) for _ in range(WINDOW)))

    async def _ask(self, kind: str, peer: Peer, names: Callable[[], bytes], size: int) -> None:
        tally = self._tally
        while True:
            name, began = names(), time.perf_counter()
            try:
                wire = await peer.ask(name, every_s=EVERY_S, tries=TRIES)
            except Unanswered:
                tally.unanswered[kind] += 1
                continue
            delay = time.perf_counter() - began
            tally.done[kind] += 1
            tally.again += delay > EVERY_S
            if len(tally.delays) < MAX_DELAYS:
                tally.delays.append(delay)
            else:
                tally.delays[self.rng.randrange(MAX_DELAYS)] = delay
            content = packet.decode_data(wire).content
            tally.wrong += len(content) != size or not content.startswith(name[:size])

    def fresh_names(self, prefix: str) -> Callable[[], bytes]:
        """Never the same twice."""
        base, numbers = ndn.from_uri(f"{prefix}/{self.number}"), itertools.count()
        return lambda: base + ndn.segment(next(numbers))

    # ------------------------------------------------------------ kinds of clients

    async def hits(self) -> None:
        base = ndn.from_uri("/soak/hot")
        await self.consume("hits", "unix", lambda: base + ndn.segment(self.rng.randrange(HOT_NAMES)), SMALL)

    async def small_relay(self) -> None:
        await self.consume("small_relay", "tcp", self.fresh_names("/soak/small"), SMALL)

    async def large_relay(self) -> None:
        await self.consume("large_relay", "unix", self.fresh_names("/soak/large"), LARGE)

    async def large_udp(self) -> None:
        """Data in fragments, from a producer whose Data come in fragments too."""
        await self.consume("large_udp", "udp", self.fresh_names("/soak/udp"), LARGE)

    async def websocket(self) -> None:
        await self.consume("websocket", "ws", self.fresh_names("/soak/large"), LARGE)

    async def serve_and_leave(self) -> None:
        """Register, answer somebody a few times, withdraw or just go, and come again."""
        for turn in itertools.count():
            producer = await self.open(self.rng.choice(("unix", "tcp", "udp")))
            consumer = await self.open(self.rng.choice(("unix", "tcp")))
            producer.answer = lambda name: constant_data(name, SMALL)
            uri = f"/soak/come-and-go/{self.number}/{turn}"
            prefix = ndn.from_uri(uri)
            await producer.register(uri)
            for number in range(5):
                await consumer.ask(prefix + ndn.segment(number), every_s=EVERY_S, tries=TRIES)
            if turn % 2:
                await producer.command("rib", "unregister", ControlParameters(name=prefix))
            self.close()
            self._tally.done["serve_and_leave"] += 1
            await asyncio.sleep(0.02)

    async def manage(self) -> None:
        """What an operator's tools ask, and a strategy that changes."""
        peer = await self.open("unix")
        strategies = itertools.cycle(("multicast", "best-route"))
        prefix = ndn.from_uri(f"/soak/strategy/{self.number}")
        for path in itertools.cycle(("status/general", "faces/list", "rib/list", "fib/list", "cs/info")):
            self._tally.queried_bytes += len(await peer.dataset(path))
            strategy = ndn.from_uri(f"/localhost/nfd/strategy/{next(strategies)}")
            body = ControlParameters(name=prefix, strategy=strategy)
            assert await peer.command("strategy-choice", "set", body) == SUCCESS
            self._tally.done["manage"] += 1
            await asyncio.sleep(0.05)


KINDS: Final[dict[str, Callable[[Client], Awaitable[None]]]] = {
    kind.__name__: kind
    for kind in (
        Client.hits, Client.small_relay, Client.large_relay, Client.large_udp, Client.serve_and_leave, Client.websocket,
        Client.manage,
    )
}  # fmt: skip


async def _producers(forwarder: ForwarderProcess) -> list[Peer]:
    """One for each prefix that is asked for all the time."""
    peers = []
    for prefix, transport, size, freshness_ms in (
        ("/soak/hot", "tcp", SMALL, 3_600_000), ("/soak/small", "unix", SMALL, 0), ("/soak/large", "tcp", LARGE, 1000),
        ("/soak/udp", "udp", LARGE, 0),
    ):  # fmt: skip
        peer = await open_peer(forwarder.uris[transport])
        peer.answer = lambda name, size=size, freshness_ms=freshness_ms: constant_data(  # type: ignore[misc]
            name, size, freshness_ms=freshness_ms
        )
        await peer.register(prefix)
        peers.append(peer)
    return peers


# ---------------------------------------------------------------- running


async def soak(seconds: float, clients: int, tell: Callable[[str], None] = lambda text: None) -> Report:
    """Raises AssertionError when the forwarder dies, and whatever ends a client."""
    async with running_forwarder(**SETTINGS) as forwarder:
        first = await forwarder.sizes()
        producers, tally = await _producers(forwarder), Tally()
        kinds = list(KINDS.values())
        members = [Client(number, forwarder, tally) for number in range(clients)]
        tasks = [asyncio.ensure_future(kinds[client.number % len(kinds)](client)) for client in members]
        started, sizes, cpu_s = time.monotonic(), [], forwarder.cpu_s()
        try:
            for tenth in range(1, 11):
                left = started + seconds * tenth / 10 - time.monotonic()
                done, _ = await asyncio.wait(tasks, timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                sizes.append(await forwarder.sizes())
                tell(f"{tenth * 10:3} %  {sum(tally.done.values()):,} done  {sizes[-1]}")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        elapsed = time.monotonic() - started
        cpu_s = forwarder.cpu_s() - cpu_s
        for member in members:
            member.close()
        for peer in producers:
            peer.close()
        after, complaints = await settled(forwarder, first), forwarder.complaints()
    total = sum(tally.done.values())
    return Report(
        round(elapsed, 1), clients, total, round(total / elapsed), tally.delay_ms(0.5), tally.delay_ms(0.99),
        dict(tally.done), dict(tally.unanswered), tally.wrong, round(cpu_s / elapsed, 2),
        round(tally.queried_bytes / (1 << 20), 2), first, sizes[0], sizes[-1], after, complaints,
    )  # fmt: skip


def main(seconds: float, clients: int) -> int:
    report = asyncio.run(soak(seconds, clients, lambda text: print(text, flush=True)))
    failures = report.failures()
    print(
        f"{report.packets:,} exchanges, {report.rate:,.0f}/s, delay p50 {report.p50_ms} ms, p99 {report.p99_ms} ms, "
        f"{report.cpu_share:.0%} of a core; "
        f"memory {report.early.rss_kib:,} KiB at 10 %, {report.end.rss_kib:,} KiB at 100 %: {report.growth_mib:+} MiB "
        f"(allowed {report.bound_mib})"
    )
    print(*(f"FAILED: {text}" for text in failures), sep="\n")
    print(json.dumps(asdict(report) | {"growth_mib": report.growth_mib, "failures": failures}))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2])))
