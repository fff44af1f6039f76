"""The networks of this machine: which one is in use, and moving to another.

Owns: the file `<data_dir>/network.toml`, the names that networks get when nobody names them. Must not know:
what is asked in a network. Every installation's own network has a name of its own: then another's network, which came
as a bundle, has its keys beside it, and no two of one name meet at a forwarder.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Final

from ndn_infer import clock, ndn
from ndn_infer.config import NETWORK_FILE, NETWORK_KEYS, Config, network_in_use
from ndn_infer.errors import StorageError, UsageError
from ndn_infer.ndn.name import Name
from ndn_infer.security.identity import IdentityKind, parse_identity
from ndn_infer.security.keychain import Keychain

OWN_PREFIX: Final = "/ndn-infer/local-"
"""Before eight random digits: the name of a network that was made here and not named."""
FORMER_OWN: Final = "/ndn-infer/local"
"""The name that every such network had; its keys are used where they are."""


def settle(config: Config) -> Config:
    """The configuration with the name of the network in use; makes a name at the first start.

    Nothing is done where the user names a network (file, variable or flag). Of two processes that start at once, one
    makes the name and both use it. Where nothing can be written the name lasts as long as the process.
    """
    if config.origins.get("network.net") != "default":
        return config
    path = config.data_dir / NETWORK_FILE
    if config.keys_dir.is_dir() and config.network.net == FORMER_OWN:
        return config
    with contextlib.suppress(OSError):
        _create(path, _as_toml(OWN_PREFIX + secrets.token_hex(4), config.network.site, config.network.node))
    origin = f"file {path}"
    found = network_in_use(path) or {"net": OWN_PREFIX + secrets.token_hex(4)}
    origins = {**config.origins, **{f"network.{key}": origin for key in found}}
    wanted = {key: value for key, value in found.items() if config.origins[f"network.{key}"] == "default"}
    return replace(config, network=replace(config.network, **wanted), origins=origins)


def use(config: Config, keychain: Keychain, *, site: str = "", node: str = "") -> tuple[str, str]:
    """Make the keychain's network the one in use, as the machine whose keys are here; returns site and node.

    `site` and `node` choose among several (an operator's directory holds the keys that it issued). Raises UsageError
    when they leave it open or no such keys are here, StorageError.
    """
    here = nodes_of(keychain)
    asked = [place for place in here if (not site or place[0] == site) and (not node or place[1] == node)]
    own = (config.network.site, config.network.node)
    if len(asked) > 1 and own in asked and keychain.usable(keychain.net) is not None:
        asked = [own]
    if not asked and keychain.usable(keychain.net) is not None:
        asked = [(site or own[0], node or own[1])]  # the anchor's key is here: it issues what this machine needs
    if len(asked) != 1:
        known = ", ".join("/".join(place) for place in here) or "of no node"
        net = ndn.to_uri(keychain.net)
        raise UsageError(
            f"which machine of {net} is this? The keys here are {known}", hint="say --site SITE and --node NODE"
        )
    path = config.data_dir / NETWORK_FILE
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.write_text(_as_toml(ndn.to_uri(keychain.net), *asked[0]), "utf-8")
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
    return asked[0]


def nodes_of(keychain: Keychain) -> list[tuple[str, str]]:
    """Site and node of every node with a valid certificate whose key, or the key of one of its roles, is here."""
    now, found = clock.wall_s(), set()
    for entry in keychain.entries():
        identity = parse_identity(keychain.net, entry.certificate.identity)
        of_node = identity is not None and identity.kind in (IdentityKind.NODE, IdentityKind.ROLE)
        if identity is not None and of_node and entry.has_key and entry.seconds_left(now) > 0:
            found.add((identity.site, identity.node))
    return sorted(found)


def keys_dir_of(config: Config, net: Name) -> Path:
    """Where the keys of network `net` are on this machine."""
    return replace(config, network=replace(config.network, net=ndn.to_uri(net))).keys_dir


def networks_here(config: Config) -> list[Path]:
    """The key directories of all networks whose trust anchor is on this machine."""
    return sorted(path.parent for path in config.data_dir.glob("*/keys/anchor.cert"))


def _as_toml(*values: str) -> str:
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in zip(NETWORK_KEYS, values, strict=True)]
    return "# the network in use on this machine; 'ndn-infer keys use' changes it\n" + "".join(lines)


def _create(path: Path, text: str) -> None:
    """Write a file that did not exist, whole or not at all; one that exists stays."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    temporary.write_text(text, "utf-8")
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        temporary.unlink()
