"""A node: one application of this machine, joined to a network. Producers, consumers, repos and benches all begin here.

    async with await Node.join() as node:
        fetched = await node.fetcher.fetch(name)

Owns: connection, validator, deny list, registered prefixes, and their common end. Must not know: what the application
does there.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

from ndn_infer import clock
from ndn_infer.config import Config, load
from ndn_infer.errors import NoForwarder
from ndn_infer.ndn.name import Name
from ndn_infer.node.keys import ensure_keys, machine_identity, net_name, role_identity
from ndn_infer.node.known import detour
from ndn_infer.node.networks import settle
from ndn_infer.node.runtime_dir import check_runtime_dir
from ndn_infer.security.access import Access
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domain_store import DomainStore
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.replay import GRACE_S, ReplayWindow
from ndn_infer.security.replay_journal import ReplayJournal
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import Validator
from ndn_infer.security.version_memory import VersionMemory
from ndn_infer.transport.calls.caller import Caller
from ndn_infer.transport.calls.candidates import Chooser
from ndn_infer.transport.calls.inputs import Inputs
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.link.links import Link, StreamLink, connect, forwarder_uris
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.objects.ledger import Ledger
from ndn_infer.transport.trust.certificates import certificate_fetcher
from ndn_infer.transport.trust.key_records import Renewal
from ndn_infer.transport.trust.revocation_feed import RevocationFeed

Dial = Callable[[], Awaitable[Link]]


@dataclass(slots=True)
class Node:
    """One joined application; closed when its block ends. `uri` is the forwarder's."""

    config: Config
    net: Name
    keychain: Keychain
    endpoint: Endpoint
    validator: Validator
    uri: str
    revocations: RevocationFeed | None = None
    fetcher: Fetcher = field(init=False)
    registrar: Registrar = field(init=False)
    """Its commands are signed with this machine's own key."""

    def __post_init__(self) -> None:
        self.fetcher = Fetcher(self.endpoint, self.validator, self.config.fetch)
        self.registrar = Registrar(self.endpoint, self.signer(), refresh_s=self.config.producer.refresh_s)

    @classmethod
    async def join(
        cls, config: Config | None = None, keychain: Keychain | None = None, *, uri: str = "", offer_own: bool = False,
        dial: Dial | None = None,
    ) -> Self:  # fmt: skip
        """Connect to the forwarder (`uri`, or whichever the configuration names) and trust the keychain's anchor. By
        default the configuration is that of a command in this environment, the keys are this machine's. `dial` makes
        links to a forwarder inside this process instead (MemoryNetwork.dial); `uri` is then what it is called.

        With `offer_own` our own certificates need not be fetched from the network to be verified. Raises NoForwarder.
        """
        config = config or settle(load(environment=os.environ))
        keychain = keychain or ensure_keys(config)
        endpoint, used = await _connected(config, uri, dial)
        validator = Validator(
            trust_schema(config), keychain.anchor, certificate_fetcher(endpoint),
            max_depth=config.trust.max_chain_depth, seen=VersionMemory(config.keys_dir / "versions"),
            replay=replay_window(config), require_deny_list=config.trust.revocations == "required",
        )  # fmt: skip
        if offer_own:
            validator.add_certificates(*keychain.certificates())
        revocations = await _revocations(config, endpoint, validator)
        return cls(config, net_name(config), keychain, endpoint, validator, used, revocations)

    async def close(self) -> None:
        """Withdraw every prefix and disconnect."""
        await self.registrar.close()
        if self.revocations is not None:
            await self.revocations.close()
        await self.validator.aclose()
        await self.endpoint.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        await self.close()

    def signer(self) -> Signer | None:
        """This machine's own key; None when it has none (a forwarder that believes its local faces needs none)."""
        machine = machine_identity(self.config)
        return self.keychain.signer_for(machine) if self.keychain.usable(machine) is not None else None

    def signer_as(self, role: str) -> Signer:
        """The key of a role of this machine. Raises MissingKey."""
        return self.keychain.signer_for(role_identity(self.config, role))

    def caller(
        self, fetcher: Fetcher | None = None, *, inputs: Callable[[], Inputs | None] = lambda: None,
        access: Access | None = None, ledger: Ledger | None = None, chooser: Chooser | None = None,
    ) -> Caller:  # fmt: skip
        """Of the functions in this network; arguments as of Caller, by default with this node's own fetcher."""
        return Caller(
            self.endpoint, self.validator, fetcher or self.fetcher, self.net, config=self.config.call,
            fetch=self.config.fetch, ledger=ledger, inputs=inputs, access=access, chooser=chooser,
        )  # fmt: skip

    def access(self, signer: Signer, *, renews: bool = False) -> Access:
        """The tenant domains of this machine, for private calls in the name of `signer`. With `renews` the keys of new
        epochs are looked for in the network."""
        shop = DomainStore(self.config.keys_dir)
        return Access(
            shop.tenants, signer, self.validator, Renewal(self.net, self.fetcher, shop).renew if renews else None
        )  # fmt: skip


def trust_schema(config: Config, net: Name | None = None) -> TrustSchema:
    """Who may sign what in `net` (the configured network), by the file that the configuration names. Raises
    ConfigError."""
    net = net_name(config) if net is None else net
    return TrustSchema.load(net, Path(config.trust.schema).expanduser()) if config.trust.schema else _own_schema(net)


@lru_cache(8)
def _own_schema(net: Name) -> TrustSchema:
    """The schema of this package: compiled and checked once for all nodes of this process."""
    return TrustSchema.load(net)


def replay_window(config: Config) -> ReplayWindow:
    """Of this machine's verifiers: a command that one of them took before is refused by those that start later."""
    oldest_ms = int((clock.wall_s() - GRACE_S) * 1000)
    return ReplayWindow(journal=ReplayJournal(config.keys_dir / "replay", oldest_ms=oldest_ms))


async def _connected(config: Config, uri: str, dial: Dial | None) -> tuple[Endpoint, str]:
    """An open endpoint, and the forwarder that it goes to: it stays with that one when the connection is lost."""
    if dial is None:
        dial, uri = await _found(config, uri)
    endpoint = Endpoint(dial)
    endpoint.detour = detour(config)
    await endpoint.open()
    await Registrar(endpoint).enable_local_fields()
    return endpoint, uri


async def _found(config: Config, uri: str) -> tuple[Dial, str]:
    """What dials the forwarder that answered; its first link is there already."""
    uris = [uri] if uri else forwarder_uris(config.network.transport, config.socket_path, os.environ)
    if f"unix://{config.socket_path}" in uris and not config.forwarder.unix_path:
        check_runtime_dir(config)
    link, used = await _connect_any(config, uris)
    first: list[StreamLink] = [link]

    async def dial() -> StreamLink:
        return first.pop() if first else await connect(used, config.network.connect_timeout_s)

    return dial, used


async def _connect_any(config: Config, uris: Sequence[str]) -> tuple[StreamLink, str]:
    """The first forwarder that answers. Raises NoForwarder naming all that were tried."""
    for uri in uris:
        try:
            return await connect(uri, config.network.connect_timeout_s), uri
        except NoForwarder as error:
            last = error
    if len(uris) == 1:
        raise last
    raise NoForwarder(f"no NDN forwarder answers at {', '.join(uris)}")


async def _revocations(config: Config, endpoint: Endpoint, validator: Validator) -> RevocationFeed | None:
    """The deny list, kept up to date; where it is required, there before anything else is asked."""
    if config.trust.revocations == "off":
        return None
    feed = RevocationFeed(Fetcher(endpoint, validator, config.fetch), validator, config.keys_dir / "revoked")
    if config.trust.revocations == "required" and not validator.denied.fresh(clock.wall_s()):
        await feed.refresh()
    feed.start()
    return feed
