"""Calls that are large or long, over real forwarders: 100 MB of input by reference, and ten minutes of waiting.

    python -m tests.load.large_calls [--megabytes 100] [--patience 600]

Two forwarders, a process each, linked over UDP, that grant an application what lies below its own certificate and
nothing else (`forwarder.registration=own-identity`); a producer behind one, callers behind the other. Three calls with
so much input, which is published below the caller's own name and pulled from there: of a caller to which routes lead;
of one to which none leads, whose input nobody can have (it must end with words, and leave nothing at the producer); and
again of the first. Then a call that takes so many seconds: looked at each 0.05 s is how many Interests for it, or for
its result, wait at the caller. Prints one JSON document; exits with 0 if all is as it must be. Owns: the two
nodes, the calls, what is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from ndn_infer import config as configuration
from ndn_infer.config import Config
from ndn_infer.errors import NdnInferError
from ndn_infer.functions.base import Host, Job, NamedFunction
from ndn_infer.functions.compose import build_producer
from ndn_infer.functions.producer import Producer
from ndn_infer.namespace import function_prefix, results_prefix
from ndn_infer.node.keys import ensure_keys
from ndn_infer.node.node import Node
from ndn_infer.records import Record, Request
from ndn_infer.records.bounds import AtMost, Size
from ndn_infer.records.detokenize import Text
from ndn_infer.testbed.managed import ManagedNode
from ndn_infer.testbed.node_process import NodeProcess
from ndn_infer.transport.calls.ask import Ask
from tests.daemons import environment_in
from tests.load.failover_net import free_port

READY_S: Final = 120.0
NODES: Final = ("maker", "caller")
LOST: Final = "stranger"
"""A node of the caller's machine to which no route leads."""
MOST: Final = 128 << 20
SUBJECT: Final = ("service", "digest")
SETTINGS: Final = (
    "producer.input_mib=128", "call.deadline_s=900", "call.attempts=10000", "forwarder.registration=own-identity",
    "log.level=warning",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bulk(Request):
    content: Annotated[bytes, AtMost(MOST)] = b""
    patience_s: Size = 0
    max_bytes = MOST + (1 << 20)


class Digest(NamedFunction[Bulk]):
    """SHA-256 of what was sent, after so many seconds."""

    function, role, request_type, subject = "digest", "digest", Bulk, SUBJECT
    max_request_bytes = MOST + (1 << 20)

    def __init__(self) -> None:
        self.ran = 0

    async def run(self, request: Bulk, job: Job) -> Record:
        self.ran += 1
        await asyncio.sleep(request.patience_s)
        return Text(hashlib.sha256(request.content).hexdigest())


@dataclass
class Pair:
    """The two nodes. Made by `running`."""

    directory: Path
    ports: tuple[int, int]
    forwarders: list[NodeProcess] = field(default_factory=list)
    managed: list[ManagedNode] = field(default_factory=list)

    def socket(self, number: int) -> Path:
        return self.directory / f"{NODES[number]}.sock"

    def config(self, node: str, number: int) -> Config:
        data = self.directory / ".local" / "share" / "ndn-infer"
        own = [f"network.transport=unix://{self.socket(number)}", f"network.node={node}", f"paths.data_dir={data}"]
        own.append("network.known=/ndn-infer/local/home/maker/digest")
        return configuration.load(environment=self._environment(node), flags=[*SETTINGS, *own])

    def _environment(self, node: str) -> dict[str, str]:
        return environment_in(self.directory, self.directory / "cache", NDN_INFER_NETWORK_NODE=node)

    async def start(self) -> None:
        ensure_keys(self.config(NODES[0], 0), ("digest",))
        for node in (NODES[1], LOST):
            ensure_keys(self.config(node, 1), ("user",))
        for number, node in enumerate(NODES):
            await self._forward(number, node)
        for number, node in enumerate(NODES):
            neighbours = {f"udp4://127.0.0.1:{self.ports[1 - number]}": NODES[1 - number]}
            config = self.config(node, number)
            managed = await ManagedNode.open(
                node, config, ensure_keys(config), socket=self.socket(number), neighbours=neighbours
            )  # fmt: skip
            self.managed.append(managed)
            await managed.link()
            await managed.set_routes({f"/ndn-infer/local/home/{NODES[1 - number]}": {NODES[1 - number]: 1}})

    async def _forward(self, number: int, node: str) -> None:
        flags = [f"--set={text}" for text in SETTINGS if text.startswith("forwarder.")]
        command = [
            sys.executable, "-m", "ndn_infer", "forwarder", *flags, f"--unix={self.socket(number)}",
            f"--udp=127.0.0.1:{self.ports[number]}", "--exit-with-parent",
        ]  # fmt: skip
        process = NodeProcess(node, command, self._environment(node), self.directory / f"{node}.log")
        self.forwarders.append(process)
        await process.start(READY_S)

    async def close(self) -> None:
        for managed in self.managed:
            await managed.close()
        for process in self.forwarders:
            await process.stop()

    @contextlib.asynccontextmanager
    async def joined(self, node: str, number: int, role: str) -> AsyncIterator[tuple[Producer, Host, Node]]:
        config = self.config(node, number)
        async with await Node.join(config, ensure_keys(config), offer_own=True) as joined:
            producer, host = build_producer(joined, role)
            try:
                yield producer, host, joined
            finally:
                await producer.close()


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Pair]:
    with tempfile.TemporaryDirectory(prefix="ndn-l-") as directory:
        pair = Pair(Path(directory), (free_port(), free_port()))
        try:
            await pair.start()
            yield pair
        finally:
            await pair.close()


# ---------------------------------------------------------------- calls


async def _call(host: Host, request: Bulk, number: int) -> dict[str, Any]:
    began = time.monotonic()
    try:
        text = (await host.caller.call(Ask(SUBJECT, "digest", request), Text)).text
        outcome = "right" if text == hashlib.sha256(request.content).hexdigest() else "WRONG"
    except NdnInferError as error:
        outcome = f"{type(error).__name__}: {error}"[:160]
    return {"call": number, "bytes": len(request.content), "outcome": outcome, "s": round(time.monotonic() - began, 2)}


async def _patiently(host: Host, node: Node, seconds: int) -> dict[str, Any]:
    call = asyncio.ensure_future(_call(host, Bulk(patience_s=seconds), 0))
    most, sent = 0, node.endpoint.stats.interests_out
    below = (function_prefix(node.net, *SUBJECT, "digest"), results_prefix(node.net, *SUBJECT, "digest"))
    while not call.done():
        most = max(most, sum(pending.name.startswith(below) for pending in node.endpoint._waiting()))
        await asyncio.sleep(0.05)
    return {**await call, "most_pending": most, "interests": node.endpoint.stats.interests_out - sent}


async def measure(megabytes: float, patience_s: int) -> dict[str, Any]:
    random_bytes = random.Random(1).randbytes
    size = int(megabytes * 1e6)
    async with running() as pair, pair.joined(NODES[0], 0, "digest") as (producer, maker, node):
        work = Digest()
        await producer.begin()
        await producer.offer(work, node.signer_as("digest"))
        async with (
            pair.joined(NODES[1], 1, "user") as (_, host, _),
            pair.joined(NODES[1], 1, "user") as (_, patient, waiting),
            pair.joined(LOST, 1, "user") as (_, lost, _),
        ):
            calls = []
            for number, who in enumerate((host, lost, host), 1):
                calls.append(await _call(who, Bulk(random_bytes(size)), number))
                calls[-1]["kept_at_producer"] = len(maker.inputs)
                print(json.dumps(calls[-1]), file=sys.stderr, flush=True)
            return {"calls": calls, "patient": await _patiently(patient, waiting, patience_s), "ran": work.ran}


def holds(found: dict[str, Any]) -> bool:
    first, lost, again = found["calls"]
    patient = found["patient"]
    return (
        first["outcome"] == again["outcome"] == patient["outcome"] == "right"
        and lost["outcome"] not in ("right", "WRONG")
        and lost["kept_at_producer"] == 0
        and patient["most_pending"] == 1
        and found["ran"] == 3
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=100.0, help="of the large inputs")
    parser.add_argument("--patience", type=int, default=600, help="seconds that the long call takes")
    options = parser.parse_args(arguments)
    found = asyncio.run(measure(options.megabytes, options.patience))
    print(json.dumps(found))
    return 0 if holds(found) else 1


if __name__ == "__main__":
    sys.exit(main())
