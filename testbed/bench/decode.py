"""The engine alone, without any network, against llama.cpp, transformers and vLLM on the same weights in the same run.

One stream: tokens/s of decoding after 128 and 1,024 tokens, and of prompts of 512 and 2,048 tokens; then 8 and 16
streams at once. Everything with as many threads as cores; the peers take turns, and each figure is the best of the
runs, so that what else the machine does hits none of them alone. llama.cpp (wheel `xllamacpp`) reads the GGUF file the
model was prepared from; without it, or without a GGUF, its figures are absent.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import torch

from ndn_infer.config import Config, EngineConfig
from ndn_infer.engine.engine import Engine
from ndn_infer.engine.model_config import ModelConfig
from ndn_infer.engine.weights import DTYPES
from ndn_infer.local.prepare import prepared
from ndn_infer.models.registry import resolve
from ndn_infer.records.sampling import Sampling
from ndn_infer.testbed.bench.report import print_report

CONTEXTS = (128, 1024)
PROMPTS = (512, 2048)
STREAMS = (8, 16)
NEW_TOKENS = 32
BATCH_TOKENS = 64
KV_MEMORY_MIB = 512
_INT4_BYTES = 0.625  # 4 bits, and 32 bits of scale and zero point for 32 weights


class Peer(Protocol):
    """Somebody who computes; every figure is of one run."""

    def decode(self, context: int) -> float | None:
        """Tokens/s after `context` tokens, without the time of the prompt; None when it cannot do so many."""

    def prompt(self, length: int) -> float | None:
        """Tokens/s of a prompt."""

    def batch(self, streams: int) -> float | None:
        """Tokens/s of all streams together, prompts computed before."""


def run(options: argparse.Namespace, config: Config) -> int:
    threads = config.engine.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    folder = prepared(config, config.ask.model).path
    figures: dict[str, Any] = {"threads": threads, "read_bandwidth_gb_s": read_bandwidth() / 1e9}
    peers: dict[str, Peer] = {}
    for name, make in _makers(folder, config.ask.model, threads).items():
        started, before = time.perf_counter(), _resident()
        if (peer := make()) is not None:
            peers[name] = peer
            figures[f"{name}_start_s"] = time.perf_counter() - started
            figures[f"{name}_resident_mib"] = (_resident() - before) >> 20
    found = _measure(peers, options.runs)
    figures.update({key: value for key, value in found.items() if key.startswith("ours")})
    figures.update(_limits(ModelConfig.load(folder), config.engine.dtype, figures))
    print_report("decode", figures, {k: v for k, v in found.items() if not k.startswith("ours")}, _ratios(found))
    return 0


def _makers(folder: Path, model: str, threads: int) -> dict[str, Callable[[], Peer | None]]:
    return {
        "ours_int4": lambda: Ours(folder, "bf16", "int4"),
        "ours_int8": lambda: Ours(folder, "bf16", "int8"),
        "ours_bf16": lambda: Ours(folder, "bf16", "bf16"),
        "llama_cpp": lambda: _llama_cpp(model, threads),
        "transformers_fp32": lambda: _transformers(folder, torch.float32),
        "transformers_bf16": lambda: _transformers(folder, torch.bfloat16),
        "vllm": lambda: _vllm(folder),
    }


def _measure(peers: Mapping[str, Peer], runs: int) -> dict[str, float]:
    """Best of the runs of every figure; peers by turns."""
    best: dict[str, float] = {}
    cells: list[tuple[str, str, int]] = [
        *(("decode", "decode_at", context) for context in CONTEXTS),
        *(("prompt", "prompt_of", length) for length in PROMPTS),
        *(("batch", "batch_of", streams) for streams in STREAMS),
    ]
    for method, label, size in cells:
        for _ in range(max(runs, 1)):
            for name, peer in peers.items():
                value = getattr(peer, method)(size)
                if value is not None:
                    key = f"{name}_{label}_{size}_tokens_per_s"
                    best[key] = max(best.get(key, 0.0), value)
    return best


def _ratios(found: Mapping[str, float]) -> dict[str, float | None]:
    def over(label: str, peer: str) -> float | None:
        ours, theirs = (found.get(f"{name}_{label}_tokens_per_s") for name in ("ours_int4", peer))
        return ours / theirs if ours and theirs else None

    return {
        "decode_int4_over_llama_cpp": over("decode_at_128", "llama_cpp"),
        "decode_1024_int4_over_llama_cpp": over("decode_at_1024", "llama_cpp"),
        "decode_int4_over_transformers_fp32": over("decode_at_128", "transformers_fp32"),
        "prefill_512_over_llama_cpp": over("prompt_of_512", "llama_cpp"),
        "prefill_2048_over_llama_cpp": over("prompt_of_2048", "llama_cpp"),
        "batch8_over_llama_cpp": over("batch_of_8", "llama_cpp"),
        "batch16_over_llama_cpp": over("batch_of_16", "llama_cpp"),
    }


def _limits(model: ModelConfig, dtype: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    """How near decoding is to what memory allows: bytes that a token must read, over what memory delivers."""
    token = model.layers * 2 * model.kv_heads * model.head_dim * DTYPES[dtype].itemsize
    attention = model.hidden * model.head_dim * 2 * (model.heads + model.kv_heads)
    layers = model.layers * (attention + 3 * model.hidden * model.intermediate)
    weights = layers * _INT4_BYTES + model.vocab_size * model.hidden
    shares = {
        f"ours_int4_share_of_bandwidth_at_{context}": figures[f"ours_int4_decode_at_{context}_tokens_per_s"]
        * (weights + context * token)
        / (figures["read_bandwidth_gb_s"] * 1e9)
        for context in CONTEXTS
    }
    memory = {"kv_bytes_per_token": token, "kv_mib_per_stream_of_1024_tokens": 1024 * token / 2**20}
    return {"int4_mib_read_per_token": weights / 2**20, **memory, **shares}


def read_bandwidth() -> float:
    """Bytes/s of reading memory that no cache holds; the best of several."""
    data = torch.ones(1 << 26)  # 256 MiB of float32
    best = float("inf")
    for _ in range(6):
        started = time.perf_counter()
        data.sum()
        best = min(best, time.perf_counter() - started)
    return data.nbytes / best


def _resident() -> int:
    """Bytes of this process in memory, pages of mapped files included; 0 where the system does not tell."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if status.is_file() else 0


_numbers = itertools.count(1)


def _prompt(length: int) -> list[int]:
    """Ids that no other prompt of this run begins with, so that no cache helps."""
    first = next(_numbers) * 7919
    return [(first + position * 31) % 40_000 + 100 for position in range(length)]


# ------------------------------------------------------------ who computes


class Ours:
    def __init__(self, folder: Path, dtype: str, weights: str) -> None:
        options = EngineConfig(dtype, weights, max_streams=max(STREAMS), kv_memory_mib=KV_MEMORY_MIB, speculation="off")
        self._engine = Engine.load(folder, options)

    def decode(self, context: int) -> float | None:
        return batch_throughput(self._engine, 1, context=context, tokens=NEW_TOKENS)

    def prompt(self, length: int) -> float | None:
        started = time.perf_counter()
        stream = self._engine.start(_prompt(length), Sampling(max_tokens=1))
        while stream.finished is None:
            self._engine.step()
        return length / (time.perf_counter() - started)

    def batch(self, streams: int) -> float | None:
        return batch_throughput(self._engine, streams)


def batch_throughput(engine: Engine, streams: int, *, context: int = 128, tokens: int = BATCH_TOKENS) -> float:
    """Tokens/s of `streams` together, from when all have their first token until the first of them ends."""
    params = Sampling(max_tokens=tokens + 1 + 4 * streams)
    running = [engine.start(_prompt(context), params) for _ in range(streams)]
    try:
        while not all(stream.generated for stream in running):
            engine.step()
        before, started = sum(len(stream.generated) for stream in running), time.perf_counter()
        for _ in range(tokens):
            engine.step()
        return (sum(len(stream.generated) for stream in running) - before) / (time.perf_counter() - started)
    finally:
        for stream in running:
            engine.cancel(stream)


class LlamaCpp:
    """llama.cpp's server in this process, without HTTP; a slot a stream. Made anew for every figure, because its
    threads go on polling while it is idle, which halves the speed of whoever is measured next."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self._make = make
        make(1)  # start-up is what the caller measures

    def decode(self, context: int) -> float | None:
        return float(self._ask(self._warm(1), _prompt(context), NEW_TOKENS)["predicted_per_second"])

    def prompt(self, length: int) -> float | None:
        return float(self._ask(self._warm(1), _prompt(length), 1)["prompt_per_second"])

    def _warm(self, slots: int) -> Any:
        server = self._make(slots)
        self._ask(server, _prompt(64), 8)
        return server

    def batch(self, streams: int) -> float | None:
        """Prompts first, so that the slots hold them; then all at once. The time is that of the slowest."""
        server = self._warm(streams)
        prompts = [_prompt(128) for _ in range(streams)]
        with ThreadPoolExecutor(streams) as pool:
            for slot, ids in enumerate(prompts):
                self._ask(server, ids, 1, slot=slot)
            asked = [pool.submit(self._ask, server, ids, BATCH_TOKENS, slot=slot) for slot, ids in enumerate(prompts)]
            slowest = max(float(answer.result()["predicted_ms"]) for answer in asked)
        return streams * BATCH_TOKENS / slowest * 1000

    @staticmethod
    def _ask(server: Any, ids: list[int], count: int, *, slot: int | None = None) -> dict[str, Any]:
        request = {
            "prompt": ids, "n_predict": count, "temperature": 0, "ignore_eos": True, "cache_prompt": slot is not None,
        }  # fmt: skip
        if slot is not None:
            request["id_slot"] = slot
        answer = server.handle_completions(request)
        timings: dict[str, Any] = answer["timings"]
        return timings


def _llama_cpp(model: str, threads: int) -> LlamaCpp | None:
    source = resolve(model)
    if source.kind != "gguf" or importlib.util.find_spec("xllamacpp") is None:
        return None
    xllamacpp = importlib.import_module("xllamacpp")

    def make(slots: int) -> Any:
        params = xllamacpp.CommonParams()
        params.model.path = str(source.path)
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.n_parallel = slots
        params.n_ctx = 4096 if slots == 1 else 512 * slots
        params.verbosity = -1
        return xllamacpp.Server(params)

    return LlamaCpp(make)


class Transformers:
    """`generate` of the same weights; the prompt's time is measured apart and taken off."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def decode(self, context: int) -> float | None:
        ids = _prompt(context)
        alone = self._seconds(ids, 1)
        return NEW_TOKENS / max(self._seconds(ids, NEW_TOKENS + 1) - alone, 1e-9)

    def prompt(self, length: int) -> float | None:
        return length / self._seconds(_prompt(length), 1)

    def batch(self, streams: int) -> float | None:
        return None

    def _seconds(self, ids: list[int], count: int) -> float:
        started = time.perf_counter()
        self._model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False,
            max_new_tokens=count, min_new_tokens=count, pad_token_id=0,
        )  # fmt: skip
        return time.perf_counter() - started


def _transformers(folder: Path, dtype: torch.dtype) -> Transformers | None:
    if importlib.util.find_spec("transformers") is None:
        return None
    from transformers import AutoModelForCausalLM

    return Transformers(AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=dtype).eval())


class Vllm:
    def __init__(self, engine: Any, params: Callable[..., Any]) -> None:
        self._engine, self._params = engine, params

    def decode(self, context: int) -> float | None:
        ids = _prompt(context)
        return NEW_TOKENS / max(self._seconds([ids], NEW_TOKENS + 1) - self._seconds([ids], 1), 1e-9)

    def prompt(self, length: int) -> float | None:
        return length / self._seconds([_prompt(length)], 1)

    def batch(self, streams: int) -> float | None:
        prompts = [_prompt(128) for _ in range(streams)]
        alone = self._seconds(prompts, 1)
        return streams * BATCH_TOKENS / max(self._seconds(prompts, BATCH_TOKENS + 1) - alone, 1e-9)

    def _seconds(self, prompts: list[list[int]], count: int) -> float:
        params = self._params(max_tokens=count, min_tokens=count, temperature=0.0)
        started = time.perf_counter()
        self._engine.generate([{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False)
        return time.perf_counter() - started


def _vllm(folder: Path) -> Vllm | None:
    if importlib.util.find_spec("vllm") is None:
        return None
    vllm = importlib.import_module("vllm")

    engine = vllm.LLM(str(folder), dtype="bfloat16", max_model_len=4096, enable_prefix_caching=False)
    return Vllm(engine, vllm.SamplingParams)
