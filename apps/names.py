"""Explain a name of a network in words, or list every kind of name with an example.

Takes the shortened names too that `ask` prints (digests as 1a2b3c4d...).
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import fields

from ndn_infer import ndn
from ndn_infer.apps.summary import shorten
from ndn_infer.config import Config
from ndn_infer.namespace import KINDS, Kind, classify
from ndn_infer.node.keys import net_name
from ndn_infer.node.networks import FORMER_OWN, networks_here
from ndn_infer.node.node import trust_schema
from ndn_infer.security.keychain import Keychain

SHORTENED = re.compile(r"(?<![0-9a-f])([0-9a-f]{8})\.\.\.")
SHORTENED_FILL = "0" * 56
"""Stands for the digits of a digest that were not given."""
FILLED = re.compile(f"([0-9a-f]{{8}}){SHORTENED_FILL}(?![0-9a-f])")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="a name, e.g. /ndn-infer/local/home/n1/decode")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(options: argparse.Namespace, config: Config) -> int:
    net = net_name(config)
    if options.name is None:
        return _list(net, as_json=options.json)
    name = ndn.from_uri(SHORTENED.sub(lambda found: found[1] + SHORTENED_FILL, options.name))
    net = _net_of(name, net, config)
    explained = classify(net, name)
    schema = trust_schema(config, net)
    signers = schema.signers_for(name)
    if options.json:
        kind = explained.kind
        print(json.dumps({
            "name": options.name, "kind": kind.title if kind else None, "parts": _parts(kind) if kind else {},
            "rest": list(explained.rest), "signers": list(signers),
        }))  # fmt: skip
        return 0 if kind else 2
    if explained.kind is None:
        where = "is not below" if not name.startswith(net) else "is not a kind of name of"
        print(f"{options.name} {where} {ndn.to_uri(net)}; 'ndn-infer names' lists the kinds")
        return 2
    print(f"{explained.kind.title}: {explained.kind.meaning}")
    print(f"  pattern {ndn.to_uri(net)}{explained.kind.pattern}")
    for key, value in _parts(explained.kind).items():
        print(f"  {key:14} {_as_given(value)}")
    for line in explained.rest:
        print(f"  {_as_given(line)}")
    if signers:
        print(f"  may be signed by {', '.join(signers)} (schemas/ndn-infer.lvs)")
    return 0


def _parts(kind: Kind) -> dict[str, str]:
    return {item.name: _as_given(str(getattr(kind, item.name))) for item in fields(kind)}


def _as_given(text: str) -> str:
    return FILLED.sub(r"\1...", text)


def _net_of(name: ndn.Name, own: ndn.Name, config: Config) -> ndn.Name:
    """The network that a name belongs to: ours, another whose keys are here, or one named like those made here."""
    if name.startswith(own):
        return own
    for path in networks_here(config):
        net = Keychain.open(path).net
        if name.startswith(net):
            return net
    parts = ndn.components(name)
    alike = len(parts) > 2 and ndn.to_uri(parts[0] + parts[1]).startswith(FORMER_OWN)
    return parts[0] + parts[1] if alike else own


def _list(net: ndn.Name, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps([{"kind": kind.title, "pattern": kind.pattern, "meaning": kind.meaning} for kind in KINDS]))
        return 0
    for kind in KINDS:
        print(
            f"{kind.title}: {kind.meaning}\n  {kind.pattern}\n  {shorten(ndn.to_uri(kind(*kind.example).to_name(net)))}"
        )
    return 0
