"""Keys and certificates of this network: make, list, issue for another machine, import there.

ndn-infer keys init                          the trust anchor and this machine's keys
ndn-infer keys list
ndn-infer keys issue --site lab --node gpu1 --roles prefill,decode --out gpu1.bundle
ndn-infer keys import gpu1.bundle            on the other machine, with network.site and network.node set to match
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from ndn_infer import name as ndn
from ndn_infer.apps.session import ROLES, ensure_keys, net_name
from ndn_infer.config import Config
from ndn_infer.errors import UsageError
from ndn_infer.namespace import Node, Role
from ndn_infer.security.keychain import Keychain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("init", "list", "issue", "import"))
    parser.add_argument("file", nargs="?", type=Path, help="the bundle to import")
    parser.add_argument("--site", help="site of the node that gets keys")
    parser.add_argument("--node", help="the node that gets keys")
    parser.add_argument(
        "--roles", default=",".join(ROLES), help="what its keys may sign (default: %(default)s; also repo, domain)"
    )
    parser.add_argument("--out", type=Path, help="file for the bundle; holds private keys, mode 0600")
    parser.add_argument("--days", type=float, help="validity (default: trust.certificate_days)")
    parser.add_argument("--json", action="store_true", help="one JSON document (list)")


def run(options: argparse.Namespace, config: Config) -> int:
    if options.action == "init":
        keychain = ensure_keys(config)
        print(f"trust anchor {ndn.to_uri(keychain.anchor.name)}\n  keys in {config.keys_dir}")
        return 0
    if options.action == "issue":
        return _issue(options, config)
    if options.action == "import":
        if options.file is None:
            raise UsageError("which bundle? ndn-infer keys import FILE")
        keychain = Keychain.import_file(config.keys_dir, options.file)
        print(f"imported keys of {ndn.to_uri(keychain.net)} into {config.keys_dir}")
        return 0
    return _list(options, Keychain.open(config.keys_dir))


def _issue(options: argparse.Namespace, config: Config) -> int:
    if not (options.site and options.node and options.out):
        raise UsageError("issue needs --site, --node and --out")
    keychain, net = ensure_keys(config), net_name(config)
    roles = [role.strip() for role in options.roles.split(",") if role.strip()]
    node = Node(options.site, options.node).to_name(net)
    identities = [node, *(Role(options.site, options.node, role).to_name(net) for role in roles)]
    keychain.ensure(*identities, validity_s=(options.days or config.trust.certificate_days) * 86400.0)
    keychain.export_file(options.out, identities)
    print(f"{options.out}: keys of {ndn.to_uri(node)} for {', '.join(roles)}; carry it there safely and delete it")
    return 0


def _list(options: argparse.Namespace, keychain: Keychain) -> int:
    now = time.time()
    entries = keychain.entries()
    if options.json:
        print(json.dumps([
            {"identity": ndn.to_uri(entry.certificate.identity), "certificate": ndn.to_uri(entry.certificate.name),
             "not_after": entry.certificate.not_after, "has_key": entry.has_key}
            for entry in entries
        ]))  # fmt: skip
        return 0
    for entry in entries:
        days = entry.seconds_left(now) / 86400
        state = f"{days:.0f} days left" if days > 0 else "EXPIRED"
        print(
            f"{ndn.to_uri(entry.certificate.identity):44} {state:18} {'key here' if entry.has_key else 'no key here'}"
        )
    return 0
