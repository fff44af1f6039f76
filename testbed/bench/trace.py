"""Content Stores at edges and core under the trace of a real service, against one central LRU store and the ideal.

All simulated, in virtual time, over the forwarder's own Content Store (and, for one capacity, whole forwarders): the
same trace gives the same figures on every machine. Assumptions and findings: docs/trace.md. Owns: which settings are
compared, the tables, the plot. `--full` takes about three minutes.
"""

from __future__ import annotations

import argparse
import gzip
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from ndn_infer.config import Config
from ndn_infer.errors import UsageError
from ndn_infer.testbed.bench.report import print_report
from ndn_infer.testbed.simulation import (
    UNBOUNDED,
    Assignment,
    CacheAdmission,
    Counts,
    ForwarderPath,
    PromptArrival,
    Setting,
    asked_often,
    distinct_blocks,
    heads,
    read_trace,
    replay,
    replay_clairvoyant,
    replay_timed,
)
from ndn_infer.testbed.svg import DARK, END, GRID, MIDDLE, line, page, polyline, text

ROOT: Final = Path(__file__).resolve().parents[2]
PLACES: Final = (
    ROOT / "testbed/traces/mooncake_synthetic.jsonl",
    ROOT.parent / "shared/data/traces/mooncake_synthetic.jsonl",
)
SOURCE: Final = "https://github.com/kvcache-ai/Mooncake, FAST25-release/traces/synthetic_trace.jsonl"
PERCENTS: Final = (5, 20, 70)
ALL_PERCENTS: Final = (1, 2, 5, 10, 20, 30, 50, 70, 100)
"""Capacity of all stores together, in percent of the trace's distinct blocks."""
HEADLINE: Final = 20
EDGE_DELAY_S: Final = 0.005
ORIGIN_DELAY_S: Final = 0.02
SHARES: Final = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
HOT_PERCENTS: Final = (5, 20, 50)

CENTRAL: Final = Setting(0, edges=0)
HIERARCHY: Final = Setting(
    0, edges=4, edge_share=0.5, assignment=Assignment.SESSION, admission=CacheAdmission.EVERYWHERE
)
CURVES: Final = {
    "central": CENTRAL,
    "hierarchy": HIERARCHY,
    "random": replace(HIERARCHY, assignment=Assignment.RANDOM),
    "affinity": replace(HIERARCHY, assignment=Assignment.AFFINITY),
    "edges8": replace(HIERARCHY, edges=8),
    "edgy": replace(HIERARCHY, edge_share=0.9),
    "stepwise": replace(HIERARCHY, admission=CacheAdmission.STEPWISE),
    "demoted": replace(HIERARCHY, admission=CacheAdmission.DEMOTED),
}
"""Every curve is `hierarchy` with one thing changed; capacities are put in."""

Table = dict[tuple[str, int], Counts]
Cell = float | str


def run(options: argparse.Namespace, config: Config) -> int:
    requests = load(options.trace)
    blocks = distinct_blocks(requests)
    percents = ALL_PERCENTS if options.full else PERCENTS
    ideal = replay(requests, replace(CENTRAL, capacity=UNBOUNDED))
    table = by_capacity(requests, blocks, percents)
    best = {percent: replay_clairvoyant(requests, capacity(blocks, percent)) for percent in percents}
    print(f"{len(requests)} requests, {ideal.asked} blocks, {blocks} distinct; ideal hit share {ideal.hit_share:.4f}")
    show_capacities(table, best, percents)
    whole = forwarders(requests, capacity(blocks, HEADLINE), table["hierarchy", HEADLINE])
    extra: dict[str, Any] = {}
    if options.full:
        extra = {"splits": splits(requests, blocks), "hot": hot(requests, blocks), **segments(requests, blocks)}
    if options.plot is not None:
        write_plot(options.plot, table, best, ideal, percents)
    series = {f"{curve}_hit_share": [round(table[curve, p].hit_share, 4) for p in percents] for curve in CURVES}
    origin = {f"{curve}_origin_share": [round(load_of(table[curve, p]), 4) for p in percents] for curve in CURVES}
    at_edge = [round(table["hierarchy", p].edge_share, 4) for p in percents]
    usable = {f"{curve}_prefix_over_hits": [prefix_part(table[curve, p]) for p in percents] for curve in CURVES}
    figures = {"percent": percents, **series, **origin, **usable, "hierarchy_at_edge_share": at_edge, **whole, **extra}
    peers = {
        "distinct_blocks": blocks,
        "ideal_hit_share": ideal.hit_share,
        "clairvoyant_hit_share": [round(best[percent], 4) for percent in percents],
    }
    print_report("trace", figures, peers, ratios(table, ideal))
    return 0


def load(path: Path | None) -> list[PromptArrival]:
    """The trace of `--trace`, else the one that comes with a checkout. Raises UsageError."""
    if path is None:
        path = next((place for place in PLACES if place.is_file()), None)
    hint = f"get {SOURCE} (Apache-2.0) and name it with --trace FILE"
    if path is None:
        raise UsageError(f"no trace: there is none at {' nor at '.join(map(str, PLACES))}", hint=hint)
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            return read_trace(lines)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the trace {path}: {error}", hint=hint) from error


def capacity(blocks: int, percent: int) -> int:
    return max(1, blocks * percent // 100)


def load_of(counts: Counts) -> float:
    """Blocks that the origin sent, over blocks asked for."""
    return counts.origin / counts.asked


def prefix_part(counts: Counts) -> float:
    """Hits that a reader of whole prefixes can use, over all hits."""
    return round(counts.prefix_hits / ((counts.asked - counts.origin) or 1), 4)


def ratios(table: Table, ideal: Counts) -> dict[str, float]:
    """At the headline capacity."""
    ours, central = table["hierarchy", HEADLINE], table["central", HEADLINE]
    found = {
        "hierarchy_over_central_hit_share": ours.hit_share / central.hit_share,
        "hierarchy_over_ideal_hit_share": ours.hit_share / ideal.hit_share,
        "hierarchy_over_central_origin_load": ours.origin / central.origin,
    }
    for curve in ("edgy", "stepwise", "random"):
        found[f"{curve}_over_central_hit_share"] = table[curve, HEADLINE].hit_share / central.hit_share
    return found


# ---------------------------------------------------------------- tables


def by_capacity(requests: Sequence[PromptArrival], blocks: int, percents: Sequence[int]) -> Table:
    cells = [(curve, percent) for curve in CURVES for percent in percents]
    return {
        (curve, percent): replay(requests, replace(CURVES[curve], capacity=capacity(blocks, percent)))
        for curve, percent in tqdm(cells, desc="capacities", unit="run", disable=None)
    }


def show_capacities(table: Table, best: Mapping[int, float], percents: Sequence[int]) -> None:
    print("hit share by capacity (percent of distinct blocks); origin load is 1 less this")
    show(
        ("%", *CURVES, "at edge", "clairvoyant"),
        (
            (str(p), *(table[c, p].hit_share for c in CURVES), table["hierarchy", p].edge_share, best[p])
            for p in percents
        ),
    )


def splits(requests: Sequence[PromptArrival], blocks: int) -> dict[str, list[list[float]]]:
    """By how much of the capacity the edges have: hit share, and hit share at the edge."""
    setting = replace(HIERARCHY, capacity=capacity(blocks, HEADLINE))
    kinds = (Assignment.RANDOM, Assignment.SESSION)
    found = {
        share: [replay(requests, replace(setting, edge_share=share, assignment=kind)) for kind in kinds]
        for share in tqdm(SHARES, desc="splits", unit="split", disable=None)
    }
    print(f"hit share, and that of the edges, by the edges' share of {HEADLINE} %")
    show(
        ("edges have", "random", "at edge", "session", "at edge"),
        ((str(share), *(x for c in found[share] for x in (c.hit_share, c.edge_share))) for share in SHARES),
    )
    return {str(kind): [[s, round(found[s][at].hit_share, 4)] for s in SHARES] for at, kind in enumerate(kinds)}


def hot(requests: Sequence[PromptArrival], blocks: int) -> dict[str, list[float]]:
    """Blocks in a protected class; the second half of the trace is counted. What is `known` has seen it all."""
    half = len(requests) // 2
    seen = requests[:half]
    classes = {
        "none": frozenset[int](),
        "seen twice": asked_often(seen, 2),
        "seen 4 times": asked_often(seen, 4),
        "heads": heads(requests, 1),
        "known 4 times": asked_often(requests, 4),
        "known 8 times": asked_often(requests, 8),
    }
    rows: list[tuple[Cell, ...]] = []
    for title, names in tqdm(classes.items(), desc="classes", unit="class", disable=None):
        settings = [
            replace(setting, capacity=capacity(blocks, percent), hot=names)
            for setting in (CENTRAL, HIERARCHY)
            for percent in HOT_PERCENTS
        ]
        shares = (replay(requests, setting, counted_from=half).hit_share for setting in settings)
        rows.append((title, str(len(names)), *shares))
    print("hit share of the second half of the trace, with a protected class")
    show(("class", "blocks", *(f"{kind} {p} %" for kind in ("central", "hierarchy") for p in HOT_PERCENTS)), rows)
    return {str(row[0]): [round(x, 4) for x in row[2:] if isinstance(x, float)] for row in rows}


def segments(requests: Sequence[PromptArrival], blocks: int) -> dict[str, float]:
    """Objects of several packets: an object is a hit when all of it is."""
    setting = replace(HIERARCHY, capacity=capacity(blocks, HEADLINE))
    return {f"hit_share_{n}_segments": replay(requests, replace(setting, segments=n)).hit_share for n in (1, 4)}


def forwarders(requests: Sequence[PromptArrival], blocks: int, stores: Counts) -> dict[str, Any]:
    """The same over whole forwarders: one block at a time (must count the same), and at the trace's own times."""
    setting = replace(HIERARCHY, capacity=blocks)
    one_by_one = replay(requests, setting, join=ForwarderPath)
    timed = replay_timed(requests, setting, edge_delay_s=EDGE_DELAY_S, origin_delay_s=ORIGIN_DELAY_S)
    return {
        "forwarders_count_as_stores": one_by_one == stores,
        "forwarders_timed_hit_share": timed.hit_share,
        "forwarders_timed_origin_share": load_of(timed),
    }


def show(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    texts = [tuple(head), *(tuple(f"{x:.3f}" if isinstance(x, float) else x for x in row) for row in rows)]
    widths = [max(len(row[at]) for row in texts) for at in range(len(head))]
    for row in texts:
        print("  " + "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)))


# ---------------------------------------------------------------- the plot

WIDTH: Final = 860
HEIGHT: Final = 440
LEFT, RIGHT, TOP, BOTTOM = 60, 580, 50, 380
LINES: Final = {
    "clairvoyant": ("one store that knows the future", "#999999", "5 4"),
    "central": ("one central LRU", "#000000", ""),
    "edgy": ("hierarchy, edges have 90 %", "#0072b2", ""),
    "stepwise": ("hierarchy, kept stepwise", "#009e73", ""),
    "hierarchy": ("hierarchy, edges have 50 %", "#d55e00", ""),
    "at edge": ("of these, hits at the edge", "#d55e00", "2 3"),
    "random": ("hierarchy 50 %, users anywhere", "#cc79a7", ""),
}
"""Title, colour, dashes."""


def write_plot(
    path: Path, table: Table, best: Mapping[int, float], ideal: Counts, percents: Sequence[int]
) -> None:  # fmt: skip
    """Hit share over capacity (logarithmic). Raises UsageError when the file cannot be written."""
    curves = {curve: [table[curve, percent].hit_share for percent in percents] for curve in CURVES}
    curves["clairvoyant"] = [best[percent] for percent in percents]
    curves["at edge"] = [table["hierarchy", percent].edge_share for percent in percents]
    try:
        path.write_text(svg(percents, curves, ideal.hit_share), "utf-8")
    except OSError as error:
        raise UsageError(f"cannot write the plot: {error}") from error


def svg(percents: Sequence[int], curves: Mapping[str, Sequence[float]], ideal: float) -> str:
    """The whole file; equal figures give equal bytes."""
    parts = [
        text(LEFT, 28, "Hit share by total capacity, Mooncake synthetic trace (FAST'25)", 'font-size="16"'),
        text((LEFT + RIGHT) / 2, BOTTOM + 42, "capacity of all stores, % of distinct blocks", MIDDLE),
    ]
    for tenth in range(8):
        y = _y(tenth / 10)
        parts += [line((LEFT, y), (RIGHT, y), GRID), text(LEFT - 8, y + 4, f"{tenth * 10} %", END)]
    for percent in percents:
        x = _x(percent, percents)
        parts += [line((x, BOTTOM), (x, BOTTOM + 5), DARK), text(x, BOTTOM + 20, str(percent), MIDDLE)]
    parts += [line((LEFT, _y(ideal)), (RIGHT, _y(ideal)), DARK, dashes="8 4")]
    parts += _legend(0, f"ideal: nothing evicted, {ideal:.1%}", DARK, "8 4")
    for at, (name, (title, colour, dashes)) in enumerate(LINES.items(), 1):
        points = [(_x(p, percents), _y(v)) for p, v in zip(percents, curves[name], strict=True)]
        parts += [polyline(points, colour, dashes=dashes), *_legend(at, title, colour, dashes)]
    return page(WIDTH, HEIGHT, parts)


def _x(percent: float, percents: Sequence[int]) -> float:
    low, high = math.log(percents[0]), math.log(percents[-1])
    return LEFT + (RIGHT - LEFT) * (math.log(percent) - low) / ((high - low) or 1.0)


def _y(share: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * share / 0.7


def _legend(at: int, title: str, colour: str, dashes: str) -> list[str]:
    y = TOP + 12 + at * 26
    return [
        line((RIGHT + 18, y), (RIGHT + 48, y), colour, dashes=dashes, width=2), text(RIGHT + 56, y + 4, title),
    ]  # fmt: skip
