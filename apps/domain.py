"""Tenant domains: who shares cached state that nobody else can read, or recognise by its name.

ndn-infer domain create acme                 a domain of this machine's; its key stays here
ndn-infer domain card --role user --out card.txt     on a member's machine: the key to encrypt to, signed
ndn-infer domain add acme card.txt           let members in; by file, or by the identity of a role on this machine
ndn-infer domain export acme --out acme.txt  the key, wrapped for all members: hand it to them, it needs no secrecy
ndn-infer domain join acme.txt               on a member's machine
ndn-infer domain join ID                     the same from the network, where the owner's machine runs a producer
ndn-infer domain remove acme /ndn-infer/local/lab/gpu1/decode     in a new epoch, whose key it does not get
ndn-infer domain list
ndn-infer domain show acme
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

from ndn_infer import ndn
from ndn_infer.config import Config
from ndn_infer.errors import CertificateUnavailable, NetworkError, UsageError
from ndn_infer.files import path_of, write_at_once
from ndn_infer.functions.registry import ROLES
from ndn_infer.namespace import DOMAIN, DomainKey, EncryptionKey, operator_identity
from ndn_infer.ndn.name import Name
from ndn_infer.ndn.packet import Data
from ndn_infer.node.keys import ensure_keys, net_name, role_identity
from ndn_infer.node.node import Node, trust_schema
from ndn_infer.security import domain_store as store
from ndn_infer.security.certificate import Certificate
from ndn_infer.security.crypto import Signer
from ndn_infer.security.domain_store import DomainFile, DomainMember, DomainStore, SignedObject
from ndn_infer.security.domains import DomainEpoch
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.validator import Validator
from ndn_infer.transport.trust.key_records import Renewal

ACTIONS = ("create", "card", "add", "export", "join", "remove", "list", "show")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("values", nargs="*", metavar="NAME|FILE|MEMBER", help="see above")
    parser.add_argument("--role", default="user", help="card: which identity of this machine becomes a member")
    parser.add_argument("--operator", action="store_true", help="create: the operator owns it, not this machine")
    parser.add_argument("--out", type=Path, help="card, export: the file to write")
    parser.add_argument("--json", action="store_true", help="one JSON document (list, show)")


def run(options: argparse.Namespace, config: Config) -> int:
    shop = DomainStore(config.keys_dir)
    if options.action == "list":
        return _list(shop, as_json=options.json)
    least = {"create": 1, "card": 0, "add": 2, "remove": 2}.get(options.action, 1)
    most = 1000 if least == 2 else least
    if not least <= len(options.values) <= most:
        raise UsageError(f"'domain {options.action}' takes {_WANTED[options.action]}")
    if options.action == "show":
        return _show(shop.find(options.values[0]), as_json=options.json)
    if options.action in ("card", "export") and options.out is None:
        raise UsageError(f"'domain {options.action}' needs --out FILE")
    keychain = ensure_keys(config, ROLES)
    return {
        "create": _create, "card": _card, "add": _add, "export": _export, "join": _join, "remove": _remove,
    }[options.action](options, config, keychain, shop)  # fmt: skip


_WANTED = {
    "create": "the name of the new domain",
    "card": "no name, but --role and --out",
    "add": "a domain and its new members",
    "export": "a domain",
    "join": "the file that the domain's owner exported, or the domain's id",
    "remove": "a domain and the members to remove",
    "show": "a domain",
}


NEW_EPOCH_PAUSES_S = (1.0, 1.0, 1.5)
"""A new epoch's key takes a while: its owner's producers look every 2 s, and caches keep the older word for one."""

_NO_KEYS = "the owner's machine answers while 'ndn-infer up' or 'produce' runs there; or join the file it exports"


def _create(options: argparse.Namespace, config: Config, keychain: Keychain, shop: DomainStore) -> int:
    net, name = net_name(config), options.values[0]
    owner = operator_identity(net) if options.operator else role_identity(config, DOMAIN)
    keychain.ensure(owner)
    with shop.locked():
        if any(item.name == name for item in shop.domains()):
            raise UsageError(f"there is a domain {name!r} already")
        domain = store.create(name, owner)
        _save(shop, domain, net, keychain)
    print(f"domain {name}: id {domain.domain}, owned by {domain.owner}\n  keys in {config.keys_dir}")
    return 0


def _card(options: argparse.Namespace, config: Config, keychain: Keychain, shop: DomainStore) -> int:
    signer = keychain.signer_for(role_identity(config, options.role))
    with shop.locked():
        key = shop.make_encryption_key(signer.identity)
    made = store.card(net_name(config), signer, key, _version())
    write_at_once(options.out, store.pack(made, _chain(keychain, signer)).encode("ascii"))
    print(f"{options.out}: give it to the owner of the domain; it holds no secret")
    return 0


def _add(options: argparse.Namespace, config: Config, keychain: Keychain, shop: DomainStore) -> int:
    net = net_name(config)
    with shop.locked():
        domain = shop.find(options.values[0])
        members = [_member(value, net, keychain, shop, config) for value in options.values[1:]]
        changed = store.add(domain, members)
        path = _save(shop, changed, net, keychain)
    print(f"domain {changed.name}: {len(changed.members)} members in epoch {store.newest(changed).epoch}\n  {path}")
    return 0


def _member(value: str, net: Name, keychain: Keychain, shop: DomainStore, config: Config) -> DomainMember:
    """A member by the file of its card, or by the identity of a role whose signing key is here."""
    if path_of(value).exists():
        signed = _read(path_of(value), net, keychain, config)
        if EncryptionKey.parse(net, signed.base) is None:
            raise UsageError(f"{value} holds {ndn.to_uri(signed.base)}, which is not an encryption key")
        return store.member_of_card(net, signed)
    if not value.startswith("/"):
        raise UsageError(f"{value!r} is neither a file nor an identity", hint="'ndn-infer domain card' makes the file")
    signer = keychain.signer_for(ndn.from_uri(value))
    key = shop.make_encryption_key(signer.identity)
    made = store.card(net, signer, key, _version())
    content = made.manifest.inline
    assert content is not None  # a card is some eighty bytes
    return store.member_of_card(net, SignedObject(made.base, content, signer.identity))


def _remove(options: argparse.Namespace, config: Config, keychain: Keychain, shop: DomainStore) -> int:
    net = net_name(config)
    with shop.locked():
        changed = store.remove(shop.find(options.values[0]), options.values[1:])
        path = _save(shop, changed, net, keychain)
    print(
        f"domain {changed.name}: epoch {store.newest(changed).epoch}, {len(changed.members)} members; they join again"
    )
    print(f"  {path}")
    return 0


def _export(options: argparse.Namespace, config: Config, keychain: Keychain, shop: DomainStore) -> int:
    domain = shop.find(options.values[0])
    write_at_once(options.out, store.read_text(shop.record_path(domain)).encode("ascii"))
    print(f"{options.out}: the key of epoch {store.newest(domain).epoch} for {len(domain.members)} members")
    return 0


def _join(options: argparse.Namespace, config: Config, keychain: Keychain, shop: DomainStore) -> int:
    net = net_name(config)
    if not path_of(options.values[0]).exists():
        return _join_by_name(options.values[0], config, keychain, shop)
    signed = _read(path_of(options.values[0]), net, keychain, config)
    named = DomainKey.parse(net, signed.base)
    if named is None:
        raise UsageError(f"{options.values[0]} holds {ndn.to_uri(signed.base)}, which is not a domain key")
    with shop.locked():
        domain = store.join(net, signed, shop.encryption_keys(), shop.by_id(named.domain))
        shop.save(domain)
    _say_joined(domain)
    return 0


def _say_joined(domain: DomainFile) -> None:
    print(f"member of domain {domain.name}, epoch {store.newest(domain).epoch}, owned by {domain.owner}")


def _join_by_name(value: str, config: Config, keychain: Keychain, shop: DomainStore) -> int:
    """By a domain's id, or the name of one that this machine is in: all epochs that the network has for us."""
    known = next((item for item in shop.domains() if value in (item.name, item.domain)), None)
    ident = value if known is None else known.domain
    if re.fullmatch("[0-9a-f]{32}", ident) is None:
        raise UsageError(
            f"{value!r} is neither a file, nor the id of a domain, nor the name of one that this machine is in",
            hint="the owner's 'ndn-infer domain list' prints the id",
        )

    async def fetch() -> DomainFile | None:
        async with await Node.join(config, keychain) as node:
            renewal, found = Renewal(node.net, node.fetcher, shop), None
            for pause_s in (0.0, *(NEW_EPOCH_PAUSES_S if known is not None else ())):
                await asyncio.sleep(pause_s)
                found = await renewal.join(ident)
                if known is None or (found is not None and store.newest(found).epoch > store.newest(known).epoch):
                    break
            return found

    try:
        domain = asyncio.run(fetch())
    except NetworkError as error:
        raise NetworkError(f"no answer for the keys of domain {ident}: {error}", hint=_NO_KEYS) from error
    if domain is None and known is None:
        raise NetworkError(f"there is no domain {ident} in this network", hint=_NO_KEYS)
    joined = domain or shop.find(ident)
    _say_joined(joined)
    if known is not None and store.newest(joined).epoch == store.newest(known).epoch:
        print("  no newer epoch is offered: 'domain remove' on the owner's machine begins one, 3 s later it is here")
    return 0


def _list(shop: DomainStore, *, as_json: bool) -> int:
    domains = shop.domains()
    if as_json:
        print(json.dumps([_as_dict(item) for item in domains]))
        return 0
    for item in domains:
        print(f"{item.name:24} {item.domain}  epoch {store.newest(item).epoch:<4} owned by {item.owner}")
    if not domains:
        print("no domains here: 'ndn-infer domain create NAME' makes one")
    return 0


def _show(domain: DomainFile, *, as_json: bool) -> int:
    """Everything but the keys."""
    if as_json:
        print(json.dumps(_as_dict(domain)))
        return 0
    print(f"domain   {domain.name}\nid       {domain.domain}\nowner    {domain.owner}")
    print(f"label    {_label(domain)}\nepochs   {', '.join(str(item.epoch) for item in domain.keys)}")
    for member in domain.members:
        print(f"member   {member.identity}")
    return 0


def _as_dict(domain: DomainFile) -> dict[str, object]:
    return {
        "name": domain.name, "id": domain.domain, "owner": domain.owner, "label": _label(domain),
        "epochs": [item.epoch for item in domain.keys], "members": [item.identity for item in domain.members],
    }  # fmt: skip


def _label(domain: DomainFile) -> str:
    key = store.newest(domain)
    return DomainEpoch(domain.domain, key.epoch, key.key).label


def _save(shop: DomainStore, domain: DomainFile, net: Name, keychain: Keychain) -> Path:
    """Sign the newest epoch's key record for its members, and keep both."""
    signer = keychain.signer_for(ndn.from_uri(domain.owner))
    text = store.pack(store.issue(domain, net, signer, _version()), _chain(keychain, signer))
    shop.save(domain)
    return shop.save_record(domain, text)


def _version() -> int:
    return time.time_ns() // 1000


def _chain(keychain: Keychain, signer: Signer) -> list[Certificate]:
    """The certificates between a signer and the anchor, as far as they are here."""
    above = [item for item in keychain.certificates() if signer.identity.startswith(item.identity)]
    return [item for item in above if item.identity != keychain.net]


def _read(path: Path, net: Name, keychain: Keychain, config: Config) -> SignedObject:
    """A signed object in a file, verified with the certificates in the file and those here."""

    async def fetch(name: Name) -> bytes:
        raise CertificateUnavailable(f"{path} does not hold it")

    async def validate(data: Data, chain: Sequence[Certificate]) -> Name:
        schema = trust_schema(config, net)
        validator = Validator(
            schema, keychain.anchor, fetch, sleep=lambda _: asyncio.sleep(0), max_depth=config.trust.max_chain_depth
        )
        validator.add_certificates(*chain, *keychain.certificates())
        try:
            return (await validator.validate(data)).identity
        finally:
            await validator.aclose()

    return asyncio.run(store.unpack(store.read_text(path), validate))
