"""Keys and catalogue for the nodes of a testbed, made and carried as an operator does it.

Owns: the operator's steps (what `keys init`, `keys issue` for every node and `keys import` on it do), signing the
catalogue records and carrying them to the nodes; and the environment in which a node's commands run. Must not know: how
nodes are linked.

    python -m ndn_infer.testbed.provision DIRECTORY --node edge:user --node core:tokenize,decode

makes DIRECTORY/<node>/data for every node and prints, as JSON, the environment that belongs to each; the Mini-NDN
script calls it that way.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ndn_infer import catalog
from ndn_infer import config as configuration
from ndn_infer.config import ENVIRONMENT_PREFIX, Config
from ndn_infer.errors import NdnInferError
from ndn_infer.functions.registry import ROLES
from ndn_infer.local.prepare import prepared, publish_aliases
from ndn_infer.namespace import Machine, Role
from ndn_infer.node import networks
from ndn_infer.node.keys import ensure_keys
from ndn_infer.security import bundle as bundles
from ndn_infer.security.keychain import Keychain
from ndn_infer.testbed.process_network import NET, SITE, machine_prefix
from ndn_infer.testbed.topology import Topology

OPERATOR: Final = "Operator"
"""Its home lies among those of the nodes, whose names are lower case."""


def zero_trust(topology: Topology) -> list[str]:
    """Options of all nodes under the policy of routes below the own certificate alone: who is known instead."""
    machines = [machine_prefix(node.name) for node in topology.nodes if node.functions]
    return ["forwarder.registration=own-identity", f"network.known={','.join(machines)}"]


@dataclass(frozen=True, slots=True)
class Grounds:
    """Where a testbed's files lie: `directory`/<node> for each node. `models` is the cache that all nodes share."""

    directory: Path
    models: Path

    def home(self, node: str) -> Path:
        return self.directory / node

    def data_dir(self, node: str) -> Path:
        return self.home(node) / "data"

    def bundle(self, node: str) -> Path:
        return self.home(OPERATOR) / f"{node}.bundle"

    def settings(self, node: str) -> dict[str, str]:
        """What makes a command one of this node: variables of the configuration, nothing else."""
        return {
            f"{ENVIRONMENT_PREFIX}NETWORK_NET": NET,
            f"{ENVIRONMENT_PREFIX}NETWORK_SITE": SITE,
            f"{ENVIRONMENT_PREFIX}NETWORK_NODE": node,
            f"{ENVIRONMENT_PREFIX}PATHS_DATA_DIR": str(self.data_dir(node)),
            f"{ENVIRONMENT_PREFIX}PATHS_CACHE_DIR": str(self.models),
        }

    def environment(self, node: str) -> dict[str, str]:
        """A whole environment: a home of its own, nothing of the user's own network."""
        kept = {key: value for key, value in os.environ.items() if not _belongs_to_user(key)}
        home = str(self.home(node))
        return {**kept, "HOME": home, "XDG_RUNTIME_DIR": f"{home}/run", **self.settings(node)}

    def config(self, node: str) -> Config:
        """The node's configuration, as its commands see it."""
        environment = self.environment(node)
        ours = {key: value for key, value in environment.items() if key.startswith(ENVIRONMENT_PREFIX)}
        return configuration.load(file=_empty_file(self.home(node)), environment=ours)


def _belongs_to_user(variable: str) -> bool:
    ours = tuple(f"{ENVIRONMENT_PREFIX}{section}_" for section in ("NETWORK", "PATHS", "FORWARDER"))
    return variable.startswith(("XDG_", "NDN_CLIENT_", *ours))


def _empty_file(home: Path) -> Path:
    """A configuration file that says nothing: the user's own must not reach into a node."""
    path = home / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch()
    return path


# ---------------------------------------------------------------- the operator's steps


def provision(grounds: Grounds, roles: Mapping[str, Sequence[str]], *, quiet: bool = True) -> None:
    """Keys for every node (`roles`: node -> what it may sign) and the catalogue, in their places.

    Raises what making keys and preparing a model raise.
    """
    for node in (OPERATOR, *roles):
        _empty_file(grounds.home(node))
    operator = grounds.config(OPERATOR)
    keychain = ensure_keys(operator, ROLES)
    _catalogue(operator, keychain, roles, quiet=quiet)
    for node, names in roles.items():
        issue(grounds, keychain, node, names)


def issue(grounds: Grounds, keychain: Keychain, node: str, roles: Sequence[str]) -> None:
    """What `keys issue` does at the operator's, and `keys import` at the node, through the bundle that is carried."""
    bundle = grounds.bundle(node)
    operator, here = grounds.config(OPERATOR), grounds.config(node)
    identities = [Machine(SITE, node).to_name(keychain.net)]
    identities += [Role(SITE, node, role).to_name(keychain.net) for role in roles]
    keychain.ensure(*identities, validity_s=operator.trust.certificate_days * 86400.0)
    keychain.export_file(bundle, identities, catalog.records_in(operator.catalog_dir))
    imported = Keychain.import_file(here.keys_dir, bundle)
    catalog.install(here.catalog_dir, keychain.net, bundles.decode(bundle.read_text("ascii")).records)
    networks.use(here, imported, site=SITE, node=node)
    bundle.unlink()


def _catalogue(
    operator: Config, keychain: Keychain, roles: Mapping[str, Sequence[str]], *, quiet: bool
) -> None:  # fmt: skip
    """Sign what the aliases mean; bundles that are issued afterwards carry the records to the nodes."""
    everything = {role for names in roles.values() for role in names}
    models = [operator.ask.model] if everything & {"tokenize", "prefill", "decode"} else []
    models += [operator.ask.embedder] if "embed" in everything else []
    publish_aliases(operator, keychain, {alias: prepared(operator, alias, quiet=quiet) for alias in models})


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ndn_infer.testbed.provision", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--models", type=Path, default=configuration.load(environment=os.environ).cache_dir)
    parser.add_argument("--node", action="append", default=[], metavar="NAME:ROLE,ROLE", required=True)
    options = parser.parse_args(argv)
    pairs = [text.partition(":") for text in options.node]
    roles = {name: [role for role in names.split(",") if role] for name, _, names in pairs}
    grounds = Grounds(options.directory.resolve(), options.models)
    try:
        provision(grounds, roles)
    except NdnInferError as error:
        print(f"provision: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps({node: grounds.settings(node) for node in roles}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
