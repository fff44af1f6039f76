"""How `ndnget` with its default CUBIC fares, many times: `ndn-infer bench forwarder --cubic 20`.

One download tells nothing: some are good from their beginning, some are not. Our forwarder and NFD run side by side,
each with an ndnserve whose segments are in the Content Store; downloads take turns, and in each turn one with a fixed
window of 64 shows what the machine gives at that moment. Besides goodput, what load changes less: marks, decreases of
the window, timeouts.

Owns: this measurement. Must not know: how anybody marks.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from ndn_infer.testbed.bench.forwarders import CannotMeasure, Target, nfd, nfd_version, ours
from ndn_infer.testbed.bench.ndnget import download, served, tools_environment
from ndn_infer.testbed.bench.report import print_report

FILE_BYTES: Final = 20_000_000
PACKETS: Final = 65_536
NAME: Final = "/file/0"
SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {"cubic": (), "fixed64": ("-p", "fixed", "-s", "64")}
_COUNTS: Final = {
    "marks": re.compile(r"Congestion marks: (\d+)"),
    "decreases": re.compile(r"Congestion marks: \d+ \(caused (\d+)"),
    "timeouts": re.compile(r"Timeouts: (\d+)"),
}
Download = Mapping[str, float]


def run(runs: int) -> int:
    """Measure and print. Raises CannotMeasure."""
    get, serve = shutil.which("ndnget"), shutil.which("ndnserve")
    if get is None or serve is None:
        raise CannotMeasure("ndnget and ndnserve are not on PATH")
    starters = {"ndn-infer": ours} if nfd_version() is None else {"ndn-infer": ours, "nfd": nfd}
    found: defaultdict[tuple[str, str], list[Download]] = defaultdict(list)
    with ExitStack() as running:
        place = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="ndn-infer-bench-")))
        (place / "content").write_bytes(os.urandom(FILE_BYTES))
        environments = {}
        for title, start in starters.items():
            (place / title).mkdir()
            target = running.enter_context(start(place / title, PACKETS))
            environments[title] = _served(running, target, serve, get, place / "content")
        for _ in tqdm(range(runs), desc="downloads", disable=None):
            for title, environment in environments.items():
                for setting, flags in SETTINGS.items():
                    found[title, setting].append(_download([get, *flags, NAME], environment))
    figures, peers = ({key: value for name in titles for key, value in _figures(name, found).items()} for titles in (
        ["ndn-infer"], [title for title in starters if title != "ndn-infer"]
    ))  # fmt: skip
    print_report("forwarder_cubic", figures, peers, _ratios(found))
    return 0


def _served(running: ExitStack, target: Target, serve: str, get: str, content: Path) -> dict[str, str]:
    """The environment of a client at this forwarder, with all of the content in its Content Store."""
    environment = tools_environment(target)
    command = [serve, "-q", "-S", "id:/localhost/identity/digest-sha256", NAME]
    running.enter_context(served(target, command, content))
    _download([get, *SETTINGS["fixed64"], NAME], environment)
    return environment


def _download(command: list[str], environment: dict[str, str]) -> Download:
    """What ndnget says of one download; nothing but "failed" of one that it gave up."""
    try:
        speed, said = download(command, environment)
    except CannotMeasure as error:
        tqdm.write(str(error))
        return {"gbit_s": 0.0, "failed": 1.0}
    counts = {name: pattern.search(said) for name, pattern in _COUNTS.items()}
    return {"gbit_s": speed, **{name: float(count[1]) for name, count in counts.items() if count is not None}}


def _figures(title: str, found: Mapping[tuple[str, str], list[Download]]) -> dict[str, Any]:
    """The distribution at one forwarder."""
    figures: dict[str, Any] = {}
    for setting in SETTINGS:
        rows, key = found[title, setting], f"{title}_{setting}"
        speeds = sorted(row["gbit_s"] for row in rows)
        figures |= {
            f"{key}_median_gbit_s": statistics.median(speeds), f"{key}_least_gbit_s": speeds[0],
            f"{key}_lower_quartile_gbit_s": speeds[len(speeds) // 4], f"{key}_most_gbit_s": speeds[-1],
        }  # fmt: skip
    rows = found[title, "cubic"]
    for name in _COUNTS:
        figures[f"{title}_cubic_{name}_median"] = statistics.median(row.get(name, 0.0) for row in rows)
    figures[f"{title}_cubic_downloads_failed"] = sum(row.get("failed", 0.0) > 0 for row in rows)
    figures[f"{title}_cubic_downloads_with_timeouts"] = sum(row.get("timeouts", 0.0) > 0 for row in rows)
    return figures


def _ratios(found: Mapping[tuple[str, str], list[Download]]) -> dict[str, Any]:
    """Of medians: ours over NFD's, and CUBIC over the fixed window at ours; turn by turn, how often ours was better."""

    def median(title: str, setting: str) -> float:
        return statistics.median(row["gbit_s"] for row in found[title, setting])

    ratios = {"cubic_over_fixed64": median("ndn-infer", "cubic") / median("ndn-infer", "fixed64")}
    if ("nfd", "cubic") in found:
        mine, theirs = found["ndn-infer", "cubic"], found["nfd", "cubic"]
        better = sum(one["gbit_s"] > other["gbit_s"] for one, other in zip(mine, theirs, strict=True))
        ratios["cubic_over_nfd"] = median("ndn-infer", "cubic") / median("nfd", "cubic")
        ratios["turns_better_than_nfd"] = better / len(mine)
    return ratios
