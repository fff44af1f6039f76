"""The engine on `engine.device`, and where names pay there: `ndn-infer bench device --set engine.device=cuda`.

Models of published shapes with random weights, in bf16, so that nothing has to be downloaded; no token means anything.
By the clock, as a device computes beside its thread: each figure is the best of the runs, and ends with a token or a
block in main memory. By name: two processes with an engine each on the device and a forwarder between them on this
machine (`bench kv`); medians.

Owns: this measurement. Must not know: how the engine or the network work.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from ndn_infer.config import Config, EngineConfig
from ndn_infer.engine.device import check_device
from ndn_infer.engine.engine import Engine
from ndn_infer.engine.kv_cache import KvPages
from ndn_infer.records.sampling import Sampling
from ndn_infer.testbed.bench.decode import batch_throughput
from ndn_infer.testbed.bench.fetch_child import ram_folder
from ndn_infer.testbed.bench.fetch_ours import Keys
from ndn_infer.testbed.bench.forwarders import ours
from ndn_infer.testbed.bench.kv import by_name
from ndn_infer.testbed.bench.kv_models import LLAMA_1B, SMOLLM2_135M, SMOLLM2_1700M, Shape
from ndn_infer.testbed.bench.kv_node import STORE_PACKETS, Holding, Publishing, format_of, prompt
from ndn_infer.testbed.bench.kv_pays import measured_engine, needed
from ndn_infer.testbed.bench.report import print_report

FIRST: Final = Sampling(max_tokens=1)
MODEL: Final = "cd" * 32


@dataclass(frozen=True, slots=True)
class Measured:
    """Tokens before decoding begins, streams together, lengths of prompts, and of those by name."""

    contexts: Sequence[int] = (128, 1024)
    streams: int = 16
    prompts: Sequence[int] = (512, 2048, 4096, 8000)
    named: Sequence[int] = (1024, 2048)
    new_tokens: int = 64


def run(options: argparse.Namespace, config: Config) -> int:
    """Measure and print. Raises CannotMeasure, EngineUnavailable (the device)."""
    check_device(config.engine.device)
    figures: dict[str, Any] = {"device": title_of(config.engine.device)}
    for shape in (SMOLLM2_135M,) if options.quick else (SMOLLM2_135M, LLAMA_1B, SMOLLM2_1700M):
        found = of_shape(shape, config, options, Measured())
        figures |= {f"{shape.title}: {key}": value for key, value in found.items()}
        print(shape.title, {key: round(value, 2) for key, value in found.items() if value is not None}, flush=True)
    print_report("device", figures, {}, {})
    return 0


def title_of(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def of_shape(shape: Shape, config: Config, options: argparse.Namespace, wanted: Measured) -> dict[str, float | None]:
    """Everything about one model. Raises CannotMeasure."""
    threads, device = config.engine.threads, config.engine.device
    with shape.folder() as folder:
        engine = _engine(Path(folder), config.engine, wanted)
        kv_bytes = engine.layout.nbytes // engine.block_tokens
        figures: dict[str, float | None] = {"kv_bytes_a_token": float(kv_bytes)}
        figures |= decoding(engine, options.runs, wanted)
        points = prompts(engine, options.runs, wanted)
        figures |= {f"prompt_{length}_tokens_per_s": length / seconds for length, seconds in points}
        figures |= blocks(engine, device, options.runs, max(wanted.named))
        figures |= naming(engine, config, max(wanted.named))
        block = engine.block_tokens
        del engine
        _forget(device)
        holding = Holding(MODEL, folder, threads, tuple(wanted.named), options.runs, device)
        named, _, _ = by_name(config, holding, options)
    figures |= {key: value for key, value in named.items() if "int8" not in key and "import" not in key}
    computed = measured_engine(shape.title, kv_bytes, points, block=block)
    search_s = named[f"warm_{max(wanted.named)}_bf16_find_ms"] / 1000
    for length in wanted.prompts:
        speed = needed(computed, length, search_s)
        figures[f"link_{length}_mbit_s"] = speed * 8e-6 if math.isfinite(speed) else None
    return figures


def _engine(folder: Path, options: EngineConfig, wanted: Measured) -> Engine:
    return Engine.load(
        folder,
        EngineConfig(
            threads=options.threads, device=options.device, weights=options.weights, sharing="off",
            max_streams=wanted.streams, kv_memory_mib=4096,
        ),
    )  # fmt: skip


def _forget(device: str) -> None:
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def decoding(engine: Engine, runs: int, wanted: Measured) -> Mapping[str, float]:
    """Tokens/s of one stream after each context, and of many together."""
    figures = {}
    for context in wanted.contexts:
        figures[f"decode_at_{context}_tokens_per_s"] = max(
            batch_throughput(engine, 1, context=context, tokens=wanted.new_tokens) for _ in range(max(runs, 1))
        )
    figures[f"decode_{wanted.streams}_streams_tokens_per_s"] = max(
        batch_throughput(engine, wanted.streams, tokens=wanted.new_tokens) for _ in range(max(runs, 1))
    )
    return figures


def prompts(engine: Engine, runs: int, wanted: Measured) -> list[tuple[int, float]]:
    """(tokens, seconds to the first token after them)."""
    return [(length, _best(runs, engine, length)) for length in wanted.prompts]


def _best(runs: int, engine: Engine, length: int) -> float:
    ids = prompt(length, engine.model_config.vocab_size)
    return min(_first_token(engine, ids) for _ in range(max(runs, 1) + 1))


def _first_token(engine: Engine, ids: Sequence[int], known: Sequence[torch.Tensor] = ()) -> float:
    began = time.perf_counter()
    stream = engine.start(ids, FIRST, known)
    while stream.finished is None:
        engine.step()
    return time.perf_counter() - began


def blocks(engine: Engine, device: str, runs: int, length: int) -> Mapping[str, float]:
    """Blocks of `length` tokens out of the device's memory and back, and a first token that they are known for."""
    ids = prompt(length + 1, engine.model_config.vocab_size)  # all blocks whole, and one token to compute
    known = [block for _, block in engine.prefill(ids)]
    pages, size = KvPages(engine.layout, torch.device(device), len(known)), len(known) * engine.layout.nbytes
    out, into, token = math.inf, math.inf, math.inf
    for _ in range(max(runs, 1) + 1):
        into = min(into, _seconds(lambda: _put(pages, known), device))
        out = min(out, _seconds(lambda: pages.take_all(range(len(known))), device))
        token = min(token, _first_token(engine, ids, known))
    return {
        f"kv_{length}_mb": size / 1e6, f"kv_{length}_out_mb_s": size / 1e6 / out,
        f"kv_{length}_in_mb_s": size / 1e6 / into, f"kv_{length}_in_to_first_token_ms": token * 1e3,
    }  # fmt: skip


def _put(pages: KvPages, blocks: Sequence[torch.Tensor]) -> None:
    for number, block in enumerate(blocks):
        pages.put(number, block)


def _seconds(work: Callable[[], object], device: str) -> float:
    began = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - began


def naming(engine: Engine, config: Config, length: int) -> Mapping[str, float]:
    """Blocks in main memory to named and signed packets."""
    ids = prompt(length, engine.model_config.vocab_size)
    known = [block for _, block in engine.prefill(ids)]

    async def publish(uri: str, keys: Keys) -> float:
        publishing = await Publishing.begin(uri, keys.settings, MODEL, {"raw": format_of(engine, "raw")})
        connector, began = publishing.connectors["raw"], time.perf_counter()
        for value, block in zip(connector.blocks.chain(ids), known, strict=False):
            connector.published.publish(value, block, publishing.signer)
        seconds = time.perf_counter() - began
        await publishing.node.close()
        return seconds

    with ram_folder() as place, ours(Path(place), STORE_PACKETS) as target:
        seconds = asyncio.run(publish(f"unix://{target.path}", Keys.make(Path(place), config)))
    return {f"kv_{length}_named_mb_s": len(known) * engine.layout.nbytes / 1e6 / seconds}
