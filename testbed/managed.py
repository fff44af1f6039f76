"""One node's forwarder, seen through NFD's management protocol: faces and routes in, counters out.

Owns: faces to neighbours, static routes, reading counters and producers' status. Must not know: namespaces, processes,
which forwarder it is: the embedded one and NFD answer alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from ndn_infer import ndn
from ndn_infer.config import Config
from ndn_infer.errors import NetworkError
from ndn_infer.forwarder.management.encoding import ControlParameters, decode_parameters
from ndn_infer.namespace import Role, certificates_prefix, operator_identity
from ndn_infer.node.node import Node
from ndn_infer.security.keychain import Keychain
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.testbed.evidence import FACE_COUNTERS, NodeCounters
from ndn_infer.transport.calls.direct import Direct, DirectAsk
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.datasets import Datasets
from ndn_infer.transport.objects.serve import Server
from ndn_infer.transport.trust.presence import STATUS, ProducerStatus, StatusQuery

ORIGIN_STATIC: Final = 255
MULTICAST: Final = "/localhost/nfd/strategy/multicast"
STATUS_KEPT_S: Final = 0.6
"""A little longer than caches keep a producer's status record: a counter read later than this is today's."""


class ManagedNode:
    """A joined forwarder. `neighbours` maps a neighbour's face URI to its node name."""

    def __init__(self, node: str, joined: Node, neighbours: Mapping[str, str]) -> None:
        """Commands are signed by the operator, who may set routes to anything, and whose certificates are served to
        whoever verifies that."""
        self.node = node
        self._joined = joined
        self._datasets = Datasets(joined.endpoint)
        operator = joined.keychain.signer_for(operator_identity(joined.net))
        self._registrar = Registrar(joined.endpoint, operator)
        self._server = Server(joined.endpoint, ObjectStore(0))
        self._server.answer_certificates(certificates_prefix(operator.identity), joined.keychain.certificates)
        self._neighbours = neighbours
        self._faces: dict[str, int] = {}
        self._routes: dict[str, dict[str, int]] = {}

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

    async def link(self, neighbours: Iterable[str] | None = None) -> None:
        """Make a face to every neighbour (these alone, where others cannot be reached); one that there is stays. Its id
        comes from the answer: NFD gives its list of faces again for a second. Raises NetworkError."""
        wanted = set(self._neighbours.values()) if neighbours is None else set(neighbours)
        for uri, neighbour in self._neighbours.items():
            if neighbour not in wanted:
                continue
            response = await self._registrar.command("faces", "create", ControlParameters(uri=uri).encode())
            face = decode_parameters(response.body).face_id if response.body else None
            if response.code not in (200, 409) or face is None:
                raise NetworkError(f"{self.node}: no face to {uri}: {response.code} {response.text}")
            if self._faces.get(neighbour) != face:
                self._faces[neighbour] = face
                for hops in self._routes.values():
                    hops.pop(neighbour, None)  # gone with the face that there was

    async def offers(self) -> list[str]:
        """URIs of all prefixes of our network that applications of this node registered."""
        net = ndn.to_uri(self._joined.net)
        linked = set(self._faces.values())
        rows = await self._datasets.routes()
        return sorted(
            {row["prefix"] for row in rows if row["prefix"].startswith(f"{net}/") and row["face_id"] not in linked}
        )

    async def set_routes(self, routes: Mapping[str, Mapping[str, int]]) -> int:
        """Static routes (prefix -> neighbour -> cost) in place of those set before; returns how many there are. Those
        over neighbours without a face are left out. Raises NetworkError."""
        wanted = {
            prefix: {neighbour: cost for neighbour, cost in hops.items() if neighbour in self._faces}
            for prefix, hops in routes.items()
        }
        for prefix in [*self._routes]:
            for neighbour in set(self._routes[prefix]) - set(wanted.get(prefix, ())):
                await self._route("unregister", prefix, neighbour, None)
                del self._routes[prefix][neighbour]
        for prefix, hops in wanted.items():
            known = self._routes.setdefault(prefix, {})
            for neighbour, cost in hops.items():
                if known.get(neighbour) != cost:
                    await self._route("register", prefix, neighbour, cost)
                    known[neighbour] = cost
        return sum(len(hops) for hops in self._routes.values())

    async def _route(self, verb: str, prefix: str, neighbour: str, cost: int | None) -> None:
        parameters = ControlParameters(
            name=ndn.from_uri(prefix), face_id=self._faces[neighbour], origin=ORIGIN_STATIC, cost=cost,
            flags=None if cost is None else 1,
        )  # fmt: skip
        response = await self._registrar.command("rib", verb, parameters.encode())
        if response.code != 200 and cost is not None:  # what is not there need not be taken away
            raise NetworkError(f"{self.node}: {verb} {prefix}: {response.code} {response.text}")

    async def multicast(self, prefix: str) -> None:
        """Interests below `prefix` go to every next hop. Raises NetworkError."""
        parameters = ControlParameters(name=ndn.from_uri(prefix), strategy=ndn.from_uri(MULTICAST))
        response = await self._registrar.command("strategy-choice", "set", parameters.encode())
        if response.code != 200:
            raise NetworkError(f"{self.node}: no multicast at {prefix}: {response.code} {response.text}")

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

    async def producers(self, offers: Iterable[str], running: Collection[str]) -> dict[str, dict[str, float]]:
        """Status counters of the producers of this node ("node/role"), whose identities are among its offers and whose
        roles are `running`; those that do not answer are left out."""
        net = self._joined.net
        found = [(Role.parse(net, ndn.from_uri(uri)), ndn.from_uri(uri)) for uri in offers]
        mine = [(role.role, name) for role, name in found if role and role.node == self.node and role.role in running]
        direct = Direct(self._joined.endpoint, self._joined.validator)
        questions = [DirectAsk(name, STATUS, StatusQuery(), attempts=3) for _, name in mine]
        told = await asyncio.gather(
            *(direct.ask(question, ProducerStatus) for question in questions), return_exceptions=True
        )  # fmt: skip
        result = {}
        for (role, _), item in zip(mine, told, strict=True):
            if isinstance(item, NetworkError):
                continue  # it has just been started or stopped
            if isinstance(item, BaseException):
                raise item
            # Reading the status is no call; what the engine counts (not the producer) comes along under its own name.
            result[f"{self.node}/{role}"] = {counter.name: counter.value for counter in item.record.counters}
        return result
