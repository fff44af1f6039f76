"""That a process is here, by name: the certificates of its machine, and records about itself.

Owns: what is offered below an identity, the status record and the question for it, and what a forwarder that refuses a
prefix means. Must not know: what the process does; it says so in its status.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final

from ndn_infer import clock, ndn
from ndn_infer.errors import RegistrationRefused
from ndn_infer.namespace import certificates_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.records import Reply, Request, encode
from ndn_infer.records.bounds import Amount, AtMost, Between, Count, Label, Uri
from ndn_infer.security.certificate import Certificate
from ndn_infer.security.identity import IdentityKind, parse_identity
from ndn_infer.transport.calls.direct import Topic
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.serve import Server

log = logging.getLogger(__name__)

MOST_OFFERS: Final = 64
"""Prefixes that a status record names."""
STATUS: Final = "status"
"""The topic of the question after it."""
STATUS_FRESHNESS_MS: Final = 500
STATUS_BYTES: Final = 7000
"""Of a status record, which one Data packet carries."""


_BY_HINT: Final = "what this process offers is reached by its forwarding hint"


@dataclass(frozen=True, slots=True)
class StatusQuery(Request):
    """Asks for a ProducerStatus."""


@dataclass(frozen=True, slots=True)
class Counter(Reply):
    name: Label
    value: Annotated[float, Between(-1e18, 1e18)]


@dataclass(frozen=True, slots=True)
class ModelEngine(Reply):
    """The engine class (engine_class.py) that computes a model, by its digest."""

    model: Label
    engine: Label


@dataclass(frozen=True, slots=True)
class ProducerStatus(Reply):
    """One producer about itself. `offers` are prefixes (URIs); `queue` calls waiting; `running` calls in work;
    `engines` what requests to its models must name."""

    identity: Uri
    functions: Annotated[tuple[Label, ...], AtMost(256)]
    models: Annotated[tuple[Label, ...], AtMost(256)]
    offers: Annotated[tuple[Uri, ...], AtMost(1024)]
    pid: Count
    uptime_s: Amount
    queue: Count
    running: Count
    counters: Annotated[tuple[Counter, ...], AtMost(1024)] = ()
    engines: Annotated[tuple[ModelEngine, ...], AtMost(256)] = ()


class Presence:
    """Of one process. `certificates` are those of its machine, at any time."""

    def __init__(
        self, net: Name, server: Server, registrar: Registrar, certificates: Callable[[], Sequence[Certificate]]
    ) -> None:
        self._net = net
        self._server = server
        self._registrar = registrar
        self._certificates = certificates
        self._began = clock.monotonic()
        self._refused = False

    async def begin(self) -> None:
        """Talk to the forwarder and offer the certificates that vouch for ours; before anything else is offered. A
        role's certificates lie below the prefix of its own process."""
        await self._registrar.start()
        owners = dict.fromkeys(certificate.identity for certificate in self._certificates())
        kinds = {identity: parse_identity(self._net, identity) for identity in owners}
        mine = [identity for identity, kind in kinds.items() if kind is not None and kind.kind is not IdentityKind.ROLE]
        for identity in mine:  # all before the first command: a forwarder may ask for what signed it
            self.answer_certificates(identity)
        for identity in mine:
            await self.offer_certificates(identity)

    def answer_certificates(self, identity: Name) -> None:
        self._server.answer_certificates(certificates_prefix(identity), self._certificates)

    async def offer_certificates(self, identity: Name) -> None:
        """Answer with the certificates of an identity of this machine, and announce that."""
        keys = certificates_prefix(identity)
        if keys not in self._registrar.prefixes:
            self.answer_certificates(identity)
            await self.announce(keys)

    async def announce(self, prefix: Name) -> None:
        """A zero-trust forwarder may refuse all but our own identity; we are then reached by forwarding hint. It is
        told once: what else it refuses is no news, and not asked for twice."""
        try:
            await self._registrar.register(prefix, insist=not self._refused)
        except RegistrationRefused as error:
            log.log(logging.DEBUG if self._refused else logging.WARNING, "%s; %s", error, _BY_HINT)
            self._refused = True

    @staticmethod
    def status_topic(status: Callable[[], ProducerStatus]) -> Topic[StatusQuery]:
        """What to answer the question after the status with."""
        return Topic(STATUS, StatusQuery, lambda query, _: _fitting(status()), freshness_ms=STATUS_FRESHNESS_MS)

    def status(self, identity: Name, functions: Sequence[str], counters: Mapping[str, float]) -> ProducerStatus:
        """What there is to say about any process; models and work of functions are added by whoever has them."""
        return ProducerStatus(
            identity=ndn.to_uri(identity),
            functions=tuple(functions),
            models=(),
            offers=tuple(ndn.to_uri(prefix) for prefix in self._registrar.prefixes[:MOST_OFFERS]),
            pid=os.getpid(),
            uptime_s=round(clock.monotonic() - self._began, 3),
            queue=0,
            running=0,
            counters=tuple(Counter(name, float(value)) for name, value in sorted(counters.items())),
        )


def _fitting(status: ProducerStatus) -> ProducerStatus:
    """As many offers, then as many counters, as one packet has room for."""
    while len(encode(status)) > STATUS_BYTES and (status.offers or status.counters):
        if status.offers:
            status = replace(status, offers=status.offers[: len(status.offers) // 2])
        else:
            status = replace(status, counters=status.counters[: len(status.counters) // 2])
    return status
