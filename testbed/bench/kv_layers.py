"""`bench kv --layers`: computing through the layers of KV that are there, against waiting for whole blocks.

    reader - our forwarder (no Content Store) - UDP through testbed.delay_link - our forwarder - holder of KV blocks

The prefix of a prompt is held, its rest is computed by the reader; both ways take turns over the same link. Owns: that
little network and the two ways to a first token. Must not know: how blocks are found or fetched.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ndn_infer.functions.engine_worker import EngineWorker
from ndn_infer.kv.connector import KvConnector
from ndn_infer.records.sampling import Sampling
from ndn_infer.testbed.bench.fetch_child import free_port
from ndn_infer.testbed.bench.fetch_ours import Keys
from ndn_infer.testbed.bench.fetch_sweep import EmulatedLink, begin_forwarder, behind_link
from ndn_infer.testbed.bench.forwarders import CannotMeasure, Target
from ndn_infer.testbed.bench.kv_node import (
    STORE_PACKETS,
    Holding,
    format_of,
    holder,
    host_of,
    joined,
    load_engine,
    prompt,
)

PREFIX_TOKENS: Final = 1024
MORE_TOKENS: Final = (1, 128, 512)
"""What the prompt has beyond the prefix; its first token comes after that."""
MBITS: Final = (200.0, 800.0)
ROUND_TRIP_MS: Final = 2
FIRST: Final = Sampling(max_tokens=1)


def layers(place: Path, keys: Keys, holding: Holding) -> dict[str, Any]:
    """`holding` names the model; its runs are turns here. Figures
    `layers_<mbit>mbit_<more>_{whole,layered}_ms`, and the ratio of both."""
    port, figures = free_port(), dict[str, Any]()
    with (
        begin_forwarder(place / "far.sock", port, cs_packets=STORE_PACKETS) as far,
        holder(far, keys, replace(holding, lengths=(PREFIX_TOKENS,), runs=0)),
    ):
        for mbit in MBITS:
            with behind_link(place / "near.sock", keys, port, EmulatedLink(mbit, ROUND_TRIP_MS)) as near:
                best = asyncio.run(_measure(near, keys, holding))
            for more, (whole, layered) in best.items():
                name = f"layers_{mbit:g}mbit_{more}"
                figures[f"{name}_whole_ms"], figures[f"{name}_layered_ms"] = whole * 1000, layered * 1000
                figures[f"{name}_whole_over_layered"] = whole / layered
    return figures


async def _measure(near: Target, keys: Keys, holding: Holding) -> dict[int, tuple[float, float]]:
    """For every length of the rest: the best of the runs, seconds, (whole, layered)."""
    node, _ = await joined(f"unix://{near.path}", keys.settings)
    worker = EngineWorker(lambda: load_engine(holding.folder, holding.threads))
    engine = await worker.start()
    vocab_size = engine.model_config.vocab_size
    best = {more: (float("inf"), float("inf")) for more in MORE_TOKENS}
    for number in range(max(holding.runs, 1)):
        for more in MORE_TOKENS:
            rest = [5 + (7919 * (at + number)) % 40_000 for at in range(more)]
            ids = [*prompt(PREFIX_TOKENS, vocab_size), *rest]
            took = []
            for layered in (False, True):
                connector = KvConnector(host_of(node), holding.model, format_of(engine, "raw"))
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
