"""A network to break: a consumer's forwarder, two others behind TCP links that can be cut, producers on both sides.

Owns: its processes, links and routes. Must not know: what is asked, what is measured.

    consumer -- front ==(link 0)== side 0 -- producers d0, d2, ...
                      ==(link 1)== side 1 -- producers d1, d3, ...
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ndn_infer import config as configuration
from ndn_infer import ndn
from ndn_infer.client import Client
from ndn_infer.config import Config
from ndn_infer.forwarder.core.adaptive import ADAPTIVE
from ndn_infer.forwarder.management.encoding import ControlParameters
from ndn_infer.node.keys import ensure_keys, net_name
from ndn_infer.node.node import Node
from ndn_infer.testbed.managed import ManagedNode
from ndn_infer.testbed.node_process import NodeProcess
from tests.daemons import environment_in

FRONT: Final = "front"
SIDES: Final = ("side0", "side1")
READY_S: Final = 120.0
REGISTERED_S: Final = 30.0
MOST_DECODERS: Final = 6
"""Whose offers the consumer looks at."""


class Link:
    """A TCP link with a hand on it. `cut` makes it silent: nobody is told, packets are lost."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._silent = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> int:
        """Its port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def cut(self) -> None:
        self._silent = True

    def heal(self) -> None:
        """The connections that there were end."""
        self._silent = False
        for writer in self._writers:
            writer.close()

    async def close(self) -> None:
        self.heal()
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError):
            while chunk := await reader.read(1 << 16):
                if not self._silent:
                    writer.write(chunk)
                    await writer.drain()
        self._writers.discard(writer)
        writer.close()


@dataclass
class FailoverNet:
    """Made by `running`. `producers` by node name."""

    directory: Path
    cache: Path
    settings: dict[str, str]
    ports: tuple[int, ...]
    links: list[Link] = field(default_factory=list)
    uris: dict[str, str] = field(default_factory=dict)
    forwarders: dict[str, NodeProcess] = field(default_factory=dict)
    producers: dict[str, NodeProcess] = field(default_factory=dict)
    sides: dict[str, int] = field(default_factory=dict)
    managed: dict[str, ManagedNode] = field(default_factory=dict)

    def config(self, node: str, at: str) -> Config:
        data = self.directory / ".local" / "share" / "ndn-infer"
        flags = [f"network.transport=unix://{self._socket(at)}", f"network.node={node}", f"paths.data_dir={data}"]
        net = self.settings.get("network.net", "/ndn-infer/local")
        flags.append("offers.pull=" + ",".join(f"{net}/home/d{number}" for number in range(MOST_DECODERS)))
        return configuration.load(environment=self._environment(node, at), flags=flags)

    def _socket(self, at: str) -> Path:
        return self.directory / f"{at}.sock"

    def _environment(self, node: str, at: str) -> dict[str, str]:
        given = {f"NDN_INFER_{key.upper().replace('.', '_')}": value for key, value in self.settings.items()}
        runtime = self.directory / f"run-{node}"
        return environment_in(
            self.directory, self.cache, NDN_INFER_NETWORK_NODE=node, NDN_INFER_PATHS_RUNTIME_DIR=str(runtime),
            NDN_INFER_NETWORK_TRANSPORT=f"unix://{self._socket(at)}", **given,
        )  # fmt: skip

    # ------------------------------------------------------------ processes

    async def start_forwarder(self, name: str) -> None:
        arguments = ["--unix", str(self._socket(name)), "--exit-with-parent"]
        if name in SIDES:
            arguments += ["--tcp", f"127.0.0.1:{self.ports[SIDES.index(name)]}"]
        command = [sys.executable, "-m", "ndn_infer", "forwarder", *arguments]
        self.forwarders[name] = NodeProcess(
            name, command, self._environment(name, name), self.directory / f"{name}.log"
        )
        await self.forwarders[name].start(READY_S)

    async def start_producer(self, node: str, side: int, functions: str, model: str) -> None:
        """Ready when it is registered."""
        command = [sys.executable, "-m", "ndn_infer", "produce", "--functions", functions, "--model", model]
        environment, log = self._environment(node, SIDES[side]), self.directory / f"{node}.log"
        self.sides[node] = side
        self.producers[node] = NodeProcess(node, [*command, "--exit-with-parent"], environment, log)
        await self.producers[node].start(READY_S)

    @property
    def alive(self) -> list[str]:
        return [node for node, process in self.producers.items() if process.running]

    async def revive_side(self, side: int) -> None:
        """Start a forwarder again and wait until its producers have found it."""
        await self.start_forwarder(SIDES[side])
        mine = [node for node in self.alive if self.sides[node] == side]
        async with asyncio.timeout(REGISTERED_S):
            while True:
                offers = await (await self._manage(SIDES[side], {})).offers()
                if all(any(f"/{node}/" in offer for offer in offers) for node in mine):
                    break
                await asyncio.sleep(0.05)
        await self.relink()

    async def revive_front(self) -> None:
        """Start the consumer's forwarder again, with its faces and routes."""
        await self.start_forwarder(FRONT)
        if FRONT in self.managed:
            await self.managed.pop(FRONT).close()
        await self.relink()

    # ------------------------------------------------------------ links and routes

    async def relink(self) -> None:
        """Faces and routes of the front, where they are gone."""
        front = await self._manage(FRONT, self.uris)
        async with asyncio.timeout(REGISTERED_S):
            while True:
                try:
                    await front.link()
                    break
                except Exception:  # a face that is just going
                    await asyncio.sleep(0.05)
        network = self.config("c0", FRONT)
        net, site = ndn.to_uri(net_name(network)), network.network.site
        routes: dict[str, dict[str, int]] = {net: dict.fromkeys(SIDES, 10)}
        for node, side in self.sides.items():
            routes[f"{net}/{site}/{node}"] = {SIDES[side]: 1}
        await front.set_routes(routes)
        parameters = ControlParameters(name=net_name(network), strategy=ADAPTIVE)  # both sides may answer for a name
        response = await front._registrar.command("strategy-choice", "set", parameters.encode())
        assert response.code == 200, response

    async def _manage(self, name: str, neighbours: dict[str, str]) -> ManagedNode:
        """Of the forwarder that runs now."""
        if name in self.managed:
            if name == FRONT:
                return self.managed[name]
            await self.managed.pop(name).close()
        config = self.config(f"m-{name}", name)
        self.managed[name] = await ManagedNode.open(
            name, config, ensure_keys(config), socket=self._socket(name), neighbours=neighbours
        )
        return self.managed[name]

    @contextlib.asynccontextmanager
    async def consumer(self) -> AsyncIterator[Client]:
        config = self.config("c0", FRONT)
        keychain = ensure_keys(config, ("user",))
        async with await Node.join(config, keychain, offer_own=True) as node, Client(node) as client:
            yield client

    async def close(self) -> None:
        for managed in self.managed.values():
            await managed.close()
        for process in [*self.producers.values(), *self.forwarders.values()]:
            await process.stop()
        for link in self.links:
            await link.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def running(cache: Path, settings: dict[str, str]) -> AsyncIterator[FailoverNet]:
    """Forwarders, linked; no producers yet. `settings` are options of all processes."""
    with tempfile.TemporaryDirectory(prefix="ndn-f-") as directory:  # short: a Unix socket path has 107 bytes
        net = FailoverNet(Path(directory), cache, settings, tuple(free_port() for _ in SIDES))
        try:
            ensure_keys(net.config("c0", FRONT), ("user",))
            await asyncio.gather(*(net.start_forwarder(name) for name in (FRONT, *SIDES)))
            for side, port in zip(SIDES, net.ports, strict=True):
                net.links.append(Link(port))
                net.uris[f"tcp4://127.0.0.1:{await net.links[-1].open()}"] = side
            await net.relink()
            yield net
        finally:
            await net.close()
