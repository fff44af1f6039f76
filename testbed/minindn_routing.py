"""Routes in Mini-NDN: its static ones, or NLSR's; which strategy forwards by them.

Owns: NLSR's daemons and settings, waiting until it has converged, what is routed again when a forwarder is back. Runs
under Mini-NDN's interpreter. Must not know: applications, scenarios.

Applications register with origin "client", as python-ndn's and NDNts' do; NFD tells NLSR of such prefixes
(`rib.readvertise_nlsr`), NLSR floods them: nobody calls `nlsrc advertise`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from minindn.apps.nlsr import Nlsr
from minindn.helpers.ndn_routing_helper import NdnRoutingHelper

from ndn_infer.errors import NetworkError, UsageError
from ndn_infer.testbed import nfdc_text
from ndn_infer.testbed.convergence import NodeRouting, missing
from ndn_infer.testbed.process_network import NET, Say, in_thread, machine_prefix, side_by_side

STATIC: Final = "static"
NLSR: Final = "nlsr"
ROUTINGS: Final = (STATIC, NLSR)

CONVERGENCE_S: Final = 300.0
LOOK_AGAIN_S: Final = 1.0
SAY_AGAIN_S: Final = 30.0
"""While it is waited for, what is missing is said so often."""
FACE_ATTEMPTS: Final = 3
NLSR_SETTINGS: Final = (
    ("neighbors.hello-interval", "30"),
    ("neighbors.hello-timeout", "1"),
    ("neighbors.adj-lsa-build-interval", "5"),
    ("fib.routing-calc-interval", "1"),
)
"""As quick as NLSR lets it be: it sends a hello every 30 s at the most often, so a link that says nothing is believed
to be up for that long."""

NFD_CHANGES: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    STATIC: (), NLSR: (("rib.readvertise_nlsr", "yes"),),
}  # fmt: skip

Execute = Callable[..., Awaitable[str]]
"""Runs a command on a node (by name) and returns what it printed; "" when it failed."""


async def edit(execute: Execute, node: str, path: str, changes: Iterable[tuple[str, str]]) -> None:
    """Set keys of a configuration file of a node. Raises NetworkError.

    Not by Mini-NDN's `infoeditChanges`: after each it sends an empty line to the node's shell, whose prompt to that
    line is taken for the end of a later command, so that nothing the shell is told afterwards is waited for.
    """
    for key, value in changes:
        words = 'infoedit -f "$0" -s "$1" -v "$2" && echo done'
        if not await execute(node, "sh", "-c", words, path, key, value):
            raise NetworkError(f"{node}: {key} could not be set in {path}", hint="is infoedit on PATH?")


Neighbours = Mapping[str, frozenset[str]]
"""Of every node that forwards, over links that are up."""


class Routing(Protocol):
    """Faces and routes of all nodes."""

    async def begin(self) -> None:
        """Before there are applications."""

    async def settle(self, neighbours: Neighbours) -> None:
        """Every node has a route to every prefix that an application registered on a node which it can reach. Raises
        NetworkError after a bound."""

    async def back(self, node: str, neighbours: Neighbours) -> None:
        """The node's forwarder was started again."""

    async def restored(self, neighbours: Neighbours) -> None:
        """All links are up again: returns when routes are as they were."""

    def check_moving(self) -> None:
        """A node changed its links. Raises UsageError where routes cannot follow."""


@dataclass(slots=True)
class StaticRoutes:
    """Shortest paths by delay, by Mini-NDN's NdnRoutingHelper, over permanent faces."""

    net: Any
    execute: Execute
    say: Say
    _helper: Any = None

    async def begin(self) -> None:
        return

    async def settle(self, neighbours: Neighbours) -> None:
        self._helper = NdnRoutingHelper(self.net, "udp", "link-state", True)
        for host in self.net.hosts:
            offers = nfdc_text.registered(await self.execute(host.name, "nfdc", "route", "list"), NET)
            self._helper.addOrigin([host], sorted({machine_prefix(host.name), *offers}))
        for _ in range(FACE_ATTEMPTS):
            try:
                return await in_thread(self._helper.calculateRoutes)
            except ValueError as error:  # nfdc answered nothing when it was told to make a face
                self.say(f"Mini-NDN made no face ({error}): once more")
        raise NetworkError("Mini-NDN could not make faces", hint="WORKDIR/NODE/log/nfd.log has NFD's own words")

    async def back(self, node: str, neighbours: Neighbours) -> None:
        await in_thread(lambda: self._helper.addNodeRoutes(self.net[node]))

    async def restored(self, neighbours: Neighbours) -> None:
        """Faces are permanent, and routes stayed."""

    def check_moving(self) -> None:
        raise UsageError("static routes stay as they are made, no node can move", hint="--routing nlsr")


@dataclass(slots=True)
class NlsrRoutes:
    """NLSR on every node; prefixes come to it from NFD."""

    net: Any
    execute: Execute
    say: Say
    security: bool = False
    _daemons: dict[str, Any] = field(default_factory=dict)

    async def begin(self) -> None:
        if self.security:  # the keys of all are made below one root, by whoever comes first
            for host in self.net.hosts:
                await self._begin(host)
        else:
            await side_by_side(self._begin(host) for host in self.net.hosts)

    async def _begin(self, host: Any) -> None:
        daemon = await asyncio.to_thread(Nlsr, host, logLevel="WARN", security=self.security)
        await edit(self.execute, host.name, daemon.confFile, NLSR_SETTINGS)
        self._daemons[host.name] = daemon
        await in_thread(daemon.start)

    async def settle(self, neighbours: Neighbours) -> None:
        began = said = time.monotonic()
        while lines := missing({node: await self._read(node) for node in neighbours}, neighbours):
            waited = time.monotonic() - began
            if time.monotonic() - said >= SAY_AGAIN_S:
                said = time.monotonic()
                self.say(f"NLSR has not converged after {waited:.0f} s: {lines[0]}")
            dead = [node for node in neighbours if self._daemons[node].process.poll() is not None]
            if dead or waited > CONVERGENCE_S:
                what = f"NLSR ended on {', '.join(dead)}" if dead else f"NLSR has not converged after {waited:.0f} s"
                raise NetworkError(f"{what}: {lines[0]}", hint="NLSR's own words are in WORKDIR/NODE/log/nlsr.log")
            await asyncio.sleep(LOOK_AGAIN_S)
        self.say(f"NLSR had converged after {time.monotonic() - began:.0f} s")

    async def _read(self, node: str) -> NodeRouting:
        routes, lsdb = await asyncio.gather(
            self.execute(node, "nfdc", "route", "list"), self.execute(node, "nlsrc", "lsdb")
        )
        return NodeRouting.read(routes, lsdb, NET)

    async def back(self, node: str, neighbours: Neighbours) -> None:
        """NLSR ends with its forwarder."""
        await in_thread(self._daemons[node].stop)
        await in_thread(self._daemons[node].start)
        await self.settle(neighbours)

    async def restored(self, neighbours: Neighbours) -> None:
        await self.settle(neighbours)

    def check_moving(self) -> None:
        """It finds out by itself, and an answer has other next hops meanwhile."""

    def stop(self) -> None:
        for daemon in self._daemons.values():
            daemon.stop()
