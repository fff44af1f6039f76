"""A long mixed load on a gateway in its own process: right codes, nothing left behind, nobody crashed.

    python -m tests.load.gateway --seconds 600 --clients 100      the last line is JSON; status 1 when it has faults

Brings up a network and a gateway. Owns: the sum of what clients did, and what has to hold at the end. What clients do:
gateway_clients.py. Prepared models come from NDNINFER_TEST_CACHE, where it is set.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from tests.daemons import RunningNetwork, run_network, stop, wait_ready
from tests.load.gateway_clients import KEYS, Visitor, left_after
from tests.load.watch import Look, look

SAMPLES: Final = 20
"""Looks at all processes while the load lasts."""
TOLD: Final = 20
"""Lines of a log that are told of a wrong answer."""

IDLE_S: Final = 60.0
REQUEST_ID: Final = re.compile(r"load-\d+-\d+")
LATE_MIB: Final = 24.0
"""What a process that does not leak may still grow after the first fifth: tables, caches up to their bounds."""
LATE_DESCRIPTORS: Final = 8
LEAVING_S: Final = 1.5
"""Tokens decoded for nobody, as time at the speed of that answer."""


@dataclass(frozen=True)
class Load:
    """How long, how many clients, and how they choose. `patience_s`: in which each answer must have come; `kept_s`: how
    long producers keep what nobody reads (producer.kept_s)."""

    seconds: float
    clients: int
    seed: int = 0
    patience_s: float = 180.0
    kept_s: float = 30.0


@dataclass
class Report:
    """`wrong`: answers with a status that the request must not have, or a stream that did not end as it should; `late`:
    answers that did not come in time. Sizes of the gateway's process: before the load, at a fifth of it, when all had
    gone. `after_leaving_s`: tokens that were decoded after a lone reader had left, as seconds at the speed of its
    answer."""

    seconds: float
    clients: int
    done: dict[str, int]
    statuses: dict[str, int]
    wrong: list[str]
    late: list[str] = field(default_factory=list)
    mib: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    over_time: list[dict[str, float]] = field(default_factory=list)
    """Seconds since the load began, and MiB of each process then, the network's too."""
    running_at_end: int = -1
    after_leaving_s: list[float] = field(default_factory=list)
    log_errors: list[str] = field(default_factory=list)
    of_wrong: list[str] = field(default_factory=list)
    """What the logs have on the ids of wrong answers."""
    alive: bool = False

    def faults(self, *, timed: bool) -> list[str]:
        """What must not be. `timed`: also what a busy machine can be at fault for."""
        found = [f"wrong answers: {self.wrong[:3]}"] if self.wrong else []
        found += [] if self.alive else ["the gateway has ended"]
        found += [f"log: {self.log_errors[:3]}"] if self.log_errors else []
        found += [f"{self.running_at_end} streams are still open"] if self.running_at_end else []
        if self.descriptors[-1] > self.descriptors[0] + LATE_DESCRIPTORS:
            found.append(f"descriptors: {self.descriptors}")
        if self.mib[-1] > self.mib[1] + LATE_MIB:
            found.append(f"memory: {self.mib} MiB")
        if timed and self.late:
            found.append(f"{len(self.late)} answers did not come in time: {self.late[:3]}")
        if timed and max(self.after_leaving_s, default=0.0) > LEAVING_S:
            found.append(f"decoded for nobody: {self.after_leaving_s} s")
        return found


def sizes(process: subprocess.Popen[str]) -> Look:
    return look(process.pid)


def measured(load: Load, folder: Path, cache: Path) -> Report:
    with ExitStack() as ends:
        kept = f"producer.kept_s={load.kept_s}"
        network = ends.enter_context(
            run_network(folder, cache, "--functions", "tokenize,prefill,decode", "--set", kept)
        )
        assert network.run("domain", "create", "acme").returncode == 0
        keys = folder / "api-keys"
        keys.touch(0o600)
        keys.write_text("".join(f"{key} {words}\n" for key, words in KEYS.items()))
        log = ends.enter_context((folder / "gateway.log").open("w"))
        process = subprocess.Popen(
            [sys.executable, "-m", "ndn_infer", "gateway", "--port", "0", "--no-embedded", "--api-key-file", str(keys),
             "--set", f"gateway.requests={2 * load.clients}", "--set", "gateway.header_s=3",
             "--set", "gateway.body_kib=64", "--set", "log.level=info", "--set", "gateway.answers=1024"],
            env=network.environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
        ends.callback(stop, process)
        lines: list[str] = []
        wait_ready(process, lines, folder / "gateway.log")
        report = asyncio.run(_loaded(network, process, lines[-1].split()[1], load))
        report.alive = process.poll() is None
        lines = (folder / "gateway.log").read_text().splitlines()
        report.log_errors = [line for line in lines if "Traceback" in line or " failed" in line][:TOLD]
        ids = [found for words in report.wrong for found in REQUEST_ID.findall(words)]
        report.of_wrong = [line for line in lines if any(one in line for one in ids)][:TOLD]
        report.of_wrong += (folder / "up.log").read_text().splitlines()[-TOLD:] if report.wrong else []
        return report


async def _loaded(network: RunningNetwork, process: subprocess.Popen[str], url: str, load: Load) -> Report:
    report = Report(load.seconds, load.clients, {}, {}, [])
    connector = aiohttp.TCPConnector(limit=0)
    done: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(load.patience_s)) as session:
        visitors = [
            Visitor(url, session, random.Random(f"{load.seed} {number}"), number) for number in range(report.clients)
        ]
        await visitors[0].stream()
        looks = [sizes(process)]
        deadline = time.monotonic() + report.seconds
        work = [asyncio.ensure_future(visitor.until(deadline)) for visitor in visitors]
        sampling = asyncio.ensure_future(_sample(network, process, report))
        await asyncio.sleep(report.seconds / 5)
        looks.append(sizes(process))
        await asyncio.gather(*work)
        sampling.cancel()
        for visitor in visitors:
            done += visitor.done
            statuses += visitor.statuses
            report.wrong += visitor.wrong
            report.late += visitor.late
        report.done, report.statuses = dict(sorted(done.items())), dict(sorted(statuses.items()))
        report.running_at_end = await asyncio.to_thread(_running, network)
        for number in range(1 if report.seconds < 60 else 3):
            before = (await asyncio.to_thread(network.counters, "decode"))["tokens_decoded"]
            got, rate = await left_after(session, url, 24, number)
            await asyncio.sleep(4)
            after = (await asyncio.to_thread(network.counters, "decode"))["tokens_decoded"]
            report.after_leaving_s.append(round(max(0.0, after - before - got) / rate, 2))
    await asyncio.sleep(1)
    looks.append(sizes(process))
    report.mib = [one.pss_mib for one in looks]
    report.descriptors = [sum(each.descriptors for each in one.of.values()) for one in looks]
    return report


async def _sample(network: RunningNetwork, process: subprocess.Popen[str], report: Report) -> None:
    began = time.monotonic()
    while True:
        each = {**look(process.pid).of, **look(network.process.pid).of}
        mib = {title: round(one.pss_kib / 1024, 1) for title, one in each.items()}
        report.over_time.append({"s": round(time.monotonic() - began), **mib})
        await asyncio.sleep(report.seconds / SAMPLES)


def _running(network: RunningNetwork) -> int:
    """Streams that are open at the producers, once there are none or none end any more."""
    deadline = time.monotonic() + IDLE_S
    while True:
        open_ones = sum(one.get("running", 0) + one.get("queue", 0) for one in network.status()["producers"])
        if not open_ones or time.monotonic() > deadline:
            return int(open_ones)
        time.sleep(1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=180, help="seconds in which each answer must have come")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ndn-infer-load-") as folder:
        cache = Path(os.environ.get("NDNINFER_TEST_CACHE") or Path(folder) / "cache")
        report = measured(Load(options.seconds, options.clients, options.seed, options.patience), Path(folder), cache)
    faults = report.faults(timed=True)
    for fault in faults:
        print(f"FAULT {fault}", file=sys.stderr)
    print(json.dumps({**asdict(report), "faults": faults}))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
