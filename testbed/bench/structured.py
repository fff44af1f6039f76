"""Decoding within a grammar beside decoding without, by the same engine in the same run; kinds take turns, and each
figure is the median of the runs, each ratio the median of the ratios of one turn.

Tokens/s of 1 and of 8 streams after 128 tokens, prompts not counted. `strings`: a schema that leaves nearly every token
to the model; `objects`: one with names and punctuation, of which most is forced and costs no step of its own; `any`:
any JSON, item after item; `text`: a tool may be called and nothing is forced. And what one mask takes.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch

from ndn_infer.config import Config, EngineConfig
from ndn_infer.engine.engine import Engine
from ndn_infer.local.prepare import prepared
from ndn_infer.records import grammar
from ndn_infer.records.grammar import Grammar
from ndn_infer.records.sampling import Sampling
from ndn_infer.testbed.bench.report import print_report

STREAMS: Final = (1, 8)
CONTEXT: Final = 128
TOKENS: Final = 64
_ROW: Final = {
    "type": "object", "properties": {"title": {"type": "string"}, "page": {"type": "integer"}},
    "required": ["title", "page"], "additionalProperties": False,
}  # fmt: skip
GRAMMARS: Final[dict[str, Grammar]] = {
    "strings": grammar.of_json_schema({"type": "array", "items": {"type": "string"}, "minItems": 1000}),
    "objects": grammar.of_json_schema({"type": "array", "items": _ROW, "minItems": 1000}),
    "any": grammar.of_json_schema({"type": "array", "minItems": 1000}),
    "text": grammar.of_tools([("look_up", _ROW)]),
}
_numbers = itertools.count(1)


def run(options: argparse.Namespace, config: Config) -> int:
    threads = config.engine.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    folder = prepared(config, config.ask.model).path
    found: dict[str, list[float]] = {}
    for weights in ("int4", "bf16"):
        for name, value in _of_weights(folder, weights, max(options.runs, 1)):
            found.setdefault(name, []).append(value)
    middle = {name: median(values) for name, values in found.items()}
    ratios = {name: value for name, value in middle.items() if "_over_" in name}
    figures: dict[str, Any] = {"threads": threads, **{n: v for n, v in middle.items() if n not in ratios}}
    print_report("structured", figures, {}, ratios)
    return 0


def _of_weights(folder: Path, weights: str, runs: int) -> Iterator[tuple[str, float]]:
    engine = Engine.load(
        folder, EngineConfig("bf16", weights, max_streams=max(STREAMS), kv_memory_mib=512, speculation="off")
    )
    for of in GRAMMARS.values():
        tokens_per_s(engine, 1, of)  # what is compiled and known of a grammar stays
    for _, streams in itertools.product(range(runs), STREAMS):
        plain = tokens_per_s(engine, streams, None)
        yield f"{weights}_plain_{streams}_tokens_per_s", plain
        for name, of in GRAMMARS.items():
            speed = tokens_per_s(engine, streams, of)
            yield f"{weights}_{name}_{streams}_tokens_per_s", speed
            yield f"{weights}_{name}_{streams}_over_plain", speed / plain
    if weights == "int4":
        for name, of in GRAMMARS.items():
            yield f"mask_{name}_us", mask_us(engine, of)


def tokens_per_s(engine: Engine, streams: int, of: Grammar | None) -> float:
    """Of `streams` together, from when all have their first token until the first of them ends."""
    params = Sampling(TOKENS, grammar=of, temperature=1.0, seed=next(_numbers), stop_ids=())
    running = [engine.start(_prompt(), params) for _ in range(streams)]
    try:
        while not all(stream.generated for stream in running):
            engine.step()
        before, started = sum(len(stream.generated) for stream in running), time.perf_counter()
        while all(stream.finished is None for stream in running):
            engine.step()
        return (sum(len(stream.generated) for stream in running) - before) / (time.perf_counter() - started)
    finally:
        for stream in running:
            engine.cancel(stream)


def mask_us(engine: Engine, of: Grammar) -> float:
    """Microseconds of one mask with what belongs to it, along an answer that the model gives."""
    assert engine.grammars is not None
    stream = engine.start(_prompt(), Sampling(TOKENS, grammar=of))
    while stream.finished is None:
        engine.step()
    matcher, taken = engine.grammars.matcher(of), 0.0
    for token in stream.generated:
        started = time.perf_counter()
        matcher.forced()
        matcher.allowed()
        matcher.accept(token)
        taken += time.perf_counter() - started
    return taken / len(stream.generated) * 1e6


def _prompt() -> list[int]:
    """Ids that no other prompt of this run begins with, so that no cache helps."""
    first = next(_numbers) * 7919
    return [(first + position * 31) % 40_000 + 100 for position in range(CONTEXT)]
