"""KV cache pulled by name against computing it again, and against Redis carrying the same bytes.

    ndn-infer bench kv                 time to first token, warm over cold, 256 to 4,096 tokens, bf16 and int8
    ndn-infer bench kv --fanout        also: many readers of one prefix at once, and what the origin sends
    ndn-infer bench kv --accuracy      also: whether answers stay the same, by 100 prompts (kv_accuracy.py); minutes
    ndn-infer bench kv --layers        also: computing through layers while others arrive, slower links (kv_layers.py)
    ndn-infer bench kv --quick         256 and 1,024 tokens only
    ndn-infer bench kv --long          only finding and fetching, up to 16,384 tokens, no engine (kv_long.py)
    ndn-infer bench kv --plot FILE     only the link speed above which a name beats computing, three models (kv_plot.py)

Cold: our engine computes the whole prompt. Warm: this process knows nothing but the prompt; it finds the blocks by name
through a forwarder, fetches and verifies them, and computes the first token; the first reader (`first`) gets them from
the producer, the next one (`warm`) from the forwarder's Content Store. Redis: the same blocks as values, the same
decoding and engine. Cells take turns; each figure is the median of its runs. Owns: the measurement. Must not know: how
blocks are found or fetched.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch

from ndn_infer.config import Config
from ndn_infer.engine.engine import Engine
from ndn_infer.errors import NdnInferError
from ndn_infer.kv.codec import decode_block, encode_block
from ndn_infer.kv.connector import KvConnector
from ndn_infer.local.prepare import prepared
from ndn_infer.node.node import Node
from ndn_infer.records.sampling import Sampling
from ndn_infer.testbed.bench import kv_long, kv_plot
from ndn_infer.testbed.bench.children import background
from ndn_infer.testbed.bench.fetch_child import ram_folder
from ndn_infer.testbed.bench.fetch_client import Redis, connected
from ndn_infer.testbed.bench.fetch_ours import Keys
from ndn_infer.testbed.bench.fetch_peers import find
from ndn_infer.testbed.bench.forwarders import CannotMeasure, Target, ours
from ndn_infer.testbed.bench.kv_accuracy import accuracy
from ndn_infer.testbed.bench.kv_fanout import SharedPrefix, fan_out, forget
from ndn_infer.testbed.bench.kv_layers import layers
from ndn_infer.testbed.bench.kv_node import (
    FORMS,
    STORE_PACKETS,
    Holding,
    format_of,
    holder,
    host_of,
    joined,
    load_engine,
    prompt,
)
from ndn_infer.testbed.bench.report import print_report

LENGTHS: Final = (256, 512, 1024, 2048, 4096)
QUICK: Final = (256, 1024)
FIRST: Final = Sampling(max_tokens=1)
READERS: Final = ("first", "warm")
"""The first reader of blocks takes them from their producer, the next one from a Content Store on the way."""
PIECES: Final = ("find", "fetch", "decode", "import", "compute")


class WrongTokens(NdnInferError):
    """KV that came by name gave another token than KV that was computed: no figure means anything."""


def run(options: argparse.Namespace, config: Config) -> int:
    """Measure and print. Raises CannotMeasure, WrongTokens."""
    if options.long:
        return kv_long.run(options, config)
    if options.plot:
        return kv_plot.run(options, config)
    lengths = tuple(options.tokens or (QUICK if options.quick else LENGTHS))
    folder = prepared(config, config.ask.model)
    threads, device = config.engine.threads, config.engine.device
    holding = Holding(folder.digest, str(folder.path), threads, runs=options.runs, device=device)
    figures, peers, ratios = by_name(config, replace(holding, lengths=lengths), options)
    if options.layers:
        with ram_folder() as place:
            keys = Keys.make(Path(place), config)
            figures.update(layers(Path(place), keys, holding))
    if options.accuracy:
        figures.update(accuracy(folder.path, threads))
    print_report("kv", figures, peers, ratios)
    return 0


Table = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
"""Figures, peers, ratios."""


def by_name(config: Config, holding: Holding, options: argparse.Namespace) -> Table:
    """Prompts of the holding's lengths, computed here and had by name from a process that holds them. Raises
    CannotMeasure, WrongTokens."""
    with ram_folder() as place, ours(Path(place), STORE_PACKETS) as target:
        keys = Keys.make(Path(place), config)
        engine = load_engine(holding.folder, holding.threads, holding.device)
        with holder(target, keys, holding) as (sent_since, ready):
            setup = _Setup(target, keys, engine, holding.model, sent_since, Path(place))
            figures, peers, ratios = asyncio.run(_measure(setup, holding.lengths, options))
    cost = {f"publishing_cost_{name}": ready[f"prefill_and_publish_{name}_s"] / ready["prefill_s"] for name in FORMS}
    return {**figures, **cost, "prefill_1024_s": ready["prefill_s"]}, peers, ratios


@dataclass(frozen=True, slots=True)
class _Setup:
    """What every measurement needs. `sent_since` as of kv_node.holder."""

    target: Target
    keys: Keys
    engine: Engine
    model: str
    sent_since: Callable[[], int]
    place: Path

    @property
    def vocab_size(self) -> int:
        return self.engine.model_config.vocab_size

    def first_token(
        self, ids: Sequence[int], blocks: Sequence[torch.Tensor] = (), *, near: bool = False
    ) -> tuple[int, float]:
        """(token, seconds), of an engine that was idle. `near` as in Engine.start: for KV that is not exact."""
        while self.engine.prepare():
            pass
        began = time.perf_counter()
        stream = self.engine.start(ids, FIRST, blocks, near=near)
        while stream.finished is None:
            self.engine.step()
        return stream.generated[0], time.perf_counter() - began

    @property
    def exact(self) -> bool:
        """Whether the engine promises that KV by name gives the tokens of computing: not on a GPU (docs/engine.md)."""
        return not self.engine.engine_class.machine.startswith("cuda")


async def _measure(setup: _Setup, lengths: Sequence[int], options: argparse.Namespace) -> Table:
    node, _ = await joined(f"unix://{setup.target.path}", setup.keys.settings)
    runs = _Runs()
    with _redis(setup, lengths) as redis:
        for _ in range(max(options.runs, 1)):
            for length in lengths:
                await _turn(setup, node, redis, length, runs)
    figures, peers, ratios = _table(lengths, runs)
    if options.fanout:
        ids = prompt(1024 if 1024 in lengths else lengths[-1], setup.vocab_size)
        prefix = SharedPrefix(setup.model, format_of(setup.engine, "raw"), ids)
        more = await fan_out(setup.target, setup.keys.settings, prefix, setup.sent_since, setup.place)
        figures.update(more[0])
        peers.update(more[1])
        ratios.update(more[2])
    await node.close()
    return figures, peers, ratios


@dataclass(frozen=True, slots=True)
class _Runs:
    """Every run: seconds by cell, and the parts of warm starts."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    parts: dict[str, list[dict[str, float]]] = field(default_factory=lambda: defaultdict(list))

    def warm(self, cell: str, took: dict[str, float]) -> None:
        """One warm start, by its parts."""
        self.seconds[cell].append(took["find_s"] + took["fetch_s"] + took["compute_s"])
        self.parts[cell].append(took)

    def median(self, cell: str) -> float | None:
        """None where there was no run."""
        return statistics.median(self.seconds[cell]) if self.seconds[cell] else None

    def part(self, cell: str, piece: str) -> float:
        return statistics.median(took[piece] for took in self.parts[cell])


async def _turn(setup: _Setup, node: Node, redis: str | None, length: int, runs: _Runs) -> None:
    """One prompt: cold, then in every form from its producer and from the Content Store, then by Redis."""
    ids = prompt(length, setup.vocab_size)
    expected, seconds = setup.first_token(ids)
    runs.seconds[f"cold_{length}"].append(seconds)
    for name, form in FORMS.items():
        await forget(setup.target)
        for reader in READERS:
            took = await _warm(setup, node, ids, form)
            if name == "bf16" and took.pop("token") != expected and setup.exact:
                raise WrongTokens(f"a prompt of {length} tokens got another first token from KV by name")
            runs.warm(f"{reader}_{length}_{name}", took)
        if redis is not None:
            runs.seconds[f"redis_{length}_{name}"].append(_by_redis(setup, redis, ids, form))


async def _warm(setup: _Setup, node: Node, ids: Sequence[int], form: str) -> dict[str, float]:
    """Seconds of each part. `fetch_s` contains decoding, measured once more by itself as `decode_s`; `compute_s`
    contains `import_s`: blocks into the engine's pages, and all else that is not the forward pass."""
    host = host_of(node)
    connector = KvConnector(host, setup.model, format_of(setup.engine, form))
    began = time.perf_counter()
    values = connector.blocks.chain(ids)
    located = await connector.locate(values)
    found_at = time.perf_counter()
    found = await connector.fetcher.fetch(located)
    fetched_at = time.perf_counter()
    if len(found.tensors) != len(values):
        raise CannotMeasure(f"{len(found.tensors)} of {len(values)} KV blocks came by name")
    counters = setup.engine.counters
    before = counters.prefill_s + counters.decode_s
    token, seconds = setup.first_token(ids, found.tensors, near=not connector.blocks.format.exact)
    forward_s = counters.prefill_s + counters.decode_s - before
    contents = [encode_block(block, connector.blocks.format) for block in found.tensors]
    decode_began = time.perf_counter()
    for content in contents:
        decode_block(content, connector.blocks.format)
    return {
        "find_s": found_at - began, "fetch_s": fetched_at - found_at, "compute_s": seconds, "token": float(token),
        "decode_s": time.perf_counter() - decode_began, "import_s": seconds - forward_s,
        "mb_s": sum(map(len, contents)) / 1e6 / (fetched_at - found_at),
    }  # fmt: skip


def _by_redis(setup: _Setup, address: str, ids: Sequence[int], form: str) -> float:
    """Time to first token with Redis as the store of the same blocks, in the same form."""
    fmt = format_of(setup.engine, form)
    redis = Redis(address)
    began = time.perf_counter()
    keys = [_key(form, len(ids), index) for index in range(len(ids) // setup.engine.block_tokens)]
    blocks = [decode_block(content, fmt) for content in _values(redis, keys)]
    token, _ = setup.first_token(ids, blocks, near=not fmt.exact)
    del token
    seconds = time.perf_counter() - began
    redis.close()
    return seconds


def _values(redis: Redis, keys: Sequence[bytes]) -> Iterator[bytes]:
    redis.send_short(b"MGET", *keys)
    redis.line()
    for _ in keys:
        content = bytearray(int(redis.line()[1:]) + 2)
        redis.fill(memoryview(content))
        yield bytes(content[:-2])


def _key(form: str, length: int, index: int) -> bytes:
    return f"{form}/{length}/{index}".encode()


@contextmanager
def _redis(setup: _Setup, lengths: Sequence[int]) -> Iterator[str | None]:
    """A Redis that holds the same blocks; None where it is not installed."""
    program = find("redis-server")
    if program is None:
        print("no redis-server on PATH: its figures are absent (Debian: apt install redis-server)")
        yield None
        return
    path = str(setup.place / "kv-redis.sock")
    command = [program, "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir",
               str(setup.place), "--loglevel", "warning"]  # fmt: skip
    with background(command, output=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        redis = connected(path)
        for length in lengths:
            ids = prompt(length, setup.vocab_size)
            for index, block in setup.engine.prefill(ids, prompt_tokens=length):
                for form in FORMS.values():
                    redis.set(_key(form, length, index), encode_block(block, format_of(setup.engine, form)))
        redis.close()
        yield path


def _table(lengths: Sequence[int], runs: _Runs) -> Table:
    """Medians of all runs."""
    figures: dict[str, Any] = {}
    peers: dict[str, Any] = {}
    ratios: dict[str, Any] = {}
    for length in lengths:
        cold = runs.median(f"cold_{length}")
        assert cold is not None
        figures[f"cold_{length}_ms"] = cold * 1000
        for name in FORMS:
            by_redis = runs.median(f"redis_{length}_{name}")
            peers[f"redis_{length}_{name}_ms"] = None if by_redis is None else by_redis * 1000
            for reader in READERS:
                cell = f"{reader}_{length}_{name}"
                seconds = runs.median(cell)
                assert seconds is not None
                figures[f"{cell}_ms"] = seconds * 1000
                for piece in PIECES:
                    figures[f"{cell}_{piece}_ms"] = runs.part(cell, f"{piece}_s") * 1000
                figures[f"{cell}_mb_s"] = runs.part(cell, "mb_s")
                ratios[f"cold_over_{cell}"] = cold / seconds
                ratios[f"redis_over_{cell}"] = None if by_redis is None else by_redis / seconds
            first, warm = figures[f"first_{length}_{name}_mb_s"], figures[f"warm_{length}_{name}_mb_s"]
            ratios[f"goodput_first_over_warm_{length}_{name}"] = first / warm
    return figures, peers, ratios
