"""The offers that one application knows: looked at where they are, while calls are made.

Owns: where offers are looked for (this machine's forwarder, nodes that the operator names, a sync group), how often,
what is believed of them, who may be there and is not heard. Must not know: who is chosen (chooser.py), how calls are
made.

Nothing is asked while nobody calls. A call waits for offers once, and not for long: without them the network leads it
to somebody.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from ndn_infer import clock, ndn, records
from ndn_infer.config import Config
from ndn_infer.errors import BadName, CallError, NdnInferError, NetworkError
from ndn_infer.namespace import Call, CallClass, Instance, Machine, Role
from ndn_infer.ndn.name import Name
from ndn_infer.offers.book import Book, OfferEntry
from ndn_infer.offers.choice import Wanted, can_answer
from ndn_infer.offers.live.seeking import Seeking
from ndn_infer.offers.live.silences import Silences
from ndn_infer.records.offer import OFFER, OfferedFunction, OfferQuery, ProducerOffer
from ndn_infer.security.validator import Validated, Validator
from ndn_infer.together import together
from ndn_infer.transport.calls.direct import Direct, DirectAsk
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.objects.datasets import Datasets

log = logging.getLogger(__name__)

PULL_MS: Final = 1000
"""A producer that is there says what it offers within this time."""
ROUTES_S: Final = 1.0
FIRST_S: Final = 0.25
"""The first call waits for offers so long."""
LATER_S: Final = 0.5
"""After a call that made a look due and does not wait for it: by then its answer has begun, and who asks and answers is
in nobody's way."""
MAX_PULLED: Final = 256
AT_ONCE: Final = 32
ROLES: Final = ("decode", "prefill", "tokenize", "embed", "rag", "stage", "guard", "audit", "cite", "classify")
"""Looked for at a node that is named without a role, by whoever wants to see all offers."""
FIRST_ROLES: Final = ("decode", "tokenize")
"""Those that whoever asks a question needs. Others are looked for from the first call on that they answer: every offer,
and every role that a node has not, crosses the network anew for each who looks."""
ROLE_OF: Final = {
    "generate": "decode", "detokenize": "tokenize", "lookup": "rag", "judge": "guard", "screen": "guard",
}  # fmt: skip
"""Which role answers calls of a function that has another name."""
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
        self._at_once = asyncio.Event()
        """The look that is due does not wait."""
        self._silences = Silences()
        turns = asyncio.Semaphore(AT_ONCE)
        self._seeking = Seeking(lambda name: self._pull(name, turns, sought=True))
        self._roles: tuple[str, ...] = FIRST_ROLES
        self.asked = 0
        """Questions for offers so far."""
        if where.endpoint.detour is not None:  # where no route leads to a name, whoever offers something is asked
            where.endpoint.detour.whereabouts.append(lambda name: self.book.identities(clock.monotonic()))
        self.before_first: Callable[[], Awaitable[None]] | None = None
        """What happens before the first look: joining a group."""
        self.on_close: list[Callable[[], Awaitable[None]]] = []
        """What else ends with it."""

    async def ready(self, function: str = "") -> None:
        """For a call of `function` that is about to be made: look again when that is due, LATER_S after the call where
        there are offers to choose by. Waits for the first look only, and the first that such a function takes."""
        now, first = clock.monotonic(), self._looked_at is None
        more = bool(function) and role_of(function) not in self._roles
        if more:
            self._roles = (*self._roles, role_of(function))
        due = self._looked_at is None or more or now - self._looked_at >= self.where.refresh_s
        if due and self._looking is None:
            self._looked_at = now
            if first or more or next(self.entries(), None) is None:
                self._at_once.set()
            self._looking = asyncio.get_running_loop().create_task(self._look_in_time())
            self._looking.add_done_callback(self._looked)
            if first and self.before_first is not None:
                await self.before_first()
            if first or more:
                await asyncio.wait((self._looking,), timeout=FIRST_S)
        elif more:
            self.doubt()

    async def settled(self) -> None:
        """Wait for the look that is being taken, if there is one: nobody who is known so far can answer."""
        if self._looking is not None:
            self._at_once.set()
            await asyncio.wait((self._looking,), timeout=ROUTES_S + PULL_MS / 1000)

    async def seek(self, function: str, able: Callable[[OfferEntry], bool]) -> None:
        """Nobody who is known may be asked for a call of `function`: those who were lost and whose offers are `able`,
        and the silent who may answer it, are asked for their offers again, however short ago that was. Waits until
        somebody able is there, or until all of them have answered (seeking.py)."""
        lost = [entry for entry in self.entries() if entry.gone_since is not None and able(entry)]
        known = (name for entry in lost for name in (entry.hint, entry.identity))
        names = tuple(dict.fromkeys((*known, *self._of_role(function, self._silences.hoped()))))[:MAX_PULLED]
        await self._seeking.seek(names, lambda: any(one.gone_since is None and able(one) for one in self.entries()))

    def doubt(self) -> None:
        """Somebody is not where he was: the next call looks again, at once, however young the last look is."""
        self._at_once.set()
        if self._looked_at is not None:
            self._looked_at = min(self._looked_at, clock.monotonic() - self.where.refresh_s)

    async def look(self) -> None:
        """Look now, and wait for all that answer."""
        self._looked_at = clock.monotonic()
        self._roles = tuple(dict.fromkeys((*ROLES, *self._roles)))
        self._silences.clear()
        await self._look()

    def take(self, offer: ProducerOffer, signed_by: Validated, *, sought: bool = False) -> OfferEntry | None:
        """An offer whose signature was verified, wherever it came from; `sought` as in Book.take. None when it says
        nothing new; what its key may not answer is left out of it. Raises BadRecord for one that speaks for others."""
        allowed = tuple(one for one in offer.functions if self._may_answer(one, signed_by))
        if len(allowed) < len(offer.functions):
            log.warning("%s offers functions that its key may not answer", ndn.to_uri(signed_by.identity))
            offer = replace(offer, functions=allowed)
        now, wall_us = clock.monotonic(), clock.wall_us()
        return self.book.take(offer, signed_by.identity, now, wall_us, sought=sought)

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

    def may_come(self, model: str, engine: str, lost: Name) -> bool:
        """Whether a producer of this model and engine class may be there of which nothing is heard now. Of `lost`, that
        has just left, not where the network says that no way leads to it; of others in any case: so it says for a
        moment of one that has too much to do, too."""
        wanted, known = Wanted("generate", ("model", model), b"", engine=engine), list(self.entries())
        ours = [one for one in known if one.offer.engine == engine and can_answer(one, wanted)]
        others = {name for one in known if one not in ours for name in (one.hint, one.identity)}
        if any(one.identity != lost or not self._silences.is_nowhere(one.hint) for one in ours):
            return True
        silent = self._of_role(wanted.function, self._silences.lately())
        return any(name not in others and not (lost and name.startswith(lost)) for name in silent)

    async def close(self) -> None:
        for end in self.on_close:
            await end()
        await self._seeking.close()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    # ------------------------------------------------------------ looking

    async def _look_in_time(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._at_once.wait(), LATER_S)
        self._at_once.clear()
        await self._look()

    def _looked(self, task: asyncio.Task[None]) -> None:
        self._looking = None
        if not task.cancelled() and task.exception() is not None:
            log.warning("looking for offers failed: %s", task.exception())

    async def _look(self) -> None:
        """Ask each producer that is known by name, those that were silent lately left out. A role is asked when none of
        its processes that have routes answers: routes of operators outlive processes."""
        now = clock.monotonic()
        self.book.expire(now)
        processes, roles = await self._routed()
        named = [*self._named()]
        answered = await self._pull_all((*named, *processes), now)
        there = {ndn.prefix(name, -2) for name in answered} | {*answered}
        await self._pull_all((name for name in roles if name not in there), now)
        known = {*named, *processes, *roles}
        self._silences.keep(known, {name for entry in self.entries() for name in (entry.hint, entry.identity)})

    async def _pull_all(self, prefixes: Iterable[Name], now: float) -> list[Name]:
        """Those that answered, of those that were not silent lately."""
        due = [one for one in dict.fromkeys(prefixes) if self._silences.due(one, now)]
        asked, turns = due[:MAX_PULLED], asyncio.Semaphore(AT_ONCE)
        told = await together(self._pull(prefix, turns) for prefix in asked)
        return [prefix for prefix, answered in zip(asked, told, strict=True) if answered]

    def _named(self) -> Iterator[Name]:
        """Whom the configuration names."""
        for name in self.where.pull:
            machine = Machine.parse(self.where.net, name)
            if machine is None:
                if self._is_wanted(Instance.parse(self.where.net, name) or Role.parse(self.where.net, name)):
                    yield name
            else:
                yield from (Role(machine.site, machine.node, role).to_name(self.where.net) for role in self._roles)

    async def _routed(self) -> tuple[list[Name], list[Name]]:
        """Processes, and roles, to which this machine's forwarder has a route."""
        if not self.where.endpoint.local:
            return [], []
        try:
            async with asyncio.timeout(ROUTES_S):
                routes = await Datasets(self.where.endpoint).routes()
        except (NdnInferError, TimeoutError) as error:
            log.debug("the forwarder's routes cannot be read: %s", error)
            return [], []
        net = self.where.net
        names = sorted({ndn.from_uri(route["prefix"]) for route in routes})
        processes = [name for name in names if self._is_wanted(Instance.parse(net, name))]
        return processes, [name for name in names if self._is_wanted(Role.parse(net, name))]

    def _is_wanted(self, place: Instance | Role | None) -> bool:
        return _has_role(place, self._roles)

    def _of_role(self, function: str, names: Iterable[Name]) -> list[Name]:
        """Those that may answer calls of it."""
        net, roles = self.where.net, (role_of(function),)
        return [name for name in names if _has_role(Instance.parse(net, name) or Role.parse(net, name), roles)]

    async def _pull(self, prefix: Name, turns: asyncio.Semaphore, *, sought: bool = False) -> bool:
        """Whether it answered, and is believed. `sought`: not as it was due, but as nobody else is left."""
        async with turns:
            self.asked += 1
            try:
                told = await self.where.direct.ask(
                    DirectAsk(prefix, OFFER, OfferQuery(), lifetime_ms=PULL_MS), ProducerOffer
                )
                self.take(told.record, told.signed_by, sought=sought)
            except NdnInferError as error:
                self._silences.failed(prefix, error, clock.monotonic(), looked=not sought)
                if not isinstance(error, NetworkError | CallError):
                    log.warning("the offer of %s is not believed: %s", ndn.to_uri(prefix), error)
                return False
            self._silences.answered(prefix)
            return True

    def _may_answer(self, offered: OfferedFunction, signed_by: Validated) -> bool:
        """Whether the schema lets this signer answer such calls."""
        try:
            call = Call(offered.subject_kind, offered.subject, offered.function, CallClass.SHARED, "0" * 64)
            return self.where.validator.allows(call.to_name(self.where.net) + _PARAMETERS, signed_by)
        except BadName:
            return False


_PARAMETERS: Final = bytes((ndn.PARAMETERS_DIGEST, 32)) + bytes(32)


def _has_role(place: Instance | Role | None, roles: Collection[str]) -> bool:
    """A role that is not one of ours may answer anything."""
    if place is None or place.role in NO_OFFERS:
        return False
    return place.role in roles or place.role not in ROLES


def role_of(function: str) -> str:
    """Who answers its calls; functions of stages have a point in their name."""
    return "stage" if "." in function else ROLE_OF.get(function, function)
