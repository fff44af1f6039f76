"""Fetching one large object, every byte verified, beside what people use today, all in the same run.

Ours: by name from a Content Store and from a producer, through the embedded forwarder, NFD and NDNd. Peers: ndnget and
plain python-ndn through the same forwarders, HTTP (nginx), Redis. Every client is a process of its own; the time is
from the call to the content in memory, connections stand before. Cells take turns, so that what disturbs one disturbs
all; the best of the runs is reported, and the median. With --sweep also over links with loss and delay (fetch_sweep).

Ratios are ours, verified, from the Content Store of our forwarder, over

    verified_over_ndnget       ndnget (verifies nothing) from NFD's Content Store, best of its settings
    verified_over_python_ndn   python-ndn, window of 64, digests checked, through our forwarder
    verified_over_http         nginx over loopback, SHA-256 of the body computed as it comes; _unverified without
    verified_over_redis        Redis GET of the whole value, best of Unix socket and TCP, SHA-256 as it comes;
                               _unverified without; _chunked: values of 8,000 B by pipelined MGET, SHA-256

`producer_over_*` is the same for ours from a producer, without any Content Store; its ndnget has an ndnserve at NFD.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from ndn_infer import ndn
from ndn_infer.config import Config
from ndn_infer.errors import UsageError
from ndn_infer.testbed.bench import fetch_peers as peer
from ndn_infer.testbed.bench import fetch_sweep
from ndn_infer.testbed.bench.fetch_child import Content, Sample, make_content, ram_folder
from ndn_infer.testbed.bench.fetch_ours import Keys, Publisher
from ndn_infer.testbed.bench.forwarders import CannotMeasure, Target, nfd, nfd_version, ours
from ndn_infer.testbed.bench.report import print_report
from ndn_infer.wire.manifest import DIRECT_DIGESTS, MAX_OBJECT_BYTES, SEGMENT_BYTES

MEGABYTES: Final = 100.0
QUICK_MEGABYTES: Final = 20.0
PYTHON_NDN_PART: Final = 10
"""python-ndn fetches the tenth part: it would take most of the run otherwise, and a rate is a rate."""
CS_PACKETS: Final = 200_000
WHOLE: Final = "whole"
PART: Final = "part"
SMALL: Final = "small"
SMALL_BYTES: Final = DIRECT_DIGESTS * SEGMENT_BYTES
"""python-ndn's segment_fetcher first asks for anything below the object's name. Of a larger object a Content Store then
gives the second level of its manifest, whose name comes first, instead of segment 0."""
SERVED: Final = ndn.from_uri("/bench/served")

Measure = Callable[[int], Sample]
"""One download; told the number of the turn. Raises CannotMeasure, WrongBytes."""


@dataclass(slots=True)
class Bench:
    """Everything that runs during the measurements, and what was measured."""

    folder: Path
    config: Config
    options: argparse.Namespace
    stack: ExitStack
    contents: dict[str, Content] = field(default_factory=dict)
    cells: dict[str, Measure] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Start all servers and note the cells. A peer that does not start is left out, with a line why."""
        size = int((self.options.megabytes or (QUICK_MEGABYTES if self.options.quick else MEGABYTES)) * 1e6)
        if not 0 < size <= MAX_OBJECT_BYTES:
            raise UsageError(f"--megabytes: one object holds at most {MAX_OBJECT_BYTES // 10**6} MB")
        self.contents[WHOLE] = make_content(self.folder / "whole.bin", size)
        self.contents[PART] = make_content(self.folder / "part.bin", max(1, size // PYTHON_NDN_PART))
        self.contents[SMALL] = make_content(self.folder / "small.bin", min(size, SMALL_BYTES))
        keys = Keys.make(self.folder / "keys", self.config)
        self._at_forwarder("ours", ours, keys)
        if self.options.sweep:
            sweep = self.stack.enter_context(fetch_sweep.Sweep.begin(self.folder, keys, self.options))
            self.cells |= fetch_sweep.cells(sweep, peers=self.options.peers)
        if self.options.peers:
            self.notes += peer.absences()
            if nfd_version() is not None:
                self._try(lambda: self._at_forwarder("nfd", nfd, keys))
            if peer.find("ndnd"):
                self._try(lambda: self._at_forwarder("ndnd", peer.ndnd, keys))
            if peer.find("nginx"):
                self._try(self._http)
            if peer.find("redis-server"):
                self._try(self._redis)

    def _try(self, start: Callable[[], None]) -> None:
        try:
            start()
        except CannotMeasure as error:
            self.notes.append(f"left out: {error}")

    def _at_forwarder(self, title: str, forwarder: Any, keys: Keys) -> None:
        """Cells of one kind of forwarder: one with the objects in its Content Store, one with no store at all."""
        content = self.contents[WHOLE]
        for source, packets in (("cs", CS_PACKETS), ("producer", 0)):
            home = self.folder / f"{title}-{source}"
            home.mkdir()
            target: Target = self.stack.enter_context(forwarder(home, packets))
            publisher = self.stack.enter_context(keys.publisher(target, self.contents))
            if source == "cs":
                for label, wanted in self.contents.items():
                    keys.fetch(target.path, label, wanted)
            fetch = partial(keys.fetch, target.path, WHOLE, content, profile=self.options.profile)
            self.cells[f"{source}_{title}"] = _any_turn(_from, source, fetch)
            if self.options.peers:
                self._try(partial(self._ndn_peers, f"{source}_{title}", target, publisher))

    def _ndn_peers(self, where: str, target: Target, publisher: Publisher) -> None:
        content, from_store = self.contents[WHOLE], where.startswith("cs")
        for what, label in (("window", PART), ("segments", SMALL)):
            self.cells[f"python_ndn_{what}_{where}"] = _any_turn(
                peer.python_ndn, target, publisher, what, label, self.contents[label]
            )
        if peer.find("ndnget") is None:
            return
        name = publisher.base[WHOLE]
        if not from_store:
            if peer.find("ndnserve") is None:
                return
            self.stack.enter_context(peer.ndnserve(target, SERVED, content))
            name = SERVED
        peer.ndnget_bytes_agree(target, name, content, self.folder)
        for title, setting in peer.NDNGET_SETTINGS.items():
            self.cells[f"ndnget_{title}_{where}"] = _any_turn(peer.ndnget, target, name, setting)

    def _http(self) -> None:
        content = self.contents[WHOLE]
        port = self.stack.enter_context(peer.nginx(self.folder, content))
        for suffix, verify in (("_verified", True), ("", False)):
            self.cells[f"http{suffix}"] = _any_turn(peer.http_get, port, content, verify=verify)

    def _redis(self) -> None:
        content = self.contents[WHOLE]
        path, port = self.stack.enter_context(peer.redis_server(self.folder, content))
        for where, address in (("unix", path), ("tcp", port)):
            for what in ("get", "mget"):
                for suffix, verify in (("_verified", True), ("", False)):
                    self.cells[f"redis_{what}_{where}{suffix}"] = _any_turn(
                        peer.redis_get, address, what, content, verify=verify
                    )

    def measure(self) -> None:
        """Every cell once a turn, each turn in another order: who is disturbed must not depend on the order."""
        plan: list[tuple[int, str]] = []
        for turn in range(self.options.runs):
            order = list(self.cells)
            random.Random(turn).shuffle(order)
            plan += [(turn, title) for title in order]
        for turn, title in tqdm(plan, desc="fetch", unit="cell", disable=None):
            try:
                self.samples.setdefault(title, []).append(self.cells[title](turn))
            except CannotMeasure as error:
                self.notes.append(f"{title}: {error}")

    def report(self) -> int:
        for note in self.notes:
            print(note)
        measured = {title: found for title in self.cells if (found := self.samples.get(title))}
        best = {title: max(samples, key=_speed) for title, samples in measured.items()}
        figures: dict[str, Any] = {"object_mb": self.contents[WHOLE].size / 1e6}
        if self.options.sweep:
            figures["sweep_link_mbit"] = fetch_sweep.LINK_MBIT
        peers: dict[str, Any] = {"nfd_version": nfd_version() if self.options.peers else None}
        for title, sample in best.items():
            into = peers if _is_peer(title) else figures
            into[f"{title}_mb_s"] = sample["mb_s"]
            into[f"{title}_median_mb_s"] = statistics.median(map(_speed, self.samples[title]))
        figures["details"] = {
            title: {key: value for key, value in sample.items() if key != "mb_s"}
            for title, sample in best.items()
            if not _is_peer(title) or title.startswith("sweep_")
        }
        bests = ratios({title: sample["mb_s"] for title, sample in best.items()})
        medians = ratios({title: statistics.median(map(_speed, samples)) for title, samples in measured.items()})
        print_report(
            "fetch", figures, peers, {**bests, **{f"{key}_by_medians": value for key, value in medians.items()}}
        )
        return 0 if {"cs_ours", "producer_ours"} <= set(best) else 1


def run(options: argparse.Namespace, config: Config) -> int:
    with ram_folder() as folder, ExitStack() as stack:
        bench = Bench(Path(folder), config, options, stack)
        bench.start()
        bench.measure()
        return bench.report()


def _speed(sample: Sample) -> float:
    return float(sample["mb_s"])


def _is_peer(title: str) -> bool:
    return title.startswith(("ndnget", "python_ndn", "http", "redis")) or "_ndnget_" in title


def _any_turn(measure: Callable[..., Sample], *arguments: Any, **options: Any) -> Measure:
    return lambda _: measure(*arguments, **options)


def _from(source: str, fetch: Callable[[], Sample]) -> Sample:
    """A sample that came from where the cell says. Raises CannotMeasure."""
    sample = fetch()
    expected = sample["segments"] if source == "cs" else 0
    if sample["segments_from_store"] != expected:
        raise CannotMeasure(f"{sample['segments_from_store']} of {sample['segments']} segments came from a store")
    return sample


# ---------------------------------------------------------------- ratios


def ratios(speeds: dict[str, float]) -> dict[str, float | None]:
    """Ours over theirs, as the module says; None where a peer is absent."""

    def over(mine: str, *theirs: str) -> float | None:
        best = max((speeds.get(title, 0.0) for title in theirs), default=0.0)
        return speeds[mine] / best if best and mine in speeds else None

    def ndnget(where: str) -> list[str]:
        return [f"ndnget_{title}_{where}" for title in peer.NDNGET_SETTINGS]

    found: dict[str, float | None] = {}
    for key, mine in (("verified", "cs_ours"), ("producer", "producer_ours")):
        source = mine.removesuffix("_ours")
        redis = [f"redis_get_{where}" for where in ("unix", "tcp")]
        found |= {
            f"{key}_over_ndnget": over(mine, *ndnget(f"{source}_nfd")),
            f"{key}_over_ndnget_cubic": over(mine, f"ndnget_cubic_{source}_nfd"),
            f"{key}_over_ndnget_through_ours": over(mine, *ndnget(f"{source}_ours")),
            f"{key}_over_python_ndn": over(mine, f"python_ndn_window_{source}_ours"),
            f"{key}_over_python_ndn_segment_fetcher": over(mine, f"python_ndn_segments_{source}_ours"),
            f"{key}_over_http": over(mine, "http_verified"),
            f"{key}_over_http_unverified": over(mine, "http"),
            f"{key}_over_redis": over(mine, *(f"{title}_verified" for title in redis)),
            f"{key}_over_redis_unverified": over(mine, *redis),
            f"{key}_over_redis_chunked": over(mine, "redis_mget_unix_verified", "redis_mget_tcp_verified"),
        }
    found["nfd_verified_over_ndnget"] = over("cs_nfd", *ndnget("cs_nfd"))
    found["nfd_producer_over_ndnget"] = over("producer_nfd", *ndnget("producer_nfd"))
    for point in fetch_sweep.points():
        title = f"sweep_{fetch_sweep.title_of(point)}"
        if title in speeds:
            for tool in fetch_sweep.NDNGET_TITLES:
                found[f"{title}_over_ndnget_{tool}"] = over(title, f"{title}_ndnget_{tool}")
    return found
