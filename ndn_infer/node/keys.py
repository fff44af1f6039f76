"""The keys of this machine in its network: what its roles are called, and making them at the first start.

Owns: from the configuration to identities, and to a keychain with their keys. Must not know: how keys are made or
kept, connections.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from ndn_infer import ndn
from ndn_infer.config import Config
from ndn_infer.errors import ConfigError, MissingKey
from ndn_infer.namespace import Machine, Role, operator_identity
from ndn_infer.ndn.name import Name
from ndn_infer.security.keychain import Keychain

USER: Final = "user"
"""The role of who only asks."""

log = logging.getLogger(__name__)


def net_name(config: Config) -> Name:
    net = ndn.from_uri(config.network.net)
    if not net:
        raise ConfigError("network.net must have at least one component")
    return net


def role_identity(config: Config, role: str) -> Name:
    return Role(config.network.site, config.network.node, role).to_name(net_name(config))


def machine_identity(config: Config) -> Name:
    return Machine(config.network.site, config.network.node).to_name(net_name(config))


def ensure_keys(config: Config, roles: Sequence[str] = (USER,)) -> Keychain:
    """This machine's keychain with keys for `roles`; makes anchor and keys at the first start of a network.

    On a machine that was provisioned by its operator (no anchor key here) nothing is made: whoever needs a key that is
    not there says so.
    """
    net = net_name(config)
    keychain = Keychain.open_or_create(config.keys_dir, net)
    validity_s = config.trust.certificate_days * 86400.0
    roles_here = [role_identity(config, role) for role in roles]
    try:
        keychain.ensure(operator_identity(net))
        keychain.ensure(machine_identity(config), *roles_here, validity_s=validity_s)
    except MissingKey:
        log.debug("this machine cannot issue keys; using those it was given")
    return keychain
