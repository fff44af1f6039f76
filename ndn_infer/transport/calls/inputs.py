"""Inputs too large for an Interest: published by the caller under its own name, pulled by the producer.

Owns: where such inputs, and other objects of a program that asks, are published, what tells processes of one identity
apart. Must not know: what they hold.

Several processes may have one identity: all `ask` commands of one user. A forwarder that has routes to all of them asks
one. So what a process publishes lies below a name of its own, and nobody denies what lies below another's.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ndn_infer import ndn
from ndn_infer.namespace import Input, Instance, certificates_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.security.certificate import Certificate
from ndn_infer.security.crypto import Signer
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.serve import Server
from ndn_infer.wire.manifest import ObjectPackets


def new_instance() -> str:
    """What tells one process of an identity from another."""
    return secrets.token_hex(8)


class PublishedInput(NamedTuple):
    """`source`: the object's URI; `hint`: a routable prefix."""

    source: str
    hint: str


class Inputs:
    """Publishes inputs for one caller. `registrar` announces us at the first use; None when that is done. `instance`
    tells this process from others of its identity; by default it is drawn."""

    def __init__(
        self,
        net: Name,
        server: Server,
        signer: Signer,
        *,
        registrar: Registrar | None = None,
        instance: str = "",
        certificates: Callable[[], Iterable[Certificate]] = tuple,
    ) -> None:
        self._net = net
        self._server = server
        self._signer = signer
        self._registrar = registrar
        self._certificates = certificates
        self.instance = Instance.of(net, signer.identity, instance or new_instance())

    async def announce(self) -> None:
        """Answer below the name of this process, and with our certificates. Raises RegistrationRefused, Timeout."""
        identity, registrar = self._signer.identity, self._registrar
        if registrar is None:
            return
        if identity not in registrar.prefixes:
            self._server.answer_certificates(certificates_prefix(identity), self._certificates)
            await registrar.register(identity)
            await registrar.start()  # a program that lives longer than a route
        if self.instance not in registrar.prefixes:
            self._server.serve(self.instance, self._signer)
            await registrar.register(self.instance, capture=True)

    async def publish_as(self, base: Name, content: bytes, *, freshness_ms: int) -> ObjectPackets:
        """Publish an object of another kind below the signer's identity, where other processes of it may hold others.
        Raises RegistrationRefused, Timeout."""
        await self.announce()
        if self._registrar is not None and base not in self._registrar.prefixes:
            self._server.serve(base, self._signer, denies=False)
            await self._registrar.register(base, capture=True)
        return self._server.publish(base, content, self._signer, freshness_ms=freshness_ms, pinned=True)

    async def lend(self, base: Name, content: bytes) -> PublishedInput:
        """Publish an object that lies below no identity, for those whom we give the hint: nothing else leads here.
        Raises RegistrationRefused, Timeout."""
        await self.announce()
        if base not in self._server.store:
            self._server.serve(base, self._signer, denies=False)
            self._server.publish(base, content, self._signer, pinned=True)
        return PublishedInput(ndn.to_uri(base), ndn.to_uri(self.instance))

    async def serve(self, prefix: Name, packets: ObjectPackets) -> None:
        """Answer with an object that is signed already, below a prefix of which other processes may hold others. Raises
        RegistrationRefused, Timeout."""
        await self.announce()
        if self._registrar is not None and prefix not in self._registrar.prefixes:
            self._server.serve(prefix, self._signer, denies=False)
            await self._registrar.register(prefix, capture=True)
        self._server.put(packets)

    def own(self, base: Name) -> ObjectPackets | None:
        """What is published here under this name: a forwarder does not bring our own Interests back to us."""
        return self._server.store.get(base)

    async def publish(self, content: bytes) -> PublishedInput:
        """Publish `content`. Raises RegistrationRefused, Timeout."""
        await self.announce()
        digest = hashlib.sha256(content).hexdigest()
        found = Instance.parse(self._net, self.instance)
        assert found is not None
        base = Input(found.site, found.node, found.role, found.instance, digest).to_name(self._net)
        if base not in self._server.store:
            self._server.publish(base, content, self._signer)
        return PublishedInput(ndn.to_uri(base), ndn.to_uri(self.instance))
