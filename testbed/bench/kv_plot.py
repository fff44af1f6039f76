"""At which link speed a name beats computing: `ndn-infer bench kv --plot FILE`.

Computed here by our engine: prompts of SmolLM2-135M with its own weights, of larger models with random ones
(kv_models.py). Measured: a search and the goodput of one reader that verifies and decodes every byte, of blocks in the
shape of SmolLM2-135M's (kv_long.py), in seconds of that process on a processor, as computing is. Larger models are
taken to be verified at the same bytes a second. The link is not measured: the plot says how fast it has to be.

Owns: the composition. Must not know: how engine and network work.
"""

from __future__ import annotations

import argparse
import math
from typing import Any, Final

import torch

from ndn_infer.config import Config
from ndn_infer.local.prepare import prepared
from ndn_infer.testbed.bench import kv_long
from ndn_infer.testbed.bench.kv_models import LENGTHS, SHAPES, of_folder, of_shape
from ndn_infer.testbed.bench.kv_pays import COMPUTED, PromptEngine, needed, plot
from ndn_infer.testbed.bench.report import machine, print_report

SEARCHED: Final = 1024
"""Tokens of the prompt whose search and verification stand for all."""


def run(options: argparse.Namespace, config: Config) -> int:
    """Measure, draw and print. Raises CannotMeasure."""
    threads, runs = config.engine.threads, options.runs
    cell = kv_long.measure(config, (SEARCHED,), max(runs, 1))["warm", SEARCHED]
    search_s, verified = of_processors(cell)
    folder = prepared(config, config.ask.model)
    engines = [of_folder(f"{config.ask.model} (measured)", folder.path, threads, runs)]
    engines += [of_shape(shape, threads, runs) for shape in SHAPES]
    words = f"{machine()['cpu']}, {torch.get_num_threads()} thread(s), seconds of processors"
    drawn = plot([*engines, *COMPUTED[:2]], search_s, verified, words)
    options.plot.write_text(drawn, encoding="utf-8")
    figures: dict[str, Any] = {"search_ms": search_s * 1000, "verified_mb_s": verified / 1e6}
    for engine in engines:
        figures |= link_figures(engine, search_s)
    print_report("kv_plot", figures, {}, {})
    return 0


def of_processors(cell: kv_long.Cell) -> tuple[float, float]:
    """What one reader's process needs of a processor: seconds of a search, and bytes that it verifies and decodes in a
    second."""
    return cell.find_cpu_ms / 1000, 1e9 / cell.cpu_ms_a_megabyte("reader")


def link_figures(engine: PromptEngine, search_s: float) -> dict[str, Any]:
    """What was measured of one engine, and the link that it would take; None where no link is enough."""
    figures: dict[str, Any] = {f"{engine.title}: KV of a token, bytes": engine.kv_bytes}
    for length in LENGTHS:
        if length <= engine.longest:
            speed = needed(engine, length, search_s)
            figures[f"{engine.title}: {length} tokens, s"] = engine.seconds(length)
            figures[f"{engine.title}: {length} tokens, Mbit/s"] = speed * 8e-6 if math.isfinite(speed) else None
    return figures
