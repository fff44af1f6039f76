"""What a world of real processes needs of its network: in namespaces or in Mini-NDN, the orders are the same.

Owns: those orders, the names of a testbed's network, and steps that go on to their end when a run is cancelled.
Standard library alone: Mini-NDN's interpreter has nothing else. Must not know: how a network is made, scenarios.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, Protocol

from ndn_infer.testbed.evidence import Snapshot
from ndn_infer.testbed.node_process import NodeProcess
from ndn_infer.testbed.topology import LinkSpec, Topology
from ndn_infer.testbed.world import LinkBytes

NET: Final = "/ndn-infer/testbed"
SITE: Final = "lab"
FORWARDER: Final = "forwarder"
SYNC_GROUPS: Final = (f"{NET}/sync/offers",)
"""Interests of these go to everybody (State Vector Sync)."""


def machine_prefix(node: str) -> str:
    """Of whatever runs on a node, an asker too, which comes after routes were set: what it is asked for in turn (the
    input of its call, its certificates) lies below."""
    return f"{NET}/{SITE}/{node}"


Say = Callable[[str], None]


class ProcessNetwork(Protocol):
    """A started network. A process is known by its node and a title: a function of the node, or FORWARDER.

    What runs already is not started twice; what does not run is not ended.
    """

    @property
    def topology(self) -> Topology: ...

    def module(self, module: str, *arguments: str) -> list[str]:
        """The command that runs a module of ours on a node, with the options of all nodes; it ends when we do."""

    def process(self, node: str, title: str, command: Sequence[str], **options: Any) -> NodeProcess:
        """A process of a node, not started; it ends with the network. `options` as of NodeProcess."""

    async def start_producer(self, node: str, function: str) -> None:
        """Returns when it answers calls. Raises ChildFailed."""

    async def kill(self, node: str, title: str) -> None:
        """SIGKILL."""

    async def terminate(self, node: str, title: str) -> None:
        """SIGTERM, as an operator ends it."""

    async def start_forwarder(self, node: str) -> None:
        """With its faces, and the routes that it had. Raises ChildFailed, NetworkError."""

    async def switch(self, link: LinkSpec, *, up: bool) -> None:
        """Set a link down, or up again with its faces. Raises NetworkError."""

    async def route(self, *, moved: bool = False) -> None:
        """Routes that lead over the links that there are, where the network has nothing that finds them by itself.
        `moved`: a node left one link for another, in the middle of what it does. Raises UsageError where routes cannot
        follow that."""

    async def snapshot(self) -> Snapshot:
        """Counters of the forwarders and producers that answer."""

    async def link_bytes(self) -> list[LinkBytes]:
        """Bytes that entered each link of the topology, in its order, since it was made."""


def roles_of(functions: Iterable[str]) -> list[str]:
    """Of what is written as in `functions=`: stage:0-9 is the role stage."""
    return list(dict.fromkeys(function.partition(":")[0] for function in functions))


async def in_thread(step: Callable[[], None]) -> None:
    """Off the loop; when we are cancelled the step is waited for, so that it makes nothing after the clean-up."""
    running = asyncio.ensure_future(asyncio.to_thread(step))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.gather(running, return_exceptions=True)
        raise


async def side_by_side(steps: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All at once; when one fails the others are waited for, so that nothing starts after the clean-up."""
    for result in await asyncio.gather(*steps, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def in_any_case(step: Coroutine[Any, Any, None]) -> None:
    """Through to its end (it is bounded), however often we are cancelled meanwhile."""
    running = asyncio.ensure_future(step)
    cancelled = False
    while not running.done():
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


def say(text: str) -> None:
    """A step, on standard error."""
    print(f"  {text}", file=sys.stderr, flush=True)
