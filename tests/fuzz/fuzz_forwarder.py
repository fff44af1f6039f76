"""Mutated packets against the codecs, the core in virtual time, and a running daemon; what breaks is told with the
fewest packets that break it.

    python -m tests.fuzz.fuzz_forwarder COUNT SEED [--codec|--core|--sockets]     without: all three, half codec

Codec and core go on after a finding, with a fresh core; every different finding is reported once, shortened, as lines
for a file in tests/fuzz/seeds/. Exit status 1 when there are any.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from tests.fuzz import socket_target
from tests.fuzz.codec_target import check
from tests.fuzz.core_target import CoreTarget
from tests.fuzz.mutator import Mutator

CHECK_EVERY: Final = 5000
FRESH_EVERY: Final = 50_000
"""After so many packets there is a new core: what is found can be brought about again from its beginning."""
SPRAY: Final = 60
REPORT_EVERY: Final = 500_000
MAX_TOLD: Final = 100
SHORTEN_S: Final = 30.0
NUMBERS: Final = re.compile(r"\d+")
CHECK: Final = b""
"""Stands in a history for the checks between packets, which are never empty."""


@dataclass
class Result:
    """`understood`: packets that some codec took, or that the core did not count as malformed. `findings` by what was
    raised and where: the packets, in order, that bring it about."""

    packets: int = 0
    understood: int = 0
    relayed: int = 0
    honest: int = 0
    seconds: float = 0.0
    rss_kib: tuple[int, int] = (0, 0)
    findings: dict[str, list[bytes]] = field(default_factory=dict)

    def __str__(self) -> str:
        growth = self.rss_kib[1] - self.rss_kib[0]
        rate = self.packets / max(self.seconds, 1e-9)
        return (
            f"{self.packets:,} packets in {self.seconds:.0f} s ({rate:,.0f}/s), {self.understood:,} understood, "
            f"{self.relayed:,} sent on, {self.honest} honest exchanges, memory {self.rss_kib[1]:,} KiB "
            f"({growth:+,} since a tenth of the way), {len(self.findings)} findings"
        )


def memory_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def signature(error: BaseException) -> str:
    """What was raised and where; the same for the same fault with other numbers."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).name}:{frame.name}: {NUMBERS.sub('N', str(error)[:100])}"


class _Progress:
    """Memory at a tenth and at the end; a line now and then in long runs."""

    def __init__(self, result: Result, count: int, name: str) -> None:
        self._result, self._count, self._name = result, count, name
        self._started = time.monotonic()
        self._early = 0

    def step(self, number: int) -> None:
        if number == self._count // 10:
            self._early = memory_kib()
        if number % REPORT_EVERY == 0 and number:
            elapsed = time.monotonic() - self._started
            text = f"{self._name}: {number:,} packets, {elapsed:.0f} s, {len(self._result.findings)} findings"
            print(text, file=sys.stderr, flush=True)

    def end(self) -> Result:
        self._result.packets = self._count
        self._result.seconds = time.monotonic() - self._started
        self._result.rss_kib = (self._early, memory_kib())
        return self._result


# ---------------------------------------------------------------- codec


def run_codec(count: int, seed: int) -> Result:
    mutator, result = Mutator(seed), Result()
    progress = _Progress(result, count, "codec")
    for number in range(count):
        progress.step(number)
        wire = mutator.packet()
        try:
            result.understood += check(wire)
        except Exception as error:
            known = result.findings.get(signature(error))
            if known is None or len(wire) < len(known[0]):
                result.findings[signature(error)] = [wire]
    return progress.end()


# ---------------------------------------------------------------- core


def replay_core(packets: list[bytes]) -> None:
    """All packets to a fresh core, with the checks that were made between, then everything is checked. Raises what is
    found."""
    target = CoreTarget(1)
    for wire in [*packets, CHECK]:
        _feed(target, wire)


def _feed(target: CoreTarget, wire: bytes) -> None:
    if wire == CHECK:
        target.check_bounds()
        target.check_service()
    else:
        target.feed_any(wire)


def run_core(count: int, seed: int) -> Result:
    mutator, result = Mutator(seed), Result()
    progress = _Progress(result, count, "core")
    target, history = CoreTarget(1), list[bytes]()
    for number in range(count):
        progress.step(number)
        history.append(mutator.packet())
        fresh = number % FRESH_EVERY == FRESH_EVERY - 1 or number == count - 1
        try:
            _feed(target, history[-1])
            if fresh or number % CHECK_EVERY == CHECK_EVERY - 1:
                history.append(CHECK)
                _feed(target, CHECK)
                result.honest += 1
        except Exception as error:
            what, fresh = signature(error), True
            if what not in result.findings:
                result.findings[what] = shorten(history, partial(_raises, what))
        if fresh:
            result.relayed += target.relayed
            result.understood -= target.malformed
            target, history = CoreTarget(1), []
    result.understood += count
    return progress.end()


def _raises(what: str, packets: list[bytes]) -> bool:
    try:
        replay_core(packets)
    except Exception as error:
        return signature(error) == what
    return False


def shorten(packets: list[bytes], fails: Callable[[list[bytes]], bool]) -> list[bytes]:
    """The packets without those that are not needed to fail, as far as halving finds out in SHORTEN_S; all when they do
    not fail again from the start."""
    deadline = time.monotonic() + SHORTEN_S
    if fails(packets[-1:]):
        return packets[-1:]
    if not fails(packets):
        return packets
    size = len(packets) // 2
    while size:
        at = 0
        while at < len(packets) and time.monotonic() < deadline:
            fewer = packets[:at] + packets[at + size :]
            if fails(fewer):
                packets = fewer
            else:
                at += size
        size //= 2
    return packets


# ---------------------------------------------------------------- sockets


async def _run_sockets(count: int, seed: int) -> Result:
    rng, mutator, result = random.Random(seed), Mutator(seed, creating=False), Result()
    progress = _Progress(result, count, "sockets")
    sent = 0
    async with socket_target.running() as target:
        while sent < count:
            batch = mutator.packets(min(rng.randint(1, SPRAY), count - sent))
            await target.spray(rng.choice(socket_target.KINDS), batch)
            for _ in batch:
                progress.step(sent)
                sent += 1
                if sent % CHECK_EVERY == 0:
                    await target.check_service(rng)
        await target.check_service(rng)
        await target.check_end()
        counters = target.daemon.core.counters
        result.honest = target.honest
        result.relayed = counters.out_data + counters.out_interests
        result.understood = counters.in_interests + counters.in_data + counters.in_nacks
    return progress.end()


def run_sockets(count: int, seed: int) -> Result:
    """Raises what is found: over sockets nothing tells which packet it was."""
    return asyncio.run(_run_sockets(count, seed))


# ---------------------------------------------------------------- command line


RUNS: Final = {"codec": run_codec, "core": run_core, "sockets": run_sockets}
SHARES: Final = {"codec": 0.5, "core": 0.4, "sockets": 0.1}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int)
    for kind in RUNS:
        parser.add_argument(f"--{kind}", dest="kinds", action="append_const", const=kind)
    options = parser.parse_args(arguments)
    found = 0
    for kind in options.kinds or RUNS:
        result = RUNS[kind](int(options.count * (1 if options.kinds else SHARES[kind])), options.seed)
        print(f"{kind}: {result}", flush=True)
        found += len(result.findings)
        for what, packets in result.findings.items():
            print(f"# {kind}: {what} ({len(packets)} packets)", flush=True)
            print(*(wire.hex() for wire in packets[-MAX_TOLD:]), sep="\n", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
