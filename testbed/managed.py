"""One node's forwarder, seen through NFD's management protocol: faces and routes in, counters out.

Owns: faces to neighbours, static routes, reading counters and producers' status. Must not know: namespaces, processes,
which forwarder it is: the embedded one and NFD answer alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from ndn_infer import ndn, records
from ndn_infer.config import Config
from ndn_infer.errors import NetworkError
from ndn_infer.forwarder.management.encoding import ControlParameters
from ndn_infer.namespace import Role, status_name
from ndn_infer.node.node import Node
from ndn_infer.records import ProducerStatus
from ndn_infer.security.keychain import Keychain
from ndn_infer.testbed.evidence import FACE_COUNTERS, NodeCounters
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.datasets import Datasets

ORIGIN_STATIC: Final = 255
STATUS_KEPT_S: Final = 0.6
"""A little longer than caches keep a producer's status record: a counter read later than this is today's."""


class ManagedNode:
    """A joined forwarder. `neighbours` maps a neighbour's face URI to its node name."""

    def __init__(self, node: str, joined: Node, neighbours: Mapping[str, str]) -> None:
        self.node = node
        self._joined = joined
        self._datasets = Datasets(joined.endpoint)
        self._registrar = Registrar(joined.endpoint)
        self._neighbours = neighbours
        self._faces: dict[str, int] = {}

    @classmethod
    async def open(
        cls, node: str, config: Config, keychain: Keychain, *, socket: Path, neighbours: Mapping[str, str]
    ) -> ManagedNode:
        """Join over the node's Unix socket. With the operator's keychain nothing is fetched to verify status records,
        so reading counters moves no counter between nodes."""
        joined = await Node.join(config, keychain, uri=f"unix://{socket}", offer_own=True)
        return cls(node, joined, neighbours)

    async def close(self) -> None:
        await self._joined.close()

    async def link(self) -> None:
        """Make a face to every neighbour. Raises NetworkError."""
        for uri in self._neighbours:
            response = await self._registrar.command("faces", "create", ControlParameters(uri=uri).encode())
            if response.code not in (200, 409):
                raise NetworkError(f"{self.node}: no face to {uri}: {response.code} {response.text}")
        for row in await self._datasets.faces():
            neighbour = self._neighbours.get(row.get("uri", ""))
            if neighbour is not None:
                self._faces[neighbour] = row["face_id"]
        missing = set(self._neighbours.values()) - set(self._faces)
        if missing:
            raise NetworkError(f"{self.node}: no face to {', '.join(sorted(missing))}")

    async def offers(self) -> list[str]:
        """URIs of all prefixes of our network that applications of this node registered."""
        net = ndn.to_uri(self._joined.net)
        linked = set(self._faces.values())
        rows = await self._datasets.routes()
        return sorted(
            {row["prefix"] for row in rows if row["prefix"].startswith(f"{net}/") and row["face_id"] not in linked}
        )

    async def add_routes(self, routes: Mapping[str, Mapping[str, int]]) -> int:
        """Static routes (prefix -> neighbour -> cost); returns how many. Raises NetworkError."""
        count = 0
        for prefix, hops in routes.items():
            for neighbour, cost in hops.items():
                parameters = ControlParameters(
                    name=ndn.from_uri(prefix), face_id=self._faces[neighbour], origin=ORIGIN_STATIC, cost=cost, flags=1
                )
                response = await self._registrar.command("rib", "register", parameters.encode())
                if response.code != 200:
                    raise NetworkError(f"{self.node}: no route for {prefix}: {response.code} {response.text}")
                count += 1
        return count

    async def counters(self) -> NodeCounters:
        store = await self._datasets.content_store()
        faces, applications = {}, dict.fromkeys(FACE_COUNTERS, 0)
        for row in await self._datasets.faces():
            neighbour = self._neighbours.get(row.get("uri", ""))
            if neighbour is not None:
                faces[neighbour] = {key: int(row.get(key, 0)) for key in FACE_COUNTERS}
            elif row.get("uri", "").startswith("fd://"):  # whoever uses the Unix socket, this reader too
                for key in FACE_COUNTERS:
                    applications[key] += int(row.get(key, 0))
        return NodeCounters(store["entries"], store["hits"], store["misses"], faces, applications)

    async def producers(self, offers: Iterable[str]) -> dict[str, dict[str, float]]:
        """Status counters of the producers of this node ("node/role"), whose identities are among its offers."""
        net = self._joined.net
        found = [(Role.parse(net, ndn.from_uri(uri)), ndn.from_uri(uri)) for uri in offers]
        mine = [(role.role, name) for role, name in found if role is not None and role.node == self.node]
        fetcher = self._joined.fetcher
        fetched = await asyncio.gather(*(fetcher.fetch(status_name(name)) for _, name in mine))
        result = {}
        for (role, _), item in zip(mine, fetched, strict=True):
            status = records.decode(ProducerStatus, item.content)
            # Reading the status is no call; what the engine counts (not the producer) comes along under its own name.
            result[f"{self.node}/{role}"] = {counter.name: counter.value for counter in status.counters}
        return result
