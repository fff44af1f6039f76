"""Faults against a forwarder in its own process, while an honest consumer and producer go on working.

    python -m tests.load.faults [SECONDS [FAULT...]]      a table; the last line is JSON

Owns: which faults there are, what has to stay bounded in each, how honest delays are measured. A fault fails when an
honest Interest is not answered within its retransmissions, when a bound does not hold, or when something is left of it
afterwards. Delays are told, never judged.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from ndn_infer import ndn
from ndn_infer.config import ForwarderConfig
from tests.load.peer import Peer, Unanswered, constant_data, open_peer
from tests.load.process import ForwarderProcess, Sizes, running_forwarder, settled

PACE_S: Final = 0.01
EVERY_S: Final = 0.5
TRIES: Final = 12
BEFORE_S: Final = 1.0
QUEUE_MIB: Final = 1
CS_MIB: Final = 8
PIT_CAPACITY: Final = 200_000
SMALL_PIT: Final = 20_000
UDP_FACES: Final = ForwarderConfig().max_udp_faces
LARGE: Final = "/honest/large"
SETTINGS: Final[Mapping[str, object]] = {
    "face_queue_mib": QUEUE_MIB, "cs_capacity_mib": CS_MIB, "pit_capacity": PIT_CAPACITY, "udp_idle_timeout_s": 1.0,
}  # fmt: skip
MIB: Final = 1024


@dataclass(frozen=True)
class Delays:
    """Of honest Interests: how many were asked and answered, in how many transmissions, milliseconds."""

    asked: int
    answered: int
    transmissions: int
    p50_ms: float
    p99_ms: float
    worst_ms: float


@dataclass(frozen=True)
class Outcome:
    """What a fault did. `worst` are the largest sizes while it lasted; `bounds` (value, limit) by what was bounded."""

    fault: str
    before: Delays
    during: Delays
    at_first: Sizes
    worst: Sizes
    at_last: Sizes
    attack: dict[str, float]
    complaints: list[str] = field(default_factory=list)
    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)

    def failures(self) -> list[str]:
        """What should not have been; empty when all is well."""
        found = [f"{key}: {value:,} > {limit:,}" for key, (value, limit) in self.bounds.items() if value > limit]
        for key, delays in (("before", self.before), ("during", self.during)):
            if delays.answered < delays.asked or not delays.asked:
                found.append(f"{delays.answered} of {delays.asked} honest Interests answered {key}")
        for key in ("faces", "routes", "pit", "descriptors"):
            left, had = getattr(self.at_last, key), getattr(self.at_first, key)
            if left > had:
                found.append(f"{left} {key} left of it, {had} before")
        return found + [f"the forwarder's log: {line}" for line in self.complaints]


Bounds = Callable[[Outcome], dict[str, tuple[float, float]]]


def _memory(mib: float) -> Bounds:
    """Resident memory grows by no more than this."""
    return lambda outcome: {"MiB more": (round((outcome.worst.rss_kib - outcome.at_first.rss_kib) / MIB, 1), mib)}


def _pit(limit: int) -> Bounds:
    return lambda outcome: {"pending Interests": (outcome.worst.pit, limit)}


def _faces(limit: int) -> Bounds:
    return lambda outcome: {"faces": (outcome.worst.faces, limit + outcome.at_first.faces)}


def _all(*bounds: Bounds) -> Bounds:
    return lambda outcome: {key: value for bound in bounds for key, value in bound(outcome).items()}


@dataclass(frozen=True)
class Fault:
    """`attack` and `options` name what attacks.py does, `also` what another process does beside it; both are killed
    every `kill_s` seconds and started again. The forwarder may open `descriptors` more than it has at first. It takes
    `at_least_s` until the worst has come. Afterwards all is gone `within_s`."""

    attack: str
    options: dict[str, Any]
    bounds: Bounds
    also: tuple[str, dict[str, Any]] | None = None
    settings: dict[str, object] = field(default_factory=dict)
    kill_s: float | None = None
    at_least_s: float = 0.0
    descriptors: int | None = None
    watch_s: float = 0.1
    within_s: float = 20.0


# Per connection: 1 MiB of queue beyond which packets are dropped, and what lies in buffers of the process.
_SLOW_MIB: Final = 4 * (QUEUE_MIB + 1) + CS_MIB + 8
# A pending Interest costs 1.3 kB (measured): entry, two records, their dictionaries, the packet. Allowed are 2.2.
_PENDING_MIB: Final = 100_000 * 2.2 / 1024

FAULTS: Final[dict[str, Fault]] = {
    "slow reader": Fault("slow_reader", {"prefix": LARGE}, _memory(_SLOW_MIB)),
    "half-open": Fault("half_open", {"count": 300}, _all(_faces(300), _memory(16))),
    "killed in mid-packet": Fault("partial", {"count": 30}, _all(_faces(30), _memory(16)), kill_s=0.3),
    "100,000 pending": Fault(
        "pending", {"count": 100_000, "lifetime_ms": 2500}, _all(_pit(PIT_CAPACITY), _memory(_PENDING_MIB + 20)),
        at_least_s=3.0,
    ),
    "PIT overflow": Fault(
        "pending", {"count": 0, "lifetime_ms": 1000, "again": True}, _all(_pit(SMALL_PIT), _memory(80)),
        settings={"pit_capacity": SMALL_PIT},
    ),
    "PIT overflow, reconnecting": Fault(
        "pending", {"count": 0, "lifetime_ms": 8000, "again": True, "reconnect": 7500},
        _all(_pit(SMALL_PIT), _memory(80)), settings={"pit_capacity": SMALL_PIT}, at_least_s=1.5,
    ),
    "flood without route": Fault("flood", {"prefix": "/nowhere"}, _all(_pit(1000), _memory(40))),
    "flood of hits": Fault("flood", {"prefix": LARGE, "distinct": False}, _memory(_SLOW_MIB + 16)),
    "malformed streams": Fault("garbage", {}, _all(_faces(200), _memory(24))),
    "incomplete fragments": Fault("fragments", {"ports": 32}, _all(_faces(32), _memory(40))),
    "faces come and go": Fault("churn", {"count": 1 << 30}, _all(_faces(1100), _memory(24))),
    "UDP from everywhere": Fault(
        "udp_faces", {"count": 5000}, _all(_faces(UDP_FACES), _memory(64)), at_least_s=2.0, watch_s=0.5
    ),
    "pending and churn": Fault(
        "pending", {"count": 30_000, "lifetime_ms": 2000}, _all(_pit(PIT_CAPACITY), _memory(140)),
        also=("churn", {"count": 1 << 30}),
    ),
    "out of descriptors": Fault("hoard", {"count": 120}, _all(_faces(40), _memory(16)), descriptors=40),
    "many routes": Fault("routes", {"count": 2000}, _memory(40)),
    "dataset queries": Fault("queries", {}, _all(_faces(210), _memory(60))),
}  # fmt: skip


# ---------------------------------------------------------------- the honest pair


class HonestPair:
    """A producer on TCP and a consumer on a Unix socket; every Interest has a name of its own."""

    def __init__(self, producer: Peer, consumer: Peer) -> None:
        self._producer, self._consumer = producer, consumer
        self._next = 0

    @classmethod
    async def join(cls, forwarder: ForwarderProcess) -> HonestPair:
        producer, consumer = await open_peer(forwarder.uris["tcp"]), await open_peer(forwarder.uris["unix"])
        large = ndn.from_uri(LARGE)
        producer.answer = lambda name: constant_data(
            name, 8000 if name.startswith(large) else 100, freshness_ms=60_000 if name.startswith(large) else 0
        )
        await producer.register("/honest")
        return cls(producer, consumer)

    async def warm(self) -> None:
        """Bring what slow readers ask for into the store."""
        for number in range(25):
            await self._consumer.ask(ndn.from_uri(f"{LARGE}/{number}"))

    def leave(self) -> None:
        self._producer.close()
        self._consumer.close()

    async def measure(self, seconds: float) -> Delays:
        """An Interest every PACE_S, each asked again every EVERY_S until answered."""
        loop = asyncio.get_running_loop()
        started, tasks = loop.time(), []
        while loop.time() < started + seconds:
            tasks.append(loop.create_task(self._once()))
            await asyncio.sleep(max(0.0, started + len(tasks) * PACE_S - loop.time()))
        found = await asyncio.gather(*tasks)
        delays = sorted(delay for delay, _ in found if delay is not None) or [float("nan")]
        return Delays(
            len(tasks), sum(delay is not None for delay, _ in found), sum(count for _, count in found),
            *(round(delays[int(share * (len(delays) - 1))] * 1000, 2) for share in (0.5, 0.99, 1.0)),
        )  # fmt: skip

    async def _once(self) -> tuple[float | None, int]:
        """Delay in seconds (None: unanswered) and transmissions."""
        self._next += 1
        began = time.perf_counter()
        try:
            await self._consumer.ask(
                ndn.from_uri("/honest/small") + ndn.segment(self._next), every_s=EVERY_S, tries=TRIES
            )
        except Unanswered:
            return None, TRIES
        delay = time.perf_counter() - began
        return delay, 1 + int(delay / EVERY_S)


# ---------------------------------------------------------------- running


class Attackers:
    """Attacking processes. `begin` returns when they are at it, `end` gives what they told."""

    def __init__(self, fault: Fault, uris: Mapping[str, str]) -> None:
        attacks = [(fault.attack, fault.options), *([fault.also] if fault.also is not None else [])]
        self._commands = [(name, json.dumps({**uris, **options})) for name, options in attacks]
        self._running: list[asyncio.subprocess.Process] = []

    async def begin(self) -> None:
        for command in self._commands:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.load.attacks", *command,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            assert process.stdout is not None
            self._running.append(process)
            assert await process.stdout.readline() == b"GO\n"

    async def kill(self) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        self._running.clear()

    async def end(self) -> dict[str, float]:
        report: dict[str, float] = {}
        for process in self._running:
            output, _ = await asyncio.wait_for(process.communicate(b""), 30)
            report |= json.loads(output)
        self._running.clear()
        return report


@contextlib.asynccontextmanager
async def attackers(fault: Fault, uris: Mapping[str, str]) -> AsyncIterator[Attackers]:
    running = Attackers(fault, uris)
    try:
        yield running
    finally:
        await running.kill()


async def _watch(forwarder: ForwarderProcess, worst: list[Sizes], every_s: float) -> None:
    """The largest of every size, until cancelled. Not too often where there are many faces: their list is long."""
    while True:
        now = await forwarder.sizes()
        worst[0] = Sizes(**{key: max(value, getattr(worst[0], key)) for key, value in asdict(now).items()})
        await asyncio.sleep(every_s)


async def _kill_again(running: Attackers, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        await running.kill()
        await running.begin()


async def run_fault(name: str, seconds: float, *, before_s: float = BEFORE_S) -> Outcome:
    """One fault against a forwarder of its own. Raises AssertionError when the forwarder dies."""
    fault = FAULTS[name]
    async with running_forwarder(**{**SETTINGS, **fault.settings}) as forwarder:
        pair = await HonestPair.join(forwarder)
        await pair.warm()
        if fault.descriptors is not None:
            forwarder.limit_descriptors(fault.descriptors)
        before = await pair.measure(before_s)
        at_first = await settled(forwarder, replace(await forwarder.sizes(), pit=1))
        worst = [at_first]
        async with attackers(fault, forwarder.uris) as running:
            await running.begin()
            tasks = [asyncio.create_task(_watch(forwarder, worst, fault.watch_s))]
            if fault.kill_s is not None:
                tasks.append(asyncio.create_task(_kill_again(running, fault.kill_s)))
            during = await pair.measure(max(seconds, fault.at_least_s))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            attack = {} if fault.kill_s is not None else await running.end()
        at_last = await settled(forwarder, at_first, within_s=fault.within_s)
        worst = [replace(worst[0], rss_kib=max(forwarder.peak_kib(), worst[0].rss_kib))]
        pair.leave()
        late = await HonestPair.join(forwarder)
        assert (await late.measure(PACE_S)).answered, "one that came later was not served"
        late.leave()
        complaints = forwarder.complaints()
    outcome = Outcome(name, before, during, at_first, worst[0], at_last, attack, complaints)
    return replace(outcome, bounds=fault.bounds(outcome))


# ---------------------------------------------------------------- command line


def row(outcome: Outcome) -> str:
    before, during = outcome.before, outcome.during
    bounded = ", ".join(f"{key} {value:,} (of {limit:,.0f})" for key, (value, limit) in outcome.bounds.items())
    return (
        f"{outcome.fault:26} {before.p50_ms:7.1f} {before.p99_ms:7.1f} {during.p50_ms:8.1f} {during.p99_ms:8.1f} "
        f"{during.worst_ms:8.1f} {during.answered:5}/{during.asked:<5} {bounded}"
    )


def main(arguments: list[str]) -> int:
    seconds = float(arguments[0]) if arguments else 10.0
    names = arguments[1:] or list(FAULTS)
    print(f"{'honest delay, ms':26} {'p50':>7} {'p99':>7} {'p50':>8} {'p99':>8} {'worst':>8} {'answered':>11} bounded")
    print(f"{'fault':26} {'before':>15} {'during':>17}", flush=True)
    outcomes, failed = [], 0
    for name in names:
        outcome = asyncio.run(run_fault(name, seconds))
        outcomes.append(asdict(outcome) | {"failures": outcome.failures()})
        failed += bool(outcome.failures())
        print(row(outcome), *(f"\n    FAILED: {text}" for text in outcome.failures()), flush=True)
    print(json.dumps(outcomes))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
