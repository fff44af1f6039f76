"""The offers that one application knows: looked at where they are, while calls are made.

Owns: where offers are looked for (this machine's forwarder, nodes that the operator names, a sync group), how often,
what is believed of them. Must not know: who is chosen (choice.py), how calls are made.

Nothing is asked while nobody calls. A call waits for offers once, and not for long: without them the network leads it
to somebody.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from ndn_infer import clock, ndn, records
from ndn_infer.config import Config
from ndn_infer.errors import BadName, CallError, NdnInferError, NetworkError
from ndn_infer.namespace import Call, CallClass, Instance, Machine, Role
from ndn_infer.ndn.name import Name
from ndn_infer.offers.book import Book, OfferEntry
from ndn_infer.records.offer import OFFER, OfferedFunction, OfferQuery, ProducerOffer
from ndn_infer.security.validator import Validated, Validator
from ndn_infer.transport.calls.direct import Direct, DirectAsk
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.objects.datasets import Datasets

log = logging.getLogger(__name__)

PULL_MS: Final = 1000
"""A producer that is there says what it offers within this time."""
ROUTES_S: Final = 1.0
FIRST_S: Final = 0.25
"""The first call waits for offers so long."""
SILENT_S: Final = 30.0
"""Who did not answer is not looked at again before."""
MAX_PULLED: Final = 256
AT_ONCE: Final = 32
ROLES: Final = ("decode", "prefill", "tokenize", "embed", "rag", "stage")
"""Looked for at a node that is named without a role."""
NO_OFFERS: Final = frozenset({"user", "domain", "repo"})
"""Roles that have a name of their own here and serve no calls."""


@dataclass(frozen=True, slots=True)
class Where:
    """What looking needs: an application's end of the network, and whose names are looked at beside this machine's."""

    net: Name
    endpoint: Endpoint
    validator: Validator
    direct: Direct
    pull: tuple[Name, ...] = ()
    refresh_s: float = 2.0

    @classmethod
    def of(cls, net: Name, endpoint: Endpoint, validator: Validator, config: Config) -> Where:
        """By the configuration: offers.pull, then network.known."""
        names = dict.fromkeys(map(ndn.from_uri, (*config.offers.pull, *config.network.known)))
        return cls(net, endpoint, validator, Direct(endpoint, validator), tuple(names), config.offers.refresh_s)


class Offers:
    """One application's. `close` ends what it is about."""

    def __init__(self, where: Where) -> None:
        self.book = Book(where.net)
        self.where = where
        self._looking: asyncio.Task[None] | None = None
        self._looked_at: float | None = None
        self._silent: dict[Name, float] = {}
        self.asked = 0
        """Questions for offers so far."""
        if where.endpoint.detour is not None:  # where no route leads to a name, whoever offers something is asked
            where.endpoint.detour.whereabouts.append(lambda name: self.book.identities(clock.monotonic()))
        self.before_first: Callable[[], Awaitable[None]] | None = None
        """What happens before the first look: joining a group."""

    async def ready(self) -> None:
        """For a call that is about to be made: look again when that is due. Waits for the first look only."""
        now = clock.monotonic()
        due = self._looked_at is None or now - self._looked_at >= self.where.refresh_s
        if due and self._looking is None:
            first = self._looked_at is None
            self._looked_at = now
            self._looking = asyncio.get_running_loop().create_task(self._look())
            self._looking.add_done_callback(self._looked)
            if first and self.before_first is not None:
                await self.before_first()
            if first:
                await asyncio.wait((self._looking,), timeout=FIRST_S)

    async def look(self) -> None:
        """Look now, and wait for all that answer."""
        self._looked_at = clock.monotonic()
        self._silent.clear()
        await self._look()

    def take(self, offer: ProducerOffer, signed_by: Validated) -> OfferEntry | None:
        """An offer whose signature was verified, wherever it came from. None when it says nothing new; what its key may
        not answer is left out of it. Raises BadRecord for one that speaks for others."""
        allowed = tuple(one for one in offer.functions if self._may_answer(one, signed_by))
        if len(allowed) < len(offer.functions):
            log.warning("%s offers functions that its key may not answer", ndn.to_uri(signed_by.identity))
            offer = replace(offer, functions=allowed)
        return self.book.take(offer, signed_by.identity, clock.monotonic(), clock.wall_us())

    def take_wire(self, content: bytes, signed_by: Validated) -> OfferEntry | None:
        """As `take`, from the verified content of a publication. Raises BadRecord."""
        return self.take(records.decode(ProducerOffer, content), signed_by)

    def entries(self) -> Iterator[OfferEntry]:
        """Offers that are valid now."""
        return self.book.entries(clock.monotonic())

    def engines(self, model: str) -> list[str]:
        """Engine classes of generating that producers of this model offer, the most offered first."""
        counts = Counter(
            entry.offer.engine
            for entry in self.entries()
            if any((one.function, one.subject) == ("generate", model) for one in entry.offer.functions)
        )
        return sorted(filter(None, counts), key=lambda engine: (-counts[engine], engine))

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    # ------------------------------------------------------------ looking

    def _looked(self, task: asyncio.Task[None]) -> None:
        self._looking = None
        if not task.cancelled() and task.exception() is not None:
            log.warning("looking for offers failed: %s", task.exception())

    async def _look(self) -> None:
        """Ask each producer that is known by name, those that were silent lately left out."""
        now = clock.monotonic()
        self.book.expire(now)
        prefixes = dict.fromkeys((*self._named(), *await self._routed()))
        asked = [prefix for prefix in prefixes if now >= self._silent.get(prefix, 0.0)][:MAX_PULLED]
        turns = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._pull(prefix, turns) for prefix in asked))
        self._silent = {prefix: until for prefix, until in self._silent.items() if prefix in prefixes}

    def _named(self) -> Iterator[Name]:
        """Whom the configuration names."""
        for name in self.where.pull:
            machine = Machine.parse(self.where.net, name)
            if machine is None:
                yield name
            else:
                yield from (Role(machine.site, machine.node, role).to_name(self.where.net) for role in ROLES)

    async def _routed(self) -> list[Name]:
        """Processes to which this machine's forwarder has a route, and roles of which it has none."""
        if not self.where.endpoint.local:
            return []
        try:
            async with asyncio.timeout(ROUTES_S):
                routes = await Datasets(self.where.endpoint).routes()
        except (NdnInferError, TimeoutError) as error:
            log.debug("the forwarder's routes cannot be read: %s", error)
            return []
        net = self.where.net
        names = {ndn.from_uri(route["prefix"]) for route in routes}
        found = sorted(name for name in names if _serves(Instance.parse(net, name)))
        behind = {ndn.prefix(name, -2) for name in found}
        return found + sorted(name for name in names if _serves(Role.parse(net, name)) and name not in behind)

    async def _pull(self, prefix: Name, turns: asyncio.Semaphore) -> None:
        async with turns:
            self.asked += 1
            try:
                told = await self.where.direct.ask(
                    DirectAsk(prefix, OFFER, OfferQuery(), lifetime_ms=PULL_MS), ProducerOffer
                )
                self.take(told.record, told.signed_by)
                self._silent.pop(prefix, None)
            except (NetworkError, CallError):
                self._silent[prefix] = clock.monotonic() + SILENT_S
            except NdnInferError as error:
                self._silent[prefix] = clock.monotonic() + SILENT_S
                log.warning("the offer of %s is not believed: %s", ndn.to_uri(prefix), error)

    def _may_answer(self, offered: OfferedFunction, signed_by: Validated) -> bool:
        """Whether the schema lets this signer answer such calls."""
        try:
            call = Call(offered.subject_kind, offered.subject, offered.function, CallClass.SHARED, "0" * 64)
            return self.where.validator.allows(call.to_name(self.where.net) + _PARAMETERS, signed_by)
        except BadName:
            return False


_PARAMETERS: Final = bytes((ndn.PARAMETERS_DIGEST, 32)) + bytes(32)


def _serves(place: Instance | Role | None) -> bool:
    return place is not None and place.role not in NO_OFFERS
