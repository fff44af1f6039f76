"""The embedded forwarder and, where it is installed, NFD, under the same loads in the same run.

Content Store hits and relay from a producer to a consumer, small and 8,000 B payloads, 1 to 64 faces, stores of 100 to
1,000,000 packets (the largest with --full), delay of single packets, and `ndnget` (or ndncatchunks) with fixed windows
and its default CUBIC (`--cubic N`: only that, N downloads at each, forwarder_cubic.py). Loads are processes of their
own on Unix sockets; with two cores they share them with the forwarder, as applications do.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from ndn_infer.config import Config
from ndn_infer.testbed.bench import forwarder_cubic
from ndn_infer.testbed.bench.forwarders import CannotMeasure, Target, nfd, nfd_version, ours
from ndn_infer.testbed.bench.ndnget import download, served, tools_environment
from ndn_infer.testbed.bench.report import print_report

PAYLOADS: Final = (100, 8000)
FACES: Final = (1, 4, 16, 64)
ENTRIES: Final = (100, 10_000, 100_000)
MANY_ENTRIES: Final = 1_000_000
HIT_PACKETS: Final = 20_000
RELAY_PACKETS: Final = 20_000
WINDOW: Final = 64
FACE_WINDOW: Final = 8
"""Interests in flight on each of many faces."""
ROUND_TRIPS: Final = 3000
FILE_BYTES: Final = 50_000_000
SETTINGS: Final = {
    **{f"fixed{size}": ("-p", "fixed", "-s", str(size)) for size in (16, 32, 64, 128)},
    "cubic": ("-p", "cubic"),
}

Figures = dict[str, Any]


def run(options: argparse.Namespace, config: Config) -> int:
    if options.cubic:
        return forwarder_cubic.run(options.cubic)
    peer = nfd_version()
    relayed = options.runs * 2 * RELAY_PACKETS * len(PAYLOADS) + FILE_BYTES // 4000 * options.runs
    capacity = sum(ENTRIES) + MANY_ENTRIES * options.full + relayed + options.runs * ROUND_TRIPS
    starters = {"": ours, "nfd_": nfd} if peer is not None else {"": ours}
    measured: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory(prefix="ndn-infer-bench-") as folder:
        measured["direct"] = direct(Path(folder))
        for prefix, start in starters.items():
            measured[prefix] = best_of(start, Path(folder), capacity, options)
    figures = {"direct_p50_us": measured["direct"]["p50_us"], **measured[""]}
    peers: Figures = {"nfd_version": peer, **{f"nfd_{key}": value for key, value in measured.get("nfd_", {}).items()}}
    print_report("forwarder", figures, peers, ratios(measured[""], measured.get("nfd_")))
    return 0


def best_of(start: Any, folder: Path, capacity: int, options: argparse.Namespace) -> Figures:
    """Every cell `--runs` times on one forwarder; the best of each, for interference only ever slows.
    `failed_runs` says which cells failed, each as often as it did."""
    starter: AbstractContextManager[Target] = start(folder, capacity)
    best: Figures = {}
    failed: list[str] = []
    with starter as target:
        cells = [cell for turn in range(options.runs) for cell in plan(target, options, turn)]
        for title, measure in tqdm(cells, desc=target.title, unit="cell", disable=None):
            try:
                found = measure()
            except CannotMeasure as error:
                failed.append(title)
                tqdm.write(f"{target.title}: a run of {title!r} failed, its figures are of the others: {error}")
                continue
            for key, value in found.items():
                lower = key.endswith(("_us", "_mib", "_percent"))
                known = best.get(key)
                best[key] = value if known is None else min(known, value) if lower else max(known, value)
        best["memory_mib"] = target.memory_mib()
    best["failed_runs"] = ", ".join(failed) or "none"
    return best


def plan(target: Target, options: argparse.Namespace, turn: int) -> list[tuple[str, Any]]:
    """(title, measurement) of every cell. Names of a turn are new, where a cell wants them new."""
    cells: list[tuple[str, Any]] = []
    for payload in PAYLOADS:
        cells.append((f"relay {payload}", lambda p=payload: relay(target, p, turn)))
        cells += [(f"hits {payload} {n}", lambda p=payload, n=n: hits(target, p, n)) for n in FACES]
    cells.append(("delay", lambda: delays(target, turn)))
    if shutil.which("ndnget") or shutil.which("ndncatchunks"):
        cells.append(("ndnget", lambda: catchunks(target, turn)))
    counts = (*ENTRIES, MANY_ENTRIES) if options.full else ENTRIES
    if turn == 0:  # they fill the store
        cells += [(f"{count} entries", lambda n=count: entries(target, n)) for count in counts]
    return cells


# ---------------------------------------------------------------- cells


def relay(target: Target, payload: int, turn: int) -> Figures:
    """One producer, consumers on 1 and on 16 faces; every name is new."""
    figures: Figures = {}
    with target.producer(prefix=f"/relay{payload}", payload_bytes=payload):
        for at, faces in enumerate((1, 16)):
            first = (turn * 2 + at) * RELAY_PACKETS
            found = target.load(
                "consume", prefix=f"/relay{payload}", first=first, count=RELAY_PACKETS, faces=faces,
                window=max(WINDOW, faces * FACE_WINDOW), payload_bytes=payload,
            )  # fmt: skip
            figures.update(_rate(f"relay_{payload}_{faces}faces", found))
    return figures


def hits(target: Target, payload: int, faces: int) -> Figures:
    """The first packets of the relay cell are in the Content Store: ask for them again."""
    found = target.load(
        "consume", prefix=f"/relay{payload}", first=0, count=HIT_PACKETS, faces=faces,
        window=max(WINDOW, faces * FACE_WINDOW), payload_bytes=payload, passes=2,
    )  # fmt: skip
    return _rate(f"cs_{payload}_{faces}faces", found)


def entries(target: Target, count: int) -> Figures:
    """Hits in random order among so many packets of 100 B."""
    prefix = f"/entries{count}"
    with target.producer(prefix=prefix, payload_bytes=100):
        target.load("consume", prefix=prefix, first=0, count=count, faces=1, window=WINDOW, payload_bytes=100)
    asked = min(count, 100_000)
    found = target.load(
        "consume", prefix=prefix, first=0, count=asked, faces=1, window=WINDOW, payload_bytes=100, shuffle=True,
        passes=max(1, HIT_PACKETS // asked),
    )  # fmt: skip
    return {f"cs_100_of_{count}_per_s": found["packets"] / found["seconds"]}


def delays(target: Target, turn: int) -> Figures:
    """One packet at a time: from the Content Store, and from a producer."""
    stored = target.load("round_trips", prefix="/relay8000", first=0, count=ROUND_TRIPS, payload_bytes=8000)
    with target.producer(prefix="/delay", payload_bytes=8000):
        first = turn * ROUND_TRIPS
        asked = target.load("round_trips", prefix="/delay", first=first, count=ROUND_TRIPS, payload_bytes=8000)
    return {f"cs_{key}": value for key, value in stored.items()} | {f"relay_{key}": asked[key] for key in asked}


def direct(folder: Path) -> Figures:
    """The same round trip with no forwarder between: what sockets and processes cost alone."""
    path = str(folder / "direct.sock")
    target = Target("nobody", path, str(folder), os.getpid())
    with target.producer(prefix="/direct", payload_bytes=8000, listen=True):
        return target.load("round_trips", prefix="/direct", first=0, count=ROUND_TRIPS, payload_bytes=8000)


def catchunks(target: Target, turn: int) -> Figures:
    """ndnget of one object: first through ndnserve, then from the Content Store with every setting."""
    get, serve = (shutil.which(new) or shutil.which(old) for new, old in (
        ("ndnget", "ndncatchunks"), ("ndnserve", "ndnputchunks"),
    ))  # fmt: skip
    if get is None or serve is None:
        return {}
    name, content = f"/file/{turn}", Path(target.home) / "content"
    if not content.exists():
        content.write_bytes(os.urandom(FILE_BYTES))
    environment = tools_environment(target)
    figures: Figures = {}
    with served(target, [serve, "-q", name], content):
        figures["ndnget_relay_gbit_s"], _ = download([get, *SETTINGS["fixed32"], name], environment)
        for title, setting in SETTINGS.items():
            figures[f"ndnget_cs_{title}_gbit_s"], _ = download([get, *setting, name], environment)
    return figures


def _rate(title: str, found: dict[str, float]) -> Figures:
    seconds = found["seconds"]
    return {f"{title}_per_s": found["packets"] / seconds, f"{title}_gbit_s": found["bytes"] * 8 / seconds / 1e9}


# ---------------------------------------------------------------- ratios


def ratios(mine: Figures, peer: Figures | None) -> Figures:
    """Ours over NFD's, each at its best setting; None where NFD is absent."""

    def over(*keys: str) -> float | None:
        best = [max((figures.get(key, 0.0) for key in keys), default=0.0) for figures in (mine, peer or {})]
        return best[0] / best[1] if best[0] and best[1] else None

    fixed = [f"ndnget_cs_{title}_gbit_s" for title in SETTINGS if title != "cubic"]
    return {
        "cs_goodput_over_nfd": over(*fixed, "ndnget_cs_cubic_gbit_s"),
        "cs_goodput_cubic_over_nfd": over("ndnget_cs_cubic_gbit_s"),
        "cs_rate_over_nfd": over(*(f"cs_100_{faces}faces_per_s" for faces in FACES)),
        "cs_rate_64_faces_over_nfd": over("cs_100_64faces_per_s"),
        "relay_goodput_over_nfd": over("ndnget_relay_gbit_s"),
        "relay_8000_over_nfd": over(*(f"relay_8000_{faces}faces_gbit_s" for faces in (1, 16))),
        "relay_rate_over_nfd": over(*(f"relay_100_{faces}faces_per_s" for faces in (1, 16))),
    }
