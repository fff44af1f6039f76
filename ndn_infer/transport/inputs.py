"""Inputs too large for an Interest: published by the caller under its own identity, pulled by the producer.

Owns: where such inputs are published. Must not know: what they hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ndn_infer import name as ndn
from ndn_infer.name import Name
from ndn_infer.namespace import Input
from ndn_infer.security.certificate import Certificate
from ndn_infer.security.crypto import Signer
from ndn_infer.transport.registration import Registrar
from ndn_infer.transport.serve import Server


class PublishedInput(NamedTuple):
    """`source`: the object's URI; `hint`: a routable prefix."""

    source: str
    hint: str


class Inputs:
    """Publishes inputs for one caller. `registrar` announces the identity at the first use; None when that is done."""

    def __init__(
        self,
        net: Name,
        server: Server,
        signer: Signer,
        *,
        registrar: Registrar | None = None,
        certificates: Callable[[], Iterable[Certificate]] = tuple,
    ) -> None:
        self._net = net
        self._server = server
        self._signer = signer
        self._registrar = registrar
        self._certificates = certificates

    async def announce(self) -> None:
        """Answer below our identity, for our certificates as well. Raises RegistrationRefused, Timeout."""
        identity = self._signer.identity
        if self._registrar is not None and identity not in self._registrar.prefixes:
            self._server.serve(identity, self._signer)
            self._server.answer_certificates(identity + ndn.generic("KEY"), self._certificates)
            await self._registrar.register(identity)

    async def publish(self, content: bytes) -> PublishedInput:
        """Publish `content`. Raises RegistrationRefused, Timeout."""
        identity = self._signer.identity
        await self.announce()
        digest = hashlib.sha256(content).hexdigest()
        site, node, role = (ndn.component_value(part).decode() for part in ndn.components(identity)[-3:])
        base = Input(site, node, role, digest).to_name(self._net)
        if base not in self._server.store:
            self._server.publish(base, content, self._signer)
        return PublishedInput(ndn.to_uri(base), ndn.to_uri(identity))
