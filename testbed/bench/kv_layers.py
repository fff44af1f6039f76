"""`bench kv --layers`: computing through the layers of KV that are there, against waiting for whole blocks.

    reader - our forwarder (no Content Store) - UDP through testbed.delay_link - our forwarder - holder of KV blocks

The prefix of a prompt is held, its rest is computed by the reader; both ways take turns over the same link. Owns: that
little network and the two ways to a first token. Must not know: how blocks are found or fetched.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ndn_infer.functions.engine_worker import EngineWorker
from ndn_infer.kv.connector import KvConnector
from ndn_infer.records.sampling import Sampling
from ndn_infer.testbed.bench.children import background
from ndn_infer.testbed.bench.fetch_child import free_port
from ndn_infer.testbed.bench.fetch_ours import Keys
from ndn_infer.testbed.bench.fetch_sweep import begin_forwarder, behind_link
from ndn_infer.testbed.bench.forwarders import CannotMeasure, Target
from ndn_infer.testbed.bench.kv_node import STORE_PACKETS, format_of, host_of, joined, load_engine, prompt

PREFIX_TOKENS: Final = 1024
MORE_TOKENS: Final = (1, 128, 512)
"""What the prompt has beyond the prefix; its first token comes after that."""
MBITS: Final = (200.0, 800.0)
ROUND_TRIP_MS: Final = 2
FIRST: Final = Sampling(max_tokens=1)


def layers(place: Path, keys: Keys, folder: Path, model: str, threads: int, runs: int) -> dict[str, Any]:
    """Figures `layers_<mbit>mbit_<more>_{whole,layered}_ms`, and the ratio of both."""
    port, figures = free_port(), dict[str, Any]()
    with (
        begin_forwarder(place / "far.sock", port, cs_packets=STORE_PACKETS) as far,
        _holder(far, keys, folder, model, threads),
    ):
        for mbit in MBITS:
            with behind_link(place / "near.sock", keys, port, mbit=mbit, round_trip_ms=ROUND_TRIP_MS) as near:
                best = asyncio.run(_measure(near, keys, folder, model, threads, runs))
            for more, (whole, layered) in best.items():
                name = f"layers_{mbit:g}mbit_{more}"
                figures[f"{name}_whole_ms"], figures[f"{name}_layered_ms"] = whole * 1000, layered * 1000
                figures[f"{name}_whole_over_layered"] = whole / layered
    return figures


@contextmanager
def _holder(target: Target, keys: Keys, folder: Path, model: str, threads: int) -> Iterator[None]:
    options = {
        "uri": f"unix://{target.path}", "settings": keys.settings, "folder": str(folder), "model": model,
        "lengths": [PREFIX_TOKENS], "threads": threads, "runs": 0,
    }  # fmt: skip
    command = [sys.executable, "-m", "ndn_infer.testbed.bench.kv_node", "hold", json.dumps(options)]
    with background(command, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise CannotMeasure("the holder of KV blocks did not start")
        yield


async def _measure(
    near: Target, keys: Keys, folder: Path, model: str, threads: int, runs: int
) -> dict[int, tuple[float, float]]:
    """For every length of the rest: the best of the runs, seconds, (whole, layered)."""
    node, _ = await joined(f"unix://{near.path}", keys.settings)
    worker = EngineWorker(lambda: load_engine(str(folder), threads))
    engine = await worker.start()
    vocab_size = engine.model_config.vocab_size
    best = {more: (float("inf"), float("inf")) for more in MORE_TOKENS}
    for number in range(max(runs, 1)):
        for more in MORE_TOKENS:
            rest = [5 + (7919 * (at + number)) % 40_000 for at in range(more)]
            ids = [*prompt(PREFIX_TOKENS, vocab_size), *rest]
            took = []
            for layered in (False, True):
                connector = KvConnector(host_of(node), model, format_of(engine, "raw"))
                took.append(await _first_token(connector, worker, ids, layered=layered))
            best[more] = (min(best[more][0], took[0]), min(best[more][1], took[1]))
    await worker.close()
    await node.close()
    return best


async def _first_token(connector: KvConnector, worker: EngineWorker, ids: Sequence[int], *, layered: bool) -> float:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    began = time.perf_counter()
    values = connector.blocks.chain(ids)[: PREFIX_TOKENS // connector.blocks.block_tokens]
    located = await connector.locate(values)
    if layered:
        arriving = connector.arriving(located)
        stream = await worker.generate(
            ids, FIRST, arriving.tensors, lambda _: done.set_result(None), arriving=True
        )  # fmt: skip
        async for count in arriving.layers():
            worker.supply(stream, count)
        found = arriving.found
        worker.supply(stream, connector.blocks.format.layout.layers)
    else:
        found = await connector.fetcher.fetch(located)
        await worker.generate(ids, FIRST, found.tensors, lambda _: done.set_result(None))
    if len(found.tensors) != len(values):
        raise CannotMeasure(f"{len(found.tensors)} of {len(values)} KV blocks came by name")
    await done
    return time.perf_counter() - began
