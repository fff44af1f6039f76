"""Streams through the gateway against the same engine in process: what do HTTP, names, signatures and processes cost?

In process: our engine alone, so many streams in one batch. Gateway: `ndn-infer gateway` with a network of its own
(forwarder, prefill and decode in processes of their own), asked over HTTP by so many clients at once. Both compute the
prompts; each run has prompts that no other has. Owns: the clients, the figures. Docs: docs/gateway.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from ndn_infer.config import Config
from ndn_infer.engine.engine import Engine
from ndn_infer.local.network import CommonFlags
from ndn_infer.local.prepare import prepared
from ndn_infer.node.keys import ensure_keys
from ndn_infer.records import Sampling
from ndn_infer.testbed.bench.children import background
from ndn_infer.testbed.bench.report import print_report
from ndn_infer.testbed.result import percentile

STREAMS: Final = (1, 4, 16)
PROMPT_TOKENS: Final = 33
ANSWER_TOKENS: Final = 128
QUICK_TOKENS: Final = 32
TIMEOUT_S: Final = 600.0


@dataclass(slots=True)
class Timed:
    """When pieces of one answer came; seconds of time.perf_counter."""

    began: float
    at: list[float] = field(default_factory=list)
    tokens: int = 0

    @property
    def ttft_s(self) -> float:
        return self.at[0] - self.began


@dataclass(frozen=True, slots=True)
class AtOnce:
    """`first` numbers the first prompt, so that no two loads have one in common."""

    streams: int
    tokens: int
    first: int

    def prompts(self) -> list[list[int]]:
        return [prompt(self.first + number) for number in range(self.streams)]


def run(options: argparse.Namespace, config: Config) -> int:
    ensure_keys(config)
    folder = prepared(config, config.ask.model)
    tokens = QUICK_TOKENS if options.quick else ANSWER_TOKENS
    loads = [
        AtOnce(streams, tokens, 1000 * number + 100 * turn)
        for number, streams in enumerate(STREAMS)
        for turn in range(options.runs)
    ]
    flags = CommonFlags(options.config, options.settings).arguments()
    with background([sys.executable, "-m", "ndn_infer", "gateway", "--port", "0", "--embedded", *flags]) as process:
        assert process.stdout is not None
        ready = next((line for line in process.stdout if line.startswith("READY")), "")
        if not ready:
            return 1  # it has said why
        through = asyncio.run(_through_gateway(ready.split()[1], config.ask.model, loads))
    alone = _in_process(folder.path, config, loads)
    figures: dict[str, Any] = {"answer_tokens": tokens, "prompt_tokens": PROMPT_TOKENS}
    ratios = {}
    for streams in STREAMS:
        ours, engine = _figures(streams, loads, through), _figures(streams, loads, alone)
        figures |= {f"gateway_{streams}_{name}": value for name, value in ours.items()}
        figures |= {f"engine_{streams}_{name}": value for name, value in engine.items()}
        ratios[f"gateway_over_engine_tokens_per_s_{streams}"] = ours["tokens_per_s"] / engine["tokens_per_s"]
    print_report("gateway", figures, {}, ratios)
    return 0


def prompt(index: int) -> list[int]:
    """Token ids that no other prompt of this benchmark begins with."""
    return [(index * 7919 + position * 31) % 40_000 + 100 for position in range(PROMPT_TOKENS)]


def _figures(streams: int, loads: list[AtOnce], found: list[list[Timed]]) -> dict[str, float]:
    """Over the loads of so many streams: the median of their speeds, and of all pieces."""
    mine = [answers for load, answers in zip(loads, found, strict=True) if load.streams == streams]
    gaps = [b - a for answers in mine for one in answers for a, b in zip(one.at, one.at[1:], strict=False)]
    firsts = [one.ttft_s for answers in mine for one in answers]
    return {
        "tokens_per_s": statistics.median(_speed(answers) for answers in mine),
        "ttft_p50_ms": 1000 * percentile(firsts, 50), "ttft_p95_ms": 1000 * percentile(firsts, 95),
        "itl_p50_ms": 1000 * percentile(gaps, 50), "itl_p95_ms": 1000 * percentile(gaps, 95),
    }  # fmt: skip


def _speed(answers: list[Timed]) -> float:
    """Tokens of all streams, from the first question to the last token."""
    return sum(one.tokens for one in answers) / (max(one.at[-1] for one in answers) - min(one.began for one in answers))


# ---------------------------------------------------------------- the engine alone


def _in_process(folder: Path, config: Config, loads: list[AtOnce]) -> list[list[Timed]]:
    engine = Engine.load(folder, config.engine)
    _alone(engine, AtOnce(1, 4, -1))
    return [_alone(engine, load) for load in loads]


def _alone(engine: Engine, load: AtOnce) -> list[Timed]:
    sampling = Sampling(load.tokens, ignore_eos=True)
    streams = [engine.start(ids, sampling) for ids in load.prompts()]
    timed = {stream.number: Timed(time.perf_counter(), tokens=load.tokens) for stream in streams}
    while not all(stream.finished for stream in streams):
        told = {output.stream.number for output in engine.step()}
        now = time.perf_counter()
        for number in told:
            timed[number].at.append(now)
    return list(timed.values())


# ---------------------------------------------------------------- through the gateway


async def _through_gateway(url: str, model: str, loads: list[AtOnce]) -> list[list[Timed]]:
    limits = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=limits, timeout=aiohttp.ClientTimeout(TIMEOUT_S)) as session:
        asked = [_asked(session, url, model, load) for load in (AtOnce(1, 4, -1), *loads)]
        return [await one for one in asked][1:]


async def _asked(session: aiohttp.ClientSession, url: str, model: str, load: AtOnce) -> list[Timed]:
    body = {
        "model": model, "max_tokens": load.tokens, "ignore_eos": True, "temperature": 0, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    ones = [_stream(session, f"{url}/completions", {**body, "prompt": ids}) for ids in load.prompts()]
    return await asyncio.gather(*ones)


async def _stream(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> Timed:
    timed, last = Timed(time.perf_counter()), b""
    async with session.post(url, json=body) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            if line.startswith(b"data: {"):
                timed.at.append(time.perf_counter())
                last = line
    timed.at = timed.at[:-2]  # why it ended, and usage
    timed.tokens = json.loads(last.removeprefix(b"data: "))["usage"]["completion_tokens"]
    return timed
