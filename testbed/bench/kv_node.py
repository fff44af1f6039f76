"""The two processes of `bench kv`: one that holds KV blocks, and how a process of ours joins its private network.

    python -m ndn_infer.testbed.bench.kv_node hold '{...}'     prints one JSON line when ready, one more a line it reads

Owns: prompts, a holder that computes and publishes their KV and how it is begun, the cost of publishing. Must not know:
what is measured with what it holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import torch

from ndn_infer import config as configuration
from ndn_infer.config import EngineConfig
from ndn_infer.console.collector import settle_collector
from ndn_infer.engine.engine import Engine
from ndn_infer.functions.base import Host
from ndn_infer.functions.engine_worker import EngineWorker
from ndn_infer.kv import holders
from ndn_infer.kv.codec import BlockFormat
from ndn_infer.kv.connector import KvConnector
from ndn_infer.namespace import blocks_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.node.keys import ensure_keys, role_identity
from ndn_infer.node.node import Node
from ndn_infer.security.crypto import Signer
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.testbed.bench.children import background
from ndn_infer.testbed.bench.fetch_ours import Keys
from ndn_infer.testbed.bench.forwarders import CannotMeasure, Target
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.serve import Server

ROLE: Final = "prefill"
STORE_BYTES: Final = 4 << 30
STORE_PACKETS: Final = 65536
"""Of the forwarder: all of them have room in it."""
FORMS: Final = {"bf16": "raw", "int8": "int8"}
"""Forms of KV on the wire, by the name that figures carry."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What a holder computes and publishes: the KV of prompts of these lengths, by a prepared model. With `runs` it
    measures the cost of publishing first. `device`: as engine.device."""

    model: str
    folder: str
    threads: int
    lengths: tuple[int, ...] = ()
    runs: int = 0
    device: str = "cpu"


def prompt(tokens: int, vocab_size: int) -> list[int]:
    """A prompt of this length, the same in every process; what its tokens say makes no difference to time."""
    return random.Random(tokens).choices(range(5, vocab_size), k=tokens)


def load_engine(folder: str, threads: int, device: str = "cpu") -> Engine:
    """An engine that keeps nothing from one prompt to the next."""
    return Engine.load(Path(folder), EngineConfig(threads=threads, sharing="off", kv_memory_mib=1024, device=device))


def format_of(engine: Engine, form: str) -> BlockFormat:
    return BlockFormat(engine.layout, engine.engine_class.prompts, form)


async def joined(uri: str, settings: Sequence[str]) -> tuple[Node, Host]:
    """This process in the private network, with keys of everybody there."""
    config = configuration.load(environment={}, flags=list(settings))
    settle_collector()
    node = await Node.join(config, ensure_keys(config, (ROLE,)), uri=uri, offer_own=True)
    return node, host_of(node)


def host_of(node: Node) -> Host:
    """A new side of the network: nothing was measured or fetched with it yet."""
    anew = replace(node)
    return Host(anew, Server(anew.endpoint, ObjectStore(STORE_BYTES)), anew.caller())


# ---------------------------------------------------------------- the holder


@contextmanager
def holder(target: Target, keys: Keys, holding: Holding) -> Iterator[tuple[Callable[[], int], Mapping[str, Any]]]:
    """A process that holds this. Gives what tells how many Data packets it sent since that was asked last, and the
    line that it printed when it was ready. Raises CannotMeasure."""
    options = {"uri": f"unix://{target.path}", "settings": keys.settings, "holding": asdict(holding)}
    command = [sys.executable, "-m", "ndn_infer.testbed.bench.kv_node", "hold", json.dumps(options)]
    with background(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise CannotMeasure("the holder of KV blocks did not start")

        def sent_since() -> int:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("?\n")
            process.stdin.flush()
            return int(json.loads(process.stdout.readline())["data_out"])

        yield sent_since, json.loads(line)


@dataclass(frozen=True, slots=True)
class Publishing:
    """This process as a producer of KV blocks in the private network. `connectors` are by name of their form."""

    node: Node
    host: Host
    signer: Signer
    prefix: Name
    connectors: Mapping[str, KvConnector]

    @classmethod
    async def begin(cls, uri: str, settings: Sequence[str], model: str, formats: Mapping[str, BlockFormat]) -> Self:
        """Answers for blocks from now on, and for who holds which; `register` leads others here."""
        node, host = await joined(uri, settings)
        signer = node.keychain.signer_for(role_identity(node.config, ROLE))
        prefix = blocks_prefix(node.net, model, "kv")
        host.server.serve(prefix, signer)
        host.server.answer_certificates(signer.identity, node.keychain.certificates)
        connectors = {name: KvConnector(host, model, fmt) for name, fmt in formats.items()}
        holders.answer(
            host, signer, model,
            lambda tags, query: [
                max(of_one)
                for of_one in zip(*(one.published.versions_of(tags, query) for one in connectors.values()), strict=True)
            ],
        )  # fmt: skip
        return cls(node, host, signer, prefix, connectors)

    async def register(self) -> None:
        registrar = Registrar(self.node.endpoint)
        await registrar.start()
        for name in (self.prefix, self.signer.identity):
            await registrar.register(name)


async def hold(uri: str, settings: Sequence[str], holding: Holding) -> None:
    """The process itself: compute, publish in every form, and answer."""
    worker = EngineWorker(lambda: load_engine(holding.folder, holding.threads, holding.device))
    engine = await worker.start()
    formats = {name: format_of(engine, form) for name, form in FORMS.items()}
    publishing = await Publishing.begin(uri, settings, holding.model, formats)
    connectors, node, signer = publishing.connectors, publishing.node, publishing.signer
    cost = await publishing_cost(worker, publishing.host, engine, signer, holding) if holding.runs else {}
    for length in holding.lengths:
        ids = prompt(length, engine.model_config.vocab_size)
        values = connectors["bf16"].blocks.chain(ids)
        blocks: dict[int, torch.Tensor] = {}
        await worker.prefill(ids, [], blocks.__setitem__, prompt_tokens=length)
        for connector in connectors.values():
            for index, block in sorted(blocks.items()):
                connector.published.publish(values[index], block, signer)
    await publishing.register()
    packets = node.endpoint.stats.data_out
    print(json.dumps({"ready": True, "vocab_size": engine.model_config.vocab_size, **cost}), flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps({"data_out": node.endpoint.stats.data_out - packets}), flush=True)
        packets = node.endpoint.stats.data_out


async def publishing_cost(
    worker: EngineWorker, host: Host, engine: Engine, signer: Signer, holding: Holding
) -> dict[str, float]:
    """Prefill of 1,024 tokens with and without publishing, by turns; the best of each, seconds."""
    best = {"prefill_s": float("inf"), **{f"prefill_and_publish_{name}_s": float("inf") for name in FORMS}}
    for number in range(holding.runs):
        for key in best:
            ids = [*prompt(1024, engine.model_config.vocab_size)[:-1], 5 + number]  # other names every time
            ids[0] = 100 + 10 * number + len(key) % 10
            form = next((form for name, form in FORMS.items() if f"_{name}_" in key), None)
            connector = None if form is None else KvConnector(host, holding.model, format_of(engine, form))
            values = [] if connector is None else connector.blocks.chain(ids)

            def on_block(index: int, block: torch.Tensor, connector: Any = connector, values: Any = values) -> None:
                if connector is not None:
                    connector.published.publish(values[index], block, signer)

            began = time.perf_counter()
            await worker.prefill(ids, [], on_block, prompt_tokens=len(ids))
            best[key] = min(best[key], time.perf_counter() - began)
    return best


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(hold(given["uri"], given["settings"], Holding(**given["holding"])))
