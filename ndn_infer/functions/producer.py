"""A producer: the functions of one process, on the network.

Owns: which prefixes, certificates and status it offers. Must not know: how a call is answered (function_server.py),
what any function computes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ndn_infer.functions.base import Host, NamedFunction
from ndn_infer.functions.function_samples import producer_samples
from ndn_infer.functions.function_server import FunctionServer
from ndn_infer.functions.offering import freshness_ms, offer_of
from ndn_infer.namespace import function_prefix, results_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.offers.live.offers import Offers
from ndn_infer.offers.live.publishing import OfferGroup
from ndn_infer.records.offer import OFFER, OfferQuery, ProducerOffer
from ndn_infer.security.crypto import Signer
from ndn_infer.security.keychain import Keychain
from ndn_infer.transport.calls.direct import Topic
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.trust.presence import ModelEngine, Presence, ProducerStatus


class Producer:
    """All functions of one process. `offer` them, `start`, and later `close`."""

    def __init__(self, host: Host, keychain: Keychain, registrar: Registrar, offers: Offers | None = None) -> None:
        """`offers`: those of others, that the calls of its functions go by."""
        self.offers = offers
        self._group: OfferGroup | None = None
        self._host = host
        self._registrar = registrar
        self._presence = Presence(host.net, host.server, registrar, keychain.certificates)
        self._servers: list[FunctionServer] = []
        self._identities: dict[Name, Signer] = {}
        host.meters.read_from(("producer", id(self)), lambda: producer_samples(host, lambda: self._servers))

    async def begin(self) -> None:
        """Talk to the forwarder and serve the certificates that vouch for ours; before the first `offer`. Raises
        StorageError where calls are to be recorded and cannot be."""
        await self._presence.begin()
        if self._host.log_writers is not None:
            await self._host.log_writers.start()

    async def offer_object(self, base: Name, signer: Signer) -> None:
        """Serve and announce one object that the store holds already (a catalogue record)."""
        self._host.server.serve(base, signer)
        await self._presence.announce(base)

    async def offer_certificates(self, identity: Name) -> None:
        """Serve the certificates of another role of this machine, which signed what is served here."""
        await self._presence.offer_certificates(identity)

    async def offer(self, function: NamedFunction[Any], signer: Signer) -> None:
        """Load a function and answer its calls. Raises what its `start` raises, MissingKey, RegistrationRefused."""
        net = self._host.net
        await function.start(self._host, signer)
        server = FunctionServer(function, self._host, signer)
        self._servers.append(server)
        calls = function_prefix(net, *function.subject, function.function)
        results = results_prefix(net, *function.subject, function.function)
        self._host.server.serve(calls, signer, server.on_request, denies=False)
        self._host.server.serve(results, signer, denies=False)
        for prefix in function.serves(net):
            self._host.server.serve(prefix, signer)
        await self._serve_identity(signer)
        for prefix in (calls, results, *function.serves(net)):
            await self._presence.announce(prefix)

    async def _serve_identity(self, signer: Signer) -> None:
        """The prefix every network grants: our own identity, with our certificates and status below it; and the name
        of this process, where others have the same identity."""
        if signer.identity in self._identities:
            return
        self._identities[signer.identity] = signer
        instance = self._host.hint(signer)
        self._host.server.serve(signer.identity, signer, denies=False)
        self._host.server.serve(instance, signer)
        self._presence.answer_certificates(signer.identity)
        for prefix in (signer.identity, instance):
            topic = self._presence.status_topic(lambda: self.status(signer.identity))
            self._host.questions.answer(topic, signer, at=prefix)
            offer = Topic(OFFER, OfferQuery, lambda query, _: self.offered(signer), freshness_ms=freshness_ms)
            self._host.questions.answer(offer, signer, at=prefix)
            await self._registrar.register(prefix, capture=prefix == instance)
        await self._join(signer)

    def status(self, identity: Name) -> ProducerStatus:
        """What the status record says now."""
        servers = [server for server in self._servers if server.identity == identity]
        counters = {**self._host.counters, "streams_open": self._host.server.streams}
        functions = tuple(server.function.function for server in servers)
        return replace(
            self._presence.status(identity, functions, counters),
            models=tuple(dict.fromkeys(server.function.subject[1] for server in servers)),
            engines=tuple(dict.fromkeys(engine for server in servers for engine in _engines(server.function))),
            queue=sum(server.function.queue_length() for server in servers),
            running=sum(server.running for server in servers),
        )

    async def _join(self, signer: Signer) -> None:
        """Publish the offer of this process in the group of offers, where the configuration says so; that of its first
        identity, as a connection is one member."""
        if self.offers is not None and self._host.config.offers.sync == "on" and self._group is None:
            self._group = OfferGroup(
                self.offers, registrar=self._registrar, me=self._host.hint(signer), signer=signer
            )  # fmt: skip
            await self._group.open(lambda: self.offered(signer))

    def offered(self, signer: Signer) -> ProducerOffer:
        """What the offer of one identity says now."""
        return offer_of(self._host, signer, [server for server in self._servers if server.identity == signer.identity])

    @property
    def signers(self) -> tuple[Signer, ...]:
        """Of the identities behind which something is offered."""
        return tuple(self._identities.values())

    async def close(self) -> None:
        if self._group is not None:
            await self._group.close()
        if self.offers is not None:
            await self.offers.close()
        await self._registrar.close()
        await self._host.questions.close()
        if self._host.log_writers is not None:
            await self._host.log_writers.close()
        for server in self._servers:
            await server.close()


def _engines(function: NamedFunction[Any]) -> list[ModelEngine]:
    engine = function.engine_class()
    return [ModelEngine(function.subject[1], engine)] if engine else []
