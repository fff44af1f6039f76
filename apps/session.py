"""What several commands need: keys, a connection, a validator.

Owns: how an application of ours joins a network. Must not know: what it then does there.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ndn_infer import ndn
from ndn_infer.apps.networks import check_runtime_dir
from ndn_infer.config import Config
from ndn_infer.errors import ConfigError, MissingKey, NoForwarder
from ndn_infer.namespace import Node, Role, operator_identity
from ndn_infer.ndn.name import Name
from ndn_infer.security.access import Access
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domain_store import DomainStore
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.replay import GRACE_S, ReplayWindow
from ndn_infer.security.replay_journal import ReplayJournal
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import Validator
from ndn_infer.security.version_memory import VersionMemory
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.link.links import StreamLink, connect, forwarder_uris
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.fetch import Fetcher
from ndn_infer.transport.trust.key_records import Renewal
from ndn_infer.transport.trust.revocation_feed import RevocationFeed

log = logging.getLogger(__name__)

ROLES = ("tokenize", "embed", "prefill", "decode", "stage", "rag", "user")


COLLECTOR_THRESHOLDS = (20_000, 20, 50)
"""Packets that come and go are no cycles: at Python's own threshold looking for them takes a tenth of a fetch."""


@dataclass(slots=True)
class Session:
    """One joined application: close it when done."""

    config: Config
    net: Name
    keychain: Keychain
    endpoint: Endpoint
    validator: Validator
    uri: str
    revocations: RevocationFeed | None = None

    async def close(self) -> None:
        if self.revocations is not None:
            await self.revocations.close()
        await self.validator.aclose()
        await self.endpoint.close()


def net_name(config: Config) -> Name:
    net = ndn.from_uri(config.network.net)
    if not net:
        raise ConfigError("network.net must have at least one component")
    return net


def role_identity(config: Config, role: str) -> Name:
    return Role(config.network.site, config.network.node, role).to_name(net_name(config))


def ensure_keys(config: Config, roles: Sequence[str] = ROLES) -> Keychain:
    """This machine's keychain with keys for `roles`; makes anchor and keys at the first start of a network.

    On a machine that was provisioned by its operator (no anchor key here) nothing is made: whoever needs a key that is
    not there says so.
    """
    net = net_name(config)
    keychain = Keychain.open_or_create(config.keys_dir, net)
    node = Node(config.network.site, config.network.node).to_name(net)
    validity_s = config.trust.certificate_days * 86400.0
    roles_here = [role_identity(config, role) for role in roles]
    try:
        keychain.ensure(operator_identity(net))
        keychain.ensure(node, *roles_here, validity_s=validity_s)
    except MissingKey:
        log.debug("this machine cannot issue keys; using those it was given")
    return keychain


async def connect_any(config: Config, uris: Sequence[str]) -> tuple[StreamLink, str]:
    """The first forwarder that answers. Raises NoForwarder naming all that were tried."""
    for uri in uris:
        try:
            return await connect(uri, config.network.connect_timeout_s), uri
        except NoForwarder as error:
            last = error
    if len(uris) == 1:
        raise last
    raise NoForwarder(f"no NDN forwarder answers at {', '.join(uris)}")


async def join(config: Config, keychain: Keychain, *, uri: str = "", offer_own: bool = False) -> Session:
    """Connect to the forwarder (`uri`, or whichever the configuration names) and trust the keychain's anchor.

    With `offer_own` our own certificates need not be fetched from the network to be verified.
    """
    uris = [uri] if uri else forwarder_uris(config.network.transport, config.socket_path, os.environ)
    if f"unix://{config.socket_path}" in uris and not config.forwarder.unix_path:
        check_runtime_dir(config)
    link, used = await connect_any(config, uris)
    first: list[StreamLink] = [link]

    async def dial() -> StreamLink:
        return first.pop() if first else await connect(used, config.network.connect_timeout_s)

    endpoint = Endpoint(dial)
    await endpoint.open()
    await Registrar(endpoint).enable_local_fields()
    net = net_name(config)
    gc.freeze()  # what was imported stays; the collector need not look at it again and again
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    validator = Validator(
        TrustSchema.load(net), keychain.anchor, certificate_fetcher(endpoint), max_depth=config.trust.max_chain_depth,
        seen=VersionMemory(config.keys_dir / "versions"), replay=replay_window(config),
        require_deny_list=config.trust.revocations == "required",
    )  # fmt: skip
    if offer_own:
        validator.add_certificates(*keychain.certificates())
    return Session(config, net, keychain, endpoint, validator, used, await _revocations(config, endpoint, validator))


async def _revocations(config: Config, endpoint: Endpoint, validator: Validator) -> RevocationFeed | None:
    """The deny list, kept up to date; where it is required, there before anything else is asked."""
    if config.trust.revocations == "off":
        return None
    feed = RevocationFeed(Fetcher(endpoint, validator, config.fetch), validator, config.keys_dir / "revoked")
    if config.trust.revocations == "required" and not validator.denied.fresh(time.time()):
        await feed.refresh()
    feed.start()
    return feed


def replay_window(config: Config) -> ReplayWindow:
    """Of this machine's verifiers: a command that one of them took before is refused by those that start later."""
    oldest_ms = int((time.time() - GRACE_S) * 1000)
    return ReplayWindow(journal=ReplayJournal(config.keys_dir / "replay", oldest_ms=oldest_ms))


def node_signer(session: Session) -> Signer | None:
    """This machine's own key, with which its producers sign commands to the forwarder; None when it has none (a
    forwarder that believes its local faces does not mind)."""
    node = Node(session.config.network.site, session.config.network.node).to_name(session.net)
    return session.keychain.signer_for(node) if session.keychain.usable(node) is not None else None


def access_of(session: Session, signer: Signer, fetcher: Fetcher | None = None) -> Access:
    """The tenant domains of this machine, for private calls in the name of `signer`. With `fetcher` the keys of new
    epochs are looked for in the network."""
    shop = DomainStore(session.config.keys_dir)
    renew = None if fetcher is None else Renewal(session.net, fetcher, shop).renew
    return Access(shop.tenants, signer, session.validator, renew)


def certificate_fetcher(endpoint: Endpoint) -> Callable[[Name], Awaitable[bytes]]:
    async def fetch(name: Name) -> bytes:
        # A key name stands for its newest certificate: a cache's older copy will not do.
        newest = ndn.component_type(ndn.components(name)[-1]) != ndn.VERSION
        data, _ = await endpoint.express(name, can_be_prefix=newest, must_be_fresh=newest, lifetime_ms=1000)
        return data.wire

    return fetch
