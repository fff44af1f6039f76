"""The connector's own costs, without vLLM: blocks of a paged cache published, found and loaded by name.

Blocks are those of SmolLM2-135M in vLLM on a CPU (30 layers, 128 tokens, 2.9 MB). A holder and this process are two
processes with the connector's threads, beside a forwarder. Measured: a search when nothing is held, which is what a new
prompt waits for; the copy out of the cache, which is what a step waits for; publishing and loading, end to end,
verified. Peers: the same bytes through safetensors on local disk, a file a layer, as vLLM's ExampleConnector does (read
back from the page cache, nothing verified), and through Redis. With engine.vllm_python also how long vLLM computes such
prompts, how much later the first token of a new one comes with the connector, and with --plot when a name is sooner
(kv_pays.py).

Owns: these measurements. Must not know: what vLLM does meanwhile.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from ndn_infer.config import Config
from ndn_infer.models.store import prepare
from ndn_infer.security.domains import PUBLIC
from ndn_infer.testbed.bench.children import background
from ndn_infer.testbed.bench.fetch_client import connected
from ndn_infer.testbed.bench.fetch_ours import Keys
from ndn_infer.testbed.bench.forwarders import CannotMeasure, ours
from ndn_infer.testbed.bench.kv_pays import COMPUTED, measured_engine, plot
from ndn_infer.testbed.bench.report import machine, print_report
from ndn_infer.testbed.bench.vllm_prefill import first_token_seconds, prefill_seconds
from ndn_infer.vllm.codec import BlockShape
from ndn_infer.vllm.jobs import LoadedBlock, LoadJob, SavedBlock, StepJobs
from ndn_infer.vllm.member import member_config
from ndn_infer.vllm.network import SchedulerNetwork, WorkerNetwork, WorkerPart
from ndn_infer.vllm.pages import PagedCache
from ndn_infer.vllm.settings import ConnectorSettings
from ndn_infer.vllm.spaces import RankBlocks
from ndn_infer.vllm.worker_side import WorkerSide

LAYERS: Final = 30
BLOCKS: Final = 15
"""A prompt of 1,920 tokens."""
SHAPE: Final = (BLOCKS, 3, 128, 128)
SEARCHES: Final = 20
LONGEST_S: Final = 120.0
MODEL: Final = "smollm2-135m-instruct"
KV_BYTES: Final = LAYERS * SHAPE[1] * SHAPE[3] * 2
"""Of one token."""


def values(of: str) -> list[bytes]:
    return [f"{of} {number}".encode().ljust(32, b".") for number in range(BLOCKS)]


class MeasuredWorker:
    """A worker's half with a cache of random numbers, named like one of `node`."""

    def __init__(self, settings: Sequence[str], node: str) -> None:
        flags = (*settings, f"network.node={node}")
        options = ConnectorSettings(set=flags, load_timeout_s=LONGEST_S, stage_mib=1024)
        self.config = member_config(flags)
        self.options = options
        caches = {f"layers.{number}": torch.rand(SHAPE).to(torch.bfloat16) for number in range(LAYERS)}
        self.cache = PagedCache(caches, BLOCKS)
        shape = BlockShape(128, self.cache.layer_bytes, bytes(16))
        self.rank = RankBlocks("ab" * 32, "vllm.bench", self.cache.layer_range, shape)
        self.network = WorkerNetwork(self.config, options, WorkerPart(self.rank, 0, self.cache.write))
        self.side = WorkerSide(self.network, self.cache, shape)
        if not self.network.wait_joined(LONGEST_S):
            raise CannotMeasure("no forwarder answers")

    @property
    def total(self) -> int:
        """Bytes of all blocks."""
        return BLOCKS * self.rank.shape.payload_bytes


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LONGEST_S
    while not true():
        if time.monotonic() > end:
            raise CannotMeasure("it takes too long")
        time.sleep(0.001)


def hold(settings: Sequence[str], runs: int) -> None:
    """The holder: save and publish, `runs` prompts; print the best of each, and wait."""
    holder = MeasuredWorker(settings, "holder")
    copies, publishing = [], []
    for run in range(runs):
        jobs = [SavedBlock(PUBLIC.label, value, number) for number, value in enumerate(values(f"run {run}"))]
        began = time.perf_counter()
        holder.side.end_step(StepJobs(after=jobs))
        copies.append(time.perf_counter() - began)
        until(lambda: holder.network.staged_bytes == 0)
        publishing.append(time.perf_counter() - began)
    print(json.dumps({"copy_s": min(copies), "publish_s": min(publishing)}), flush=True)
    sys.stdin.readline()
    holder.network.close()


def measure(settings: Sequence[str], runs: int) -> dict[str, Any]:
    reader = MeasuredWorker(settings, "reader")
    scheduler = SchedulerNetwork(reader.config, reader.options)
    scheduler.tell([reader.rank])
    try:
        until(lambda: scheduler.ready)
        nothing = []
        for number in range(SEARCHES):
            began = time.perf_counter()
            if scheduler.find(PUBLIC, values(f"nothing {number}")).result(LONGEST_S):
                raise CannotMeasure("something was found that nobody holds")
            nothing.append(time.perf_counter() - began)
        finding, loading = [], []
        for run in range(runs):
            wanted, began = values(f"run {run}"), time.perf_counter()
            found = scheduler.find(PUBLIC, wanted).result(LONGEST_S)
            finding.append(time.perf_counter() - began)
            if len(found) != BLOCKS:
                raise CannotMeasure(f"{len(found)} of {BLOCKS} blocks were found")
            blocks = tuple(LoadedBlock(wanted[number], number, held) for number, held in enumerate(found))
            began = time.perf_counter()
            running = reader.network.load(LoadJob("r", PUBLIC.label, blocks, True))
            running.wait()
            loading.append(time.perf_counter() - began)
            if running.failed:
                raise CannotMeasure(f"{len(running.failed)} blocks could not be loaded")
        return {
            "search, nothing held, p50 ms": statistics.median(nothing) * 1e3,
            "search, nothing held, longest ms": max(nothing) * 1e3,
            f"search, {BLOCKS} blocks held, best ms": min(finding) * 1e3,
            "load, verified, MB/s": reader.total / 1e6 / min(loading),
        }
    finally:
        scheduler.close()
        reader.network.close()


def by_disk(folder: Path, runs: int) -> dict[str, float]:
    """A safetensors file a layer."""
    from safetensors.torch import load_file, save_file

    caches = [torch.rand(SHAPE).to(torch.bfloat16) for _ in range(LAYERS)]
    total, saving, loading = sum(one.nbytes for one in caches), [], []
    for run in range(runs):
        place = folder / f"disk{run}"
        place.mkdir()
        began = time.perf_counter()
        for number, one in enumerate(caches):
            save_file({"kv_cache": one}, place / f"{number}.safetensors")
        saving.append(time.perf_counter() - began)
        began = time.perf_counter()
        for number, one in enumerate(caches):
            one.copy_(load_file(place / f"{number}.safetensors")["kv_cache"])
        loading.append(time.perf_counter() - began)
        shutil.rmtree(place)
    return {
        "safetensors on disk, save, MB/s": total / 1e6 / min(saving),
        "safetensors on disk, load, MB/s": total / 1e6 / min(loading),
    }


def by_redis(folder: Path, runs: int) -> dict[str, float | None]:
    """A value a block; None where there is no redis-server on PATH."""
    names = ("redis, save, MB/s", "redis, load, MB/s")
    program = shutil.which("redis-server")
    if program is None:
        return dict.fromkeys(names)
    path, block = str(folder / "redis.sock"), torch.rand(LAYERS * SHAPE[1] * SHAPE[2] * SHAPE[3]).to(torch.bfloat16)
    content = memoryview(block.view(torch.uint8).numpy().tobytes())
    command = [program, "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with background(command, output=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        redis, saving, loading = connected(path), [], []
        for _ in range(runs):
            began = time.perf_counter()
            for number in range(BLOCKS):
                redis.set(b"%d" % number, content)
            saving.append(time.perf_counter() - began)
            began, room = time.perf_counter(), bytearray(len(content) + 2)
            for number in range(BLOCKS):
                redis.send_short(b"GET", b"%d" % number)
                redis.line()
                redis.fill(memoryview(room))
            loading.append(time.perf_counter() - began)
        redis.close()
    size = BLOCKS * len(content) / 1e6
    return dict(zip(names, (size / min(saving), size / min(loading)), strict=True))


def _added(config: Config, settings: Sequence[str]) -> dict[str, Any]:
    """By the connector, to the time of a prompt's first token, where nothing of it is held."""
    figures: dict[str, Any] = {}
    folder, flags = prepare(MODEL, config.cache_dir).path, [*settings, "network.node=vllm"]
    for tokens, (plain, named) in first_token_seconds(folder, config.engine, flags).items():
        figures[f"vLLM, {tokens} tokens, first token, p50 ms"] = plain * 1e3
        figures[f"with the connector, nothing held, {tokens} tokens, p50 ms"] = named * 1e3
        figures[f"added by the connector, {tokens} tokens, ms"] = (named - plain) * 1e3
    return figures


def _prompts(options: argparse.Namespace, config: Config, figures: dict[str, Any]) -> dict[str, Any]:
    """Computing the same prompts in vLLM, and the plot of both where it is asked for."""
    folder = prepare(MODEL, config.cache_dir).path
    seconds = prefill_seconds(folder, config.engine, options.runs)
    longest, copied_ms = max(seconds), figures["save: copy in the step, ms a block"]
    figures["save: copies, share of a prompt's steps, %"] = longest // 128 * copied_ms / seconds[longest] / 10
    if options.plot:
        engine = measured_engine("SmolLM2-135M on one core (measured)", KV_BYTES, sorted(seconds.items()))
        search_s, verified = figures["search, nothing held, p50 ms"] / 1e3, figures["load, verified, MB/s"] * 1e6
        options.plot.write_text(plot((engine, *COMPUTED), search_s, verified, str(machine()["cpu"])), encoding="utf-8")
    return {f"vLLM computes {tokens} tokens, s": took for tokens, took in seconds.items()}


def run(options: argparse.Namespace, config: Config) -> int:
    with tempfile.TemporaryDirectory(prefix="ndn-infer-bench-") as made:
        folder = Path(made)
        keys = Keys.make(folder, config)
        with ours(folder, 65536) as target:
            settings = [*keys.settings, f"network.transport=unix://{target.path}", "network.site=bench"]
            given = json.dumps({"settings": settings, "runs": options.runs})
            command = [sys.executable, "-m", "ndn_infer.testbed.bench.vllm_kv", given]
            with background(command, stdin=subprocess.PIPE) as holder:
                assert holder.stdout is not None
                line = holder.stdout.readline()
                if not line:
                    raise CannotMeasure("the holder did not start")
                held = json.loads(line)
                figures = measure(settings, options.runs)
            if config.engine.vllm_python:
                figures |= _added(config, settings)
        total = BLOCKS * LAYERS * SHAPE[1] * SHAPE[2] * SHAPE[3] * 2
        figures |= {
            "save: copy in the step, ms a block": held["copy_s"] * 1e3 / BLOCKS,
            "save: published, MB/s": total / 1e6 / held["publish_s"],
        }
        peers: dict[str, Any] = {**by_disk(folder, options.runs), **by_redis(folder, options.runs)}
    if config.engine.vllm_python:
        figures |= _prompts(options, config, figures)
    load = figures["load, verified, MB/s"]
    ratios = {f"load over {name}": load / value for name, value in peers.items() if value and "load" in name}
    print_report("vllm", figures, peers, ratios)
    return 0


if __name__ == "__main__":
    parsed = json.loads(sys.argv[1])
    hold(parsed["settings"], parsed["runs"])
