"""A day of mixed use against a real `ndn-infer up` with small pools, then silence: is it as quiet as before?

    python -m tests.load.day --minutes 60       sizes at tenths of the way, a table; the last line is JSON

Owns: how much is done at once, for how long, what has to hold in the silence after. What callers do is in callers.py.
Pools are small, so that each of their pages is used early and often. Times are told, never judged; processor time is
judged when nothing is asked any more: under 1 % of a core in every process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ndn_infer import config as configuration
from tests.daemons import RunningNetwork, ends_with_us, run_network
from tests.load.callers import DECK, KINDS, Caller, Tally
from tests.load.watch import Look, look

SETTINGS: Final = {
    "engine.dtype": "fp32", "engine.kv_memory_mib": 128, "engine.kv_at_hand_mib": 16, "producer.store_mib": 48,
    "forwarder.cs_capacity_mib": 24, "producer.kept_s": 3,
}  # fmt: skip
"""fp32, so that the right answers are the same on every machine; at 45 kB a token the pool holds 180 blocks of 16.
Answers that nobody reads end after 3 s, so that silence comes soon."""

CALLERS: Final = 3
IDLE_SHARE: Final = 0.01
SETTLE_S: Final = 90.0
GROWTH_MIB: Final = 64.0
"""What a network that does not leak may grow beside its pools: heap that is cut up, memory of libraries."""
POOLS_MIB: Final = 2 * (128 + 16) + 5 * 48 + 24
"""What the pools of prefill, decode, all producers' stores and the forwarder may come to."""
FULL_AFTER_MINUTES: Final = 20.0
"""Half of a day so long has filled all pools."""
QUESTION: Final = "What is the capital of France?"
ANSWER: Final = "Paris"


@dataclass
class Report:
    """`quiet` before anything but one question was asked, `middle` and `end` at half of the time and at its end,
    `after` in the silence. `idle` is each process's share of a core there, `left` what status says is in work."""

    minutes: float
    tally: Tally
    quiet: Look
    middle: Look
    end: Look
    after: Look
    idle: dict[str, float]
    left: dict[str, float]
    last_answer: str = ""
    complaints: list[str] = field(default_factory=list)

    def failures(self) -> list[str]:
        found = [f"{kind}: {text}" for kind, text in self.tally.wrong]
        found += [f"{title} uses {share:.1%} of a core in silence" for title, share in self.idle.items()
                  if share >= IDLE_SHARE]  # fmt: skip
        found += [f"still in work in silence: {key} {value:g}" for key, value in self.left.items() if value]
        if ANSWER not in self.last_answer:
            found.append(f"the last answer is {self.last_answer!r}")
        found += self._grown()
        for title, sizes in self.after.of.items():
            had = self.quiet.of.get(title)
            if had is None:
                found.append(f"{title} (pid {sizes.pid}) was not there before")
            elif sizes.descriptors > had.descriptors:
                found.append(f"{title} has {sizes.descriptors} descriptors open, {had.descriptors} before")
        found += [f"{title} is gone" for title in self.quiet.of.keys() - self.after.of.keys()]
        missing = sorted(set(KINDS) - set(self.tally.done))
        found += [f"never done: {', '.join(missing)}"] if missing else []
        return found + [f"told on standard error: {line}" for line in self.complaints]

    def _grown(self) -> list[str]:
        found = []
        whole, half = (round(self.after.pss_mib - one.pss_mib, 1) for one in (self.quiet, self.middle))
        if whole > POOLS_MIB + GROWTH_MIB:
            found.append(f"grew by {whole} MiB, its pools hold {POOLS_MIB}")
        if half > GROWTH_MIB and self.minutes >= FULL_AFTER_MINUTES:
            found.append(f"grew by {half} MiB in the second half, allowed are {GROWTH_MIB:g}")
        return found

    def document(self) -> dict[str, Any]:
        looks = {name: getattr(self, name) for name in ("quiet", "middle", "end", "after")}
        return {
            "minutes": self.minutes,
            "done": dict(self.tally.done),
            "cut": self.tally.cut,
            "p50_s": {kind: self.tally.seconds(kind, 0.5) for kind in self.tally.done},
            "worst_s": {kind: self.tally.seconds(kind, 1.0) for kind in self.tally.done},
            "pss_mib": {name: found.pss_mib for name, found in looks.items()},
            "processes": {
                title: {name: [found.of[title].pss_kib // 1024, found.of[title].descriptors]
                        for name, found in looks.items() if title in found.of}
                for title in self.quiet.of
            },
            "idle": self.idle,
            "failures": self.failures(),
        }  # fmt: skip

    def table(self) -> str:
        lines = [f"{'':10} {'PSS in MiB: quiet':>18} {'middle':>7} {'end':>7} {'after':>7}  descriptors   idle CPU"]
        looks = (self.quiet, self.middle, self.end, self.after)
        for title in self.quiet.of:
            sizes = [found.of.get(title) for found in looks]
            pss = [f"{one.pss_kib / 1024:.0f}" if one else "-" for one in sizes]
            files = [str(one.descriptors) if one else "-" for one in (sizes[0], sizes[-1])]
            lines.append(f"{title:10} {pss[0]:>18} {pss[1]:>7} {pss[2]:>7} {pss[3]:>7}  {' -> '.join(files):>11}"
                         f"  {self.idle.get(title, 0.0):9.2%}")  # fmt: skip
        lines.append(f"{'done':10} " + ", ".join(f"{count} {kind}" for kind, count in sorted(self.tally.done.items())))
        return "\n".join(lines)


# ---------------------------------------------------------------- the network


@contextlib.contextmanager
def small_network(directory: Path, models: Path) -> Iterator[RunningNetwork]:
    """`ndn-infer up` with small pools, a corpus and a domain."""
    corpus = directory / "notes"
    corpus.mkdir()
    for number, (place, thing) in enumerate((("Bergen", "rain"), ("Oslo", "trams"), ("Tromso", "northern lights"))):
        (corpus / f"{number}.md").write_text(f"# {place}\n\n{place} is known for its {thing}.\n")
    settings = {f"NDN_INFER_{key.replace('.', '_').upper()}": str(value) for key, value in SETTINGS.items()}
    with run_network(
        directory,
        models,
        "--corpus",
        str(corpus),
        "--corpus-name",
        "notes",
        before_exec=ends_with_us(signal.SIGTERM),
        **settings,
    ) as network:
        made = network.run("domain", "create", "acme")
        assert made.returncode == 0, made.stderr
        yield network


def in_work(network: RunningNetwork) -> dict[str, float]:
    """What status says is waited for, computed or streamed, over all producers, and Interests that are pending."""
    document = network.status()
    found: dict[str, float] = {"pending": max(0, document["forwarder"]["pit_entries"] - 1)}
    for producer in document["producers"]:
        if "error" in producer:
            found["producers that do not answer"] = found.get("producers that do not answer", 0) + 1
            continue
        told = {"queue": producer["queue"], "running": producer["running"], **producer["counters"]}
        for key in ("queue", "running", "streams_open"):
            found[key] = found.get(key, 0) + float(told.get(key, 0))
    return found


# ---------------------------------------------------------------- the day


async def day(
    network: RunningNetwork, seconds: float, *, silence_s: float, callers: int = CALLERS, seed: int = 1,
    deck: Mapping[str, int] = DECK, tell: Callable[[str], None] = lambda text: None,
) -> Report:  # fmt: skip
    """Mixed use for `seconds`, but one round of `deck` at least; then silence. Raises AssertionError when the network
    does not answer at all."""
    pid, tally = network.process.pid, Tally()
    await asyncio.to_thread(network.ask, QUESTION)
    await settled(network)
    looks = [look(pid)]
    began = time.monotonic()
    cards = deal(random.Random(seed), deck, began + seconds)
    people = [Caller(number, network, tally, random.Random(seed * 1000 + number)) for number in range(callers)]
    tasks = [asyncio.ensure_future(one.run(cards)) for one in people]
    try:
        for tenth in range(1, 11):
            left = began + seconds * tenth / 10 - time.monotonic()
            done, _ = await asyncio.wait(tasks, timeout=max(0.0, left), return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
            looks.append(look(pid))
            tell(f"{tenth * 10:3} %  {sum(tally.done.values()):4} done  {looks[-1].pss_mib:8,} MiB")
        await asyncio.gather(*tasks)
        looks[-1] = look(pid)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in people:
            await one.close()
    left_over = await settled(network)
    still = look(pid)
    await asyncio.sleep(silence_s)
    after = look(pid)
    answer = await asyncio.to_thread(network.ask, QUESTION, "--seed", str(seed))
    return Report(
        round((time.monotonic() - began) / 60, 1), tally, looks[0], looks[5], looks[10], after,
        after.busy_since(still), left_over, answer["text"], complaints(network),
    )  # fmt: skip


def deal(dice: random.Random, deck: Mapping[str, int], until: float) -> Iterator[str]:
    """Kinds of use until the clock says `until`: every kind in every round, as often as the deck says, in an order of
    its own. The first round is dealt to its end."""
    for rounds in itertools.count():
        cards = [kind for kind, count in deck.items() for _ in range(count)]
        dice.shuffle(cards)
        for card in cards:
            if rounds and time.monotonic() > until:
                return
            yield card


async def settled(network: RunningNetwork) -> dict[str, float]:
    """What is in work once nothing is any more, or when SETTLE_S have passed."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        found = await asyncio.to_thread(in_work, network)
        if not any(found.values()) or time.monotonic() > deadline:
            return found
        await asyncio.sleep(1.0)


def complaints(network: RunningNetwork) -> list[str]:
    """Lines of the network's standard error that tell of a fault within."""
    lines = (network.home / "up.log").read_text("utf-8", "replace").splitlines()
    return [line for line in lines if "Traceback" in line or "ended with status" in line][:5]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load.day", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--silence", type=float, default=60.0, metavar="SECONDS", help="how long CPU is measured after")
    parser.add_argument("--callers", type=int, default=CALLERS, help="who do one thing after the other")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: everything is ended on the way out
    models = configuration.load().cache_dir
    with tempfile.TemporaryDirectory(prefix="ndn-day-") as directory, small_network(Path(directory), models) as network:
        report = asyncio.run(
            day(
                network, options.minutes * 60, silence_s=options.silence, callers=options.callers, seed=options.seed,
                tell=lambda text: print(text, flush=True),
            )
        )  # fmt: skip
    print(report.table())
    print(*(f"FAILED: {text}" for text in report.failures()), sep="\n")
    print(json.dumps(report.document()))
    return 1 if report.failures() else 0


if __name__ == "__main__":
    sys.exit(main())
