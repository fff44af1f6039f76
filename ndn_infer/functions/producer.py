"""A producer: the functions of one process, on the network.

Owns: registration of prefixes, certificates, status. Must not know: how a call is answered (function_server.py), what
any function computes.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from ndn_infer import ndn, records
from ndn_infer.errors import RegistrationRefused
from ndn_infer.functions.base import Host, NamedFunction
from ndn_infer.functions.function_server import FunctionServer
from ndn_infer.namespace import function_prefix, results_prefix
from ndn_infer.ndn.name import Name
from ndn_infer.records import Counter, ProducerStatus
from ndn_infer.security.crypto import Signer
from ndn_infer.security.identity import IdentityKind, parse_identity
from ndn_infer.security.keychain import Keychain
from ndn_infer.transport.link.registration import Registrar

log = logging.getLogger(__name__)


class Producer:
    """All functions of one process. `offer` them, `start`, and later `close`."""

    def __init__(self, host: Host, keychain: Keychain, registrar: Registrar) -> None:
        self._host = host
        self._keychain = keychain
        self._registrar = registrar
        self._servers: list[FunctionServer] = []
        self._identities: set[Name] = set()
        self._started_at = time.monotonic()

    async def begin(self) -> None:
        """Talk to the forwarder and serve the certificates that vouch for ours; before the first `offer`."""
        await self._registrar.start()
        # A role's certificates lie below the prefix of its own producer.
        owners = dict.fromkeys(certificate.identity for certificate in self._keychain.certificates())
        kinds = {identity: parse_identity(self._host.net, identity) for identity in owners}
        mine = [identity for identity, kind in kinds.items() if kind is not None and kind.kind is not IdentityKind.ROLE]
        for identity in mine:  # all before the first command: a forwarder may ask for what signed it
            self._host.server.answer_certificates(identity + ndn.generic("KEY"), self._keychain.certificates)
        for identity in mine:
            await self.offer_certificates(identity)

    async def offer_object(self, base: Name, signer: Signer) -> None:
        """Serve and announce one object that the store holds already (a catalogue record)."""
        self._host.server.serve(base, signer)
        await self._register(base)

    async def offer_certificates(self, identity: Name) -> None:
        """Serve the certificates of another role of this machine, which signed what is served here."""
        keys = identity + ndn.generic("KEY")
        if keys not in self._registrar.prefixes:
            self._host.server.answer_certificates(keys, self._keychain.certificates)
            await self._register(keys)

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
            await self._register(prefix)

    async def _serve_identity(self, signer: Signer) -> None:
        """The prefix every network grants: our own identity, with our certificates and status below it; and the name
        of this process, where others have the same identity."""
        if signer.identity in self._identities:
            return
        self._identities.add(signer.identity)
        instance = self._host.hint(signer)
        self._host.server.serve(signer.identity, signer, denies=False)
        self._host.server.serve(instance, signer)
        keys = signer.identity + ndn.generic("KEY")
        self._host.server.answer_certificates(keys, self._keychain.certificates)
        for prefix in (signer.identity, instance):
            status = prefix + ndn.generic("status")
            self._host.server.compute(status, lambda: records.encode(self.status(signer.identity)))
            await self._registrar.register(prefix, capture=prefix == instance)

    async def _register(self, prefix: Name) -> None:
        """A zero-trust forwarder may refuse all but our own identity; callers then reach us by forwarding hint."""
        try:
            await self._registrar.register(prefix)
        except RegistrationRefused as error:
            log.warning("%s; calls must carry the forwarding hint of this producer", error)

    def status(self, identity: Name) -> ProducerStatus:
        """What the status record says now."""
        servers = [server for server in self._servers if server.identity == identity]
        counters = {**self._host.counters, "streams_open": self._host.server.streams}
        return ProducerStatus(
            identity=ndn.to_uri(identity),
            functions=tuple(server.function.function for server in servers),
            models=tuple(dict.fromkeys(server.function.subject[1] for server in servers)),
            offers=tuple(ndn.to_uri(prefix) for prefix in self._registrar.prefixes),
            pid=os.getpid(),
            uptime_s=round(time.monotonic() - self._started_at, 3),
            queue=sum(server.function.queue_length() for server in servers),
            running=sum(server.running for server in servers),
            counters=tuple(Counter(name, float(value)) for name, value in sorted(counters.items())),
        )

    async def close(self) -> None:
        await self._registrar.close()
        for server in self._servers:
            await server.close()
