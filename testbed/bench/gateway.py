"""Streams through the gateway against the same engine in process: what do HTTP, names, signatures and processes cost?

In process: our engine alone, so many streams in one batch. Gateway: `ndn-infer gateway` with a network of its own
(forwarder, prefill and decode in processes of their own), asked over HTTP by so many clients at once. Both compute the
prompts; each run has prompts that no other has. Owns: the clients, the figures. Docs: docs/gateway.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping
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
from ndn_infer.testbed.bench import processor
from ndn_infer.testbed.bench.children import background
from ndn_infer.testbed.bench.report import print_report
from ndn_infer.testbed.result import percentile

STREAMS: Final = (1, 4, 16)
PROMPT_TOKENS: Final = 33
ANSWER_TOKENS: Final = 128
QUICK_TOKENS: Final = 32
TIMEOUT_S: Final = 600.0
ENGINE: Final = "decode"
"""The process that computes."""


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
class AnsweredLoad:
    """What one load gave: its answers, and what processes spent on it."""

    answers: list[Timed]
    spent: processor.Readings

    @property
    def tokens(self) -> int:
        return sum(one.tokens for one in self.answers)

    @property
    def pieces(self) -> int:
        return sum(len(one.at) for one in self.answers)


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
        pids = {"client": os.getpid(), "gateway": process.pid, **processor.children(process.pid)}
        through = asyncio.run(_through_gateway(ready.split()[1], config.ask.model, loads, pids))
    alone = _in_process(folder.path, config, loads)
    figures: dict[str, Any] = {"answer_tokens": tokens, "prompt_tokens": PROMPT_TOKENS}
    ratios = {}
    for streams in STREAMS:
        ours, engine = (
            [one for load, one in zip(loads, found, strict=True) if load.streams == streams]
            for found in (through, alone)
        )
        told, peer = _figures(ours) | _costs(ours), _figures(engine)
        peer["cpu_ms_engine"] = _costs(engine)["cpu_ms_engine"]
        figures |= {f"gateway_{streams}_{name}": value for name, value in told.items()}
        figures |= {f"engine_{streams}_{name}": value for name, value in peer.items()}
        ratios[f"gateway_over_engine_tokens_per_s_{streams}"] = told["tokens_per_s"] / peer["tokens_per_s"]
        ratios[f"engine_over_all_cpu_{streams}"] = peer["cpu_ms_engine"] / (
            told["cpu_ms_engine"] + told["cpu_ms_above_engine"]
        )
    print_report("gateway", figures, {}, ratios)
    return 0


def prompt(index: int) -> list[int]:
    """Token ids that no other prompt of this benchmark begins with."""
    return [(index * 7919 + position * 31) % 40_000 + 100 for position in range(PROMPT_TOKENS)]


def _figures(mine: list[AnsweredLoad]) -> dict[str, float]:
    """Of loads of the same size: the median of their speeds, and all pieces."""
    answers = [timed for one in mine for timed in one.answers]
    gaps = [b - a for one in answers for a, b in zip(one.at, one.at[1:], strict=False)]
    firsts = [one.ttft_s for one in answers]
    return {
        "tokens_per_s": statistics.median(_speed(one.answers) for one in mine),
        "ttft_p50_ms": 1000 * percentile(firsts, 50), "ttft_p95_ms": 1000 * percentile(firsts, 95),
        "itl_p50_ms": 1000 * percentile(gaps, 50), "itl_p95_ms": 1000 * percentile(gaps, 95),
    }  # fmt: skip


def _costs(mine: list[AnsweredLoad]) -> dict[str, float]:
    """What a token cost, by process, and how many came together."""
    tokens = sum(one.tokens for one in mine)
    spent = processor.together([one.spent for one in mine])
    pieces = sum(one.pieces for one in mine)
    return processor.per_token(spent, tokens, ENGINE) | {"tokens_per_piece": tokens / pieces}


def _speed(answers: list[Timed]) -> float:
    """Tokens of all streams, from the first question to the last token."""
    return sum(one.tokens for one in answers) / (max(one.at[-1] for one in answers) - min(one.began for one in answers))


# ---------------------------------------------------------------- the engine alone


def _in_process(folder: Path, config: Config, loads: list[AtOnce]) -> list[AnsweredLoad]:
    engine = Engine.load(folder, config.engine)
    _alone(engine, AtOnce(1, 4, -1))
    return [_alone(engine, load) for load in loads]


def _alone(engine: Engine, load: AtOnce) -> AnsweredLoad:
    sampling, began_s = Sampling(load.tokens, ignore_eos=True), time.process_time()
    streams = [engine.start(ids, sampling) for ids in load.prompts()]
    timed = {stream.number: Timed(time.perf_counter(), tokens=load.tokens) for stream in streams}
    while not all(stream.finished for stream in streams):
        told = {output.stream.number for output in engine.step()}
        now = time.perf_counter()
        for number in told:
            timed[number].at.append(now)
    return AnsweredLoad(list(timed.values()), {ENGINE: processor.Spent(others_s=time.process_time() - began_s)})


# ---------------------------------------------------------------- through the gateway


async def _through_gateway(url: str, model: str, loads: list[AtOnce], pids: Mapping[str, int]) -> list[AnsweredLoad]:
    limits = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=limits, timeout=aiohttp.ClientTimeout(TIMEOUT_S)) as session:
        await _asked(session, url, model, AtOnce(1, 4, -1))
        found = []
        for load in loads:
            before = processor.read(pids)
            answers = await _asked(session, url, model, load)
            found.append(AnsweredLoad(answers, processor.since(before, processor.read(pids))))
        return found


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
