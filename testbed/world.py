"""A world: nodes, links and what runs on them, for a scenario to ask in, break and mend.

Owns: what a scenario can do and see, whatever the world is made of. Pure. Must not know: how a world is made (network
namespaces, virtual time), what a scenario claims.

A scenario runs on an asyncio loop and may ask many things at once (`asyncio.gather`, `TaskGroup`). Its only clock is
the world's: `now` and `sleep`, not `time` nor `asyncio.sleep`, so that the same page runs in virtual time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ndn_infer.testbed.evidence import Snapshot
from ndn_infer.testbed.result import RunRecord, Value
from ndn_infer.testbed.topology import Topology


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question. `seed` None is greedy, a number samples by it. With `whole` the answer has `max_tokens` tokens, an
    end of text does not end it: figures of different runs are of the same work. Without `choose` offers are not looked
    at: the network leads to somebody."""

    prompt: str
    max_tokens: int = 32
    seed: int | None = None
    system: str = ""
    whole: bool = True
    choose: bool = True


@dataclass(frozen=True, slots=True)
class PromptOutcome:
    """An answer, or what went wrong: `error` is "" or one line. Times are seconds; `began_s` is the world's time of the
    question, the others count from it.

    `gaps_s` has one entry for every arrival of tokens after the first (a packet may hold several tokens). `at` is the
    node that decoded (the last one, where it went on elsewhere `continued` times), "" if none answered. `node` asked.
    """

    node: str
    began_s: float
    ids: tuple[int, ...] = ()
    text: str = ""
    ttft_s: float = 0.0
    gaps_s: tuple[float, ...] = ()
    total_s: float = 0.0
    continued: int = 0
    error: str = ""
    at: str = ""

    @property
    def complete(self) -> bool:
        return not self.error

    @property
    def per_token_s(self) -> float:
        """Mean time between tokens after the first; 0 for an answer of one token."""
        return (self.total_s - self.ttft_s) / (len(self.ids) - 1) if len(self.ids) > 1 else 0.0


@dataclass(slots=True)
class AnswerProgress:
    """How far an answer is, for a scenario that breaks something in the middle of it: a world calls `came` for every
    arrival and `ended` at the end, the scenario waits with `reached`."""

    tokens: int = 0
    at: str = ""
    """The node that decodes."""
    over: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def came(self, tokens: int, at: str) -> None:
        """There are this many tokens now, the newest from the node `at`."""
        self.tokens, self.at = tokens, at
        self._changed.set()

    def ended(self) -> None:
        self.over = True
        self._changed.set()

    async def reached(self, tokens: int) -> bool:
        """Wait for that many tokens; False when the answer ended with fewer."""
        while self.tokens < tokens and not self.over:
            self._changed.clear()
            await self._changed.wait()
        return self.tokens >= tokens


@dataclass(frozen=True, slots=True)
class LinkBytes:
    """Bytes that entered a link in each direction, headers of the link included as far as the world has any."""

    first: str
    second: str
    forth: int
    """From `first` to `second`."""
    back: int


class World(Protocol):
    """What a scenario has. Nodes are named as in the topology, roles are functions as in its `functions=`.

    `ask` never raises for what the network does: the row says so. Every other method raises UsageError for a node, role
    or link that the topology has not. What was killed or cut already stays so; what runs already is not started twice.
    """

    record: RunRecord
    kind: str
    """What it is made of: "namespaces", "virtual time"."""
    seed: int
    """Of whatever chance there is: loss, and a scenario's own choices."""

    @property
    def topology(self) -> Topology: ...

    def now(self) -> float:
        """Seconds since the scenario began."""

    async def sleep(self, seconds: float) -> None: ...

    async def join(self, *nodes: str) -> None:
        """Consumers start there, so that the first question does not wait for them. Otherwise they start with it."""

    async def link_bytes(self) -> Sequence[LinkBytes]:
        """Since the world was made."""

    async def ask(self, node: str, what: Prompt, progress: AnswerProgress | None = None) -> PromptOutcome:
        """Ask at a node, as a consumer of its own: connected before `began_s`, with no answer in its own memory. The
        row is in `record.asked` too. Cancelling it is a reader that leaves."""

    async def kill(self, node: str, role: str) -> None:
        """A producer dies at once (SIGKILL): it says nothing."""

    async def start(self, node: str, role: str) -> None:
        """Start a producer that is not running; returns when it answers calls."""

    async def stop(self, node: str, role: str) -> None:
        """A producer ends as an operator ends it (SIGTERM)."""

    async def kill_forwarder(self, node: str) -> None:
        """A node's forwarder dies at once; its applications stay."""

    async def start_forwarder(self, node: str) -> None:
        """Start it again, with its faces and static routes."""

    async def cut(self, first: str, second: str) -> None:
        """A link loses everything, and nobody is told; routes stay as they are."""

    async def heal(self, first: str, second: str) -> None: ...

    async def move(self, node: str, old: str, new: str) -> None:
        """A node leaves the forwarder `old` and joins `new`: the link to `old` is cut, that to `new` healed, and
        routing follows. Both links are in the topology."""

    async def counters(self) -> Snapshot:
        """Of all forwarders and producers that answer."""

    def claim(self, name: str, holds: bool, value: Value) -> None:
        """One thing that this run shows, with the number that says so."""

    def note(self, text: str) -> None:
        """What a reader of the result must know: a small model, a link that could not be shaped."""


def copies(before: Snapshot, after: Snapshot) -> Mapping[str, Mapping[str, int]]:
    """Data by forwarder: what it received, what it sent, and how often its Content Store answered. Sent over received
    is how many copies it made. A forwarder that was started again meanwhile counts from then."""
    found = {}
    for node, last in after.nodes.items():
        first = before.nodes.get(node)
        if first is None or any(value < was for value, was in zip(last.sums(), first.sums(), strict=True)):
            first = None
        old = first.sums() if first is not None else (0, 0, 0)
        received, sent, hits = (value - was for value, was in zip(last.sums(), old, strict=True))
        found[node] = {"data_in": received, "data_out": sent, "from_store": hits}
    return found
