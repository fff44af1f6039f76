"""Finding and fetching the KV of long prompts by name, without an engine: `ndn-infer bench kv --long`.

What is real: names (hash chains over token ids), questions to the holder, signed manifests, segments, the forwarder,
verification, decoding into tensors, three processes. What is not: the numbers in the blocks are random and not
computed, because 16,384 tokens take a minute to compute and their bytes cost the network the same whatever they say; no
token follows. Blocks have the shape of SmolLM2-135M's (23,040 bytes a token in bf16). A prompt of n tokens is the first
n of one long prompt, whose blocks the holder has published. For each length, in a turn: the forwarder forgets, the
`first` reader gets all blocks from the holder, the next one (`warm`) from the Content Store.

Owns: this measurement. Must not know: how blocks are found or fetched. Seconds on processors are told by process,
because a busy machine changes them little.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from ndn_infer.config import Config
from ndn_infer.kv.codec import BlockFormat
from ndn_infer.kv.connector import KvConnector
from ndn_infer.kv.layout import BlockLayout
from ndn_infer.node.node import Node
from ndn_infer.testbed.bench.children import background
from ndn_infer.testbed.bench.fetch_child import ram_folder
from ndn_infer.testbed.bench.fetch_ours import Keys
from ndn_infer.testbed.bench.forwarders import CannotMeasure, Target, ours
from ndn_infer.testbed.bench.kv_fanout import forget
from ndn_infer.testbed.bench.kv_node import STORE_PACKETS, Publishing, host_of, joined, prompt
from ndn_infer.testbed.bench.processor import Spent, read, since
from ndn_infer.testbed.bench.report import print_report

LENGTHS: Final = (256, 512, 1024, 2048, 4096, 8192, 16384)
MODEL: Final = "ab" * 32
FORMAT: Final = BlockFormat(BlockLayout(30, 3, 64, 16, torch.bfloat16), "bf16.random", "raw")
VOCABULARY: Final = 49152
READERS: Final = ("first", "warm")
LEVEL_FROM: Final = 512


def run(options: argparse.Namespace, config: Config) -> int:
    """Measure and print. Raises CannotMeasure."""
    cells = measure(config, tuple(sorted(options.tokens or LENGTHS)), max(options.runs, 1))
    print_report("kv_long", _figures(cells), {}, _ratios(cells))
    return 0


def measure(config: Config, lengths: Sequence[int], runs: int) -> Cells:
    """Every length `runs` times. Raises CannotMeasure."""
    with ram_folder() as place, ours(Path(place), STORE_PACKETS) as target:
        keys = Keys.make(Path(place), config)
        with _holder(target, keys, lengths[-1]) as holder:
            return asyncio.run(_measure(target, keys, lengths, holder, runs))


@dataclass(slots=True)
class Cell:
    """Every run of one reader at one length."""

    find_s: list[float] = field(default_factory=list)
    find_cpu_s: list[float] = field(default_factory=list)
    """Of the reader."""
    find_interests: int = 0
    fetch_s: list[float] = field(default_factory=list)
    spent: list[Mapping[str, Spent]] = field(default_factory=list)
    nbytes: int = 0

    @property
    def find_ms(self) -> float:
        return statistics.median(self.find_s) * 1000

    @property
    def find_cpu_ms(self) -> float:
        return statistics.median(self.find_cpu_s) * 1000

    @property
    def mb_s(self) -> float:
        return self.nbytes / 1e6 / statistics.median(self.fetch_s)

    def cpu_ms_a_megabyte(self, title: str) -> float:
        """Of one process, finding and fetching."""
        seconds = statistics.median(run[title].main_s + run[title].others_s for run in self.spent)
        return seconds * 1000 / (self.nbytes / 1e6)


Cells = Mapping[tuple[str, int], Cell]


async def _measure(target: Target, keys: Keys, lengths: Sequence[int], holder: int, runs: int) -> Cells:
    node, _ = await joined(f"unix://{target.path}", keys.settings)
    pids = {"reader": os.getpid(), "forwarder": target.pid, "holder": holder}
    cells: defaultdict[tuple[str, int], Cell] = defaultdict(Cell)
    ids = prompt(lengths[-1], VOCABULARY)
    for turn in range(runs + 1):
        for length in lengths if turn else lengths[:1]:  # the first one of all warms up
            await forget(target)
            for reader in READERS:
                await _read(node, ids[:length], pids, cells[(reader if turn else "unused", length)])
    await node.close()
    return {key: cell for key, cell in cells.items() if key[0] in READERS}


async def _read(node: Node, ids: Sequence[int], pids: Mapping[str, int], cell: Cell) -> None:
    """Find and fetch all blocks of `ids`, knowing nobody."""
    connector = KvConnector(host_of(node), MODEL, FORMAT)
    gc.collect()
    sent = node.endpoint.stats.interests_out
    before, began, began_cpu = read(pids), time.perf_counter(), time.process_time()
    values = connector.blocks.chain(ids)
    located = await connector.locate(values)
    found_at, found_cpu = time.perf_counter(), time.process_time()
    cell.find_interests = node.endpoint.stats.interests_out - sent
    found = await connector.fetcher.fetch(located)
    fetched_at = time.perf_counter()
    if len(found.tensors) != len(values):
        raise CannotMeasure(f"{len(found.tensors)} of {len(values)} KV blocks came by name")
    cell.spent.append(since(before, read(pids)))
    cell.find_s.append(found_at - began)
    cell.find_cpu_s.append(found_cpu - began_cpu)
    cell.fetch_s.append(fetched_at - found_at)
    cell.nbytes = sum(block.nbytes for block in found.tensors)


def _figures(cells: Cells) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for (reader, length), cell in sorted(cells.items(), key=lambda item: (item[0][0], item[0][1])):
        figures[f"{reader}_{length}_find_ms"] = cell.find_ms
        figures[f"{reader}_{length}_find_cpu_ms"] = cell.find_cpu_ms
        figures[f"{reader}_{length}_find_interests"] = cell.find_interests
        figures[f"{reader}_{length}_mb_s"] = cell.mb_s
        for title in cell.spent[0]:
            figures[f"{reader}_{length}_cpu_ms_per_mb_{title}"] = cell.cpu_ms_a_megabyte(title)
    return figures


def _ratios(cells: Cells) -> dict[str, Any]:
    """Least over most goodput from LEVEL_FROM tokens on (1 is level), most over least time to find."""
    ratios: dict[str, Any] = {}
    for reader in READERS:
        long = [cell for (who, length), cell in cells.items() if who == reader and length >= LEVEL_FROM]
        finds = [cell.find_ms for (who, _), cell in cells.items() if who == reader]
        if long:
            ratios[f"{reader}_goodput_least_over_most"] = min(c.mb_s for c in long) / max(c.mb_s for c in long)
        ratios[f"{reader}_find_most_over_least"] = max(finds) / min(finds)
    for length in sorted({length for _, length in cells}):
        ratios[f"goodput_first_over_warm_{length}"] = cells["first", length].mb_s / cells["warm", length].mb_s
    return ratios


# ---------------------------------------------------------------- the holder


@contextmanager
def _holder(target: Target, keys: Keys, tokens: int) -> Iterator[int]:
    """A process that has published the blocks; its pid."""
    options = {"uri": f"unix://{target.path}", "settings": keys.settings, "tokens": tokens}
    command = [sys.executable, "-m", "ndn_infer.testbed.bench.kv_long", json.dumps(options)]
    with background(command, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        if "ready" not in process.stdout.readline():
            raise CannotMeasure("the holder of KV blocks did not start")
        yield process.pid


async def hold(uri: str, settings: Sequence[str], tokens: int) -> None:
    """The process itself: publish random blocks for a prompt of so many tokens, and answer."""
    publishing = await Publishing.begin(uri, settings, MODEL, {"raw": FORMAT})
    connector, numbers = publishing.connectors["raw"], torch.Generator().manual_seed(1)
    for value in connector.blocks.chain(prompt(tokens, VOCABULARY)):
        block = torch.randn(FORMAT.layout.shape, generator=numbers).to(torch.bfloat16)
        connector.published.publish(value, block, publishing.signer)
    await publishing.register()
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(hold(given["uri"], given["settings"], given["tokens"]))
