"""Keys and certificates of this machine's networks: make, list, issue for another machine, import there.

ndn-infer keys init [--net /lab]             the trust anchor and this machine's keys
ndn-infer keys list
ndn-infer keys issue --site lab --node gpu1 --roles prefill,decode --out gpu1.bundle
ndn-infer keys import gpu1.bundle            on the other machine: it is site lab, node gpu1 of that network from now on
ndn-infer keys import key.safebag            a key that ndnsec exported: of this network, or the trust anchor of another
ndn-infer keys use /lab                      go back to another network whose keys are on this machine
ndn-infer keys export lab/gpu1 --out FILE    keys of a node that are here already; without a name the trust anchor alone
ndn-infer keys renew [lab/gpu1] [--out FILE] new certificates for the same keys; the file holds no private key
ndn-infer keys revoke lab/gpu1               these keys are refused everywhere from the next minutes on
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from ndn_infer import catalog, ndn
from ndn_infer.apps import key_changes
from ndn_infer.config import Config
from ndn_infer.errors import UsageError
from ndn_infer.functions.registry import ROLES
from ndn_infer.namespace import DOMAIN, REPO, Machine, Role
from ndn_infer.node import networks
from ndn_infer.node.keys import ensure_keys, net_name
from ndn_infer.security import bundle as bundles
from ndn_infer.security import provision
from ndn_infer.security.bundle import Bundle
from ndn_infer.security.identity import parse_identity
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.safebag import is_safebag


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=tuple(ACTIONS))
    parser.add_argument(
        "what", nargs="?", default="", metavar="FILE|NET|WHO",
        help="import: the bundle; use: the network; export, renew, revoke: SITE, SITE/NODE, SITE/NODE/ROLE or operator "
        "(and all below it); revoke also takes the name of a key",
    )  # fmt: skip
    parser.add_argument(
        "--password-file", type=Path, metavar="FILE", help="import: password of a SafeBag that 'ndnsec export' wrote"
    )
    parser.add_argument("--reason", default="", help="revoke: the reason, shown with each rejection")
    parser.add_argument("--net", default="", metavar="NAME", help="init: make a network of this name, and use it")
    parser.add_argument("--site", default="", help="issue: site of the node that gets keys; else: of this machine")
    parser.add_argument("--node", default="", help="issue: the node that gets keys; else: this machine")
    parser.add_argument(
        "--roles", default=",".join(ROLES),
        help="issue: what its keys may sign (default: %(default)s; also repo, domain, or a service of your own)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="issue: file for the bundle; holds private keys, mode 0600")
    parser.add_argument("--days", type=float, help="issue: validity (default: trust.certificate_days)")
    parser.add_argument("--json", action="store_true", help="one JSON document (list)")


def run(options: argparse.Namespace, config: Config) -> int:
    return ACTIONS[options.action](options, config)


def _init(options: argparse.Namespace, config: Config) -> int:
    net, site, node = options.net or options.what, options.site, options.node
    if net or site or node:
        here = config.network
        named = replace(here, net=net or here.net, site=site or here.site, node=node or here.node)
        config = replace(config, network=named)
    keychain = ensure_keys(config, ROLES)
    if net or site or node:
        networks.use(config, keychain, site=config.network.site, node=config.network.node)
    print(f"network {ndn.to_uri(keychain.net)}; this machine is site {config.network.site}, node {config.network.node}")
    print(f"  trust anchor {ndn.to_uri(keychain.anchor.name)}\n  keys in {config.keys_dir}")
    return 0


def _issue(options: argparse.Namespace, config: Config) -> int:
    if not (options.site and options.node and options.out):
        raise UsageError("issue needs --site, --node and --out")
    roles = _roles(options.roles)
    keychain, net = ensure_keys(config, ROLES), net_name(config)
    node = Machine(options.site, options.node).to_name(net)
    identities = [node, *(Role(options.site, options.node, role).to_name(net) for role in roles)]
    keychain.ensure(*identities, validity_s=(options.days or config.trust.certificate_days) * 86400.0)
    records = catalog.records_in(config.catalog_dir)
    keychain.export_file(options.out, identities, records)
    print(f"{options.out}: keys of {ndn.to_uri(node)} for {', '.join(roles)}; carry it there safely and delete it")
    if not records:
        print("  it holds no catalogue record: 'ndn-infer models publish MODEL' first, then issue it again")
    return 0


def _roles(text: str) -> list[str]:
    """Raises UsageError for what looks like a known role misspelt; any other label is the role of a service."""
    roles, known = [role.strip() for role in text.split(",") if role.strip()], (*ROLES, REPO, DOMAIN)
    for role in roles:
        near = difflib.get_close_matches(role.lower(), known, n=1, cutoff=0.75)
        if role not in known and near:
            raise UsageError(f"no role {role!r}; did you mean {near[0]!r}?", hint=f"roles are {', '.join(known)}")
        if role not in known:
            print(f"  {role}: the role of a service of your own; ours are {', '.join(known)}", file=sys.stderr)
    if not roles:
        raise UsageError("--roles names no role", hint=f"roles are {', '.join(known)}")
    return roles


def _import(options: argparse.Namespace, config: Config) -> int:
    if not options.what:
        raise UsageError("which bundle? ndn-infer keys import FILE")
    text = provision.read_file(Path(options.what))
    if is_safebag(text):
        text = bundles.encode(key_changes.bundle_of_safebag(text, options, config))
    bundle = bundles.decode(text)
    net = bundle.anchor.identity
    named = config.origins.get("network.net", "default")
    if named.startswith(("flag", "environment")) and net != net_name(config):
        raise UsageError(
            f"the bundle is of network {ndn.to_uri(net)}, and {named} says {config.network.net}",
            hint="leave that setting out: 'keys import' puts the bundle's network in use",
        )
    directory = networks.keys_dir_of(config, net)
    keychain = Keychain.import_bundle(directory, text)
    aliases = catalog.install(directory.parent / "catalog", net, bundle.records)
    print(f"imported keys of {ndn.to_uri(net)} into {directory}")
    if not bundle.keys:
        mine = {ndn.to_uri(item.identity) for item in bundle.certificates if keychain.usable(item.identity) is not None}
        print(
            f"  certificates of {', '.join(sorted(mine))}" if mine else "  no private key: enough to read, not to sign"
        )
        return 0
    return _in_use(config, keychain, bundle, options, [alias for alias in aliases if len(alias) != 64])


def _in_use(
    config: Config, keychain: Keychain, bundle: Bundle, options: argparse.Namespace, aliases: list[str]
) -> int:  # fmt: skip
    """Say what came, and be that machine from now on."""
    publics = {key.public_der for key in bundle.keys}
    mine = [certificate.identity for certificate in bundle.certificates if certificate.public_der in publics]
    kinds = [kind for identity in mine if (kind := parse_identity(keychain.net, identity)) is not None]
    places = sorted({(kind.site, kind.node) for kind in kinds if kind.node})
    site, node = options.site, options.node
    if len(places) == 1 and not (site or node):
        site, node = places[0]
    site, node = networks.use(config, keychain, site=site, node=node)
    roles = sorted({kind.role for kind in kinds if kind.role})
    print(f"  this machine is now site {site}, node {node} of it, with keys for {', '.join(roles) or 'no role'}")
    print(f"  models by alias: {', '.join(aliases) or 'none (the operator runs models publish, then keys issue)'}")
    return 0


def _use(options: argparse.Namespace, config: Config) -> int:
    here = [Keychain.open(path) for path in networks.networks_here(config)]
    found = [keychain for keychain in here if ndn.to_uri(keychain.net) == "/" + options.what.strip("/")]
    if len(found) != 1:
        names = ", ".join(ndn.to_uri(keychain.net) for keychain in here) or "none"
        what = f"no keys of network {options.what} on this machine" if options.what else "which network?"
        raise UsageError(f"{what}; here are: {names}", hint="ndn-infer keys use NET")
    site, node = networks.use(config, found[0], site=options.site, node=options.node)
    print(f"network {ndn.to_uri(found[0].net)} is in use; this machine is site {site}, node {node} of it")
    return 0


def _list(options: argparse.Namespace, config: Config) -> int:
    keychain, now = Keychain.open(config.keys_dir), time.time()
    entries = keychain.entries()
    if options.json:
        print(json.dumps([
            {"identity": ndn.to_uri(entry.certificate.identity), "certificate": ndn.to_uri(entry.certificate.name),
             "not_after": entry.certificate.not_after, "has_key": entry.has_key}
            for entry in entries
        ]))  # fmt: skip
        return 0
    print(f"network {ndn.to_uri(keychain.net)}; this machine is site {config.network.site}, node {config.network.node}")
    for entry in entries:
        days = entry.seconds_left(now) / 86400
        state = f"{days:.0f} days left" if days > 0 else "EXPIRED"
        print(
            f"{ndn.to_uri(entry.certificate.identity):44} {state:18} {'key here' if entry.has_key else 'no key here'}"
        )
    others = [ndn.to_uri(Keychain.open(path).net) for path in networks.networks_here(config) if path != config.keys_dir]
    if others:
        print(f"also on this machine: {', '.join(others)} ('ndn-infer keys use NET' changes to it)")
    return 0


ACTIONS: Final[dict[str, Callable[[argparse.Namespace, Config], int]]] = {
    "init": _init,
    "list": _list,
    "issue": _issue,
    "import": _import,
    "use": _use,
    "export": key_changes.export,
    "renew": key_changes.renew,
    "revoke": key_changes.revoke,
}
