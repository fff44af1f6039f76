"""KV connectors without an engine: nodes of one network in one process, over the real forwarder core.

Owns: nodes with names and link delays, connectors with made-up blocks, holders that lie or say nothing; a network of
four of them in virtual time.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import torch

from ndn_infer import ndn
from ndn_infer.config import Config, FetchConfig
from ndn_infer.forwarder.shell.inprocess import MemoryNetwork
from ndn_infer.kv.codec import BlockFormat
from ndn_infer.kv.connector import KvConnector
from ndn_infer.kv.holders import HOLDS, Holdings, HoldsQuery
from ndn_infer.kv.layout import BlockLayout
from ndn_infer.namespace import asks_prefix, blocks_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.security.crypto import Signer
from ndn_infer.security.keychain import Keychain
from ndn_infer.testbed.virtual.loop import run_virtual
from ndn_infer.transport.calls.direct import Questions, Topic
from ndn_infer.transport.link.links import Link, connect
from tests.harness import NET, Node, role

MODEL = "ab" * 32
LAYOUT = BlockLayout(layers=4, kv_heads=3, head_dim=64, block_tokens=16, dtype=torch.bfloat16)
FORMAT = BlockFormat(LAYOUT, "bf16.test")
"""A block has 49 kB: seven segments."""

ONE_WAY_S = 0.01
ROUND_TRIP_S = 2 * ONE_WAY_S
NODES = ("asker", "p", "a", "b")


def values_of(count: int, of: str = "prompt") -> list[bytes]:
    """Chain values, made up."""
    return [hashlib.sha256(f"{of} {number}".encode()).digest() for number in range(count)]


def block_of(value: bytes) -> torch.Tensor:
    """The one right block under a chain value."""
    return torch.full(LAYOUT.shape, float(value[0]), dtype=torch.bfloat16)


class Station(Node):
    """A node with a KV connector; `delay_s` is its way to the forwarder, `uri` another forwarder than the network's."""

    def __init__(
        self, network: MemoryNetwork, keychain: Keychain, name: str, label: str, *, delay_s: float, uri: str,
        fetch: FetchConfig,
    ) -> None:  # fmt: skip
        super().__init__(network, keychain, Config(fetch=fetch))
        self._delay_s = delay_s
        self._uri = uri
        self.identity = role(label, node=name)

    async def _dial(self) -> Link:
        if self._uri:
            return await connect(self._uri, self.config.network.connect_timeout_s)
        link = self.network.attach(delay_s=self._delay_s)
        self.links.append(link)
        return link

    async def start(self, *, anycast: bool = True) -> Station:
        await self.open()
        self.signer: Signer = self.keychain.signer_for(self.identity)
        self.host = self.new_host()
        self.kv = KvConnector(self.host, MODEL, FORMAT)
        self.validator.add_certificates(*self.keychain.certificates())
        self.server.serve(self.identity, self.signer)
        self.kv.answer_holders(self.signer)
        await self.registrar.register(self.identity)
        prefix = blocks_prefix(NET, MODEL, "kv")
        self.server.serve(prefix, self.signer)
        if anycast:
            await self.registrar.register(prefix)
        return self

    def hold(self, *values: bytes) -> None:
        for value in values:
            self.kv.published.publish(value, block_of(value), self.signer)

    def forget(self, *values: bytes) -> None:
        for value in values:
            self.server.store.remove(self.kv.blocks.name(value))

    @property
    def asked(self) -> int:
        return self.endpoint.stats.interests_in

    def claim_everything(self) -> None:
        """Answer every question with versions that do not exist."""

        def claim(query: HoldsQuery, _: object) -> Holdings:
            count = len(query.tags) // 8
            return Holdings(struct.pack(f">{count}Q", *[7] * count))

        Questions(self.server).answer(Topic(HOLDS, HoldsQuery, claim), self.signer)

    def say_nothing(self) -> None:
        self.server.answer(asks_prefix(self.identity), lambda request: None)


@asynccontextmanager
async def stations(
    *,
    delay_s: float = ONE_WAY_S,
    anycast: tuple[str, ...] = NODES,
    near: tuple[str, ...] = ("asker",),
    uri: str = "",
    fetch: FetchConfig | None = None,
) -> AsyncIterator[list[Station]]:
    """An asker, and holders p (prefill), a and b (decode), one forwarder between them: `delay_s` away for those who are
    not `near` it. The network asks p first for what it routes by content; those not in `anycast` are found under their
    own names alone. With `uri` the forwarder is the one that listens there."""
    with tempfile.TemporaryDirectory() as folder:
        keychain = Keychain.open_or_create(Path(folder), NET)
        labels = {"asker": "decode", "p": "prefill", "a": "decode", "b": "decode"}
        keychain.ensure(NET + ndn.generic("operator"), *(role(label, node=name) for name, label in labels.items()))
        network = MemoryNetwork()
        made = [
            Station(
                network,
                keychain,
                name,
                label,
                delay_s=0.0 if name in near else delay_s,
                uri=uri,
                fetch=fetch or FetchConfig(),
            )
            for name, label in labels.items()
        ]
        try:
            for station in (made[1], made[2], made[3], made[0]):
                await station.start(anycast=_named(station, anycast))
            yield made
        finally:
            for station in made:
                await station.close()
            network.close()


def _named(station: Station, names: tuple[str, ...]) -> bool:
    return ndn.component_value(ndn.components(station.identity)[-2]).decode() in names


def identities(*found: Station) -> tuple[Name, ...]:
    return tuple(station.identity for station in found)


def in_network(work: Callable[..., Awaitable[Any]], **options: Any) -> None:
    async def whole() -> None:
        async with stations(**options) as made:
            await work(*made)

    run_virtual(whole)


def right(tensors: list[torch.Tensor], values: list[bytes]) -> bool:
    return len(tensors) == len(values) and all(map(torch.equal, tensors, map(block_of, values)))


def spread(values: list[bytes], p: Station, a: Station, b: Station) -> None:
    """Prefill has the prompt of the first turn, two decode nodes what they added in theirs."""
    p.hold(*values[:40])
    a.hold(*values[40:60])
    b.hold(*values[60:])


async def since(began: float) -> float:
    return asyncio.get_running_loop().time() - began
