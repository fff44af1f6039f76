"""The consumers of one testbed node: a process in its namespace that asks what it is told to, by the client library.

Owns: one connection a question that is being answered (questions share nothing but the node's forwarder), the times of
arrivals. Must not know: who tells it, namespaces. Started once, so that starting a process is in no figure.

    python -m ndn_infer.testbed.asker [--set ...]

reads one JSON object a line, {"id": 1, "ask": {...}} (world.Prompt) or {"id": 1, "leave": true}, and writes READY, then
{"id": 1, "tokens": 5, "at": "core"} for every arrival and {"id": 1, "row": {...}} (world.PromptOutcome, `began_s` by
CLOCK_MONOTONIC) at the end. It ends with its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Final

from ndn_infer import config as configuration
from ndn_infer.client import Client
from ndn_infer.config import Config
from ndn_infer.errors import NdnInferError
from ndn_infer.node.keys import ensure_keys, net_name
from ndn_infer.node.node import Node
from ndn_infer.testbed.reading import Reading
from ndn_infer.testbed.world import Prompt, PromptOutcome

LINE_BYTES: Final = 1 << 22


@dataclass(slots=True)
class ConnectionPool:
    """Connections that wait for a question; a new one is made when all are in use."""

    config: Config
    stack: AsyncExitStack
    free: dict[bool, list[tuple[Node, Client]]] = field(default_factory=lambda: {True: [], False: []})
    """Those that choose by offers, and those that do not."""

    async def take(self, *, choose: bool = True) -> tuple[Node, Client]:
        if self.free[choose]:
            return self.free[choose].pop()
        config = self.config
        if not choose:
            config = replace(config, offers=replace(config.offers, choose="network"))
        node = await self.stack.enter_async_context(await Node.join(config, ensure_keys(config)))
        return node, await self.stack.enter_async_context(Client(node))


async def answer(desk: ConnectionPool, number: int, what: Prompt) -> PromptOutcome:
    """One question, connected before its time begins. Never raises for what a network does."""
    reading = Reading(
        desk.config.network.node, net_name(desk.config), time.monotonic, partial(_progress, number), time.monotonic()
    )  # fmt: skip
    try:
        node, client = await desk.take(choose=what.choose)
    except NdnInferError as error:
        reading.failed(error)
        return reading.row()
    try:
        await reading.read(client, desk.config.ask.model, what)
    finally:
        desk.free[what.choose].append((node, client))
    return reading.row()


def _progress(number: int, tokens: int, at: str) -> None:
    _tell({"id": number, "tokens": tokens, "at": at})


def _tell(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


async def _one(desk: ConnectionPool, number: int, what: Prompt) -> None:
    try:
        row = await answer(desk, number, what)
    except asyncio.CancelledError:
        row = PromptOutcome("", 0.0, error="left")
    except Exception as error:  # a defect; whoever waits for the row is told
        row = PromptOutcome("", 0.0, error=f"{type(error).__name__}: {error}")
    _tell({"id": number, "row": asdict(row)})


def _forget(running: dict[int, asyncio.Task[None]], number: int, _: asyncio.Task[None]) -> None:
    running.pop(number, None)


async def serve(config: Config) -> int:
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    running: dict[int, asyncio.Task[None]] = {}
    async with AsyncExitStack() as stack:
        desk = ConnectionPool(config, stack)
        desk.free[True].append(await desk.take())
        _tell_ready()
        async for line in reader:
            order = json.loads(line)
            number = int(order["id"])
            if "ask" in order:
                running[number] = asyncio.create_task(_one(desk, number, Prompt(**order["ask"])))
                running[number].add_done_callback(partial(_forget, running, number))
            elif number in running:
                running[number].cancel()
        for task in [*running.values()]:
            task.cancel()
        await asyncio.gather(*running.values(), return_exceptions=True)
    return 0


def _tell_ready() -> None:
    print(f"READY asker pid={os.getpid()}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ndn_infer.testbed.asker")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="SECTION.KEY=VALUE")
    parser.add_argument("--exit-with-parent", action="store_true", help="it always does")
    options = parser.parse_args(argv)
    config = configuration.load(environment=os.environ, flags=options.settings)
    with suppress(KeyboardInterrupt):
        return asyncio.run(serve(config))
    return 130


if __name__ == "__main__":
    sys.exit(main())
